"""The files of a pod's volumes, in a folder that only this user can read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.pod_runner.sources import Manifest, MissingError, Sources, UnsupportedError, pod_field

DEFAULT_MODE = 0o644
TOKEN_SECONDS = 3600


@dataclass(frozen=True)
class File:
    """One file of a volume; ``path`` is relative to it."""

    path: str
    content: bytes
    mode: int


def materialise(pod: Manifest, folder: Path, sources: Sources) -> dict[str, Path]:
    """Writes all volumes below ``folder``, which is made, and gives their folders by name. Raises MissingError,
    UnsupportedError."""
    contents = {volume["name"]: list(_files(pod, volume, sources)) for volume in pod["spec"].get("volumes", [])}
    folders = {}
    for name, files in contents.items():
        folders[name] = folder / name
        folders[name].mkdir(parents=True, mode=0o700)
        for file in files:
            path = folders[name] / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(file.content)
            path.chmod(file.mode)
    return folders


def _files(pod: Manifest, volume: Manifest, sources: Sources) -> Iterator[File]:
    match volume:
        case {"emptyDir": _}:
            return
        case {"projected": source}:
            mode = source.get("defaultMode", DEFAULT_MODE)
            for projection in source.get("sources", []):
                yield from _projected(pod, projection, mode, sources)
        case {"secret": source}:
            # A volume's name for the Secret differs from a projection's.
            yield from _secret(pod, {**source, "name": source["secretName"]}, DEFAULT_MODE, sources)
        case {"configMap": source}:
            yield from _config_map(pod, source, DEFAULT_MODE, sources)
        case {"downwardAPI": source}:
            yield from _fields(pod, source, DEFAULT_MODE)
        case _:
            kinds = ", ".join(volume.keys() - {"name"})
            raise UnsupportedError(f"the volume {volume['name']} of the kind {kinds}")


def _projected(pod: Manifest, projection: Manifest, mode: int, sources: Sources) -> Iterator[File]:
    match projection:
        case {"serviceAccountToken": source}:
            token = sources.token(pod, source.get("audience"), source.get("expirationSeconds", TOKEN_SECONDS))
            yield File(source["path"], token, mode)
        case {"secret": source}:
            yield from _secret(pod, source, mode, sources)
        case {"configMap": source}:
            yield from _config_map(pod, source, mode, sources)
        case {"downwardAPI": source}:
            yield from _fields(pod, source, mode)
        case _:
            raise UnsupportedError(f"the projection of {', '.join(projection)}")


def _config_map(pod: Manifest, source: Manifest, mode: int, sources: Sources) -> Iterator[File]:
    yield from _keys(source, mode, "configmap", lambda name: sources.config_map(pod["metadata"]["namespace"], name))


def _secret(pod: Manifest, source: Manifest, mode: int, sources: Sources) -> Iterator[File]:
    yield from _keys(source, mode, "secret", lambda name: sources.secret(pod["metadata"]["namespace"], name))


def _keys(source: Manifest, mode: int, kind: str, read: Any) -> Iterator[File]:
    mode = source.get("defaultMode", mode)
    optional = source.get("optional", False)
    try:
        data = read(source["name"])
    except MissingError:
        if optional:
            return
        raise
    for item in source.get("items") or [{"key": key, "path": key} for key in data]:
        if item["key"] in data:
            yield File(item["path"], data[item["key"]], item.get("mode", mode))
        elif not optional:
            raise MissingError(f'{kind} "{source["name"]}" has no key "{item["key"]}"')


def _fields(pod: Manifest, source: Manifest, mode: int) -> Iterator[File]:
    for item in source.get("items", []):
        if "fieldRef" not in item:
            raise UnsupportedError(f"the resource field of the file {item['path']}")
        content = pod_field(pod, item["fieldRef"]["fieldPath"]).encode()
        yield File(item["path"], content, item.get("mode", source.get("defaultMode", mode)))
