"""What is known of each version of vLLM: the catalogue from its wheels, and what was written by hand."""

import datetime
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deepseek_acs.planner.vllm import CACHE_FORMAT_READ, RUNNER_V2
from deepseek_acs.planner.vllm_releases import release
from deepseek_acs.planner.vllm_releases.command_line import refusal
from deepseek_acs.planner.vllm_releases.kinds import takes

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deepseek_acs" / "planner" / "vllm_releases"
CHANGES = tomllib.loads((FOLDER / "changes.toml").read_text(encoding="utf-8"))
LARGEST_KB = 300
OLD_DAYS = 120
"""Two months of new versions, which appear every two weeks, and some time to notice."""


def known(version: str) -> release.Release:
    found = release.release(release.version(version))
    assert found is not None
    return found


def test_the_catalogue_is_small() -> None:
    assert (FOLDER / "catalogue.json").stat().st_size <= LARGEST_KB * 1000


@pytest.mark.integration
def test_the_catalogue_is_read_only_when_it_is_asked() -> None:
    code = """
import sys
opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
import deepseek_acs.planner.check, deepseek_acs.planner.resolve
print(any(path.endswith("catalogue.json") for path in opened))
deepseek_acs.planner.vllm_releases.release.newest()
print(any(path.endswith("catalogue.json") for path in opened))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]


def test_every_minor_version_since_0_6_6_is_there() -> None:
    minors = sorted({version[:2] for version in release.versions()})
    assert minors == [(0, minor) for minor in range(6, minors[-1][1] + 1)]
    assert release.versions()[0] == (0, 6, 6)


def test_the_catalogue_is_not_old() -> None:
    age = datetime.datetime.now(datetime.UTC).date() - release.read_on()
    assert age.days < OLD_DAYS, (
        f"the newest version that is known is vLLM {release.text(release.newest())} of "
        f"{release.published(release.newest())}, as of {release.read_on()}; run make facts"
    )


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_agrees_with_the_wheels(name: str) -> None:
    change = CHANGES[name]
    assert set(change) <= {"since", "what", "source", "catalogue"}
    assert change["source"].startswith("https://")
    if "catalogue" in change:
        section, entry = change["catalogue"]
        assert release.spans(section, entry)[0].since == release.changed_in(name)


def test_every_change_is_used_and_every_used_one_is_known() -> None:
    files = [path for folder in ("deepseek_acs", "components") for path in (ROOT / folder).rglob("*.py")]
    program = "\n".join(path.read_text(encoding="utf-8") for path in files)
    used = set(re.findall(r"changed_in\(\s*[\"'](\w+)[\"']\s*\)", program)) | set(re.findall(r'until="(\w+)"', program))
    used |= {*CACHE_FORMAT_READ.values(), *RUNNER_V2.values()}
    assert used == set(CHANGES)


def test_what_is_counted_follows_the_default_of_the_variable() -> None:
    rows = release.spans("variables", "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS")
    assert [row.since for row in rows if row.facts.get("default") == "1"] == [release.changed_in("graphs_counted")]


def test_ray_is_left_out_where_the_wheels_no_longer_require_it() -> None:
    without = [version for version in release.versions() if "ray" not in release.requirements(version)]
    assert without[0] == release.changed_in("ray_left_out")


@pytest.mark.parametrize(
    ("version", "section", "name", "is_there"),
    [
        ("0.7.2", "architectures", "DeepseekV3ForCausalLM", True),
        ("0.10.2", "architectures", "DeepseekV32ForCausalLM", False),
        ("0.11.0", "architectures", "DeepseekV32ForCausalLM", True),
        ("0.8.5", "tool_parsers", "deepseek_v3", False),
        ("0.9.0", "tool_parsers", "deepseek_v3", True),
        ("0.7.0", "reasoning_parsers", "deepseek_r1", False),
        ("0.7.1", "reasoning_parsers", "deepseek_r1", True),
        ("0.7.2", "cache_types", "fp8_ds_mla", False),
        ("0.20.2", "cache_types", "nvfp4", True),
        ("0.7.2", "executors", "mp", True),
        ("0.20.2", "quantizations", "aqlm", False),
        ("0.14.1", "variables", "VLLM_ATTENTION_BACKEND", True),
        ("0.15.0", "variables", "VLLM_ATTENTION_BACKEND", False),
        ("0.17.1", "arguments", "--swap-space", True),
        ("0.18.0", "arguments", "--swap-space", False),
    ],
)
def test_what_a_version_has(version: str, section: release.Section, name: str, is_there: bool) -> None:
    assert (known(version).facts(section, name) is not None) is is_there


def test_an_unknown_patch_is_taken_for_the_one_before_it() -> None:
    assert known("0.19.7").version == (0, 19, 1)
    assert release.release((0, 5, 0)) is None
    assert release.release((release.newest()[0], release.newest()[1] + 1, 0)) is None


@pytest.mark.parametrize(
    ("version", "words", "problem"),
    [
        ("0.7.2", ["--enable-reasoning", "--reasoning-parser=deepseek_r1"], None),
        ("0.11.0", ["--enable-reasoning"], "unrecognized arguments: --enable-reasoning"),
        ("0.33.0", ["--max-num-seqs", "64", "-tp", "8"], None),
        ("0.33.0", ["--max_num_seqs=64"], None),
        ("0.33.0", ["--max-num-se=64"], None),
        ("0.33.0", ["--max-num=64"], "ambiguous option: --max-num=64 could match"),
        ("0.33.0", ["--max-num-seqs=many"], "argument --max-num-seqs: takes a whole number"),
        ("0.33.0", ["--max-num-seqs"], "argument --max-num-seqs: expected one argument"),
        ("0.7.2", ["--max-num-batched-tokens=8k"], "argument --max-num-batched-tokens: takes a whole number"),
        ("0.33.0", ["--max-num-batched-tokens=8k"], None),
        ("0.7.2", ["--kv-cache-dtype=fp4"], "argument --kv-cache-dtype: takes one of auto, fp8, fp8_e4m3, fp8_e5m2"),
        ("0.33.0", ["--compilation-config.cudagraph_mode=NONE", "-O2"], None),
        ("0.33.0", ["--compilation-config.cudagraf_mode=NONE"], "--compilation-config/-cc: has no cudagraf_mode"),
        ("0.33.0", ["--compilation-config.mode"], "argument --compilation-config.mode: expected one argument"),
        ("0.8.5", ["--compilation-config.level=3"], "unrecognized arguments: --compilation-config.level=3"),
        ("0.10.0", ["-O", "x"], "-O: takes a JSON object"),
        ("0.10.0", ["-Ox"], "argument -O: expected a level"),
        ("0.7.2", ["-O3"], None),
        ("0.20.2", ["-O.a=1"], None),
        ("0.33.0", ["--enforce-eager=true"], "ignored explicit argument"),
        ("0.33.0", ["word"], "unrecognized arguments: word"),
    ],
)
def test_the_command_line_of_a_version(version: str, words: list[str], problem: str | None) -> None:
    found = refusal(known(version), words)
    assert found is None if problem is None else problem in (found or "")


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        ("whole number", ["1", "-1"], ["1.5", "8k", ""]),
        ("whole number, also with k, m, g, K, M or G", ["8k", "1.5m", "8K"], ["1.5K", "8t"]),
        ("whole number, also with k, m, g, t, K, M, G or T, or auto", ["auto", "AUTO", "1t"], ["automatic"]),
        ("JSON object?", ["{}", "", "None"], ["[]", "{"]),
        ("name=number,...", ["image=2", "a=1,b=2", "a=1,a=1", ""], ["image", "a=1,a=2", "a=b"]),
        ("level 0 to 3 or object", ["3", "{'level': 3}"], ["4", "level"]),
        ("name=path or JSON", ["a=/x", '{"name": "a", "path": "/x"}', ""], ["a", '{"name": "a"}', "{"]),
        ("text or JSON object", ["x", "{}"], ["{x}"]),
        ("true or false", ["True", "false"], ["1"]),
    ],
)
def test_kinds_of_values(kind: str, taken: list[str], refused: list[str]) -> None:
    assert [text for text in taken + refused if takes(kind, text)] == taken
