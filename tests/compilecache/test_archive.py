"""Archives of compiled code: what goes in comes out, and nothing else does."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from deepseek_acs.compilecache.archive import FILES, KEY_FILE, ArchiveError, Limits, measure, pack, unpack
from deepseek_acs.compilecache.key import Key

KEY = Key({"image": "vllm:v0.33.0", "rank": "0"})
CONTENT = {"vllm/a/rank_0_0/computation_graph.py": b"x = 1\n", "triton/b/kernel.cubin": bytes(range(256)) * 40}


def compiled(folder: Path) -> Path:
    """A folder as an engine leaves it."""
    for name, data in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "triton/b/kernel.cubin").chmod(0o755)
    return folder


def crafted(target: Path, *members: tarfile.TarInfo, data: bytes = b"") -> Path:
    """An archive for ``KEY`` with these members."""
    stored = target.with_name("empty.tar.gz")
    (target.parent / "empty").mkdir(exist_ok=True)
    pack(target.parent / "empty", stored, KEY, Limits())
    with tarfile.open(stored) as source, tarfile.open(target, "w:gz") as tar:
        first = source.next()
        assert first is not None
        tar.addfile(first, source.extractfile(first))
        for member in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target


def linked(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    source = compiled(tmp_path / "source")
    packed = pack(source, tmp_path / "a.tar.gz", KEY, Limits())
    unpacked = unpack(tmp_path / "a.tar.gz", tmp_path / "out", KEY, Limits())
    assert packed == unpacked == measure(source) == measure(tmp_path / "out" / FILES)
    for name, data in CONTENT.items():
        assert (tmp_path / "out" / FILES / name).read_bytes() == data
    assert os.access(tmp_path / "out" / FILES / "triton/b/kernel.cubin", os.X_OK)


def test_links_are_not_packed(tmp_path: Path) -> None:
    source = compiled(tmp_path / "source")
    (source / "outside").symlink_to("/etc/passwd")
    (source / "folder").symlink_to("/etc")
    assert pack(source, tmp_path / "a.tar.gz", KEY, Limits()).files == len(CONTENT)


@pytest.mark.parametrize(
    ("limits", "what"),
    [(Limits(content=10_000), "all up to it"), (Limits(file=10_000), "kernel.cubin has"), (Limits(archive=0), "large")],
)
def test_too_much_is_not_packed(limits: Limits, what: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=what):
        pack(compiled(tmp_path / "source"), tmp_path / "a.tar.gz", KEY, limits)


def test_too_much_is_not_unpacked(tmp_path: Path) -> None:
    pack(compiled(tmp_path / "source"), tmp_path / "a.tar.gz", KEY, Limits())
    with pytest.raises(ArchiveError, match="it has more than 0 MiB"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", KEY, Limits(content=10_000))


def test_another_key_is_refused(tmp_path: Path) -> None:
    pack(compiled(tmp_path / "source"), tmp_path / "a.tar.gz", KEY, Limits())
    with pytest.raises(ArchiveError, match="it is for another key"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", Key({**KEY.parts, "rank": "1"}), Limits())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo(f"{FILES}/../../escaped"),
        tarfile.TarInfo("/tmp/escaped"),
        tarfile.TarInfo("escaped"),
        linked(f"{FILES}/link", tarfile.SYMTYPE, "/etc/passwd"),
        linked(f"{FILES}/link", tarfile.SYMTYPE, "other"),
        linked(f"{FILES}/link", tarfile.LNKTYPE, KEY_FILE),
        linked(f"{FILES}/device", tarfile.CHRTYPE, ""),
    ],
    ids=lambda member: f"{member.name} {member.type!r}",
)
def test_nothing_leaves_the_folder(member: tarfile.TarInfo, tmp_path: Path) -> None:
    archive = crafted(tmp_path / "a.tar.gz", member)
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path / "deep" / "er" / "out", KEY, Limits())
    assert not [path for path in tmp_path.rglob("*") if path.name in ("escaped", "link", "device")]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_cut_archive_is_refused(share: float, tmp_path: Path) -> None:
    pack(compiled(tmp_path / "source"), tmp_path / "a.tar.gz", KEY, Limits())
    whole = (tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ArchiveError):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", KEY, Limits())


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no tar file", mtime=0), gzip.compress(b"\0" * 10240, mtime=0)],
)
def test_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ArchiveError):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", KEY, Limits())
