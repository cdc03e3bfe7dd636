"""The nodes' own control groups, of version 1 or 2."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NEEDED = ("cpu", "cpuset", "memory", "pids")
REMOVE_SECONDS = 10


def group_of(folder: Path) -> str:
    """The name of the group of a cluster's nodes, which no other cluster of this machine has."""
    return f"deepseek-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def missing() -> list[str]:
    """Controllers that the kubelet needs and this machine does not have here."""
    if _is_version_2():
        return sorted(set(NEEDED) - set((ROOT / "cgroup.controllers").read_text(encoding="utf-8").split()))
    return [name for name in NEEDED if not (ROOT / name / "cgroup.procs").exists()]


def create(name: str) -> None:
    """The group ``name``, such as ``a/b``. Raises OSError."""
    for hierarchy in _hierarchies():
        path = hierarchy
        for part in name.split("/"):
            if _is_version_2():
                wanted = " ".join(f"+{controller}" for controller in NEEDED)
                (path / "cgroup.subtree_control").write_text(wanted, encoding="utf-8")
            above, path = path, path / part
            path.mkdir(exist_ok=True)
            if hierarchy.name == "cpuset" and not _is_version_2():
                # A new group has none, and no process can enter it.
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (path / file).write_text((above / file).read_text(encoding="utf-8"), encoding="utf-8")


def remove(name: str) -> None:
    """Removes the group with all below it, whose processes have ended or are about to. Raises OSError."""
    deadline = time.monotonic() + REMOVE_SECONDS
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            while True:
                try:
                    Path(folder).rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)


def _is_version_2() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _hierarchies() -> Iterator[Path]:
    """All, since runc makes a group in each that is mounted."""
    if _is_version_2():
        yield ROOT
    else:
        yield from (path for path in sorted(ROOT.iterdir()) if (path / "cgroup.procs").exists())
