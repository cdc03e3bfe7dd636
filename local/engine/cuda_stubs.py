"""Empty libraries in the place of NVIDIA's, which PyPI's torch (a CUDA build) is linked against.

Every function fails with cudaErrorNoDevice, so that torch finds no GPU and computes on the CPU. Names and versions of
the functions are read from torch's own libraries, so a new torch needs no change here.
"""

import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("gcc", "readelf", "nm")

_NVIDIA = re.compile(r"lib(?:cu|nv|nccl)")
_LOADED_WITH_A_GPU_ONLY = "libcaffe2_nvrtc.so"

_LIBRARIES = {
    "cuFile": "libcufile",
    "nccl": "libnccl",
    "pnccl": "libnccl",
    "cusparseLt": "libcusparseLt",
    "curand": "libcurand",
    "cupti": "libcupti",
    "cusolver": "libcusolver",
    "cusparse": "libcusparse",
    "cublasLt": "libcublasLt",
    "cublas": "libcublas",
    "cudnn": "libcudnn",
    "cufft": "libcufft",
    "nvrtc": "libnvrtc",
    "nvshmem": "libnvshmem_host",
    "cuda": "libcudart",
    "__cuda": "libcudart",
}
"""Libraries of functions without a version, by the beginning of their names; the first that fits."""

_TEXTS = {f"{name}GetErrorString" for name in ("cuda", "nccl", "cudnn", "nvrtc", "cusparse")} | {
    *("cudaGetErrorName", "ncclGetLastError", "cublasGetStatusString", "cublasGetStatusName", "cusparseGetErrorName"),
}
_COUNTS = {"cudaGetDeviceCount", "cudaRuntimeGetVersion", "cudaDriverGetVersion"}
_NO_DEVICE = 100


@dataclass
class _Library:
    symbols: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)


def build_stubs(libraries: Path) -> list[str]:
    """Builds what the libraries in the folder need and do not find, next to them; returns the names. Raises
    subprocess.CalledProcessError."""
    needed = _needed(libraries)
    for name, library in needed.items():
        _build(libraries / name, library)
    return sorted(needed)


def missing_programs() -> list[str]:
    """Programs of this machine that are needed and absent."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def _needed(folder: Path) -> Mapping[str, _Library]:
    found: dict[str, _Library] = defaultdict(_Library)
    for path in sorted(folder.glob("lib*.so*")):
        if path.name == _LOADED_WITH_A_GPU_ONLY:
            continue
        names = re.findall(r"NEEDED.*\[(.*)\]", _output("readelf", "-dW", str(path)))
        mine = [name for name in names if _NVIDIA.match(name) and not (folder / name).exists()]
        for name in mine:
            found[name].versions |= set()
        for library, version in _versions(_output("readelf", "-VW", str(path)).splitlines()):
            if library in mine:
                found[library].versions.add(version)
        for line in _output("nm", "-D", "--undefined-only", str(path)).splitlines():
            symbol, _, version = line.split()[-1].partition("@")
            for name in _providers(symbol, version, {name: found[name] for name in mine}):
                found[name].symbols.add(symbol)
    return found


def _versions(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Library and version, from the section of needed versions."""
    library = ""
    for line in lines:
        if match := re.search(r"Version: 1  File: (\S+)", line):
            library = match[1]
        elif match := re.search(r"Name: (\S+)\s+Flags", line):
            yield library, match[1]


def _providers(symbol: str, version: str, libraries: Mapping[str, _Library]) -> Iterable[str]:
    if version:
        return [name for name, library in libraries.items() if version in library.versions]
    start = next((library for prefix, library in _LIBRARIES.items() if symbol.startswith(prefix)), None)
    return [name for name in libraries if start and name.startswith(f"{start}.")]


def _build(path: Path, library: _Library) -> None:
    version = next(iter(library.versions), path.name)
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "stub.c"), Path(folder, "stub.map")
        source.write_text("\n".join(map(_function, sorted(library.symbols))) + "\n", encoding="utf-8")
        script.write_text(f"{version} {{ global: *; }};\n", encoding="utf-8")
        options = ("-shared", "-fPIC", "-O1", "-w", "-fno-builtin", f"-Wl,-soname,{path.name}")
        _output("gcc", *options, f"-Wl,--version-script={script}", "-o", str(path), str(source))


def _function(name: str) -> str:
    if name in _TEXTS:
        return f'const char *{name}(void) {{ return "no CUDA here"; }}'
    if name in _COUNTS:
        return f"int {name}(int *n) {{ if (n) *n = 0; return {_NO_DEVICE}; }}"
    if name == "__cudaRegisterFatBinary":
        return f"static void *handle[8]; void **{name}(void *f) {{ return handle; }}"
    return f"long {name}(void) {{ return {_NO_DEVICE}; }}"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
