"""What makes another key, and what does not."""

from pathlib import Path

import pytest

from deepseek_acs.compilecache import key
from deepseek_acs.compilecache.key import Key, cards, driver, key_of, packages, processor

GIVEN = {"image": "vllm:v0.33.0", "model": "R1@a", "layout": "tensor 8, pipeline 2", "arguments": "1a2b"}

VERSION = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Tue Mar  5 22:42:15 UTC 2024
GCC version:  gcc version 11.4.0
"""
OPEN_VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build  (dvs-builder)\n"


def nvidia(folder: Path, *models: str, version: str = VERSION) -> Path:
    """The files of the driver."""
    for number, model in enumerate(models):
        place = folder / "gpus" / f"0000:0{number}:00.0"
        place.mkdir(parents=True)
        (place / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 4{number}\nGPU UUID: \t GPU-{number}\n")
    (folder / "version").write_text(version)
    return folder


def test_cards_and_driver(tmp_path: Path) -> None:
    found = nvidia(tmp_path, "NVIDIA H20", "NVIDIA H20")
    assert (cards(found), driver(found)) == ("2 NVIDIA H20", "535.161.08")


def test_the_open_driver_says_its_version_otherwise(tmp_path: Path) -> None:
    assert driver(nvidia(tmp_path, version=OPEN_VERSION)) == "570.133.20"


def test_without_a_driver(tmp_path: Path) -> None:
    assert (cards(tmp_path), driver(tmp_path)) == ("none", "none")


def test_a_processor_is_told_by_its_features(tmp_path: Path) -> None:
    found = list[str]()
    for name, features in (("a", "avx2 fma"), ("b", "fma avx2"), ("c", "avx2 fma avx512f")):
        (tmp_path / name).write_text(f"processor: 0\nflags\t\t: {features}\ncpu MHz: {len(found)}\nflags: other\n")
        found.append(processor(tmp_path / name))
    assert found[0] == found[1] != found[2]


def test_packages_of_the_engine_count_by_their_files(tmp_path: Path) -> None:
    path = [str(tmp_path)]
    found = [packages(path)]
    for name, record in (("torch", "a,sha256=1,2\n"), ("torch", "a,sha256=2,2\n"), ("other", "a,sha256=2,2\n")):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(record)
        found.append(packages(path))
    assert len(set(found)) == 4
    (tmp_path / "other-1.0.dist-info" / "RECORD").write_text("a,sha256=3,2\n")
    assert packages(path) == found[-1], "of other packages, the version counts"


@pytest.fixture
def _few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this Python take half a second."""
    monkeypatch.setattr(key, "packages", lambda: packages([]))


@pytest.mark.usefixtures("_few_packages")
@pytest.mark.parametrize("name", GIVEN)
def test_each_part_makes_another_key(name: str) -> None:
    before = key_of(GIVEN, rank="0")
    assert key_of(GIVEN, rank="0").digest == before.digest
    assert key_of({**GIVEN, name: GIVEN[name] + "1"}, rank="0").digest != before.digest


@pytest.mark.usefixtures("_few_packages")
def test_each_rank_has_its_own() -> None:
    assert key_of(GIVEN, rank="0").digest != key_of(GIVEN, rank="1").digest


@pytest.mark.usefixtures("_few_packages")
@pytest.mark.parametrize("part", ["cards", "driver", "processor", "packages"])
def test_what_the_pod_runs_on_makes_another_key(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(GIVEN, rank="0")
    monkeypatch.setattr(key, part, lambda: "another")
    assert key_of(GIVEN, rank="0").digest != before.digest


@pytest.mark.usefixtures("_few_packages")
def test_nothing_of_the_pod_itself_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(GIVEN, rank="0")
    for name in ("HOSTNAME", "VLLM_HOST_IP", "LWS_LEADER_ADDRESS", "VLLM_PORT", "POD_IP"):
        monkeypatch.setenv(name, "10.0.0.9")
    assert key_of(GIVEN, rank="0") == before


def test_the_log_says_what_it_stands_for() -> None:
    assert str(Key({"rank": "0", "card": "8 NVIDIA H20"})).endswith(" (card 8 NVIDIA H20, rank 0)")
