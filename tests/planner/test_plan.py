"""The plan: what is derived, what is suggested, and the text that people read."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_acs.planner import catalogue
from deepseek_acs.planner.__main__ import FLAGS, main, parser, specification
from deepseek_acs.planner.findings import PlanError, report
from deepseek_acs.planner.loading import ENGINE_SETUP_SECONDS, PROBE_PERIOD_SECONDS, failure_threshold, load_budget
from deepseek_acs.planner.memory import Verdict
from deepseek_acs.planner.roofline import decode_floor_ms
from deepseek_acs.planner.search import candidates, nearest, other_series, works
from deepseek_acs.planner.spec import Layout, ResolvedSpec
from deepseek_acs.planner.summary import summary, text
from deepseek_acs.planner.weights import shapes_gib
from tests.planner.specs import errors, guide, spec, stack_findings, warnings, working

ROOT = Path(__file__).parents[2]
SUMMARY = Path(__file__).with_name("guide_summary.txt")
CURRENT = {"image": "vllm-openai:v0.33.0", "gpu_memory_utilization": 0.9, "enforce_eager": False}


def shown(found: ResolvedSpec) -> str:
    return text(summary(found))


def test_the_guides_layout_passes() -> None:
    plan = working(guide())
    assert (plan.layout.pods, plan.model.weights_gib, warnings(plan)) == (2, 641.30, [])
    assert plan.memory is not None
    assert plan.memory.verdict is Verdict.FITS
    assert plan.memory.tokens[1] == pytest.approx(1_100_000, rel=0.07)


def test_the_guides_summary() -> None:
    found = shown(working(guide()))
    assert found == SUMMARY.read_text(encoding="utf-8").rstrip("\n")
    assert found in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_finding() -> None:
    with pytest.raises(PlanError) as caught:
        working(guide(series="GN8IS"))
    finding = report(caught.value.findings, where="").split("\n\n", 1)[1]
    assert finding in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", catalogue.model_names())
def test_a_summary_is_one_screen(name: str) -> None:
    plan = working(spec(model=name, series="GU8TEF", max_model_len=4096, **CURRENT))
    lines = shown(plan).splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 96


def test_what_is_left_out_is_derived() -> None:
    plan = working(spec(model="deepseek-ai/DeepSeek-R1", series="GU8TF", max_model_len=8192))
    layout = plan.layout
    assert (layout.tensor, layout.pipeline, layout.gpus_per_pod, plan.layout.pods) == (8, 2, 8, 2)
    assert (plan.pod.cpu, plan.pod.memory_gib, plan.pod.shared_memory_gib) == (64, 512, 32)
    assert working(guide(max_model_len=None, image="vllm:v0.9.2")).engine.max_model_len == 163_840
    assert working(guide(max_model_len=None)).engine.max_model_len == 32_768
    only = working(spec(model="Qwen/Qwen3-32B", series="GX8SF", **CURRENT))
    assert (only.layout.gpus_per_pod, only.pod.cpu, only.pod.memory_gib) == (8, 184, 1800)


def test_a_plan_for_deepseek_v4() -> None:
    plan = working(
        spec(
            model="deepseek-ai/DeepSeek-V4-Flash",
            series="GU8TF",
            max_model_len=131_072,
            create_namespace=True,
            **CURRENT,
        )
    )
    assert (plan.layout.gpus, warnings(plan)) == (4, [])
    assert plan.memory is not None
    assert plan.memory.verdict is Verdict.FITS
    assert plan.memory.requests(131_072)[1] == 5
    assert "verdict   fits" in shown(plan)


def test_candidates_too_small_for_the_weights_would_not_work_either() -> None:
    case = guide(series="GN8IS")
    model, device = case.model.shapes, case.gpu.device
    assert model is not None
    assert device is not None
    usable = device.memory_gib * case.engine.gpu_memory_utilization
    small = [layout for layout in candidates(case, given_only=False) if layout.gpus * usable <= shapes_gib(model)]
    assert small
    assert not any(works(case.with_layout(layout)) for layout in small)


def test_what_is_given_is_kept() -> None:
    plan = working(spec(model="Qwen/Qwen3-32B", series="GU8TF", pipeline=2, cpu=128, memory="512Gi", **CURRENT))
    assert (plan.layout.pipeline, plan.pod.cpu, plan.pod.memory_gib) == (2, 128, 512)


def test_all_findings_at_once() -> None:
    with pytest.raises(PlanError) as caught:
        working(guide(gpus_per_pod=3, tensor=4, startup_seconds=60))
    assert [f.path.rsplit(".", 1)[-1] for f in caught.value.findings] == ["perPod", "parallelism", "startupSeconds"]


def test_another_series_where_this_one_cannot() -> None:
    with pytest.raises(PlanError, match="does not fit") as caught:
        working(spec(model="deepseek-ai/DeepSeek-R1", series="T4", max_model_len=4096))
    assert "choose series " in caught.value.findings[-1].fix
    for name, layout in other_series(guide(series="T4", gpus_per_pod=None, tensor=None, pipeline=None)):
        working(guide(series=name, gpus_per_pod=layout.gpus_per_pod, tensor=layout.tensor, pipeline=layout.pipeline))


def test_a_shorter_request_where_a_long_one_does_not_fit() -> None:
    longer = {
        "model": "Qwen/QwQ-32B",
        "series": "G49E",
        "gpus_per_pod": 2,
        "tensor": 2,
        "pipeline": 1,
        **CURRENT,
        "gpu_memory_utilization": 0.82,
        "enforce_eager": True,
        "create_namespace": True,
    }
    (finding,) = [f for f in stack_findings(spec(**longer)) if f.path == "deployment.inference"]
    assert "set deployment.inference.engine.maxModelLen to " in finding.fix
    length = int(finding.fix.rsplit(" ", 1)[1])
    assert warnings(working(spec(**longer, max_model_len=length))) == []


@settings(max_examples=10, deadline=None)
@given(
    model=st.sampled_from(["deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-235B-A22B-FP8", "Qwen/Qwen3-32B"]),
    series=st.sampled_from(["GU8TF", "GU8TEF", "GN8IS", "P16EN"]),
    tensor=st.integers(1, 20),
    pipeline=st.integers(1, 20),
    length=st.sampled_from([2048, 32_768]),
)
def test_suggested_layouts_pass(model: str, series: str, tensor: int, pipeline: int, length: int) -> None:
    wanted = {"model": model, "series": series, "max_model_len": length, **CURRENT}
    for layout in nearest(spec(**wanted, tensor=tensor, pipeline=pipeline, gpus_per_pod=8)):
        plan = working(spec(**wanted, gpus_per_pod=layout.gpus_per_pod, tensor=layout.tensor, pipeline=layout.pipeline))
        assert plan.memory is not None
        assert plan.memory.verdict is Verdict.FITS
        assert plan.layout.pods * layout.gpus_per_pod == layout.gpus


@given(tensor=st.integers(1, 64), pipeline=st.integers(1, 16), series=st.sampled_from(sorted(catalogue.gpu_series())))
@settings(max_examples=8, deadline=None)
def test_a_plan_uses_every_gpu(tensor: int, pipeline: int, series: str) -> None:
    for gpus_per_pod in catalogue.gpu_series()[series].gpus_per_pod:
        small = guide(
            model="Qwen/Qwen3-0.6B", tensor=tensor, pipeline=pipeline, series=series, gpus_per_pod=gpus_per_pod
        )
        with contextlib.suppress(PlanError):
            plan = working(small)
            assert plan.layout.pods * gpus_per_pod == tensor * pipeline


def test_the_cheapest_layout_is_found() -> None:
    case = spec(model="Qwen/Qwen3-32B", series="GU8TF", max_model_len=8192)
    fewer = [c for c in candidates(case, given_only=True) if c.gpus < case.layout.gpus]
    assert not any(works(case.with_layout(layout)) for layout in fewer)
    assert case.layout.gpus == 1


def test_a_model_without_shapes_is_bounded() -> None:
    plan = working(spec(model="mine", series="GU8TF", weights_gib=300.0))
    assert plan.memory is None
    assert plan.layout.gpus == 8
    assert "not predicted" in shown(plan)


def test_own_size_beats_the_catalogue() -> None:
    assert working(guide(weights_gib=650.0)).model.weights_gib == 650.0


def test_a_size_far_from_the_known_one_is_refused() -> None:
    with pytest.raises(PlanError, match=r"700 GiB are not the 641\.3 GiB"):
        working(guide(weights_gib=700.0))


def test_decode_reads_active_weights_and_cache() -> None:
    """37 GB of R1's weights are active per token: 1.2 ms on 8 H20; a full batch reads all experts."""
    case = guide()
    one, many = decode_floor_ms(case), decode_floor_ms(case, requests=512, context=1000)
    assert one == pytest.approx(1.2, rel=0.05)
    assert many is not None
    assert many > 21


def test_load_budget_of_the_example_in_the_docstring() -> None:
    budget = load_budget(weights_gib=641.30, throughput_mib_s=300)
    assert (budget.read_seconds, budget.startup_seconds, budget.create_seconds) == (2189, 3884, 5684)
    assert budget.update_seconds(replicas=3, groups_at_once=2) == 2 * 5684
    assert budget.update_seconds(replicas=0, groups_at_once=1) == 5684


@settings(max_examples=30)
@given(weights=st.floats(0.1, 5000), throughput=st.integers(10, 100_000))
def test_probes_wait_longer_than_the_read(weights: float, throughput: int) -> None:
    budget = load_budget(weights_gib=weights, throughput_mib_s=throughput)
    granted = failure_threshold(budget.startup_seconds) * PROBE_PERIOD_SECONDS
    assert granted >= budget.startup_seconds >= budget.read_seconds + ENGINE_SETUP_SECONDS
    assert granted - budget.startup_seconds < PROBE_PERIOD_SECONDS
    slower = load_budget(weights_gib=weights, throughput_mib_s=max(1, throughput // 2))
    assert slower.startup_seconds >= budget.startup_seconds


GUIDE_WORDS = [
    "deepseek-ai/DeepSeek-R1", "--series=GU8TF", "--gpus-per-pod=8", "--tensor=8", "--pipeline=2",
    "--max-model-len=2048", "--image=ack-demo/vllm:v0.7.2", "--gpu-memory-utilization=0.95", "--enforce-eager",
]  # fmt: skip


def test_check_prints_summary_and_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *GUIDE_WORDS]) == 0
    text = capsys.readouterr().out
    assert text.startswith(SUMMARY.read_text(encoding="utf-8"))
    assert "2 tightest" in text
    assert max(map(len, text.splitlines())) <= 100


def test_check_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *GUIDE_WORDS, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["layout"] == {"tensor": 8, "pipeline": 2, "gpus_per_pod": 8, "pods": 2, "gpus": 16}
    assert [stage["layers"] for stage in data["memory"]["stages"]] == [30, 31]
    assert data["memory"]["verdict"] == "fits"


def test_check_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *GUIDE_WORDS, "--tensor=12"]) == 1
    captured = capsys.readouterr()
    assert "deepseek-ai/DeepSeek-R1 on GU8TF: 1 problem, it cannot work" in captured.err
    assert captured.out == ""


def test_compare(capsys: pytest.CaptureFixture[str]) -> None:
    long = ["compare", "deepseek-ai/DeepSeek-R1", "--max-model-len=8192"]
    assert main([*long, "--series=GU8TEF", "--series=T4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["series"] for row in rows} == {"GU8TEF"}
    assert [row["gpus"] for row in rows] == sorted(row["gpus"] for row in rows)
    assert main([*long, "--series=T4", "--all", "--image=vllm:v0.33.0"]) == 0
    assert "does not fit" in capsys.readouterr().out
    assert main([*long, "--series=T4"]) == 1


@pytest.mark.parametrize(
    ("command", "words"), [("models", "Kimi-K2"), ("gpus", "P16EN"), ("rules", "quantised-shards")]
)
def test_catalogues_are_printed(command: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 0
    assert words in capsys.readouterr().out


@pytest.mark.integration
def test_chart(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deepseek_acs.planner", "chart", *GUIDE_WORDS, f"--output={tmp_path}/memory.svg"]
    subprocess.run(command, check=True, cwd=ROOT)
    text = (tmp_path / "memory.svg").read_text(encoding="utf-8")
    assert text.count("<svg") == 1


@pytest.mark.parametrize(
    ("package", "user", "words"),
    [("rich", "report", ["models"]), ("matplotlib", "chart", ["chart", *GUIDE_WORDS])],
)
def test_missing_package_is_named(
    package: str, user: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, f"deepseek_acs.planner.{user}", raising=False)
    monkeypatch.delattr(f"deepseek_acs.planner.{user}", raising=False)
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(words) == 2
    expected = f"{package} is not installed: python -m pip install -r deepseek_acs/planner/requirements.txt\n"
    assert capsys.readouterr().err == expected


@pytest.mark.integration
def test_the_program_does_not_import_what_only_the_command_needs() -> None:
    heavy = ("rich", "matplotlib", "numpy", "pydantic", "pulumi", "tomllib")
    code = f"import sys, deepseek_acs.planner.check; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_measured_cache_takes_the_place_of_the_band() -> None:
    plan = working(guide(kv_cache_gib=36.5))
    assert "+ cache 36.50, measured" in shown(plan)
    assert plan.memory is not None
    low, nominal, high = plan.memory.tokens
    assert low == nominal == high
    other = plan.with_layout(Layout(8, 8, 3))
    assert other.engine.measured_kv_cache_gib is None, "on another layout nothing was measured"


def test_a_length_beyond_the_context_is_one_problem() -> None:
    (finding,) = errors(guide(max_model_len=999_999))
    assert finding.path == "deployment.inference.engine.maxModelLen"


def test_the_command_line_plans_what_a_stack_file_with_the_same_settings_asks_for() -> None:
    arguments = parser().parse_args(["check", "deepseek-ai/DeepSeek-R1", "--series=GU8TF"])
    assert specification(arguments, "GU8TF") == spec(model="deepseek-ai/DeepSeek-R1", series="GU8TF", storage=None)


def test_findings_are_spelled_as_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "deepseek-ai/DeepSeek-R1", "--series=GU8TF", "--tensor=7", "--engine-arg=-tp=2"]) == 1
    said = capsys.readouterr().err
    for line in ("  --tensor\n", "or change --gpus-per-pod", "remove it and set --tensor"):
        assert line in said
    assert "deployment" not in said
    assert main(["check", "deepseek-ai/DeepSeek-R1", "--series=GU8TF", "--gpu-memory-utilization=1.5"]) == 1
    assert "  --gpu-memory-utilization\n    problem: input should be less than or equal to 1" in capsys.readouterr().err


def test_every_flag_of_a_finding_exists() -> None:
    known = {flag for flag in FLAGS.values() if flag != "MODEL"}
    helped = parser().parse_args(["check", "m", "--series=s"])
    for flag in {flag for flags in known for flag in flags.split(", ")}:
        assert hasattr(helped, flag.removeprefix("--").replace("-", "_")), flag
