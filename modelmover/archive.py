"""The mover as one file that any Python runs: for a pod without a registry and without a package index."""

import hashlib
import io
import zipfile
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

ENTRY_POINT = b"""import sys

if sys.version_info < (3, 11):
    sys.stderr.write("modelmover needs Python 3.11 or newer, not %s; choose another image\\n" % sys.version[:6])
    sys.exit(70)

from modelmover.__main__ import main

sys.exit(main())
"""

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can hold: the same sources are to give the same bytes."""


UNIX = 3
"""What a zip file says of the system that made it, which must not depend on that system either
(4.4.2 in https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT)."""


@cache
def archive() -> bytes:
    """A zip file of this package with an entry point. Not compressed, because compressors differ between versions."""
    root = files("modelmover")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as zipped:
        for path, source in [("__main__.py", ENTRY_POINT), *sorted(_sources("modelmover", root))]:
            entry = zipfile.ZipInfo(path, LONG_AGO)
            entry.create_system = UNIX
            zipped.writestr(entry, source)
    return content.getvalue()


@cache
def archive_digest() -> str:
    """SHA-256 of the archive, hexadecimal."""
    return hashlib.sha256(archive()).hexdigest()


def _sources(path: str, folder: Traversable) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for item in folder.iterdir():
        if item.joinpath("__init__.py").is_file():
            found += _sources(f"{path}/{item.name}", item)
        elif item.name.endswith(".py"):
            found.append((f"{path}/{item.name}", item.read_bytes()))
    return found
