"""A package of ``deepseek_acs`` as a zipapp, one file that Python runs: for pods without registry and package index.

The names of Jobs contain a hash of it, so the same sources must have the same digest on each machine. The standard
library's ``zipapp`` does not guarantee that: it adds files in the file system's order, with their times and modes."""

import hashlib
import io
import itertools
import tokenize
import zipfile
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

ENTRY_POINT = """import sys

if sys.version_info < (3, 11):
    sys.stderr.write("{package} needs Python 3.11 or newer, not %s; choose another image\\n" % sys.version[:6])
    sys.exit(70)

import os
import zipfile

modules = os.memfd_create("{package}")
with zipfile.ZipFile(sys.path[0]) as program, open(modules, "wb", closefd=False) as file:
    file.write(program.read("modules.zip"))
sys.path[0] = f"/proc/self/fd/{{modules}}"

from {package}.__main__ import main

sys.exit(main())
"""
"""Python imports from a zip file only by a path. The pods' file system is read-only, so the path is one of memory."""

SHARED = {
    **dict.fromkeys(("preload", "costguard", "canaryguard", "incidents"), ("apiserver",)),
    "verifier": ("chatclient",),
    "gate": ("apiserver", "chatclient"),
    "compilecache": ("modelmover",),
}
"""The packages that a program has in common with others, and imports as ``deepseek_acs``'s."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can hold."""

CREATE_SYSTEM_UNIX = 3
"""The system in the header of a zip file, which must not depend on the machine either (4.4.2 in
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT)."""


@cache
def archive(package: str) -> bytes:
    """A zip file of a package with an entry point. Pulumi's state contains it up to three times, so it has no comments,
    and the modules are compressed together, as one file: a quarter smaller than each alone. Another zlib compresses to
    other bytes."""
    (entry_point, start), *modules = _content(package)
    stored = _zip_file([(path, without_comments(source)) for path, source in modules], zipfile.ZIP_STORED)
    return _zip_file([(entry_point, start), ("modules.zip", stored)], zipfile.ZIP_DEFLATED)


def _zip_file(content: Iterable[tuple[str, bytes]], compression: int) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression, compresslevel=9) as zipped:
        for path, data in content:
            entry = zipfile.ZipInfo(path, ZIP_EPOCH)
            entry.create_system = CREATE_SYSTEM_UNIX
            entry.compress_type = compression
            zipped.writestr(entry, data)
    return written.getvalue()


@cache
def archive_digest(package: str) -> str:
    """SHA-256 of the content of the archive, hexadecimal; the same for the same sources, independent of the
    compression."""
    digest = hashlib.sha256()
    for path, source in _content(package):
        digest.update(f"{path} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()


def _content(package: str) -> list[tuple[str, bytes]]:
    """Path and source of each file of the archive."""
    entry_point = "__main__.py", ENTRY_POINT.format(package=package).encode()
    found = [entry_point, *sorted(_sources(package, files(f"deepseek_acs.{package}")))]
    if shared := SHARED.get(package):
        common = [one for name in shared for one in _sources(f"deepseek_acs/{name}", files(f"deepseek_acs.{name}"))]
        found += [("deepseek_acs/__init__.py", b""), *sorted(common)]
    return found


def _sources(path: str, folder: Traversable) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for item in folder.iterdir():
        if item.joinpath("__init__.py").is_file():
            found += _sources(f"{path}/{item.name}", item)
        elif item.name.endswith(".py"):
            found.append((f"{path}/{item.name}", item.read_bytes()))
    return found


def without_comments(source: bytes) -> bytes:
    """A module without comments and docstrings. Every line keeps its number, for tracebacks."""
    text = source.decode()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    parts, end, at_start = list[str](), 0, True
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token, following in itertools.pairwise(tokens):
        is_docstring = at_start and token.type == tokenize.STRING and following.type == tokenize.NEWLINE
        if is_docstring or token.type == tokenize.COMMENT:
            start = starts[token.start[0] - 1] + token.start[1]
            lines = token.end[0] - token.start[0]
            parts += [text[end:start], '""' if is_docstring else "", "\n" * lines]
            end = starts[token.end[0] - 1] + token.end[1]
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            at_start = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return "".join([*parts, text[end:]]).encode()
