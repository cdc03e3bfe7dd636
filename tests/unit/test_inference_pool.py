"""The pool of leaders and its endpoint picker: what is made, what it may do, and who reaches it."""

import json
from typing import Any

import pytest

from components import wiring
from components.inference_pool import EndpointPickerArgs, PickerWeights, picker_config
from components.operators import GATEWAY, INFERENCE_POOLS, expected_apis
from deepseek_acs.planner.cost import cost
from deepseek_acs.planner.vllm_releases.release import Version
from deepseek_acs.requestfilter.program import Settings
from tests.unit.conftest import ACCEPTED, REVIEWED, Recorder, Run, merged, resolved
from tests.unit.test_access import KEY, outputs, templates
from tests.unit.test_policy import resources, violations
from tests.unit.test_stack_config import problems
from tests.unit.test_updates import UPDATE

ROUTE: dict[str, Any] = {
    "kind": "inferencePool",
    "name": "shared",
    "namespace": "gateways",
    "sectionName": "https",
    "host": "llm.example.com",
}
CLIENTS = [{"namespace": "gateways"}, {"namespace": "monitoring"}]
SECRETS = {"apiKey": KEY}


def on(**changes: Any) -> dict[str, Any]:
    base = {
        "weights": REVIEWED,
        "inference": {"replicas": 2, "engine": {"backend": "mp", "image": "vllm/vllm-openai:v0.33.0"}},
        "service": {"kind": "clusterIP", "apiKey": True, "route": ROUTE},
        "security": {"networkPolicy": {"clients": CLIENTS}, "acceptedAdvisories": ACCEPTED},
    }
    return merged(base, changes)


def pickers(recorder: Recorder) -> dict[str, dict[str, Any]]:
    """The picker's objects, by kind."""
    return {
        manifest["kind"]: manifest
        for manifest in recorder.manifests()
        if manifest["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "endpoint-picker"
    }


@pytest.fixture
def pooled(up: Run) -> Recorder:
    return up(on(), secrets=SECRETS)


def test_without_the_route_there_is_none(up: Run) -> None:
    assert pickers(up()) == {}
    assert wiring.inference_pool(resolved({}), group=None) is None  # type: ignore[arg-type]


class TestPool:
    def test_has_leaders_alone_on_the_engines_port(self, pooled: Recorder) -> None:
        spec = pooled.manifest("InferencePool")["spec"]
        leader, worker = templates(pooled)
        labels = spec["selector"]["matchLabels"]
        assert labels == pooled.manifest("Service", "inference-service")["spec"]["selector"]
        assert leader["metadata"]["labels"]["role"] == labels["role"] == "leader"
        assert "role" not in worker["metadata"]["labels"]
        assert spec["targetPorts"] == [{"number": 8000}]
        reference = {"name": "deepseek-r1-epp", "port": {"number": 9002}, "failureMode": "FailOpen"}
        assert spec["endpointPickerRef"] == reference

    def test_route_leads_to_it_with_the_paths_of_any_route(self, pooled: Recorder, up: Run) -> None:
        spec = pooled.manifest("HTTPRoute")["spec"]
        gateway = up(on(service={"route": {**ROUTE, "kind": "gateway"}}), secrets=SECRETS).manifest("HTTPRoute")["spec"]
        (rule,), (other,) = spec["rules"], gateway["rules"]
        (backend,) = rule.pop("backendRefs")
        assert backend == {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "deepseek-r1"}
        assert other.pop("backendRefs") == [{"name": "ds-leader", "port": 8000}]
        assert spec == gateway

    def test_service_stays_for_all_others(self, pooled: Recorder) -> None:
        assert pooled.manifest("Service", "inference-service")["metadata"]["name"] == "ds-leader"

    def test_apis_are_expected(self) -> None:
        assert {*expected_apis(resolved(on()))} >= {GATEWAY, INFERENCE_POOLS}
        assert INFERENCE_POOLS not in expected_apis(resolved(on(service={"route": {**ROUTE, "kind": "gateway"}})))

    def test_picker_that_is_there_is_only_named(self, up: Run) -> None:
        expected = {**ROUTE, "endpointPicker": {"kind": "expect", "service": "router-epp", "port": 9100}}
        recorder = up(on(service={"route": expected}), secrets=SECRETS)
        assert pickers(recorder).keys() == {"InferencePool"}
        reference = recorder.manifest("InferencePool")["spec"]["endpointPickerRef"]
        assert reference == {"name": "router-epp", "port": {"number": 9100}, "failureMode": "FailOpen"}
        assert "endpoint-picker" not in json.dumps(recorder.manifest("NetworkPolicy", "access-clients"))

    def test_output_tells_the_verifier(self, pooled: Recorder, up: Run) -> None:
        assert outputs(pooled)["inferencePool"] == "deepseek-r1"
        assert "inferencePool" not in outputs(up())


class TestPicker:
    def test_runs_once_and_unprivileged(self, pooled: Recorder) -> None:
        spec = pickers(pooled)["Deployment"]["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "registry.k8s.io/gateway-api-inference-extension/epp:v1.5.0"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"] == container["resources"]["requests"] == {"cpu": "2", "memory": "4Gi"}
        assert not any(KEY in argument or "key" in argument for argument in container["args"])
        labels = spec["template"]["metadata"]["labels"]
        assert labels.items() >= spec["selector"]["matchLabels"].items()
        assert labels["alibabacloud.com/compute-class"] == "general-purpose"

    def test_copy_of_the_image_is_pulled_with_the_pods_secrets(self, up: Run) -> None:
        recorder = up(on(security={"pods": {"imagePullSecrets": ["registry"]}}), secrets=SECRETS)
        assert pickers(recorder)["ServiceAccount"]["imagePullSecrets"] == [{"name": "registry"}]

    def test_watches_its_pool_and_pods_and_changes_nothing(self, pooled: Recorder) -> None:
        rules = pickers(pooled)["Role"]["rules"]
        assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
        (pool,) = (rule for rule in rules if rule["resources"] == ["inferencepools"])
        assert pool["resourceNames"] == ["deepseek-r1"]
        assert [rule["resources"] for rule in rules if rule["apiGroups"] == [""]] == [["pods"]]

    @pytest.mark.parametrize(
        ("version", "metric"), [((0, 8, 5), "vllm:gpu_cache_usage_perc"), ((0, 33, 0), "vllm:kv_cache_usage_perc")]
    )
    def test_reads_the_metrics_of_the_engines_version(self, version: Version, metric: str) -> None:
        config = json.loads(picker_config(EndpointPickerArgs(image="x:1", cpu=1, memory="1Gi", engine_version=version)))
        (extractor,) = (one for one in config["plugins"] if one["type"] == "core-metrics-extractor")
        (engine,) = extractor["parameters"]["engineConfigs"]
        assert engine["kvUsageSpec"] == metric

    def test_weights_are_the_users(self) -> None:
        weights = PickerWeights(queue=5, kv_cache=0, prefix=1)
        args = EndpointPickerArgs(image="x:1", cpu=1, memory="1Gi", engine_version=(0, 33, 0), weights=weights)
        config = json.loads(picker_config(args))
        (profile,) = config["schedulingProfiles"]
        assert profile["plugins"] == [
            {"pluginRef": "queue-scorer", "weight": 5},
            {"pluginRef": "prefix-cache-scorer", "weight": 1},
        ]
        assert "kv-cache-utilization-scorer" not in picker_config(args)

    def test_another_configuration_starts_another_pod(self, pooled: Recorder, up: Run) -> None:
        picker = {"kind": "deploy", "weights": {"prefix": 5}}
        other = up(on(service={"route": {**ROUTE, "endpointPicker": picker}}), secrets=SECRETS)
        names = {pickers(recorder)["ConfigMap"]["metadata"]["name"] for recorder in (pooled, other)}
        assert len(names) == 2
        for recorder in (pooled, other):
            config_map = pickers(recorder)["ConfigMap"]
            assert config_map["immutable"] is True
            (volume,) = pickers(recorder)["Deployment"]["spec"]["template"]["spec"]["volumes"]
            assert volume["configMap"] == {"name": config_map["metadata"]["name"]}

    def test_costs_a_pod(self) -> None:
        spec = resolved(on())
        with_picker, without = cost(spec), cost(resolved(on(service={"route": {**ROUTE, "kind": "gateway"}})))
        price = spec.prices.job
        assert price.vcpu_hour
        assert price.memory_gib_hour
        assert with_picker.picker.value == pytest.approx(2 * price.vcpu_hour + 4 * price.memory_gib_hour)
        assert with_picker.serving[0].value - without.serving[0].value == pytest.approx(with_picker.picker.value)

    def test_keeps_the_policies(self, pooled: Recorder) -> None:
        kinds = {*pickers(pooled), "HTTPRoute"}
        own = [one for one in resources(pooled, "live") if one.kind in kinds or one.kind == "LeaderWorkerSet"]
        assert not {name: texts for name, texts in violations(own).items() if "epp" in " ".join(texts)}
        assert violations([one for one in own if one.kind in kinds]) == {}


class TestNetwork:
    def test_picker_reads_the_leaders_metrics(self, pooled: Recorder) -> None:
        """It is a client of the leaders, and the filter lets it read without a key."""
        (rule,) = pooled.manifest("NetworkPolicy", "access-clients")["spec"]["ingress"]
        labels = pickers(pooled)["Deployment"]["spec"]["template"]["metadata"]["labels"]
        admitted = [peer["podSelector"]["matchLabels"] for peer in rule["from"] if peer.keys() == {"podSelector"}]
        assert any(one.items() <= labels.items() for one in admitted)
        config_map = pooled.manifest("ConfigMap", "requestfilter")
        assert Settings(**json.loads(config_map["data"]["settings.json"])).open_metrics is True

    def test_picker_of_the_new_groups_is_a_client_after_an_update(self, up: Run) -> None:
        update = {**UPDATE, "weight": 100}
        recorder = up(on(update=update), secrets=SECRETS)
        deployment = pickers(recorder)["Deployment"]
        assert deployment["metadata"]["name"] == f"deepseek-r1-{UPDATE['revision']}-epp"
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        (rule,) = recorder.manifest("NetworkPolicy", "access-clients-v33")["spec"]["ingress"]
        admitted = [peer["podSelector"]["matchLabels"] for peer in rule["from"] if peer.keys() == {"podSelector"}]
        assert any(one.items() <= labels.items() for one in admitted)

    def test_metrics_need_a_key_on_all_other_routes(self, up: Run) -> None:
        recorder = up(on(service={"route": {**ROUTE, "kind": "gateway"}}), secrets=SECRETS)
        config_map = recorder.manifest("ConfigMap", "requestfilter")
        assert json.loads(config_map["data"]["settings.json"])["open_metrics"] is False

    def test_clients_alone_reach_the_picker(self, pooled: Recorder) -> None:
        spec = pickers(pooled)["NetworkPolicy"]["spec"]
        assert spec["podSelector"]["matchLabels"] == pickers(pooled)["Deployment"]["spec"]["selector"]["matchLabels"]
        (rule,) = spec["ingress"]
        assert [port["port"] for port in rule["ports"]] == [9002, 9090]
        assert [peer["namespaceSelector"]["matchLabels"] for peer in rule["from"]] == [
            {"kubernetes.io/metadata.name": name} for name in ("gateways", "monitoring")
        ]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        (block,) = (peer["ipBlock"] for peer in spec["egress"][0]["to"] if "ipBlock" in peer)
        assert block["except"] == ["169.254.0.0/16", "100.100.100.200/32"]

    def test_without_policies_there_is_none_for_it(self, up: Run) -> None:
        changes = on()
        changes["security"] = {"securityGroups": ["sg-1a"]}
        assert "NetworkPolicy" not in pickers(up(changes, secrets=SECRETS))


class TestMonitoring:
    def test_picker_is_scraped_and_watched(self, up: Run) -> None:
        recorder = up(on(observability={}), secrets=SECRETS)
        monitor = recorder.manifest("PodMonitor", "observability-picker")
        assert (
            monitor["spec"]["selector"]["matchLabels"]
            == pickers(recorder)["Deployment"]["spec"]["selector"]["matchLabels"]
        )
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] == "metrics"
        assert [one["targetLabel"] for one in endpoint["relabelings"]] == ["namespace", "pod"]
        (group,) = recorder.manifest("PrometheusRule")["spec"]["groups"]
        assert {"EndpointPickerDown", "EndpointPickerMissesLeaders", "EndpointPickerFailing"} <= {
            rule["alert"] for rule in group["rules"]
        }

    def test_not_without_a_picker(self, up: Run) -> None:
        recorder = up({"observability": {}})
        assert recorder.kinds().count("PodMonitor") == 1
        assert "EndpointPicker" not in json.dumps(recorder.manifest("PrometheusRule"))


@pytest.mark.parametrize(
    ("route", "path", "problem"),
    [
        (
            {"endpointPicker": {"kind": "deploy", "weights": {"queue": 0, "kvCache": 0, "prefix": 0}}},
            "weights",
            "every leader is as good",
        ),
        ({"endpointPicker": {"kind": "expect"}}, "endpointPicker.service", "required"),
        ({"endpointPicker": {"kind": "deploy", "image": "epp"}}, "endpointPicker.image", "expected form"),
        ({"sectionName": None}, "sectionName", "required"),
    ],
)
def test_each_problem_of_the_settings_has_its_path(route: dict[str, Any], path: str, problem: str) -> None:
    found = problems(
        on(service={"route": {key: value for key, value in {**ROUTE, **route}.items() if value is not None}})
    )
    assert [one for one in found if path in one.path and problem in one.problem], found
