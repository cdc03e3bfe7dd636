"""Access and security: who reaches the model, by what, and what its pods may do. Off, it changes nothing: the golden
manifests show that."""

import json
import shlex
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pulumi
import pytest
import trustme
import yaml
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from components import stack_config
from components.exports import curl_command, route_url
from components.group_access import API_KEY_VARIABLE, HOME, with_access
from components.inference_service import ACL, ADDRESS_TYPE
from components.operators import GATEWAY as GATEWAY_API
from components.operators import expected_apis
from components.route import ingress_tls, redirect_annotations
from components.secret_forms import (
    API_KEY_MIN,
    api_key_problem,
    certificate_problem,
    header_problem,
    kubeconfig_problem,
    pair_problem,
    private_key_problem,
    word_problem,
)
from deepseek_acs.planner.api_paths import API_PATHS, api_paths
from deepseek_acs.planner.pod_security import enforced_level, namespace_labels
from deepseek_acs.planner.vllm_releases.release import Version, newest
from deepseek_acs.requestfilter.program import Settings, read_settings
from deepseek_acs.settings.route import GatewayRoute, IngressRoute, NoTls
from deepseek_acs.settings.stack import StackSettings
from local.plugins.kubernetes import wait_for
from tests.unit.conftest import (
    ACCEPTED,
    PINNED,
    REVIEWED,
    Recorder,
    Run,
    group_args,
    is_secret,
    merged,
    resolved,
    stack_settings,
    warnings,
)
from tests.unit.test_stack_config import problems

KEY = "k3y-0f-a-Test." * 4 + "zyxwvuts"
PEM = "-----BEGIN {}-----\nAAAA\n-----END {}-----\n"
AUTHORITY = trustme.CA()
ISSUED = AUTHORITY.issue_cert("llm.example.com")
SECRETS = {
    "apiKey": KEY,
    "tlsCertificate": ISSUED.cert_chain_pems[0].bytes().decode(),
    "tlsKey": ISSUED.private_key_pem.bytes().decode(),
}

KUBECONFIG = "clusters: [{name: acs, cluster: {server: 'https://acs'}}]"

INGRESS = {
    "kind": "ingress",
    "className": "nginx",
    "host": "llm.example.com",
    "tls": {"kind": "config"},
    "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "1g"},
}
QUEUE = {"kind": "queue", "maxReplicas": 2, "prometheus": {"url": "http://prometheus:9090"}}
CLIENTS = [
    {"namespace": "apps", "podLabels": {"app_kind": "chat"}},
    {"namespace": "monitoring"},
    {"cidr": "10.1.0.0/16"},
]
ON = {
    "weights": REVIEWED,
    "service": {
        "kind": "internalLoadBalancer",
        "apiKey": True,
        "allowedCidrs": ["10.0.0.0/16", "192.168.7.0/24"],
        "route": INGRESS,
    },
    "security": {
        "acceptedAdvisories": ACCEPTED,
        "networkPolicy": {"clients": CLIENTS, "egress": {"closedCidrs": ["192.168.3.4/32"]}},
        "securityGroups": ["sg-1a", "sg-2b"],
        "pods": {"runAsUser": 1000, "imagePullSecrets": ["registry"]},
    },
}
"""Everything on, with an Ingress."""

GATEWAY = {
    "kind": "gateway",
    "name": "shared",
    "namespace": "gateways",
    "sectionName": "https",
    "host": "llm.example.com",
}
MP = {"engine": {"backend": "mp", "image": "vllm/vllm-openai:v0.33.0"}}
RESTRICTED = {"securityGroups": ["sg-1a"], "acceptedAdvisories": ACCEPTED}
"""What keeps the VPC away from Ray."""

BY_CACHE_AND_GATEWAY = {
    "weights": REVIEWED,
    "storage": {"kind": "fluid"},
    "inference": {"network": "rdma"},
    "service": {"kind": "clusterIP", "apiKey": True, "route": GATEWAY},
    "security": RESTRICTED,
}
"""Cache, RDMA and a Gateway, where less can be enforced."""


@pytest.fixture
def on(up: Run) -> Recorder:
    return up(ON, secrets=SECRETS)


@pytest.fixture
def by_cache_and_gateway(up: Run) -> Recorder:
    return up(BY_CACHE_AND_GATEWAY, secrets={"apiKey": KEY})


def deployment(changes: dict[str, Any]) -> StackSettings:
    return StackSettings.model_validate(merged(stack_settings("dev"), changes))


def templates(recorder: Recorder) -> tuple[dict[str, Any], dict[str, Any]]:
    group = recorder.manifest("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    return group["leaderTemplate"], group["workerTemplate"]


def engine(template: dict[str, Any]) -> dict[str, Any]:
    (container,) = template["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def variables(template: dict[str, Any]) -> dict[str, Any]:
    found = {entry["name"]: entry.get("valueFrom") or entry["value"] for entry in engine(template)["env"]}
    assert len(found) == len(engine(template)["env"]), "server-side apply refuses a variable that is there twice"
    return found


def outputs(recorder: Recorder) -> dict[str, Any]:
    (found,) = (found for urn, found in recorder.component_outputs.items() if "pulumi:pulumi:Stack" in urn)
    assert isinstance(found, dict)
    return found


class TestApiKey:
    def test_another_key_makes_another_secret(self, on: Recorder) -> None:
        """Immutable and named by Pulumi: replaced, not changed, and the new one is there before the old one goes."""
        secret = on.raw_inputs("Secret", "api-key")
        assert secret["immutable"] is True
        assert "name" not in secret["metadata"]
        assert is_secret(secret["stringData"]) or is_secret(secret["stringData"][API_KEY_VARIABLE])
        assert on.request("Secret", "api-key").deleteBeforeReplace is False

    def test_only_pods_that_serve_know_it(self, on: Recorder) -> None:
        leader, worker = templates(on)
        reference = {"name": "access-api-key-1a2b3c4d", "key": API_KEY_VARIABLE}
        assert variables(leader)[API_KEY_VARIABLE] == {"secretKeyRef": reference}
        assert API_KEY_VARIABLE not in variables(worker)
        assert KEY not in json.dumps(templates(on))

    def test_is_nowhere_in_the_outputs(self, on: Recorder) -> None:
        assert KEY not in json.dumps(outputs(on))


FILTER = {"clients": ["chat", "batch"], "maxBodyMiB": 4, "maxHeaderKiB": 8, "maxSequences": 16}
FILTERED = {
    "service": {"apiKey": True, "requestFilter": FILTER},
    "inference": {"engine": {"env": {"PYTHONPATH": "/a"}}},
}
CLIENT_SECRETS = {"apiKey": KEY, "apiKey-chat": KEY[::-1], "apiKey-batch": KEY[1:] + KEY[0]}


class TestRequestFilter:
    @pytest.fixture
    def filtered(self, up: Run) -> Recorder:
        return up(FILTERED, secrets=CLIENT_SECRETS)

    def test_is_on_where_there_is_a_key_and_nowhere_else(self, up: Run) -> None:
        assert "requestfilter" not in json.dumps(up().manifests())
        on = up({"service": {"apiKey": True}}, secrets={"apiKey": KEY})
        off = up({"service": {"kind": "clusterIP", "apiKey": True, "requestFilter": None}}, secrets={"apiKey": KEY})
        assert "requestfilter" in json.dumps(templates(on))
        assert "requestfilter" not in json.dumps(templates(off))

    def test_the_leader_loads_it_last_and_the_worker_not_at_all(self, filtered: Recorder) -> None:
        """The last middleware is the outermost."""
        leader, worker = templates(filtered)
        line = engine(leader)["command"][-1]
        assert line.endswith("--disable-fastapi-docs '--allowed-origins=[]' --middleware requestfilter.RequestFilter")
        assert "requestfilter" not in json.dumps(worker)

    def test_program_and_settings_are_where_python_finds_them(self, filtered: Recorder) -> None:
        leader, _ = templates(filtered)
        config_map = filtered.manifest("ConfigMap", "requestfilter")
        mounts = {mount["mountPath"]: mount["name"] for mount in engine(leader)["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in leader["spec"]["volumes"]}
        assert variables(leader)["PYTHONPATH"] == "/opt/requestfilter:/a"
        assert volumes[mounts["/opt/requestfilter"]]["configMap"] == {"name": config_map["metadata"]["name"]}
        assert volumes[mounts["/etc/requestfilter/keys"]]["secret"] == {"secretName": "access-api-key-1a2b3c4d"}
        assert config_map["immutable"] is True
        assert config_map["data"].keys() == {"requestfilter.py", "settings.json"}
        assert filtered.request("LeaderWorkerSet").dependencies

    def test_it_reads_the_settings_that_are_written(self, filtered: Recorder, tmp_path: Path) -> None:
        (tmp_path / "settings.json").write_text(
            filtered.manifest("ConfigMap", "requestfilter")["data"]["settings.json"]
        )
        assert read_settings(tmp_path / "settings.json") == Settings(
            paths=API_PATHS["generate"],  # of 0.7.2, which has no others
            keys="/etc/requestfilter/keys",
            header_bytes=8192,
            body_bytes=4 * 2**20,
            sequences=16,
            prompt_characters=16 * 2048,
            prompt_tokens=2048,
        )

    def test_each_client_has_a_key_of_its_own_and_metrics_another(self, filtered: Recorder) -> None:
        secret = filtered.manifest("Secret", "api-key")["stringData"]
        assert secret.keys() == {"VLLM_API_KEY", "metrics", "client-chat", "client-batch"}
        assert secret["client-chat"] == KEY[::-1]
        assert len({*secret.values()}) == 4
        for key in secret.values():
            assert key not in json.dumps([templates(filtered), outputs(filtered)])
        marked = filtered.raw_inputs("Secret", "api-key")["stringData"]
        assert is_secret(marked) or all(is_secret(value) for value in marked.values())

    def test_a_client_whose_key_is_missing_or_short_is_named(self, up: Run) -> None:
        with pytest.raises(pulumi.RunError) as caught:
            up(FILTERED, secrets={"apiKey": KEY, "apiKey-batch": "b"})
        text = " ".join(str(caught.value).split())
        assert "deepseek:apiKey-chat problem: this secret is not set" in text
        assert "openssl rand -hex 32 | pulumi config set -s dev --secret deepseek:apiKey-chat" in text
        assert f"deepseek:apiKey-batch problem: it has fewer than {API_KEY_MIN} characters" in text

    @pytest.mark.parametrize(
        ("arguments", "path"),
        [
            ((), "POST /v1/chat/completions"),
            (("--task=embed",), "POST /v1/embeddings"),
            (("--convert", "classify"), "POST /v1/score"),
        ],
    )
    def test_paths_are_those_of_the_task(self, arguments: tuple[str, ...], path: str) -> None:
        assert path in api_paths(arguments, newest())
        assert len([paths for paths in API_PATHS.values() if path in paths]) == 1

    @pytest.mark.parametrize(
        ("version", "paths"),
        [
            ((0, 11, 0), set()),
            ((0, 11, 1), {"POST /v1/messages"}),
            ((0, 17, 0), {"POST /v1/messages", "POST /v1/messages/count_tokens"}),
        ],
    )
    def test_the_messages_api_is_there_where_the_engine_has_it(self, version: Version, paths: set[str]) -> None:
        assert {path for path in api_paths((), version) if "messages" in path} == paths
        assert not [path for path in api_paths(("--task=embed",), version) if "messages" in path]

    def test_a_model_whose_context_is_not_known_is_bounded_by_the_body(self) -> None:
        spec = resolved(
            {
                "model": {"name": "a/b", "weightsGiB": 100},
                "inference": {"engine": {"maxModelLen": None}},
                "service": {"apiKey": True},
            }
        )
        assert spec.request_filter is not None
        assert spec.request_filter.prompt_tokens == spec.request_filter.body_bytes == 32 * 2**20


class TestLoadBalancer:
    def test_only_the_list_is_admitted(self, on: Recorder) -> None:
        annotations = on.manifest("Service")["metadata"]["annotations"]
        listed = {f"{ACL}-status": "on", f"{ACL}-id": "access-clients-id", f"{ACL}-type": "white"}
        assert annotations == {ADDRESS_TYPE: "intranet", **listed}
        entries = [r for key, r in on.requests.items() if ":AclEntryAttachment::" in key]
        assert {r.object["entry"] for r in entries} == {"10.0.0.0/16", "192.168.7.0/24"}
        assert {r.object["aclId"] for r in entries} == {"access-clients-id"}

    def test_listener_never_meets_an_empty_list(self, on: Recorder) -> None:
        """An empty access control list admits every client."""
        needed = on.request("Service").dependencies
        assert sum(":AclEntryAttachment::" in urn for urn in needed) == 2


class TestNetworkPolicy:
    def test_only_members_reach_each_other_on_all_ports(self, on: Recorder) -> None:
        policy = on.manifest("NetworkPolicy", "members")
        members = {"matchLabels": {"leaderworkerset.sigs.k8s.io/name": "deepseek-r1"}}
        assert policy["metadata"] == {"name": "deepseek-r1-members", "namespace": "deepseek"}
        assert policy["spec"] == {
            "podSelector": members,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": members}]}],
        }

    def test_clients_reach_the_leaders_port(self, on: Recorder) -> None:
        spec = on.manifest("NetworkPolicy", "clients")["spec"]
        assert spec["podSelector"] == {"matchLabels": on.manifest("Service")["spec"]["selector"]}
        assert spec["policyTypes"] == ["Ingress"]
        (rule,) = spec["ingress"]
        assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]
        assert rule["from"] == [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "apps"}},
                "podSelector": {"matchLabels": {"app_kind": "chat"}},
            },
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
            {"ipBlock": {"cidr": "10.1.0.0/16"}},
            {"ipBlock": {"cidr": "10.0.0.0/16"}},
            {"ipBlock": {"cidr": "192.168.7.0/24"}},
            # The load balancer's health checks.
            {"ipBlock": {"cidr": "100.64.0.0/10"}},
        ]

    def test_nothing_else_of_the_namespace_is_selected(self, on: Recorder) -> None:
        """The Job that moves the weights and the pods of the cache are not of the group."""
        job = on.manifest("Job")["spec"]["template"]["metadata"]["labels"]
        for kind in ("members", "clients"):
            selected = on.manifest("NetworkPolicy", kind)["spec"]["podSelector"]["matchLabels"]
            assert not selected.items() <= job.items()
            assert "leaderworkerset.sigs.k8s.io/name" in selected

    def test_agent_and_groups_of_acs_are_asked_for(self, on: Recorder) -> None:
        for template in templates(on):
            annotations = template["metadata"]["annotations"]
            assert annotations["alibabacloud.com/enable-network-policy-agent"] == "true"
            assert annotations["network.alibabacloud.com/security-group-ids"] == "sg-1a,sg-2b"

    def test_exist_before_the_group(self, on: Recorder) -> None:
        dependencies = [*on.request("LeaderWorkerSet").dependencies, *on.request("InferenceGroup").dependencies]
        assert sum(":NetworkPolicy::" in urn for urn in dependencies) == 4

    def test_metadata_and_what_is_listed_are_closed(self, on: Recorder) -> None:
        """And nothing else, pods and the DNS cache of a node least of all."""
        spec = on.manifest("NetworkPolicy", "egress")["spec"]
        assert spec["podSelector"] == {"matchLabels": {"leaderworkerset.sigs.k8s.io/name": "deepseek-r1"}}
        assert spec["policyTypes"] == ["Egress"]
        anything, dns = spec["egress"]
        closed = ["169.254.0.0/16", "100.100.100.200/32", "192.168.3.4/32"]
        assert anything == {"to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0", "except": closed}}]}
        assert dns["to"] == [{"ipBlock": {"cidr": "169.254.20.10/32"}}]
        assert {(port["protocol"], port["port"]) for port in dns["ports"]} == {("UDP", 53), ("TCP", 53)}

    def test_no_pod_reaches_jobs(self, on: Recorder) -> None:
        """They reach the API server, which one of them asks."""
        spec = on.manifest("NetworkPolicy", "jobs")["spec"]
        (names,) = spec["podSelector"]["matchExpressions"]
        job = on.manifest("Job")["spec"]["template"]["metadata"]
        assert job["labels"][names["key"]] in names["values"]
        assert set(names["values"]) == {
            "modelmover",
            "preload",
            "verifier",
            "vllm-bench",
            "costguard",
            "canaryguard",
            "incidents",
            "gate",
        }
        assert (spec["policyTypes"], spec.get("ingress")) == (["Ingress", "Egress"], None)
        (block,) = (peer["ipBlock"] for peer in spec["egress"][0]["to"] if "ipBlock" in peer)
        assert block["except"] == ["169.254.0.0/16", "100.100.100.200/32"]
        assert job["annotations"] == {"alibabacloud.com/enable-network-policy-agent": "true"}

    def test_cache_is_reached_by_pods_of_the_namespace(self, up: Run) -> None:
        recorder = up(stack="prod")
        spec = recorder.manifest("NetworkPolicy", "cache")["spec"]
        assert spec["ingress"] == [{"from": [{"podSelector": {}}]}]
        runtime = recorder.manifest("JindoRuntime")["spec"]
        for part in ("master", "worker"):
            metadata = runtime[part]["podMetadata"]
            assert spec["podSelector"]["matchLabels"].items() <= metadata["labels"].items()
            assert metadata["annotations"]["alibabacloud.com/enable-network-policy-agent"] == "true"

    def test_what_goes_out_may_be_left_alone(self, up: Run) -> None:
        policy = {"clients": CLIENTS, "egress": None}
        recorder = up({"security": {"networkPolicy": policy}})
        assert recorder.kinds().count("NetworkPolicy") == 2


class TestPods:
    def test_service_account_of_their_own_without_a_token(self, on: Recorder) -> None:
        account = on.manifest("ServiceAccount")
        assert account["metadata"]["name"] == "deepseek-r1"
        assert account["automountServiceAccountToken"] is False
        assert account["imagePullSecrets"] == [{"name": "registry"}]
        for template in templates(on):
            assert template["spec"]["serviceAccountName"] == "deepseek-r1"
            assert template["spec"]["automountServiceAccountToken"] is False

    def test_without_root_capabilities_and_escalation(self, on: Recorder) -> None:
        for template in templates(on):
            assert engine(template)["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
            }
            assert template["spec"]["securityContext"] == {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}

    def test_group_of_its_own(self) -> None:
        args = group_args({"security": {"pods": {"runAsUser": 7, "runAsGroup": 8}}})
        pod: dict[str, Any] = {"containers": [{"env": [], "volumeMounts": []}], "volumes": []}
        found = with_access({"metadata": {}, "spec": pod}, args, serves=True)
        assert engine(found)["securityContext"]["runAsGroup"] == found["spec"]["securityContext"]["fsGroup"] == 8

    @pytest.mark.parametrize("user", [{}, {"runAsUser": 7}])
    def test_root_file_system_that_is_read_only(self, user: dict[str, int]) -> None:
        args = group_args({"security": {"pods": {"readOnlyRoot": True, **user}}})
        pod: dict[str, Any] = {"containers": [{"env": [], "volumeMounts": []}], "volumes": []}
        found = with_access({"metadata": {}, "spec": pod}, args, serves=True)
        assert engine(found)["securityContext"]["readOnlyRootFilesystem"] is True
        assert engine(found)["volumeMounts"] == [
            {"name": "home", "mountPath": HOME},
            {"name": "tmp", "mountPath": "/tmp"},
        ]
        assert found["spec"]["volumes"] == [{"name": name, "emptyDir": {}} for name in ("home", "tmp")]
        assert variables(found) == {"HOME": HOME, "USER": "engine"}

    def test_user_without_root_has_a_home(self, on: Recorder) -> None:
        for template in templates(on):
            assert variables(template).items() >= {"HOME": HOME, "USER": "engine"}.items()
            assert {"name": "home", "mountPath": HOME} in engine(template)["volumeMounts"]
            assert {"name": "home", "emptyDir": {}} in template["spec"]["volumes"]

    def test_rdma_pins_memory_and_root_needs_no_home(self, by_cache_and_gateway: Recorder) -> None:
        for template in templates(by_cache_and_gateway):
            context = engine(template)["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
            assert "runAsUser" not in context
            assert "HOME" not in variables(template)
            # The cache's client in the same pod has to be root.
            assert "securityContext" not in template["spec"]

    def test_namespace_enforces_what_all_its_pods_keep(self, on: Recorder, by_cache_and_gateway: Recorder) -> None:
        assert on.manifest("Namespace")["metadata"]["labels"] == {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/audit": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
        }
        assert by_cache_and_gateway.manifest("Namespace")["metadata"]["labels"] == {
            "pod-security.kubernetes.io/enforce": "privileged",
            "pod-security.kubernetes.io/audit": "baseline",
            "pod-security.kubernetes.io/warn": "baseline",
        }

    @pytest.mark.parametrize(
        ("changes", "level"),
        [
            ({"security": {"pods": {}}}, "baseline"),
            ({"security": {"pods": {"runAsUser": 1000}}}, "restricted"),
            ({"security": {"pods": {"runAsUser": 1000}}, "storage": {"kind": "fluid"}}, "privileged"),
            ({"security": {"pods": {"runAsUser": 1000}}, "inference": {"network": "rdma"}}, "privileged"),
        ],
    )
    def test_levels(self, changes: dict[str, Any], level: str) -> None:
        assert enforced_level(resolved(changes)) == level
        assert namespace_labels(resolved(changes))["pod-security.kubernetes.io/enforce"] == level

    def test_pod_that_moves_the_weights_keeps_the_strictest(self, on: Recorder) -> None:
        """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
        spec = on.manifest("Job")["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {next(key for key in volume if key != "name") for volume in spec["volumes"]} <= {
            "configMap",
            "projected",
        }

    def test_variables_of_the_user_win(self) -> None:
        """A variable that is there twice is refused by the API server."""
        pod = {"containers": [{"env": [{"name": "HOME", "value": "/data"}], "volumeMounts": []}], "volumes": []}
        args = group_args({"security": {"pods": {"runAsUser": 7}}})
        found = with_access({"metadata": {}, "spec": pod}, args, serves=True)
        assert variables(found) == {"HOME": "/data", "USER": "engine"}

    @pytest.mark.parametrize("serves", [True, False])
    def test_off_takes_only_the_token_away(self, *, serves: bool) -> None:
        template: dict[str, Any] = {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"env": []}], "volumes": []},
        }
        expected = {**template, "spec": {**template["spec"], "automountServiceAccountToken": False}}
        assert with_access(template, group_args({"security": {"pods": None}}), serves=serves) == expected


class TestRayToken:
    def test_all_members_have_it(self, up: Run) -> None:
        secrets = {"rayToken": KEY}
        recorder = up({"inference": {"engine": {"rayToken": True}}}, secrets=secrets)
        secret = recorder.raw_inputs("Secret", "ray-token")
        assert secret["immutable"] is True
        assert is_secret(secret["stringData"]) or is_secret(secret["stringData"]["RAY_AUTH_TOKEN"])
        reference = {"name": "access-ray-token-1a2b3c4d", "key": "RAY_AUTH_TOKEN"}
        for template in templates(recorder):
            assert variables(template)["RAY_AUTH_MODE"] == "token"
            assert variables(template)["RAY_AUTH_TOKEN"] == {"secretKeyRef": reference}
        assert KEY not in json.dumps(templates(recorder))

    def test_is_asked_for(self, up: Run) -> None:
        with pytest.raises(pulumi.RunError, match=r"(?s)deepseek:rayToken.*this secret is not set.*openssl rand -hex"):
            up({"inference": {"engine": {"rayToken": True}}}, secrets={})


class TestIngress:
    def test_only_paths_that_the_key_protects(self, on: Recorder) -> None:
        spec = on.manifest("Ingress")["spec"]
        (rule,) = spec["rules"]
        assert (spec["ingressClassName"], rule["host"]) == ("nginx", "llm.example.com")
        assert {path["path"]: path["pathType"] for path in rule["http"]["paths"]} == {
            "/v1/models": "Exact",
            "/v1/chat/completions": "Exact",
            "/v1/completions": "Exact",
            "/v1/responses": "Prefix",
        }
        backends = [path["backend"] for path in rule["http"]["paths"]]
        assert backends == [{"service": {"name": "ds-leader", "port": {"number": 8000}}}] * 4

    def test_certificate_of_the_stack(self, on: Recorder) -> None:
        secret = on.raw_inputs("Secret", "certificate")
        assert secret["type"] == "kubernetes.io/tls"
        assert is_secret(secret["stringData"]) or all(map(is_secret, secret["stringData"].values()))
        assert on.inputs("Secret", "certificate")["stringData"] == {
            "tls.crt": SECRETS["tlsCertificate"],
            "tls.key": SECRETS["tlsKey"],
        }
        (tls,) = on.manifest("Ingress")["spec"]["tls"]
        assert tls == {"hosts": ["llm.example.com"], "secretName": "route-certificate-1a2b3c4d"}

    def test_long_answers_are_not_cut_off_and_not_held_back(self, on: Recorder) -> None:
        annotations = on.manifest("Ingress")["metadata"]["annotations"]
        assert annotations == {
            "pulumi.com/skipAwait": "true",
            "nginx.ingress.kubernetes.io/proxy-read-timeout": "1800",
            "nginx.ingress.kubernetes.io/proxy-send-timeout": "1800",
            "nginx.ingress.kubernetes.io/proxy-buffering": "off",
            "nginx.ingress.kubernetes.io/proxy-body-size": "1g",
            "nginx.ingress.kubernetes.io/ssl-redirect": "true",
        }

    @pytest.mark.parametrize(("class_name", "prefix"), [("alb", "alb"), ("mse", "nginx"), (None, "nginx")])
    def test_plain_http_is_redirected(self, class_name: str | None, prefix: str) -> None:
        assert redirect_annotations(class_name) == {f"{prefix}.ingress.kubernetes.io/ssl-redirect": "true"}

    def test_without_tls_there_is_nowhere_to_redirect_to(self, up: Run) -> None:
        route = {**INGRESS, "tls": {"kind": "none"}}
        service = {"kind": "clusterIP", "apiKey": True, "route": route}
        changes = {"service": service, "security": RESTRICTED, "weights": REVIEWED}
        recorder = up(changes, secrets={"apiKey": KEY})
        assert not [name for name in recorder.manifest("Ingress")["metadata"]["annotations"] if "redirect" in name]

    def test_certificate_that_is_in_the_cluster(self, up: Run) -> None:
        route = {**INGRESS, "tls": {"kind": "secret", "name": "mine"}}
        service = {"kind": "clusterIP", "apiKey": True, "route": route}
        changes = {"service": service, "security": RESTRICTED, "weights": REVIEWED}
        recorder = up(changes, secrets={"apiKey": KEY})
        (tls,) = recorder.manifest("Ingress")["spec"]["tls"]
        assert tls == {"hosts": ["llm.example.com"], "secretName": "mine"}
        assert recorder.manifest("Service")["spec"]["type"] == "ClusterIP"

    def test_certificate_of_the_controller(self) -> None:
        assert ingress_tls("llm.example.com", None) == {"hosts": ["llm.example.com"]}

    def test_plain_http(self, up: Run) -> None:
        route = {**INGRESS, "tls": {"kind": "none"}}
        service = {"kind": "clusterIP", "apiKey": True, "route": route}
        changes = {"service": service, "security": RESTRICTED, "weights": REVIEWED}
        recorder = up(changes, secrets={"apiKey": KEY})
        assert "tls" not in recorder.manifest("Ingress")["spec"]
        assert outputs(recorder)["serviceUrl"] == "http://llm.example.com/v1"


class TestForms:
    """Of secrets: known before anything is created."""

    @given(st.binary(min_size=API_KEY_MIN // 2, max_size=40).filter(lambda key: len(set(key)) > 8))
    def test_good_keys(self, key: bytes) -> None:
        assert api_key_problem(key.hex()) is None

    @pytest.mark.parametrize("key", ["k" * 64, "ab" * 20, "password" * 8, "a" * 63 + "b", "12345678" * 4])
    def test_keys_that_are_easy_to_guess(self, key: str) -> None:
        assert api_key_problem(key) == "it is too easy to guess: few characters again and again"

    @pytest.mark.parametrize(
        ("key", "problem"),
        [
            ("s3cret" * 5, "it has fewer than 32 characters"),
            ("", "it contains characters that an HTTP client cannot send, for example white space or a line end"),
            (f"{KEY}\n", "white space or a line end"),
            (f"{KEY} {KEY}", "white space"),
            (
                f"schlüssel{KEY}",
                "it contains characters that an HTTP client cannot send, for example white space or a line end",
            ),
        ],
    )
    def test_bad_keys(self, key: str, problem: str) -> None:
        assert problem in (api_key_problem(key) or "")

    @pytest.mark.parametrize("kind", [trustme.KeyType.RSA, trustme.KeyType.ECDSA])
    def test_certificates_and_their_keys(self, kind: trustme.KeyType) -> None:
        issued = trustme.CA().create_child_ca().issue_cert("llm.example.com", key_type=kind)
        chain = "".join(pem.bytes().decode() for pem in issued.cert_chain_pems)
        key = issued.private_key_pem.bytes().decode()
        assert chain.count("BEGIN") > 1
        assert certificate_problem(chain) is None
        assert private_key_problem(key) is None
        assert pair_problem(chain, key) is None

    @pytest.mark.parametrize("pem", ["", "AAAA", PEM.format("CERTIFICATE", "CERTIFICATE"), SECRETS["tlsKey"]])
    def test_no_certificates(self, pem: str) -> None:
        assert certificate_problem(pem) == "it is not a certificate in PEM"

    def test_certificates_of_another_time(self) -> None:
        def issued(*, start: datetime | None = None, end: datetime | None = None) -> str:
            return AUTHORITY.issue_cert("a", not_before=start, not_after=end).cert_chain_pems[0].bytes().decode()

        old, new = issued(end=datetime(2026, 2, 3, 4, 5)), issued(start=datetime(2999, 2, 3, 4, 5))
        assert certificate_problem(old) == "it expired at 2026-02-03 04:05 UTC"
        assert certificate_problem(new) == "it is not valid before 2999-02-03 04:05 UTC"
        assert certificate_problem(SECRETS["tlsCertificate"] + old) == (
            "certificate 2 of 2 expired at 2026-02-03 04:05 UTC"
        )

    @pytest.mark.parametrize(
        ("value", "fits"),
        [("Basic TFRBSTp4", True), ("a", True), ("a\n", False), (" a", False), ("a\r\nHost: b", False), ("密", False)],
    )
    def test_values_of_headers(self, value: str, *, fits: bool) -> None:
        assert (header_problem(value) is None) is fits

    @pytest.mark.parametrize("pem", ["", "AAAA", SECRETS["tlsCertificate"], PEM.format("PRIVATE KEY", "PRIVATE KEY")])
    def test_no_private_keys(self, pem: str) -> None:
        assert private_key_problem(pem) == "it is not a private key in PEM"

    def test_an_encrypted_key(self) -> None:
        key = load_pem_private_key(SECRETS["tlsKey"].encode(), None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a"))
        assert private_key_problem(pem.decode()) == "it is encrypted, and the proxy does not have the passphrase"

    def test_a_key_of_another_certificate(self, up: Run) -> None:
        other = AUTHORITY.issue_cert("llm.example.com").private_key_pem.bytes().decode()
        with pytest.raises(pulumi.RunError) as caught:
            up(ON, secrets={**SECRETS, "tlsKey": other})
        text = " ".join(str(caught.value).split())
        assert "deepseek:tlsKey problem: it does not belong to the certificate (to the first one" in text
        assert "fix: set deepseek:tlsCertificate and deepseek:tlsKey from one pair" in text
        assert not any(line in text for line in other.splitlines() if "-----" not in line)

    @pytest.mark.parametrize(
        ("value", "fits"), [("LTAI5tAbc+/=", True), ("a b", False), ("a\n", False), ("\ufeffa", False)]
    )
    def test_keys_of_others(self, value: str, *, fits: bool) -> None:
        assert (word_problem(value) is None) is fits

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (json.dumps(stack_settings("dev")), "it is not a kubeconfig: it contains no clusters"),
            ("~/.kube/config", "it is not a kubeconfig: it contains no clusters"),
            ("clusters: []", "it is not a kubeconfig: it contains no clusters"),
            ("a: [", "it is not valid YAML"),
            ("{a: 1}", "it is not valid YAML"),
            (KUBECONFIG, None),
            (json.dumps(yaml.safe_load(KUBECONFIG), indent="\t"), None),
        ],
    )
    def test_kubeconfigs(self, text: str, problem: str | None) -> None:
        assert kubeconfig_problem(text) == problem

    @pytest.mark.parametrize("value", ["", " \n"])
    def test_an_empty_secret_is_none(self, up: Run, value: str) -> None:
        """The provider would take an empty kubeconfig for none, and the one of the shell."""
        changes = {"cluster": {"kubeconfigFile": None}, "weights": {"identity": {"kind": "accessKey"}}}
        with pytest.raises(pulumi.RunError) as caught:
            up(
                changes,
                secrets=dict.fromkeys(("kubeconfig", "ossAccessKeyId", "ossAccessKeySecret", "hubToken"), value),
            )
        assert str(caught.value).count("problem: this secret is empty") == 4

    def test_all_problems_are_explained_and_nothing_is_shown(self, up: Run) -> None:
        wrong = {"apiKey": "s3cret", "tlsCertificate": "AAAA-SECRET", "tlsKey": SECRETS["tlsCertificate"]}
        with pytest.raises(pulumi.RunError) as caught:
            up(ON, secrets=wrong)
        text = " ".join(str(caught.value).split())
        assert "3 problems, nothing was created or changed" in text
        assert "deepseek:apiKey problem: it has fewer than 32 characters" in text
        assert "deepseek:tlsCertificate problem: it is not a certificate in PEM" in text
        assert "fix: pulumi config set -s dev --secret deepseek:tlsKey < KEY-FILE" in text
        assert not any(part in text for part in ("s3cret", "AAAA"))


class TestGateway:
    def test_uses_one_listener_and_lets_the_api_through(self, by_cache_and_gateway: Recorder) -> None:
        route = by_cache_and_gateway.manifest("HTTPRoute")
        spec = route["spec"]
        assert spec["parentRefs"] == [{"name": "shared", "namespace": "gateways", "sectionName": "https"}]
        assert spec["hostnames"] == ["llm.example.com"]
        (rule,) = spec["rules"]
        assert [(match["path"]["type"], match["path"]["value"]) for match in rule["matches"]] == [
            ("Exact", "/v1/models"),
            ("Exact", "/v1/chat/completions"),
            ("Exact", "/v1/completions"),
            ("PathPrefix", "/v1/responses"),
        ]
        assert rule["backendRefs"] == [{"name": "ds-leader", "port": 8000}]
        assert rule["timeouts"] == {"request": "1800s"}

    def test_is_awaited_until_a_controller_has_answered(self, by_cache_and_gateway: Recorder) -> None:
        awaited = wait_for.parse(
            by_cache_and_gateway.manifest("HTTPRoute")["metadata"]["annotations"]["pulumi.com/waitFor"]
        )
        assert wait_for.unmet(awaited, {"status": {}})
        assert not wait_for.unmet(awaited, {"status": {"parents": [{"conditions": [{"type": "Accepted"}]}]}})

    def test_api_is_expected(self) -> None:
        assert GATEWAY_API in expected_apis(resolved({"service": BY_CACHE_AND_GATEWAY["service"]}))


class TestOutputs:
    def test_with_a_route(self, on: Recorder) -> None:
        found = outputs(on)
        assert found["serviceUrl"] == "https://llm.example.com/v1"
        assert "https://llm.example.com/v1/chat/completions" in found["curlCommand"]
        assert "pulumi config get --stack dev deepseek:apiKey" in found["curlCommand"]

    def test_plain_http_is_said(self) -> None:
        gateway = GatewayRoute.model_validate({**GATEWAY, "plainHttp": True})
        assert route_url(gateway) == "http://llm.example.com"
        ingress = IngressRoute.model_validate({**INGRESS, "tls": {"kind": "none"}})
        assert isinstance(ingress.tls, NoTls)
        assert route_url(ingress) == "http://llm.example.com"

    @pytest.mark.integration
    def test_curl_gets_the_key_by_its_standard_input(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command is run by a shell, with fakes for curl and pulumi that tell what they were given."""
        monkeypatch.setattr("pulumi.get_stack", lambda: "dev")
        for name, body in {"pulumi": f"echo {KEY}", "curl": 'printf "%s\\n" "$@"; cat'}.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)
        command = curl_command("ds", "https://h", with_key=True)
        said = subprocess.run(  # noqa: S602 - the command is a shell's
            command, shell=True, capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
        ).stdout
        arguments, _, given = said.rpartition("\n")
        assert given == f"Authorization: Bearer {KEY}"
        assert KEY not in arguments
        assert arguments.splitlines()[:3] == ["-H", "@-", "https://h/v1/chat/completions"]
        assert json.loads(arguments.splitlines()[-1])["model"] == "ds"

    def test_without_a_key_there_is_none(self) -> None:
        assert shlex.split(curl_command("ds", "http://h", with_key=False))[:2] == [
            "curl",
            "http://h/v1/chat/completions",
        ]


def test_every_resource_has_an_explicit_provider(on: Recorder, by_cache_and_gateway: Recorder) -> None:
    for key, request in {**on.requests, **by_cache_and_gateway.requests}.items():
        package = key.split(":")[0]
        if package in ("kubernetes", "alicloud"):
            assert f"pulumi:providers:{package}::{package}" in request.provider, key


@pytest.mark.parametrize(
    ("changes", "path", "problem", "fix"),
    [
        (
            {"service": {"kind": "clusterIP", "route": GATEWAY}},
            "service",
            "the route would let any client that reaches the proxy use the model",
            "write apiKey: true",
        ),
        (
            {"service": {"requestFilter": {"maxSequences": 8}}},
            "service",
            "requestFilter asks for a key, and there is none",
            "write apiKey: true",
        ),
        (
            {"service": {"apiKey": True, "requestFilter": {"clients": ["Chat"]}}},
            "service.requestFilter.clients[0]",
            "the value does not have the expected form",
            "clients with a key of their own",
        ),
        (
            {"service": {"kind": "clusterIP", "allowedCidrs": ["10.0.0.0/8"]}},
            "service",
            "allowedCidrs apply to a load balancer, and this Service has none",
            "write kind: internalLoadBalancer",
        ),
        (
            {"service": {"kind": "internalLoadBalancer", "allowedCidrs": []}},
            "service.allowedCidrs",
            "the list is empty",
            "write at least one item, or remove the setting",
        ),
        (
            {"service": {"kind": "internalLoadBalancer", "allowedCidrs": ["10.0.0.7/8"]}},
            "service.allowedCidrs[0]",
            "this is an address with host bits, not a network",
            "write 10.0.0.0/8",
        ),
        (
            {"service": {"kind": "internalLoadBalancer", "allowedCidrs": ["fd00::/8"]}},
            "service.allowedCidrs[0]",
            "this is not an IPv4 network",
            "for example 10.0.0.0/8",
        ),
        (
            {"service": {"kind": "internalLoadBalancer", "allowedCidrs": ["0.0.0.0/0"]}},
            "service.allowedCidrs[0]",
            "this network contains every address",
            "list the client networks, for example 10.0.0.0/8",
        ),
        (
            {"service": {"kind": "clusterIP", "apiKey": True, "route": {**GATEWAY, "sectionName": None}}},
            "service.route.sectionName",
            "expected a string",
            "write a string, in quotes if it looks like a number or a boolean",
        ),
        (
            {"service": {"kind": "clusterIP", "apiKey": True, "route": {**GATEWAY, "kind": "public"}}},
            "service.route.kind",
            "this value is not one of the choices",
            "write 'gateway' or 'inferencePool' or 'ingress'",
        ),
        (
            {"service": {"kind": "clusterIP", "apiKey": True, "route": {**INGRESS, "tls": {}}}},
            "service.route.tls.kind",
            "this setting is required",
            "write 'secret' or 'config' or 'controller' or 'none'",
        ),
        (
            {"service": {"kind": "clusterIP", "apiKey": True, "route": {**INGRESS, "host": "*.example.com"}}},
            "service.route.host",
            "the value does not have the expected form",
            "Example: llm.example.com",
        ),
        (
            {"security": {"networkPolicy": {"clients": []}}},
            "security.networkPolicy.clients",
            "the list is empty",
            "write at least one item",
        ),
        (
            {"security": {"networkPolicy": {"clients": [{"namespace": "a", "cidr": "10.0.0.0/8"}]}}},
            "security.networkPolicy.clients[0]",
            "a client is either a namespace or a cidr",
            "write exactly one of the two",
        ),
        (
            {"security": {"networkPolicy": {"clients": [{"cidr": "10.0.0.0/8", "podLabels": {"a": "b"}}]}}},
            "security.networkPolicy.clients[0]",
            "podLabels select pods of a namespace, but this client is a cidr",
            "remove podLabels",
        ),
        (
            {"security": {"pods": {"runAsUser": 0}}},
            "security.pods.runAsUser",
            "input should be greater than or equal to 1",
            "user ID of the engine",
        ),
    ],
)
def test_each_problem_has_path_and_fix(changes: dict[str, Any], path: str, problem: str, fix: str) -> None:
    (found,) = problems(changes)
    assert found.path == f"deployment.{path}".rstrip(".")
    assert found.problem == problem
    assert fix in found.fix


def test_policy_with_a_network_admits_the_load_balancers_clients() -> None:
    policy = {"networkPolicy": {"clients": [{"cidr": "10.0.0.0/8"}]}}
    assert not problems({"security": policy, "service": {"kind": "internalLoadBalancer"}})


def test_secret_in_the_open_is_refused(deploy: Run) -> None:
    settings = merged(stack_settings("dev"), {"service": {"kind": "clusterIP", "apiKey": True}})
    config = {"deepseek:deployment": json.dumps(settings), "deepseek:apiKey": KEY, "deepseek:hubToken": "hf_hidden"}
    with pytest.raises(pulumi.RunError) as caught:
        deploy(stack_config.load, config=config, secret_keys=[])
    text = " ".join(str(caught.value).split())
    for key in ("apiKey", "hubToken"):
        assert f"deepseek:{key} problem: it is in plain text in the stack file" in text
    assert KEY not in text
    assert "hf_hidden" not in text


def test_missing_secrets_come_with_their_commands(up: Run) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        up(ON)
    text = str(caught.value)
    assert "3 problems" in text
    assert "openssl rand -hex 32 | pulumi config set -s dev --secret deepseek:apiKey" in text
    assert "pulumi config set -s dev --secret deepseek:tlsCertificate < CERTIFICATE-FILE" in text
    assert "pulumi config set -s dev --secret deepseek:tlsKey < KEY-FILE" in text


def option_warnings(changes: dict[str, Any]) -> list[str]:
    """What is said of options; that an old engine ends requests, and what an update costs, is left out."""
    by_itself = (
        "accepts new requests on open connections while it terminates, until all are done or",
        "until the model is loaded again",
        "needs LeaderWorkerSet 0.7.0 in the cluster",
        "the stack does not know the addresses of the API server",
        "the load balancer's listener is plain TCP",
        "the registry may give another image",
        "is built with CUDA 13",
    )
    found = warnings(resolved(merged({"security": RESTRICTED, "weights": PINNED}, changes)))
    return [text for text in found if not any(part in text for part in by_itself)]


def test_warnings() -> None:
    assert option_warnings({}) == []
    policy = {"security": {"networkPolicy": {"clients": CLIENTS}, "securityGroups": None}, "inference": MP}
    (warning,) = option_warnings(policy)
    assert warning.startswith(
        "deployment.security.networkPolicy: Alibaba Cloud documents network policies for CPU "
        "pods of ACS with the component Poseidon, but not for GPU pods ("
    )
    fenced = {"security": {"networkPolicy": {"clients": CLIENTS}, "securityGroups": ["sg-1"]}}
    assert option_warnings(fenced) == []
    (warning,) = option_warnings({"cluster": {"createNamespace": False}})
    assert warning.endswith(
        "kubectl label namespace deepseek pod-security.kubernetes.io/audit=restricted "
        "pod-security.kubernetes.io/warn=restricted pod-security.kubernetes.io/enforce=baseline"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                "service": {"kind": "clusterIP", "apiKey": True},
                "inference": {"replicas": 2, "rollout": {"partition": 1}},
            },
            "deployment.inference.rollout.partition: an update to another deepseek:apiKey, storage, model or bucket "
            "deletes",
        ),
        (
            {"inference": {"replicas": 2, "rollout": {"partition": 1}}},
            "deployment.inference.rollout.partition: an update to another storage, model or bucket deletes",
        ),
        (
            {"service": {"kind": "clusterIP", "apiKey": True, "route": GATEWAY}, "inference": {"lifecycle": {}}},
            "deployment.inference.lifecycle.requestSeconds: the route allows requests of 1800 s",
        ),
        (
            {"service": {"kind": "internalLoadBalancer"}, "inference": {"lifecycle": {"requestSeconds": 900}}},
            "deployment.inference.lifecycle.requestSeconds: the load balancer cuts connections to a terminating pod "
            "after 900 s",
        ),
        (
            {"inference": {"replicas": None, "scaling": QUEUE}},
            "deployment.inference.scaling: queue selects metrics by the labels namespace and leaderworkerset",
        ),
    ],
)
def test_parts_that_do_not_agree_are_warned_of(changes: dict[str, Any], said: str) -> None:
    (warning,) = option_warnings(changes)
    assert warning.startswith(said)


@pytest.mark.parametrize(
    "changes",
    [
        {"service": {"kind": "clusterIP", "apiKey": True, "route": {**GATEWAY, "requestSeconds": 600}}},
        {"service": {"kind": "internalLoadBalancer"}},
        {"inference": {"replicas": None, "scaling": QUEUE}, "observability": {}},
    ],
)
def test_parts_that_agree_are_not(changes: dict[str, Any]) -> None:
    with_lifecycle = merged(changes, {"inference": {"lifecycle": {"requestSeconds": 600}}})
    assert option_warnings(with_lifecycle) == []


def test_off_there_is_nothing(up: Run) -> None:
    recorder = up()
    assert not {"NetworkPolicy", "Ingress", "HTTPRoute", "Acl"} & set(recorder.kinds())


def test_hardening_is_on_by_default_and_null_switches_it_off(up: Run) -> None:
    """But for the token of the service account, which the engine needs in no case."""
    recorder, off = up(), up({"security": {"pods": None}})
    for template in templates(recorder):
        assert engine(template)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert template["spec"]["serviceAccountName"] == "deepseek-r1"
    for template in templates(off):
        assert "securityContext" not in engine(template)
        assert "serviceAccountName" not in template["spec"]
        assert template["spec"]["automountServiceAccountToken"] is False
    assert "ServiceAccount" not in off.kinds()
    levels = {"pod-security.kubernetes.io/audit": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    assert off.manifest("Namespace")["metadata"]["labels"] == levels
    enforced = {"pod-security.kubernetes.io/enforce": "baseline"}
    assert recorder.manifest("Namespace")["metadata"]["labels"] == levels | enforced
