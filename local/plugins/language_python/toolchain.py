"""The Python of a project or a plugin: the interpreter that its ``Pulumi*.yaml`` names and what is installed for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OFFICIAL_HOST = "install Pulumi with its own Python language host (https://www.pulumi.com/docs/install/)"

_PROBE = """
import json, platform, sys, sysconfig
print(json.dumps({
    "executable": sys.executable,
    "version": platform.python_version(),
    "site_packages": sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}),
}))
"""


class ToolchainError(Exception):
    """The project's Python cannot be used as ``Pulumi.yaml`` describes it; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class RequiredPlugin:
    """A resource plugin that an installed ``pulumi_*`` package needs, as its ``pulumi-plugin.json`` says."""

    name: str
    version: str
    server: str


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """What an interpreter says of itself."""

    executable: str
    version: str
    site_packages: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """The interpreter of one project: that of its virtual environment, else ``python3`` of the PATH."""

    root: Path
    virtualenv: str | None
    file: str

    @classmethod
    def from_options(cls, root: str, options: Mapping[str, Any], *, file: str = "Pulumi.yaml") -> Toolchain:
        """Read ``runtime.options`` of `file`.

        :raises ToolchainError: for an option, or a value of one, that only the official host serves.
        """
        where = f"{file}: runtime.options"
        toolchain = options.get("toolchain", "pip")
        if toolchain != "pip":
            raise ToolchainError(
                f"{where}.toolchain: {toolchain!r} is not served by the stand-in for Pulumi's Python "
                f"language host, only 'pip' is; write 'pip', or {OFFICIAL_HOST}"
            )
        for option in sorted(set(options) - {"toolchain", "virtualenv"}):
            raise ToolchainError(
                f"{where}.{option}: not served by the stand-in for Pulumi's Python language host; "
                f"remove it, or {OFFICIAL_HOST}"
            )
        return cls(root=Path(root), virtualenv=options.get("virtualenv"), file=file)

    @property
    def python(self) -> Path:
        """The interpreter's path.

        :raises ToolchainError: if there is none.
        """
        if self.virtualenv is None:
            found = shutil.which("python3")
            if found is None:
                raise ToolchainError(
                    f"no python3 on the PATH; install Python, or set runtime.options.virtualenv in {self.file}"
                )
            return Path(found)
        python = self._folder(self.virtualenv) / "bin" / "python"
        if not python.is_file():
            raise ToolchainError(
                f"{self.file}: runtime.options.virtualenv: {self.virtualenv!r} is no virtual environment "
                f"({python} is missing); run `pulumi install` beside that file to create it"
            )
        return python

    def interpreter(self) -> Interpreter:
        """Ask the interpreter for its version and folders."""
        # -I: what the user's PYTHON* variables add is no part of the project.
        said = json.loads(_output([os.fspath(self.python), "-I", "-c", _PROBE]))
        return Interpreter(
            executable=said["executable"],
            version=said["version"],
            site_packages=tuple(map(Path, said["site_packages"])),
        )

    def required_plugins(self) -> list[RequiredPlugin]:
        """The resource plugins that the installed packages need, by name."""
        return required_plugins(self.interpreter().site_packages)

    def packages(self, *, transitive: bool) -> list[tuple[str, str]]:
        """Name and version of each installed package; if not `transitive`, of those that no other needs."""
        only_direct = [] if transitive else ["--not-required"]
        command = [os.fspath(self.python), "-m", "pip", "list", "--format", "json", *only_direct]
        return [(package["name"], package["version"]) for package in json.loads(_output(command))]

    def install(self, directory: Path) -> Iterator[bytes]:
        """Create the virtual environment if it is missing and install ``requirements.txt`` of `directory`.

        Yields what the installers print.

        :raises ToolchainError: if one of them fails.
        """
        if self.virtualenv is not None:
            folder = self._folder(self.virtualenv)
            if not (folder / "bin" / "python").exists():
                yield f"Creating virtual environment {folder}\n".encode()
                yield from _lines_of([sys.executable, "-m", "venv", os.fspath(folder)], directory)
        requirements = directory / "requirements.txt"
        if requirements.is_file():
            command = [os.fspath(self.python), "-m", "pip", "install", "-r", os.fspath(requirements)]
            yield from _lines_of(command, directory)

    def _folder(self, virtualenv: str) -> Path:
        return (self.root / virtualenv).absolute()


def required_plugins(site_packages: tuple[Path, ...]) -> list[RequiredPlugin]:
    """Read every ``pulumi_*/pulumi-plugin.json`` in `site_packages`, by name."""
    found = []
    for folder in site_packages:
        for metadata in folder.glob("pulumi_*/pulumi-plugin.json"):
            plugin = json.loads(metadata.read_text(encoding="utf-8"))
            if plugin.get("resource"):
                found.append(
                    RequiredPlugin(name=plugin["name"], version=plugin["version"], server=plugin.get("server", ""))
                )
    return sorted(found, key=lambda plugin: plugin.name)


def _output(command: list[str]) -> str:
    # S603: the commands are this module's own, run with the interpreter that the project names.
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def _lines_of(command: list[str], directory: Path) -> Iterator[bytes]:
    with subprocess.Popen(  # noqa: S603 -- as in _output
        command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        yield from process.stdout or ()
    if process.returncode != 0:
        shown = " ".join(command)
        raise ToolchainError(f"`{shown}` failed with exit code {process.returncode}; its output is above")
