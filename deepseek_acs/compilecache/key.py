"""What compiled code depends on. Only equal keys share it.

Some parts are known when the pods are described: the image's name, model, layout, arguments. The others are read in the
pod: rank, card, driver, processor, and the packages of the image, because a tag can be moved. Names, addresses and
ports of a pod are no part, so that each pod of this rank has the same key."""

import hashlib
import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FORMAT = "1"
"""Of the archives. Another one makes other keys."""

NVIDIA = Path("/proc/driver/nvidia")
"""Where the kernel's driver says what there is, also in a container without a GPU of its own
(https://download.nvidia.com/XFree86/Linux-x86_64/535.161.08/README/procinterface.html)."""

CPUINFO = Path("/proc/cpuinfo")

NO_DRIVER = "none"

COMPILERS = ("vllm", "torch", "triton", "deep_gemm", "flashinfer-python")
"""Distributions whose files decide what is compiled: of these not only the version counts, but the list of files with
their hashes."""

DIGITS = 12


@dataclass(frozen=True)
class Key:
    """The name of an archive, and what it stands for."""

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """A hash of all parts, 32 hexadecimal digits."""
        text = json.dumps([FORMAT, dict(self.parts)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def __str__(self) -> str:
        return f"{self.digest} ({', '.join(f'{name} {value}' for name, value in sorted(self.parts.items()))})"


def key_of(given: Mapping[str, str], *, rank: str) -> Key:
    """The key of the pod with this ``rank`` in its group."""
    own = {"rank": rank, "card": cards(), "driver": driver(), "processor": processor(), "packages": packages()}
    return Key({**given, **own})


def cards(folder: Path = NVIDIA) -> str:
    """Number and name of the GPUs, as in ``8 NVIDIA H20``."""
    found = [_field(file, "Model") for file in sorted(folder.glob("gpus/*/information"))]
    return ", ".join(f"{found.count(name)} {name}" for name in dict.fromkeys(found)) or NO_DRIVER


def driver(folder: Path = NVIDIA) -> str:
    """Version of the GPU driver."""
    match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", _text(folder / "version"))
    return match[1] if match else NO_DRIVER


def processor(file: Path = CPUINFO) -> str:
    """Architecture and a digest of the features: parts of what is compiled run on the processor, and use them."""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", _text(file), re.MULTILINE)
    features = sorted(match[1].split()) if match else []
    return f"{platform.machine()} {_digest(features)}"


def packages(path: Sequence[str] | None = None) -> str:
    """Digest of the packages on ``path``, by default those of this Python, which is the engine's: vLLM's images have
    one."""
    found = set()
    for one in importlib.metadata.distributions(path=list(sys.path if path is None else path)):
        name = str(one.metadata["Name"] or "").lower()
        files = _digest(one.read_text("RECORD") or "") if name.replace("-", "_") in _COMPILERS else ""
        found.add((name, one.version or "", files))
    return _digest(sorted(found))


_COMPILERS = {name.replace("-", "_") for name in COMPILERS}


def _field(file: Path, name: str) -> str:
    match = re.search(rf"^{name}:\s*(.*\S)", _text(file), re.MULTILINE)
    return match[1] if match else NO_DRIVER


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:DIGITS]
