"""An update by a second revision: what exists, who gets requests, and that a promotion restarts nothing."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pytest
from pulumi import ResourceHookArgs

from components.canary_guard import CanaryGuardArgs, rules
from deepseek_acs.planner.cost import cost
from deepseek_acs.planner.summary import summary
from deepseek_acs.settings.errors import findings
from deepseek_acs.settings.stack import StackSettings
from local.stack import _images, _nodes
from tests.unit.conftest import API_KEY, PINNED, Recorder, Run, errors, merged, resolved, stack_settings
from tests.unit.test_access import outputs

ENGINE = {"image": "vllm/vllm-openai:v0.33.0-cu129", "backend": "mp", "maxModelLen": 2048}
UPDATE: dict[str, Any] = {"revision": "v33", "engine": ENGINE}
ROUTE = {"kind": "gateway", "name": "public", "sectionName": "https", "host": "llm.example.com"}
SERVED: dict[str, Any] = {
    "service": {"apiKey": True, "route": ROUTE},
    "weights": PINNED,
    "inference": {
        "engine": {"image": "vllm/vllm-openai:v0.32.0-cu129", "backend": "mp"},
        "lifecycle": {"requestSeconds": 1800},
    },
}


def stack(*changes: Mapping[str, Any], **update: Any) -> dict[str, Any]:
    """The dev stack with a route and an update."""
    found = merged(SERVED, {"update": {**UPDATE, **update}} if update else {})
    for change in changes:
        found = merged(found, change)
    return found


def run(up: Run, changes: Mapping[str, Any]) -> Recorder:
    return up(changes, secrets=API_KEY)


def promoted_by_hand() -> dict[str, Any]:
    return stack({"inference": {"engine": ENGINE, "revision": "v33"}})


def backends(recorder: Recorder) -> list[tuple[str, int | None]]:
    (rule,) = recorder.inputs("HTTPRoute")["spec"]["rules"]
    return [(backend["name"], backend.get("weight")) for backend in rule["backendRefs"]]


def selectors(recorder: Recorder) -> dict[str, str]:
    """The LeaderWorkerSets that Services select."""
    services = [one for one in recorder.manifests() if one["kind"] == "Service"]
    return {one["metadata"]["name"]: one["spec"]["selector"]["leaderworkerset.sigs.k8s.io/name"] for one in services}


def sets(recorder: Recorder) -> dict[str, Any]:
    """Templates by the names of the LeaderWorkerSets."""
    found = [one for one in recorder.manifests() if one["kind"] == "LeaderWorkerSet"]
    return {one["metadata"]["name"]: one["spec"]["leaderWorkerTemplate"] for one in found}


def problems(changes: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - pydantic's
        StackSettings.model_validate(merged(stack_settings("dev"), changes))
    return [(f.path, f.problem, f.fix) for f in findings(raised.value)]  # type: ignore[arg-type]


def test_without_an_update_nothing_has_a_revision(up: Run) -> None:
    found = run(up, stack())
    assert backends(found) == [("ds-leader", None)]
    assert selectors(found) == {"ds-leader": "deepseek-r1"}


def test_new_groups_next_to_the_old_ones(up: Run) -> None:
    before, found = run(up, stack()), run(up, stack(weight=0))
    assert sets(found).keys() == {"deepseek-r1", "deepseek-r1-v33"}
    assert sets(found)["deepseek-r1"] == sets(before)["deepseek-r1"], "the old pods are not recreated"
    assert selectors(found) == {"ds-leader": "deepseek-r1", "ds-leader-v33": "deepseek-r1-v33"}
    assert backends(found) == [("ds-leader", 100), ("ds-leader-v33", 0)]
    (container,) = sets(found)["deepseek-r1-v33"]["leaderTemplate"]["spec"]["containers"]
    assert container["image"] == ENGINE["image"]


def test_the_route_waits_for_groups_to_which_requests_move(up: Run) -> None:
    waits = {
        weight: any("-v33-group" in urn for urn in run(up, stack(weight=weight)).request("Route").dependencies)
        for weight in (0, 10)
    }
    assert waits == {0: False, 10: True}


@pytest.mark.parametrize("weight", [10, 100])
def test_weights_are_those_of_the_route(up: Run, weight: int) -> None:
    found = run(up, stack(weight=weight))
    assert backends(found) == [("ds-leader", 100 - weight), ("ds-leader-v33", weight)]
    assert selectors(found)["ds-leader"] == "deepseek-r1"
    assert found.component_outputs  # the program ran to its end


def test_a_promotion_is_what_the_moved_sections_are(up: Run) -> None:
    during, promoted, moved = run(up, stack(weight=100)), run(up, stack(promote=True)), run(up, promoted_by_hand())
    assert promoted.manifests() == moved.manifests()
    assert promoted.requests.keys() == moved.requests.keys()
    assert sets(promoted) == {"deepseek-r1-v33": sets(during)["deepseek-r1-v33"]}, "no pod is recreated"
    assert selectors(promoted) == {"ds-leader": "deepseek-r1-v33", "ds-leader-v33": "deepseek-r1-v33"}
    assert backends(promoted) == [("ds-leader-v33", None)]
    kept = [key for key in during.requests if "v33" in key and "HTTPRoute" not in key]
    assert kept
    assert set(kept) <= promoted.requests.keys(), "what the revision has keeps its name in Pulumi's state"


def test_the_next_update_begins_at_the_promoted_one(up: Run) -> None:
    found = run(up, merged(promoted_by_hand(), {"update": {"revision": "v34", "engine": ENGINE, "weight": 5}}))
    assert sets(found).keys() == {"deepseek-r1-v33", "deepseek-r1-v34"}
    assert backends(found) == [("ds-leader-v33", 95), ("ds-leader-v34", 5)]


MODEL: dict[str, Any] = {
    "revision": "v3",
    "model": {"name": "deepseek-ai/DeepSeek-V3"},
    "weights": {"source": {"kind": "bucket"}, "manifestSha256": "1" * 64, "prefix": "models/DeepSeek-V3"},
}


def with_model(**update: Any) -> dict[str, Any]:
    return merged(SERVED, {"update": {**MODEL, **update}})


def volumes(recorder: Recorder) -> dict[str, tuple[str, str]]:
    """URNs and folders of the volumes by the names of their claims."""
    found = {}
    for key, request in recorder.requests.items():
        if key.startswith("kubernetes:core/v1:PersistentVolume::"):
            spec = recorder.inputs("PersistentVolume", key.split("::")[1])["spec"]
            parent = str(request.parent).split("::")[2].rsplit("$", 1)[-1]
            found[spec["claimRef"]["name"]] = (f"{parent}${key}", spec["csi"]["volumeAttributes"]["path"])
    return found


def test_another_model_has_weights_of_its_own(up: Run) -> None:
    before, found = run(up, stack()), run(up, with_model(weight=10))
    (old,) = volumes(before).values()
    assert sorted(path for _, path in volumes(found).values()) == ["/models/DeepSeek-R1/", "/models/DeepSeek-V3/"]
    assert old in volumes(found).values()
    claims = {
        name: template["leaderTemplate"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
        for name, template in sets(found).items()
    }
    assert volumes(found)[claims["deepseek-r1"]][1] == "/models/DeepSeek-R1/"
    assert volumes(found)[claims["deepseek-r1-v3"]][1] == "/models/DeepSeek-V3/"
    policy = found.inputs("Policy", "reader")["policyDocument"]
    assert "models/DeepSeek-R1/*" in policy
    assert "models/DeepSeek-V3/*" in policy
    jobs = [key for key in found.requests if key.startswith("kubernetes:batch/v1:Job::model-upload")]
    assert sorted(jobs) == ["kubernetes:batch/v1:Job::model-upload-job", "kubernetes:batch/v1:Job::model-upload-v3-job"]
    waits = found.request("ModelUpload", "model-upload-v3").dependencies
    assert any("models-reader" in urn or "models-mover" in urn for urn in waits), "its folder is among the rights"


def test_the_promotion_of_a_model_keeps_its_volume(up: Run) -> None:
    during, promoted = run(up, with_model(weight=100)), run(up, with_model(promote=True))
    assert sets(promoted) == {"deepseek-r1-v3": sets(during)["deepseek-r1-v3"]}
    ((claim, volume),) = volumes(promoted).items()
    assert volumes(during)[claim] == volume, "the same in Pulumi's state and in the cluster"
    assert promoted.inputs("PersistentVolume") == during.inputs("PersistentVolume", claim)
    assert "DeepSeek-R1" not in promoted.inputs("Policy", "reader")["policyDocument"]
    moved = {
        "inference": {"revision": "v3"},
        "model": {**MODEL["model"], "servedName": None},
        "weights": MODEL["weights"],
    }
    assert run(up, merged(SERVED, moved)).manifests() == promoted.manifests()


@pytest.mark.parametrize(("weight", "selected"), [(0, "deepseek-r1"), (100, "deepseek-r1-v33")])
def test_without_a_gateway_the_service_switches(up: Run, weight: int, selected: str) -> None:
    found = up({"update": {**UPDATE, "weight": weight}, "weights": PINNED})
    assert selectors(found) == {"ds-leader": selected, "ds-leader-v33": "deepseek-r1-v33"}


def test_what_belongs_to_groups_is_there_for_each(up: Run) -> None:
    each = {
        "inference": {"guard": {}, "lifecycle": {"disruptionBudget": {}}},
        "observability": {"alerts": {}},
        "verification": {"smoke": True},
        "security": {"networkPolicy": {"clients": [{"namespace": "a"}]}},
    }
    found = run(up, stack(each, weight=10, limits={}))
    names = [(one["kind"], one["metadata"].get("name")) for one in found.manifests()]
    for kind, name in (
        ("PodDisruptionBudget", "{}"),
        ("PodMonitor", "{}-metrics"),
        ("PrometheusRule", "{}-alerts"),
        ("NetworkPolicy", "{}-clients"),
        ("NetworkPolicy", "{}-members"),
        ("NetworkPolicy", "{}-egress"),
        ("Deployment", "{}-costguard"),
    ):
        for group in ("deepseek-r1", "deepseek-r1-v33"):
            assert (kind, name.format(group)) in names
    assert names.count(("ServiceAccount", "deepseek-r1")) <= 1
    tests = [key for key in found.requests if key.startswith("kubernetes:batch/v1:Job::verification")]
    assert len(tests) == 2
    route = found.request("Route")
    assert any("verification-v33" in urn for urn in route.dependencies), "a failed smoke test leaves the weights"
    clients = found.inputs("NetworkPolicy", "clients-v33")["spec"]["ingress"][0]["from"]
    label = {"app.kubernetes.io/name": "canaryguard"}
    assert any(label.items() <= peer.get("podSelector", {}).get("matchLabels", {}).items() for peer in clients)


def test_the_guard_of_the_new_groups(up: Run) -> None:
    found = run(up, stack(weight=10, limits={"timeToFirstTokenSeconds": 10}))
    template = found.inputs("Deployment", "canary-guard")["spec"]["template"]["spec"]
    (container,) = template["containers"]
    assert container["args"][:1] == ["--namespace=deepseek"]
    assert {"--group=deepseek-r1-v33", "--service=ds-leader-v33", "--error-share=0.05"} <= set(container["args"])
    assert "--first-token-seconds=10" in container["args"]
    assert container["env"][0]["name"] == "METRICS_KEY"
    assert "value" not in container["env"][0]
    role = found.inputs("Role", "canary-guard")
    route = found.inputs("HTTPRoute")
    assert role["rules"][0]["verbs"] == ["get", "patch"]
    assert len(role["rules"][0]["resourceNames"]) == 1
    assert route["metadata"]["annotations"]["pulumi.com/patchForce"] == "true"
    assert not any(kind == "Deployment" for kind in run(up, stack(weight=10)).kinds())


def test_the_outputs_name_the_new_groups(up: Run) -> None:
    found = outputs(run(up, stack(weight=10, limits={})))
    assert found["update"] == {"group": "deepseek-r1-v33", "weight": 10, "guard": "deepseek-r1-canaryguard"}
    assert found["group"] == "deepseek-r1"
    assert "update" not in outputs(run(up, stack(promote=True)))


def test_it_may_change_no_pod() -> None:
    args = CanaryGuardArgs(
        namespace="n",
        base_name="r1",
        group="r1-v33",
        port=8000,
        route="route",
        service="leader-v33",
        http_requests="a",
        finished="b",
        first_token_latency="c",
        error_share=0.05,
        first_token_seconds=None,
        least_requests=20,
        keys_secret=None,
        image="i",
    )
    allowed = {(resource, verb) for rule in rules(args) for resource in rule["resources"] for verb in rule["verbs"]}  # type: ignore[union-attr]
    assert allowed == {
        *(("httproutes", "get"), ("httproutes", "patch")),
        *(("configmaps", "get"), ("configmaps", "patch")),
        ("pods", "list"),
        ("events", "create"),
    }


def test_groups_with_requests_keep_their_template(up: Run, hooks: dict[str, pulumi.ResourceHook]) -> None:
    up(stack(weight=10), secrets=API_KEY, again=True)
    refuse = hooks["inference-group-v33-template"]
    old = {"spec": {"replicas": 1, "leaderWorkerTemplate": {"size": 2}}}

    def change(spec: dict[str, Any]) -> None:
        new = {"spec": {**old["spec"], **spec}}
        refuse(ResourceHookArgs(urn="", id="", name="", type="", old_inputs=old, new_inputs=new))

    change({"replicas": 2})
    with pytest.raises(pulumi.RunError) as raised:
        change({"leaderWorkerTemplate": {"size": 3}})
    said = " ".join(str(raised.value).split())
    assert "problem: the pods of deepseek-r1-v33 would change while the route sends requests to them" in said
    assert "fix: write another deployment.update.revision" in said


def test_groups_without_requests_may_change(up: Run, hooks: dict[str, pulumi.ResourceHook]) -> None:
    up(stack(weight=0), secrets=API_KEY, again=True)
    assert "inference-group-v33-template" not in hooks


def test_the_preview_says_what_it_needs() -> None:
    layout = {"parallelism": {"tensor": 8, "pipeline": 3}}
    lines = summary(resolved(stack(weight=10, **layout)))
    assert lines["revision"] == (
        "deepseek-r1-v33 gets 10 % of the requests: 1 group, vLLM 0.33.0, tensor 8 × pipeline 3 on 3 pods of 8"
    )
    assert lines["its GPUs"] == (
        "24 GU8TF in addition to 16 of deepseek-r1, of the account; inference.gpu.available would check them"
    )
    gpu = {"inference": {"gpu": {"available": 40}}}
    assert summary(resolved(stack(gpu, weight=10, **layout)))["its GPUs"] == (
        "24 GU8TF in addition to 16 of deepseek-r1, of 24 that are left"
    )


def test_both_revisions_cost() -> None:
    prices = {"prices": {"gpuHour": 5, "vcpuHour": 0, "memoryGiBHour": 0}}
    assert cost(resolved(stack(prices))).serving[1].value == 16 * 5
    assert cost(resolved(stack(prices, weight=10, replicas=2))).serving[1].value == 3 * 16 * 5
    assert cost(resolved(stack(prices, promote=True))).serving[1].value == 16 * 5


def test_problems_of_the_new_revision_name_its_settings() -> None:
    found = errors(resolved(stack(weight=10, parallelism={"tensor": 7, "pipeline": 2})))
    assert {finding.path for finding in found} == {
        "deployment.update.parallelism",
        "deployment.update.parallelism.tensor",
    }
    assert all(finding.problem.startswith("revision v33: ") for finding in found)
    assert errors(resolved(stack(weight=10))) == []


def test_an_autoscaler_stays_with_the_old_groups() -> None:
    scaling = {"replicas": None, "scaling": {"kind": "hpa", "maxReplicas": 3}}
    settings = stack(weight=10, replicas=2)
    found = resolved({**settings, "inference": {**settings["inference"], **scaling}})
    assert found.update is not None
    assert found.replicas.scaler is not None
    assert found.update.candidate.replicas.scaler is None
    assert found.update.candidate.replicas.first == 2
    settings["update"] |= {"promote": True}
    assert resolved({**settings, "inference": {**settings["inference"], **scaling}}).replicas.scaler is not None


def test_the_embedded_cluster_has_room_for_both() -> None:
    spec = resolved(stack(weight=10))
    assert _nodes(spec).count == 4
    assert ENGINE["image"] in _images(spec).engine


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"update": {"revision": "v33"}},
            ("deployment.update", "the update changes nothing", "write one of the sections engine, gpu, parallelism, "),
        ),
        (
            {"update": {"revision": "v3", "model": {"name": "deepseek-ai/DeepSeek-V3"}}},
            ("deployment.update", "another model has weights of its own", "write weights with another prefix and "),
        ),
        (
            {"update": {"revision": "v3", "weights": {"prefix": "models/DeepSeek-R1"}}},
            ("deployment", "update.weights.prefix is models/DeepSeek-R1, where the groups ", "write another folder"),
        ),
        (
            {"update": UPDATE, "inference": {"revision": "v33"}},
            ("deployment", "inference.revision and update.revision are both v33", "write another update.revision; or "),
        ),
        (
            {"update": UPDATE, "inference": {"name": "a" * 50}},
            ("deployment", f"the LeaderWorkerSet would be called {'a' * 50}-v33, and 51 ", "write a shorter revision"),
        ),
    ],
)
def test_settings_that_are_refused(changes: Mapping[str, Any], said: tuple[str, str, str]) -> None:
    ((path, problem, fix),) = problems(changes)
    assert path == said[0]
    assert problem.startswith(said[1])
    assert fix.startswith(said[2])
