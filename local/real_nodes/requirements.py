"""What real nodes need of this machine, and what to do where it is missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from local.real_nodes import cgroups

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21}
"""Numbers of <linux/capability.h>."""

PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "ipset": "ipset",
    "nsenter": "util-linux",
    "mount": "mount",
}
"""Packages of Debian by their programs."""

HIDDEN = ("/run", "/var/lib", "/var/log", "/proc", "/sys")
"""Folders that a node has its own of."""

SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def problem(folders: tuple[Path, ...]) -> str | None:
    """Why there can be no real nodes here, or None. ``folders`` are those of the project and of its cache."""
    return next(_problems(folders), None)


def _problems(folders: tuple[Path, ...]) -> Iterator[str]:
    if sys.platform != "linux":
        yield f"real nodes need Linux, and this is {sys.platform}"
        return
    if os.geteuid() != 0:
        yield "real nodes need root; run it as root (sudo -E make up), or in a privileged container"
    held = effective_capabilities(Path("/proc/self/status").read_text(encoding="utf-8"))
    if lacking := sorted(name for name, number in CAPABILITIES.items() if not held >> number & 1):
        yield f"root lacks {', '.join(lacking)} here; run it in a privileged container, or outside of containers"
    if lacking := cgroups.missing():
        yield (
            f"the cgroup controllers {', '.join(lacking)} are missing below {cgroups.ROOT}; mount them there "
            f"(https://docs.kernel.org/admin-guide/cgroup-v2.html)"
        )
    for program, package in PROGRAMS.items():
        if shutil.which(program, path=SEARCHED) is None:
            yield f"the program {program} is missing; on Debian: apt-get install {package}"
    if not has_ipsets():
        yield "the kernel has no IP sets, which network policies need (CONFIG_IP_SET); load its module: modprobe ip_set"
    for folder in folders:
        if hidden := next((path for path in HIDDEN if folder.resolve().is_relative_to(path)), None):
            yield f"{folder} is in {hidden}, of which a node has its own; move it to another folder"


def has_ipsets() -> bool:
    """Whether the kernel has IP sets, which kube-router's policies are made of."""
    command = ["unshare", "--net", "ipset", "list", "-name"]
    environment = {**os.environ, "PATH": SEARCHED}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0  # noqa: S603


def effective_capabilities(status: str) -> int:
    """The bits of ``CapEff`` in /proc/PID/status."""
    return int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
