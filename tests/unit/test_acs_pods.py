"""What the GPU pods carry for ACS: labels, annotations, node selector, environment."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from components.inference_group import group_spec
from tests.unit.conftest import ACCEPTED, REVIEWED, Recorder, Run, group_args

RDMA = {"network": "rdma"}
P16EN = {"gpu": {"series": "P16EN", "perPod": 16}, "parallelism": {"tensor": 16, "pipeline": 1}}


def templates(changes: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The pod templates of the dev stack with changed settings."""
    template = group_spec(group_args(changes or {}))["leaderWorkerTemplate"]
    return [template["leaderTemplate"], template["workerTemplate"]]


def environment(template: dict[str, Any]) -> dict[str, str | None]:
    (container,) = template["spec"]["containers"]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_rdma_is_a_label_and_an_environment_and_nothing_else() -> None:
    for plain, rdma in zip(templates(), templates({"inference": RDMA}), strict=True):
        assert rdma["metadata"]["labels"] == {**plain["metadata"]["labels"], "alibabacloud.com/hpn-type": "rdma"}
        added = environment(rdma).items() - environment(plain).items()
        assert dict(added) == {
            "NCCL_IB_TC": "136",
            "NCCL_IB_SL": "5",
            "NCCL_IB_GID_INDEX": "3",
            "NCCL_DEBUG": "INFO",
            "NCCL_IB_HCA": "mlx5",
            "NCCL_NET_PLUGIN": "none",
        }
        (one,), (other,) = plain["spec"].pop("containers"), rdma["spec"].pop("containers")
        assert plain["spec"] == rdma["spec"]
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        one["securityContext"]["capabilities"]["add"] = ["IPC_LOCK"]
        assert {k: v for k, v in one.items() if k != "env"} == {k: v for k, v in other.items() if k != "env"}


def test_standard_network_sets_nothing_of_it() -> None:
    for template in templates():
        assert "alibabacloud.com/hpn-type" not in template["metadata"]["labels"]
        assert not [name for name in environment(template) if "_IB_" in name or name == "NCCL_DEBUG"]


@pytest.mark.parametrize(
    "image", ["r.example.com/egslingjun/inference-nv-pytorch:26.03", "r.example.com/e/inference-xpu-pytorch:26.04"]
)
def test_images_of_acs_bring_their_own_network_library(image: str) -> None:
    changes = {"inference": {**RDMA, "engine": {"image": image, "backend": "mp"}}}
    for template in templates(changes):
        assert "NCCL_NET_PLUGIN" not in environment(template)
        assert environment(template)["NCCL_IB_HCA"] == "mlx5"


def test_ppu_pods_have_their_own_resource_and_network_card() -> None:
    for template in templates({"inference": {**RDMA, **P16EN}}):
        (container,) = template["spec"]["containers"]
        assert container["resources"]["limits"]["alibabacloud.com/ppu"] == "16"
        assert "nvidia.com/gpu" not in container["resources"]["limits"]
        assert environment(template)["NCCL_IB_DISABLE"] == "1"
        assert "NCCL_IB_TC" not in environment(template)


def test_users_variables_win() -> None:
    own = {"NCCL_DEBUG": "WARN", "NCCL_IB_TIMEOUT": "22"}
    for template in templates({"inference": {**RDMA, "engine": {"env": own}}}):
        assert environment(template).items() >= own.items()
        names = [entry["name"] for entry in template["spec"]["containers"][0]["env"]]
        assert len(names) == len(set(names))


def test_reserved_nodes_are_selected_by_series_and_on_demand_pods_labelled() -> None:
    key = "alibabacloud.com/gpu-model-series"
    for template in templates():
        assert template["metadata"]["labels"][key] == "GU8TF"
        assert "nodeSelector" not in template["spec"]
    for template in templates({"inference": {"gpu": {"computeClass": "gpu-hpn"}}}):
        assert template["metadata"]["labels"]["alibabacloud.com/compute-class"] == "gpu-hpn"
        assert key not in template["metadata"]["labels"]
        assert template["spec"]["nodeSelector"] == {key: "GU8TF"}


def test_zone_driver_and_storage() -> None:
    changes = {
        "zone": "cn-hangzhou-j",
        "gpu": {"driverVersion": "550.90.07"},
        "resources": {"extraEphemeralStorage": "50Gi"},
    }
    for template in templates({"inference": changes}):
        assert template["spec"]["nodeSelector"] == {"topology.kubernetes.io/zone": "cn-hangzhou-j"}
        assert template["metadata"]["labels"]["alibabacloud.com/gpu-driver-version"] == "550.90.07"
        assert template["metadata"]["annotations"] == {"alibabacloud.com/extra-ephemeral-storage": "50Gi"}
    for template in templates():
        assert "annotations" not in template["metadata"]
        assert "alibabacloud.com/gpu-driver-version" not in template["metadata"]["labels"]


def test_no_selector_relies_on_labels_that_the_platform_may_change(up: Run) -> None:
    assert not [key for key in up().manifest("Service")["spec"]["selector"] if key.startswith("alibabacloud.com")]


def test_node_index_does_not_need_a_new_controller() -> None:
    """The App Marketplace's controller (0.5) sets no LWS_WORKER_INDEX, and Kubernetes leaves an unknown variable as it
    stands; the label is set by all versions."""
    image = "vllm/vllm-openai:v0.33.0"
    for template in templates({"inference": {"engine": {"backend": "mp", "image": image}}}):
        assert "LWS_WORKER_INDEX" not in str(template)
        assert "metadata.labels['leaderworkerset.sigs.k8s.io/worker-index']" in str(template)


NEVER: dict[str, set[Any]] = {
    "kind": {"DaemonSet"},
    "type": {"NodePort"},
    "hostNetwork": {True},
    "hostIPC": {True},
    "hostPID": {True},
    "privileged": {True},
    "allocateLoadBalancerNodePorts": {True},
    "dnsPolicy": {"ClusterFirstWithHostNet"},
    "networkmode": {"HostNetwork"},
    "volumeType": {"hostPath"},
    "hostPort": set(range(65536)),
    "enableServiceLinks": {True},
}
"""Fields that ACS refuses, rewrites or ignores, by values
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""


def refused(value: Any) -> Iterator[str]:
    """What ACS would not run of a manifest."""
    if isinstance(value, list):
        for item in value:
            yield from refused(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "hostPath" or (key in NEVER and not isinstance(item, dict | list) and item in NEVER[key]):
                yield f"{key}: {item}"
            yield from refused(item)
        if "containers" in value and value.get("enableServiceLinks") is not False:
            yield "enableServiceLinks is not false"
        if value.get("type") == "LoadBalancer" and "allocateLoadBalancerNodePorts" not in value:
            yield "node ports"


class TestLimitsOfPods:
    @pytest.mark.parametrize(
        ("stack", "changes"),
        [
            ("dev", {}),
            ("prod", {}),
            (
                "dev",
                {
                    "service": {"kind": "internalLoadBalancer", "port": 80},
                    "security": {"securityGroups": ["sg-1a"], "acceptedAdvisories": ACCEPTED},
                    "weights": REVIEWED,
                },
            ),
            ("dev", {"weights": {"source": {"kind": "bucket"}}}),
        ],
    )
    def test_no_manifest_asks_for_what_acs_does_not_run(self, up: Run, stack: str, changes: dict[str, Any]) -> None:
        recorder: Recorder = up(changes, stack=stack)
        assert [text for manifest in recorder.manifests() for text in refused(manifest)] == []

    @pytest.mark.parametrize(
        "manifest",
        [
            {"kind": "DaemonSet"},
            {"kind": "Service", "spec": {"type": "NodePort"}},
            {"kind": "Service", "spec": {"type": "LoadBalancer"}},
            {"spec": {"volumes": [{"hostPath": {"path": "/"}}]}},
            {"spec": {"containers": [{"securityContext": {"privileged": True}}], "enableServiceLinks": False}},
            {"spec": {"hostNetwork": True}},
            {"spec": {"dnsPolicy": "ClusterFirstWithHostNet"}},
            {"spec": {"containers": []}},
            {"spec": {"tieredstore": {"levels": [{"volumeType": "hostPath"}]}}},
        ],
    )
    def test_one_that_did_would_be_found(self, manifest: dict[str, Any]) -> None:
        assert list(refused(manifest))
