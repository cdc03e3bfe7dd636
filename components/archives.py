"""A package of this project as a zipapp, one file that Python runs: for a pod without a registry and a package index.

The standard library's ``zipapp`` adds files in the file system's order with their times and modes, so the same sources
give other bytes on each checkout. Here they give the same ones, because Jobs are named by their content.
"""

import hashlib
import io
import zipfile
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

ENTRY_POINT = """import sys

if sys.version_info < (3, 11):
    sys.stderr.write("{package} needs Python 3.11 or newer, not %s; choose another image\\n" % sys.version[:6])
    sys.exit(70)

from {package}.__main__ import main

sys.exit(main())
"""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can hold."""

CREATE_SYSTEM_UNIX = 3
"""What a zip file says of the system that made it, which must not depend on that system either
(4.4.2 in https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT)."""


@cache
def archive(package: str) -> bytes:
    """A zip file of a package with an entry point. Not compressed, because compressors differ between versions."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as zipped:
        entry_point = "__main__.py", ENTRY_POINT.format(package=package).encode()
        for path, source in [entry_point, *sorted(_sources(package, files(package)))]:
            entry = zipfile.ZipInfo(path, ZIP_EPOCH)
            entry.create_system = CREATE_SYSTEM_UNIX
            zipped.writestr(entry, source)
    return content.getvalue()


@cache
def archive_digest(package: str) -> str:
    """SHA-256 of the archive, hexadecimal."""
    return hashlib.sha256(archive(package)).hexdigest()


def _sources(path: str, folder: Traversable) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for item in folder.iterdir():
        if item.joinpath("__init__.py").is_file():
            found += _sources(f"{path}/{item.name}", item)
        elif item.name.endswith(".py"):
            found.append((f"{path}/{item.name}", item.read_bytes()))
    return found
