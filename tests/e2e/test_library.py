"""The package as another program gets it: built, installed into an empty environment, and previewed from the examples.

The engine is real, the plugins of cluster and cloud are those of ``local/plugins``. Packages come from the package
index.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from local import tools
from local.pulumi_environment import engine_environment
from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "components", "deepseek_acs")

IMPORT_ALL = """
import importlib, pkgutil, deepseek_acs
for module in pkgutil.walk_packages(deepseek_acs.__path__, "deepseek_acs."):
    if module.name.rpartition(".")[2] != "__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as missing:
            assert missing.name in ("matplotlib", "rich", "websocket"), missing  # of the extras
print(len(deepseek_acs.planner.catalogue.gpu_series()))
"""

LAZY = """
import sys
from deepseek_acs import components
assert "pulumi" not in sys.modules
print(components.ModelService.__module__)
"""


def run(*command: str | Path, folder: Path, environment: dict[str, str] | None = None, fails: bool = False) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode != 0) is fails, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in SOURCES:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    run(sys.executable, "-m", "build", "--outdir", "dist", folder=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A virtual environment with the wheel and what it requires, the direct ones as they are pinned."""
    folder = wheel.parent / "environment"
    run(sys.executable, "-m", "venv", folder, folder=wheel.parent)
    pins = re.findall(r"^[\w-]+==[\w.]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    run(folder / "bin" / "pip", "install", "--quiet", "--no-compile", wheel, *pins, folder=wheel.parent)
    return folder


@pytest.fixture(scope="module")
def environment(built: Path) -> dict[str, str]:
    """Where ``pulumi`` and its plugins are."""
    home = built / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PULUMI_", "ALICLOUD_", "KUBECONFIG"))}
    ours = {**kept, "HOME": str(home), "DEEPSEEK_CACHE": str(tools.cache_directory())}
    found = tools.build_all(["pulumi", "pulumi-language-yaml", "typescript-sdk"])
    engine = engine_environment(
        built, pulumi=found["pulumi"], emulated_cloud=True, on_loopback=True, environ=ours
    ).over(ours)
    return {**engine, "PATH": f"{found['pulumi-language-yaml'].parent}{os.pathsep}{engine['PATH']}"}


@pytest.fixture
def checkout(tmp_path: Path, installed: Path) -> Path:
    """``provider`` and ``examples`` next to each other, with the installed wheel in place of the checkout."""
    for part in ("provider", "examples"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns(".venv", "node_modules", "sdks"))
    for user in (tmp_path / "provider", tmp_path / "examples" / "python"):
        requirements = (user / "requirements.txt").read_text()
        assert requirements.splitlines()[-1] == os.path.relpath(tmp_path, user)
        (user / "requirements.txt").write_text("deepseek-acs\n")
        (user / ".venv").symlink_to(installed)
    return tmp_path


def test_the_wheel_has_one_import_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"deepseek_acs", "deepseek_acs-0.1.0.dist-info"}
    assert {"deepseek_acs/py.typed", "deepseek_acs/planner/models.toml"} <= set(names)
    assert "deepseek_acs/components/public/model_service.py" in names


def test_everything_can_be_imported(installed: Path) -> None:
    assert int(run(installed / "bin" / "python", "-I", "-W", "ignore", "-c", IMPORT_ALL, folder=installed)) > 5


def test_components_are_imported_when_they_are_asked_for(installed: Path) -> None:
    said = run(installed / "bin" / "python", "-I", "-W", "ignore", "-c", LAZY, folder=installed)
    assert said.strip() == "deepseek_acs.components.public.model_service"


def preview(folder: Path, environment: dict[str, str], *, fails: bool = False) -> str:
    run("pulumi", "stack", "select", "--create", "dev", folder=folder, environment=environment)
    said = run("pulumi", "preview", "--non-interactive", folder=folder, environment=environment, fails=fails)
    return said


def assert_whole(said: str) -> None:
    assert "tensor 8 × pipeline 2" in said
    assert "LeaderWorkerSet deepseek-r1-group create" in said
    assert 'url: "http://deepseek-r1-leader.default.svc.cluster.local:8000/v1"' in said


def test_python(checkout: Path, environment: dict[str, str]) -> None:
    assert_whole(preview(checkout / "examples" / "python", environment))


def test_yaml(checkout: Path, environment: dict[str, str]) -> None:
    folder = checkout / "examples" / "yaml"
    program = (folder / "Pulumi.yaml").read_text()
    # The example has what the command adds.
    (folder / "Pulumi.yaml").write_text(program.replace("packages:\n  deepseek-acs: ../../provider\n", ""))
    run("pulumi", "package", "add", "../../provider", folder=folder, environment=environment)
    assert "packages:\n  deepseek-acs: ../../provider\n" in (folder / "Pulumi.yaml").read_text()
    assert_whole(preview(folder, environment))


def test_mistakes_in_yaml(checkout: Path, environment: dict[str, str]) -> None:
    folder = checkout / "examples" / "yaml"
    program = (folder / "Pulumi.yaml").read_text()
    (folder / "Pulumi.yaml").write_text(program.replace("tensorParallelSize: 8", "tensorParallelSize: 7"))
    said = preview(folder, environment, fails=True)
    assert "ModelService deepseek-r1: " in said
    assert "tensorParallelSize" in said
    assert "gpusPerPod" in said


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
@pytest.mark.slow
def test_typescript_compiles(checkout: Path, environment: dict[str, str]) -> None:
    """Against the SDK that the schema makes; the Go module proxy does not have the language host for a preview."""
    folder = checkout / "examples" / "typescript"
    schema = run("pulumi", "package", "get-schema", "../../provider", folder=folder, environment=environment)
    generator = tools.tool("typescript-sdk")
    done = subprocess.run(
        [str(generator), "sdks/deepseek-acs"], input=schema[schema.index("{") :], cwd=folder, text=True, check=False
    )
    assert done.returncode == 0
    run("npm", "install", "--no-audit", "--no-fund", folder=folder)
    run("npx", "tsc", folder=folder)
    program = (folder / "index.ts").read_text()
    (folder / "index.ts").write_text(program.replace("gpuSeries:", "gpuSerie:"))
    assert "'gpuSerie' does not exist in type 'ModelServiceArgs'" in run("npx", "tsc", folder=folder, fails=True)
