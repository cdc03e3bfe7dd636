"""Makes this machine look like a node of ACS, for the processes of one mount namespace."""

import re
import subprocess
from pathlib import Path

from local.real_nodes.configuration import PROTECTED_SYSCTLS

SYSTEM_CPU = Path("/sys/devices/system/cpu")
SYSTEM_NODE = Path("/sys/devices/system/node")


def memory_information(text: str, size: int) -> str:
    """/proc/meminfo of a machine with ``size`` bytes, all of them free."""
    return re.sub(r"^(MemTotal|MemFree|MemAvailable):.*$", rf"\1: {size // 1024} kB", text, flags=re.MULTILINE)


def mount(*arguments: str) -> None:
    """Raises subprocess.CalledProcessError."""
    subprocess.run(["mount", *arguments], check=True)  # noqa: S603, S607


def make_private(folder: Path) -> None:
    """Nothing that is mounted from here on is seen outside, or can be: neither by this machine nor by other nodes.
    ``folder`` is the node's."""
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    _own_sysfs(folder)
    mount("-t", "tmpfs", "-o", "mode=755", "run", "/run")
    mount("-t", "tmpfs", "-o", "mode=755", "lib", "/var/lib")
    for own, place in (("containerd", "/var/lib/containerd"), ("kubelet", "/var/lib/kubelet"), ("log", "/var/log")):
        (folder / own).mkdir(exist_ok=True)
        Path(place).mkdir(exist_ok=True)
        mount("--bind", str(folder / own), place)


def share_within() -> None:
    """What is mounted from here on is seen in the node's pods: volumes are mounted by its programs."""
    mount("--make-rshared", "/")


def _own_sysfs(folder: Path) -> None:
    """A sysfs of this network namespace, with the machine's cgroups in it."""
    kept = folder / "cgroup"
    kept.mkdir(exist_ok=True)
    mount("--rbind", "/sys/fs/cgroup", str(kept))
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("--rbind", str(kept), "/sys/fs/cgroup")
    subprocess.run(["umount", "--lazy", str(kept)], check=True)  # noqa: S603, S607


def resize(folder: Path, *, cpus: int, memory: int) -> None:
    """Gives the machine another number of CPUs and bytes of memory; ``folder`` is the node's."""
    own = folder / "machine"
    own.mkdir(exist_ok=True)
    _replace(Path("/proc/meminfo"), memory_information(Path("/proc/meminfo").read_text(encoding="utf-8"), memory), own)
    for name, value in PROTECTED_SYSCTLS.items():
        path = Path("/proc/sys") / name
        if path.exists():
            _replace(path, f"{value}\n", own)
    # The number of CPUs is that of the folders; the topology, and with it the cpuset, has only those online.
    online = (SYSTEM_CPU / "online").read_text(encoding="utf-8")
    if SYSTEM_NODE.is_dir():
        mount("-t", "tmpfs", "-o", "size=1m", "none", str(SYSTEM_NODE))
    mount("-t", "tmpfs", "-o", "size=64m", "none", str(SYSTEM_CPU))
    (SYSTEM_CPU / "online").write_text(online, encoding="utf-8")
    for number in range(cpus):
        topology = SYSTEM_CPU / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "core_id").write_text(f"{number}\n", encoding="utf-8")
        (topology / "physical_package_id").write_text("0\n", encoding="utf-8")


def _replace(path: Path, text: str, folder: Path) -> None:
    copy = folder / str(path).strip("/").replace("/", "-")
    copy.write_text(text, encoding="utf-8")
    mount("--bind", str(copy), str(path))
