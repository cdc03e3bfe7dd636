"""What the images of the embedded cluster contain: Python of this machine, a shell, and the engine's small server."""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from local.real_nodes.images import Image

ROOT = Path(__file__).resolve().parents[2]

COMMANDS = ("sh", "cat", "ls", "env", "sleep", "id", "mkdir", "rm", "grep", "ps", "kill")
"""What a shell of the image has, as far as this machine has it."""

FOLDERS = {"/tmp": 0o1777, "/proc": 0o755, "/sys": 0o755, "/dev": 0o755, "/etc": 0o755, "/run": 0o755}  # noqa: S108
LEFT_OUT = frozenset({"test", "tests", "idlelib", "ensurepip", "lib2to3", "turtledemo", "tkinter", "site-packages"})
LEFT_OUT_BUILD = frozenset({"dist-packages", "__pycache__", "pydoc_data"})

SERVER_PACKAGES = (
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_extensions.py",
    "typing_inspection",
    "prometheus_client",
)
"""What ``local.openai.server`` imports."""

ENGINE_FOLDER = "/opt/deepseek-local"


def pause_image(binary: Path) -> Image:
    """The sandbox's."""
    return Image(files={"/pause": binary}, command=("/pause",))


def python_image() -> Image:
    """This machine's Python with its standard library, at the same paths, and a shell."""
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}))
    found = {name: shutil.which(name) for name in COMMANDS}
    commands = {f"/bin/{name}": Path(path) for name, path in found.items() if path}
    extensions = sorted((library / "lib-dynload").glob("*.so"))
    files = {str(python): python, str(library): library, **commands}
    needed = libraries([python, *commands.values(), *extensions])
    # Not linked with: the C library loads it when a thread ends, and ends the process where it is missing.
    ends = {path.with_name("libgcc_s.so.1") for path in needed if path.name.startswith("libc.so")}
    files |= {str(path): path for path in (*needed, *ends) if path.exists()}
    links = {path: str(python) for path in ("/usr/bin/python3", "/usr/local/bin/python3") if path != str(python)}
    return Image(
        files=files,
        folders=FOLDERS,
        links=links,
        left_out=LEFT_OUT | LEFT_OUT_BUILD | {f"config-{sys.version_info[0]}.{sys.version_info[1]}-x86_64-linux-gnu"},
        command=("python3",),
        environment={"PATH": "/usr/local/bin:/usr/bin:/bin"},
    )


def engine_image(python: Image) -> Image:
    """Plays an image of vLLM with the server of ``local.openai``: the same commands, and no tokens."""
    packages = Path(sysconfig.get_path("purelib"))
    own = {
        f"{ENGINE_FOLDER}/local/{name}": ROOT / "local" / name
        for name in ("__init__.py", "faults.py", "http_service.py", "openai", "engine_image")
    }
    files = {**python.files, **own}
    files |= {f"{ENGINE_FOLDER}/packages/{name}": packages / name for name in SERVER_PACKAGES}
    extensions = (packages / "pydantic_core").glob("*.so")
    files |= {str(path): path for path in libraries(extensions)}
    packages_path = f"{ENGINE_FOLDER}:{ENGINE_FOLDER}/packages:$PYTHONPATH"
    return Image(
        files=files,
        folders={**python.folders, "/root": 0o700, "/vllm-workspace": 0o755},
        links=python.links,
        left_out=python.left_out,
        texts={
            program: f'#!/bin/sh\nPYTHONPATH={packages_path} exec python3 -m local.engine_image.{module} "$@"\n'
            for program, module in (("/usr/local/bin/vllm", "vllm"), ("/vllm-workspace/ray_init.sh", "ray"))
        },
        command=("vllm",),
        environment=python.environment,
    )


def vllm_image(python: Image, engine: Path) -> Image:
    """An image of a real vLLM, but for its packages: containers find the folder ``engine`` at its own path
    (``Plan.engine``). It is too large to be copied into an image and out of it again on every node."""
    # vLLM asks it for the processor's cores.
    programs = [Path(found) for found in [shutil.which("lscpu")] if found]
    needed = (path for path in libraries([*engine.rglob("*.so*"), *programs]) if not path.is_relative_to(engine))
    return Image(
        files={**python.files, **{str(path): path for path in (*programs, *needed)}},
        folders={**python.folders, "/root": 0o700},
        links=python.links,
        left_out=python.left_out,
        command=("vllm",),
        environment={
            "PATH": f"{engine / 'bin'}:{python.environment['PATH']}",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        },
    )


def libraries(binaries: Iterable[Path]) -> list[Path]:
    """The shared libraries that the loader finds for them, and the loader."""
    done = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return sorted({Path(found) for found in re.findall(r"(?:=> |^\s+)(/\S+)", done.stdout, re.MULTILINE)})
