"""The controllers: expected ones are known, others come by charts that cannot delete what depends on them."""

from functools import partial
from typing import Any

import pytest

from components.operators import ALERTS, GATEWAY, INFERENCE_POOLS, KEDA, LWS, MONITORS, Api, expected_apis
from components.operators import FLUID as FLUID_API
from deepseek_acs.settings.operators import InstallFluid
from tests.unit.conftest import Run, resolved

FLUID = {"storage": {"kind": "fluid"}}
INSTALL_LWS = {"operators": {"lws": {"kind": "install"}}}
INSTALL_FLUID = {"operators": {"fluid": {"kind": "install"}}}

POOL = {"kind": "inferencePool", "name": "g", "sectionName": "https", "host": "llm.example.com"}

FLUID_VALUES: dict[str, Any] = {
    "region": "cn-hangzhou",
    "cluster_profile": "ManagedKubernetes",
    "clusterProfileforApp": "Acs",
    "pullImageByVPCNetwork": True,
    "appendImageTag": True,
    "helmDriver": "configmap",
    "version": "v1.0.13-fc3296a6",
    "crdUpgrade": {"enabled": True},
    "runtime": {
        "jindo": {
            "enabled": False,
            "engine": "jindocache",
            "queryUfsTotal": True,
            "init": {"portCheck": {"enabled": False}},
        }
    },
    "webhook": {
        "enabled": True,
        "timeoutSeconds": 15,
        "reinvocationPolicy": "IfNeeded",
        "replicas": 2,
        "serverlessInject": {
            "platformKey": "alibabacloud.com/fluid-sidecar-target",
            "platformValue": "acs",
            "vfuseResourceName": "alibabacloud.com/vfuse",
        },
    },
    "csi": {"config": {"hostNetwork": False}, "hostPID": False},
    "fluidapp": {"enabled": True},
}
"""Those of https://github.com/aliyun-computenest/quickstart-vllm-ack, .computenest/ros_templates/acs-ecs.yaml, except
for the chart's own images, two replicas of the webhook, and the target of the sidecar."""

MIRROR = "https://mirror.example.com/charts"


def expected(changes: dict[str, Any]) -> list[Api]:
    return expected_apis(resolved(changes))


@pytest.fixture
def up(program: Run) -> Run:
    """The program until the cluster has what it needs."""
    return partial(program, until="components.model_bucket.ModelBucket")


class TestExpected:
    @pytest.mark.parametrize(
        ("changes", "apis"),
        [
            ({}, [LWS]),
            (FLUID, [LWS, FLUID_API]),
            (INSTALL_LWS, []),
            ({**FLUID, **INSTALL_FLUID}, [LWS]),
            ({"service": {"kind": "clusterIP", "apiKey": True, "route": POOL}}, [LWS, GATEWAY, INFERENCE_POOLS]),
            ({"observability": {}}, [LWS, MONITORS, ALERTS]),
            ({"observability": {"alerts": None}}, [LWS, MONITORS]),
        ],
    )
    def test_only_what_the_stack_uses_and_does_not_install(self, changes: dict[str, Any], apis: list[Api]) -> None:
        assert expected(changes) == apis

    @pytest.mark.parametrize("api", [LWS, FLUID_API, GATEWAY, INFERENCE_POOLS, MONITORS, ALERTS, KEDA])
    def test_what_is_said_names_the_api_and_what_to_install(self, api: Api) -> None:
        assert api.resource.group_version.split("/")[0] in api.finding.problem
        assert "install" in api.finding.fix

    def test_nothing_of_a_definition_comes_into_the_state(self, program: Run) -> None:
        assert not [key for key in program(FLUID).reads if key.startswith("kubernetes:")]


class TestInstalled:
    def test_lws_by_its_pinned_chart(self, program: Run) -> None:
        recorder = program(INSTALL_LWS)
        release = recorder.inputs("Release", "lws")
        assert (release["chart"], release["version"]) == ("oci://registry.k8s.io/lws/charts/lws", "0.9.0")
        assert (release["name"], release["namespace"], release["createNamespace"]) == ("lws", "lws-system", True)
        assert release["atomic"] is True
        assert any("Release" in urn for urn in recorder.request("InferenceGroup").dependencies)

    def test_mirror_of_lws(self, up: Run) -> None:
        mirror = {
            "repository": "oci://mirror.example.com/lws",
            "image": "mirror.example.com/lws/lws",
            "version": "0.8.0",
        }
        release = up({"operators": {"lws": {"kind": "install", **mirror}}}).inputs("Release", "lws")
        assert release["chart"] == "oci://mirror.example.com/lws/lws"
        assert release["version"] == "0.8.0"
        assert release["values"] == {"image": {"manager": {"repository": "mirror.example.com/lws/lws"}}}

    def test_definitions_are_left_to_the_charts_own_folder(self, up: Run) -> None:
        """Helm never deletes what is in ``crds/``: neither an upgrade nor destroy can take the groups along
        (https://github.com/kubernetes-sigs/lws/issues/880); versions that have it elsewhere are refused, below."""
        release = up(INSTALL_LWS).inputs("Release", "lws")
        assert not {"skipCrds", "takeOwnership", "forceUpdate"} & release.keys()

    def test_fluid_with_the_values_that_the_console_would_fill_in(self, program: Run) -> None:
        recorder = program({**FLUID, **INSTALL_FLUID})
        release = recorder.inputs("Release", "ack-fluid")
        assert release["chart"].endswith("/ack-fluid-1.0.13.tgz")
        assert (release["name"], release["namespace"]) == ("ack-fluid", "fluid-system")
        assert release["values"] == FLUID_VALUES
        assert any("Release" in urn for urn in recorder.request("FluidCache").dependencies)

    def test_webhook_listens_to_the_label_of_the_pods_and_does_not_go_alone(self, up: Run) -> None:
        for target in ("acs", "eci"):
            changes = {"storage": {"kind": "fluid", "sidecar": target}, **INSTALL_FLUID}
            webhook = up(changes).inputs("Release", "ack-fluid")["values"]["webhook"]
            assert webhook["serverlessInject"]["platformValue"] == target
            assert webhook["replicas"] == 2
        without = up({"storage": {"kind": "fluid", "sidecar": "none"}, **INSTALL_FLUID})
        values = without.inputs("Release", "ack-fluid")["values"]
        webhook = {name: value for name, value in FLUID_VALUES["webhook"].items() if name != "serverlessInject"}
        assert values == {**FLUID_VALUES, "webhook": webhook}

    def test_installed_fluid_stays_when_the_storage_is_changed(self, up: Run) -> None:
        assert up(INSTALL_FLUID).inputs("Release", "ack-fluid")["name"] == "ack-fluid"

    @pytest.mark.parametrize(
        ("name", "version"),
        [
            ("ack-fluid-1.0.13.tgz", (1, 0, 13)),
            ("ack-fluid-v1.0.9-beta.2.tgz", (1, 0, 9)),
            ("fluid/1.0.9/chart.tgz", None),
        ],
    )
    def test_version_of_a_chart(self, name: str, version: tuple[int, ...] | None) -> None:
        assert InstallFluid(kind="install", chart=f"{MIRROR}/{name}").chart_version == version

    def test_chart_that_is_too_old_for_pods_of_acs(self, up: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        warnings: list[str] = []
        monkeypatch.setattr("pulumi.log.warn", lambda text, *_: warnings.append(text))

        def said(chart: str, storage: dict[str, Any]) -> list[str]:
            warnings.clear()
            install = {"kind": "install", "chart": f"{MIRROR}/{chart}", "imageTag": "v1.0.10-0"}
            up({"storage": storage, "operators": {"fluid": install}})
            return [text for text in warnings if "operators" in text]

        old, acs = "ack-fluid-1.0.10.tgz", {"kind": "fluid", "sidecar": "acs"}
        assert said(old, acs) == [
            "deployment.operators.fluid.chart: ack-fluid 1.0.10 is older than 1.0.11, the first version that adds the "
            "cache's client to pods of ACS (deployment.storage.sidecar: acs); the GPU pods may find no weights; set "
            "the address of a newer chart, and its imageTag"
        ]
        for chart, storage in (
            ("ack-fluid-1.0.11.tgz", acs),
            ("ack-fluid.tgz", acs),
            (old, {"kind": "fluid", "sidecar": "eci"}),
            (old, {"kind": "csi"}),
        ):
            assert said(chart, storage) == [], (chart, storage)
