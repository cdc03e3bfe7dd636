"""Container images of local files, without a registry: OCI layouts in a tar, which containerd imports
(https://github.com/opencontainers/image-spec/blob/main/image-layout.md)."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "io.containerd.image.name"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image contains, as files of this machine.

    :param files: files and folders by their path in the image. :param folders: empty ones with their modes.
    :param links: targets of symbolic links by path. :param texts: executable files by path. :param left_out: names of
    files and folders that are not taken along.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def key(self, names: Sequence[str]) -> str:
        """Changes when a name changes, or a file by its size or its time."""
        seen = hashlib.sha256(
            repr((names, self.folders, self.links, self.texts, self.command, self.environment)).encode()
        )
        for path, source in self._entries():
            status = source.stat()
            seen.update(repr((path, status.st_size, status.st_mtime_ns, status.st_mode)).encode())
        return seen.hexdigest()[:16]

    def _entries(self) -> Iterator[tuple[str, Path]]:
        """Files with their paths, in an order that is always the same."""
        for path, source in sorted(self.files.items()):
            real = source.resolve()
            if not real.is_dir():
                yield path, real
                continue
            for folder, folders, names in os.walk(real, followlinks=False):
                folders[:] = sorted(set(folders) - self.left_out)
                for name in sorted(set(names) - self.left_out):
                    found = Path(folder) / name
                    if found.is_file():
                        yield f"{path}/{found.relative_to(real)}", found.resolve()

    def add_to(self, tar: tarfile.TarFile) -> None:
        """All files as root's. The folders above them are made by who unpacks."""
        for path, mode in sorted(self.folders.items()):
            info = _info(path, mode)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for path, target in sorted(self.links.items()):
            info = _info(path, 0o777)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for path, text in sorted(self.texts.items()):
            info = _info(path, 0o755)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
        for path, source in self._entries():
            status = source.stat()
            info = _info(path, 0o755 if status.st_mode & 0o111 else 0o644)
            info.size, info.mtime = status.st_size, int(status.st_mtime)
            with source.open("rb") as file:
                tar.addfile(info, file)


def write_image(path: Path, image: Image, names: Sequence[str], *, architecture: str) -> None:
    """Writes ``path``, which appears whole or not at all. Raises OSError."""
    scratch = path.with_suffix(f".{os.getpid()}")
    layer = path.with_suffix(f".{os.getpid()}.layer")
    try:
        with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
            image.add_to(tar)
        digest = _digest(layer)
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Cmd": list(image.command),
                "Env": [f"{name}={value}" for name, value in sorted(image.environment.items())],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        blobs: dict[str, bytes] = {}
        media = "application/vnd.oci.image"
        content = {"mediaType": f"{media}.layer.v1.tar", "digest": f"sha256:{digest}", "size": layer.stat().st_size}
        described = _described(blobs, f"{media}.config.v1+json", config)
        manifest = {"schemaVersion": 2, "mediaType": f"{media}.manifest.v1+json", "config": described}
        top = _described(blobs, f"{media}.manifest.v1+json", manifest | {"layers": [content]})
        platform = {"platform": {"architecture": architecture, "os": "linux"}}
        manifests = [{**top, **platform, "annotations": {NAME: name}} for name in names]
        index = {"schemaVersion": 2, "mediaType": f"{media}.index.v1+json", "manifests": manifests}
        with tarfile.open(scratch, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(tar, "index.json", json.dumps(index).encode())
            for name, data in blobs.items():
                _add(tar, f"blobs/sha256/{name}", data)
            tar.add(layer, f"blobs/sha256/{digest}")
        scratch.rename(path)
    finally:
        scratch.unlink(missing_ok=True)
        layer.unlink(missing_ok=True)


def _described(blobs: dict[str, bytes], media_type: str, content: Mapping[str, Any]) -> dict[str, Any]:
    data = json.dumps(content, sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _info(path: str, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path.lstrip("/"))
    info.mode = mode
    return info


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = _info(name, 0o644)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def full_name(name: str) -> str:
    """As containerd stores it: with the registry and the repository that a short name means
    (https://github.com/distribution/reference/blob/main/normalize.go)."""
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """In the first one's order."""
    return tuple(dict.fromkeys(names))
