"""The table of published vulnerabilities, and which of them a deployment has."""

import re
from datetime import date
from typing import Any

import pytest

from deepseek_acs.planner.advisories import (
    CONDITIONS,
    Advisory,
    advisories,
    applying,
    image_release,
    release,
    torch_of,
)
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm_releases.release import newest, text
from tests.planner.specs import guide, stack_findings

OPEN: dict[str, Any] = {"security": {}}
"""Nothing keeps other pods from Ray."""

NEW: dict[str, Any] = {"image": f"vllm-openai:v{text(newest())}", "backend": "mp"}
KEYED = {"apiKey": True}
UNFILTERED = {"apiKey": True, "requestFilter": None}
ROUTE = {
    "kind": "ingress",
    "className": "nginx",
    "host": "llm.example.com",
    "tls": {"kind": "controller"},
}
BY_REQUEST = {
    "CVE-2026-34756",
    "CVE-2025-48956",
    "CVE-2025-62426",
    "CVE-2025-61620",
    "CVE-2025-29770",
    "GHSA-hf3c-wxg2-49q9",
    "CVE-2026-55574",
}
"""What a request does to the guide's image, as the guide sets it."""

THROUGH_THE_FILTER = {"CVE-2025-48956", "CVE-2025-29770", "GHSA-hf3c-wxg2-49q9", "CVE-2026-55574"}
RAY = "CVE-2025-34351"


def ids(spec: ResolvedSpec) -> set[str]:
    return {advisory.id for advisory in applying(spec)}


def said(spec: ResolvedSpec, severity: str) -> str:
    """The text about vulnerabilities; empty without one."""
    found = [f for f in stack_findings(spec) if f.source.endswith("advisories.toml") and f.severity == severity]
    return "\n".join(map(str, found))


class TestTable:
    def test_rows_are_whole(self) -> None:
        names = [name for advisory in advisories() for name in advisory.names]
        assert len(names) == len(set(names))
        for advisory in advisories():
            assert re.fullmatch(r"CVE-\d{4}-\d{4,}|GHSA(-[0-9a-z]{4}){3}", advisory.id)
            assert date(2023, 1, 1) < advisory.published < date(2026, 11, 30)
            assert advisory.confirmed or advisory.note, f"{advisory.id}: from where?"
            assert advisory.fixed is None or advisory.introduced < advisory.fixed
            assert advisory.effect
            assert not advisory.filtered or advisory.reach == "api"

    def test_every_condition_is_known_and_used(self) -> None:
        assert {need for advisory in advisories() for need in advisory.needs} == CONDITIONS.keys()

    def test_sources(self) -> None:
        known = {advisory.id: advisory.source for advisory in advisories()}
        assert known["CVE-2026-48746"] == "https://github.com/advisories/GHSA-94f4-hr76-p5j6"
        assert known["GHSA-hf3c-wxg2-49q9"] == "https://github.com/advisories/GHSA-hf3c-wxg2-49q9"
        assert known["CVE-2026-115911"] == "https://nvd.nist.gov/vuln/detail/CVE-2026-115911"


class TestVersions:
    @pytest.mark.parametrize(
        ("version", "concerned"),
        [("0.2.9", False), ("0.3.0", True), ("0.10.1.1", True), ("0.21.9", True), ("0.22", False), ("0.22.0", False)],
    )
    def test_range(self, version: str, concerned: bool) -> None:
        (bent_host,) = (advisory for advisory in advisories() if advisory.id == "CVE-2026-48746")
        assert bent_host.concerns((*release(version), 0, 0)[:4]) is concerned

    def test_fourth_number_of_an_image(self) -> None:
        assert image_release("a/vllm-openai:v0.10.1.1@sha256:0") == (0, 10, 1, 1)
        assert image_release("a/b:latest") is None
        assert "CVE-2025-48956" in ids(guide(image="vllm-openai:v0.10.1"))
        assert "CVE-2025-48956" not in ids(guide(image="vllm-openai:v0.10.1.1"))

    def test_without_a_fix_it_never_ends(self) -> None:
        endless = Advisory(id="x", package="vllm", published=date(2026, 1, 1), reach="api", effect="x")
        assert endless.concerns((99,))

    def test_torch_is_that_of_the_version_or_of_the_last_known_one_before(self) -> None:
        assert torch_of((0, 7, 2)) == (2, 5, 1)
        assert torch_of((0, 10, 1, 1)) == (2, 7, 1)
        assert torch_of((0, 10, 2)) == (2, 8, 0)
        assert torch_of((99, 0, 0)) == torch_of(newest())
        assert torch_of((0, 6, 0)) == (0,)


class TestGuide:
    """The guide's image: every hole of the list is evaluated by how the deployment is set."""

    def test_as_the_guide_sets_it(self) -> None:
        assert ids(guide(**OPEN)) == {*BY_REQUEST, RAY}

    @pytest.mark.parametrize(
        ("changes", "more"),
        [
            ({"service": UNFILTERED}, {"CVE-2026-48746", "CVE-2025-59425"}),
            ({"tensor": 16, "pipeline": 1}, {"CVE-2025-30202", "CVE-2025-30165"}),
            ({"extra_args": ("--kv-transfer-config={}",)}, {"CVE-2025-32444", "CVE-2025-47277"}),
            ({"extra_args": ("--enable-prefix-caching",)}, {"CVE-2025-46570"}),
            ({"extra_args": ("--load-format=pt",)}, {"CVE-2025-32434", "CVE-2026-24747"}),
            ({"allow_pickle": True}, {"CVE-2025-32434", "CVE-2026-24747"}),
            ({"extra_args": ("--tool-call-parser=pythonic",)}, {"GHSA-j828-28rj-hfhp"}),
            ({"extra_args": ("--quantization=gguf",)}, {"CVE-2026-53923"}),
            ({"env": {"PYTHONOPTIMIZE": "1"}}, {"CVE-2026-41523"}),
            ({"extra_args": ("--task=embed",)}, {"CVE-2026-93592"}),
            ({"env": {"VLLM_USE_RUST_FRONTEND": "1"}}, {"CVE-2026-105759"}),
        ],
    )
    def test_what_a_setting_adds(self, changes: dict[str, Any], more: set[str]) -> None:
        assert ids(guide(**changes)) - ids(guide()) == more

    @pytest.mark.parametrize(
        ("changes", "less"),
        [
            ({"service": KEYED}, BY_REQUEST - THROUGH_THE_FILTER),
            ({"security": {"networkPolicy": {"clients": [{"namespace": "a"}]}}}, {RAY}),
            ({"security": {"securityGroups": ["sg-1"]}}, {RAY}),
            ({"ray_token": True}, {RAY}),
            ({"model": "Qwen/Qwen3-32B", "pipeline": 1}, {RAY}),
        ],
    )
    def test_what_a_setting_closes(self, changes: dict[str, Any], less: set[str]) -> None:
        assert ids(guide(**OPEN)) - ids(guide(**{**OPEN, **changes})) == less

    def test_code_of_the_model(self) -> None:
        runs_anyway = {"CVE-2025-66448", "CVE-2026-22807", "CVE-2026-27893"}
        image = {"image": "vllm-openai:v0.10.2"}
        assert runs_anyway <= ids(guide(trust_remote_code=False, **image))
        assert not runs_anyway & ids(guide(trust_remote_code=True, **image))
        assert "GHSA-h3rc-6mm3-gc2m" in ids(guide(trust_remote_code=True, **image))

    def test_what_is_known_of_the_model(self) -> None:
        unknown = {"model": "a/b", "weights_gib": 600.0, "image": "vllm-openai:v0.11.0"}
        assert "CVE-2026-44222" in ids(guide(**unknown))
        assert "CVE-2026-44222" not in ids(guide(image="vllm-openai:v0.11.0"))


class TestWords:
    def test_inside_the_cluster_it_is_a_warning(self) -> None:
        assert said(guide(**OPEN), "error") == ""
        text = said(guide(**OPEN), "warning")
        assert "this deployment has 8 published vulnerabilities of vLLM 0.7.2: CVE-2026-34756 (one request" in text
        assert "CVE-2026-48746" not in text
        assert "use an image with vLLM 0.24.0 or newer, and close Ray's ports with deployment.security." in text

    @pytest.mark.parametrize(
        ("service", "way", "count"),
        [
            ({"kind": "internalLoadBalancer", **KEYED}, "the load balancer", 4),
            ({"kind": "internalLoadBalancer", **UNFILTERED}, "the load balancer", 9),
            ({"kind": "internalLoadBalancer"}, "the load balancer", 7),
            ({"kind": "clusterIP", **KEYED, "route": ROUTE}, "deployment.service.route", 4),
        ],
    )
    def test_a_way_in_makes_it_an_error(self, service: dict[str, Any], way: str, count: int) -> None:
        text = said(guide(service=service, **OPEN), "error")
        assert f"by {way}, clients can use {count} published vulnerabilities of vLLM 0.7.2: " in text
        assert RAY not in text
        assert RAY in said(guide(service=service, **OPEN), "warning")

    def test_one_is_one(self) -> None:
        accepted = sorted(THROUGH_THE_FILTER - {"CVE-2026-55574"})
        case = guide(service={"kind": "internalLoadBalancer", **KEYED}, security={"acceptedAdvisories": accepted})
        assert "use 1 published vulnerability of vLLM 0.7.2: CVE-2026-55574 (a regular" in said(case, "error")

    def test_all_that_is_accepted_is_silent(self) -> None:
        names = [next(iter(a.names - {a.id}), a.id) for a in applying(guide(service=KEYED, **OPEN))]
        case = guide(service={"kind": "internalLoadBalancer", **KEYED}, security={"acceptedAdvisories": names})
        assert said(case, "error") == said(case, "warning") == ""

    def test_what_is_not_confirmed_stops_nothing(self) -> None:
        case = guide(
            service={"kind": "internalLoadBalancer", **KEYED}, image="vllm-openai:v0.28.0", **{"backend": "mp"}
        )
        assert said(case, "error") == ""
        assert "vLLM 0.28.0; ? is not confirmed: GHSA-v5gm-qgmv-gc6c? (stop_token_ids" in said(case, "warning")

    def test_pickles_need_another_format(self) -> None:
        case = guide(allow_pickle=True, **{**NEW, "image": "vllm-openai:v0.12.0"})
        assert "CVE-2026-24747?" in said(case, "warning")
        assert ", and load safetensors only; or name" in said(case, "warning")

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("CVE-2026-48746", "does not concern this deployment"),
            ("CVE-2020-0001", "is not in deepseek_acs/planner/advisories.toml"),
        ],
    )
    def test_accepted_for_nothing(self, name: str, why: str) -> None:
        text = said(guide(security={"acceptedAdvisories": [name], "securityGroups": ["sg-1"]}), "warning")
        assert f"deployment.security.acceptedAdvisories: {name} {why}; remove it, so that it accepts nothing" in text


def test_the_current_version_has_none() -> None:
    for service in ({}, KEYED, UNFILTERED, {"kind": "internalLoadBalancer", **KEYED}):
        assert ids(guide(service=service, **NEW)) == set()
