"""Each rule of the policy pack, kept and broken."""

import base64
import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from deepseek_acs.planner.findings import Finding
from policy.resources import UNKNOWN, UNKNOWN_VALUES, Resource, plain
from policy.rules import RULES, ResourceRule, StackRule, message

DIGEST = "@sha256:" + "0" * 64
KEY = "sk-0123456789abcdef"


def resource(type_: str, name: str, properties: Mapping[str, Any], **fields: Any) -> Resource:
    stack = fields.pop("stack", "prod")
    urn = f"urn:pulumi:{stack}::deepseek::{type_}::{name}"
    return Resource(type=type_, name=name, urn=urn, properties=properties, **fields)


def manifest(kind: str, *, name: str = "it", stack: str = "prod", **body: Any) -> Resource:
    metadata = {"name": name, "namespace": "models", **body.pop("metadata", {})}
    return resource(f"kubernetes:x/v1:{kind}", name, {"kind": kind, "metadata": metadata, **body}, stack=stack)


RESOURCES = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "8"}
PROBE = {"httpGet": {"path": "/health", "port": "http"}}
ENGINE: dict[str, Any] = {
    "name": "vllm",
    "image": "registry.example/vllm:v0.7.2",
    "command": ["vllm", "serve", "/models"],
    "ports": [{"name": "http", "containerPort": 8000}],
    "resources": {"requests": RESOURCES, "limits": RESOURCES},
    "env": [{"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "key"}}}],
    "startupProbe": PROBE,
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
}
LABELS = {
    "alibabacloud.com/compute-class": "gpu",
    "alibabacloud.com/compute-qos": "default",
    "alibabacloud.com/gpu-model-series": "GU8TF",
    "alibabacloud.com/hpn-type": "rdma",
}


def pod(*, labels: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None, **container: Any) -> Any:
    """A pod template of the engine; a field of the container that is None is left out."""
    engine = {key: value for key, value in {**ENGINE, **container}.items() if value is not None}
    return {
        "metadata": {"labels": {"role": "leader", **LABELS, **(labels or {})}},
        "spec": {"enableServiceLinks": False, "containers": [engine], **(spec or {})},
    }


def group(template: Any = None, *, stack: str = "prod", **spec: Any) -> Resource:
    worker = pod(ports=None, env=None)
    del worker["metadata"]["labels"]["role"]
    leader_worker = {"leaderTemplate": template or pod(), "workerTemplate": worker}
    return manifest(
        "LeaderWorkerSet", name="r1", stack=stack, spec={"replicas": 1, "leaderWorkerTemplate": leader_worker, **spec}
    )


NO_KEY = pod(env=[])
IN_A_SECURITY_GROUP = {**pod(), "metadata": {"annotations": {"network.alibabacloud.com/security-group-ids": "sg-1"}}}
GROUPED = manifest("LeaderWorkerSet", spec={"leaderWorkerTemplate": {"workerTemplate": IN_A_SECURITY_GROUP}})
PRIVATE = {"service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type": "intranet"}
GROUP_LABEL = "leaderworkerset.sigs.k8s.io/name"


def service(type_: str = "ClusterIP", annotations: Mapping[str, Any] | None = None, **spec: Any) -> Resource:
    return manifest("Service", metadata={"annotations": annotations or {}}, spec={"type": type_, **spec})


BALANCER = service("LoadBalancer", PRIVATE)


def ingress(tls: Any, host: str = "r1.example.com") -> Resource:
    return manifest("Ingress", spec={"tls": tls, "rules": [{"host": host}]})


def route(**parent: Any) -> Resource:
    return manifest("HTTPRoute", spec={"parentRefs": [{"name": "gate", **parent}]})


GATEWAY = manifest(
    "Gateway",
    name="gate",
    spec={"listeners": [{"name": "web", "protocol": "HTTP"}, {"name": "websecure", "protocol": "HTTPS"}]},
)


def wall(selector: Any, **spec: Any) -> Resource:
    return manifest("NetworkPolicy", spec={"podSelector": selector, **spec})


def budget(selector: Any) -> Resource:
    return manifest("PodDisruptionBudget", spec={"minAvailable": 1, "selector": selector})


def bucket(*, protected: bool = True, **properties: Any) -> Resource:
    properties = {"bucket": "weights", "serverSideEncryptionRule": {"sseAlgorithm": "AES256"}, **properties}
    return resource("alicloud:oss/bucket:Bucket", "bucket", properties, protected=protected)


def about_bucket(kind: str, *, bucket: Any = "weights", referring: bool = False, **properties: Any) -> Resource:
    type_ = f"alicloud:oss/{kind[0].lower()}{kind[1:]}:{kind}"
    references = {"bucket": ("urn:pulumi:prod::deepseek::alicloud:oss/bucket:Bucket::bucket",)} if referring else {}
    return resource(type_, kind, {"bucket": bucket, **properties}, references=references)


def document(**statement: Any) -> str:
    return json.dumps({"Version": "1", "Statement": [{"Effect": "Allow", **statement}]})


def ram_policy(**statement: Any) -> Resource:
    return resource("alicloud:ram/policy:Policy", "policy", {"policyDocument": document(**statement)})


BLOCKED = about_bucket("BucketPublicAccessBlock", blockPublicAccess=True)
ACL = about_bucket("BucketAcl", acl="private")
TLS_ONLY = {
    "Effect": "Deny",
    "Principal": ["*"],
    "Action": ["oss:*"],
    "Condition": {"Bool": {"acs:SecureTransport": ["false"]}},
}


def secret(**fields: Any) -> Resource:
    return manifest("Secret", name="key", **fields)


@dataclass(frozen=True)
class Broken:
    """Resources that break a rule, with what is said: the path, and a piece of the problem."""

    path: str
    problem: str
    stack: tuple[Resource, ...]
    config: Mapping[str, Any] | None = None


LEADER = "spec.leaderWorkerTemplate.leaderTemplate"
CONTAINER = f"{LEADER}.spec.containers[vllm]"

BROKEN: dict[str, list[Broken]] = {
    "disallow-public-services": [
        Broken("spec.type", "NodePort opens", (service("NodePort"),)),
        Broken(f"metadata.annotations[{next(iter(PRIVATE))}]", "public address", (service("LoadBalancer"),)),
        Broken("spec.externalIPs", "no controller verifies", (service(externalIPs=["192.0.2.1"]),)),
    ],
    "require-api-key": [
        Broken("", "the engine of r1 requires no API key", (BALANCER, group(NO_KEY))),
        Broken("", "requires no API key", (ingress([{}]), group(NO_KEY))),
        Broken("", "requires no API key", (route(sectionName="websecure"), group(NO_KEY))),
    ],
    "require-route-https": [
        Broken("spec.tls", "r1.example.com is served over plain HTTP", (ingress([]),)),
        Broken("spec.tls", "plain HTTP", (ingress([{"hosts": ["other.example.com"]}]),)),
        Broken("spec.parentRefs[0]", "all listeners", (route(),)),
        Broken("spec.parentRefs[0]", "the listener web of gate is plain HTTP", (route(), GATEWAY)),
        Broken("spec.parentRefs[0]", "the listener web", (route(sectionName="web"), GATEWAY)),
    ],
    "require-load-balancer-tls": [Broken("spec.type", "use plain HTTP", (BALANCER, group()))],
    "require-network-policy": [
        Broken(LEADER, "neither a NetworkPolicy", (group(), wall({"matchLabels": {"app": "other"}}))),
        Broken(LEADER, "neither a NetworkPolicy", (group(), wall({}, policyTypes=["Egress"]))),
        Broken(
            "spec.leaderWorkerTemplate.workerTemplate",
            "neither a NetworkPolicy",
            (group(), wall({"matchLabels": {"role": "leader"}})),
        ),
        Broken(LEADER, "neither a NetworkPolicy", (group(stack="live"),), {"productionStacks": ["live"]}),
    ],
    "disallow-public-buckets": [
        Broken("acl", "is public-read", (bucket(), BLOCKED, about_bucket("BucketAcl", acl="public-read"))),
        Broken("acl", "is public-read-write", (bucket(acl="public-read-write"), BLOCKED)),
        Broken("", "public access to the bucket is not blocked", (bucket(), ACL)),
        Broken("", "not blocked", (bucket(), about_bucket("BucketPublicAccessBlock", blockPublicAccess=False))),
        Broken(
            "",
            "not blocked",
            (bucket(), about_bucket("BucketPublicAccessBlock", bucket="other", blockPublicAccess=True)),
        ),
    ],
    "require-bucket-encryption": [
        Broken("serverSideEncryptionRule", "unencrypted", (bucket(serverSideEncryptionRule=None),))
    ],
    "require-bucket-tls": [
        Broken("", "plain HTTP", (bucket(),)),
        Broken(
            "", "plain HTTP", (bucket(), about_bucket("BucketPolicy", policy=document(**{**TLS_ONLY, "Action": ["x"]})))
        ),
        Broken("", "plain HTTP", (bucket(), about_bucket("BucketPolicy", policy="no JSON"))),
    ],
    "require-bucket-protection": [
        Broken("", "pulumi destroy deletes the bucket", (bucket(protected=False),)),
        Broken("forceDestroy", "with the weights in it", (bucket(forceDestroy=True),)),
    ],
    "restrict-ram-policies": [
        Broken(
            "policyDocument",
            "acs:oss:*:*:* includes all",
            (ram_policy(Action="oss:GetObject", Resource="acs:oss:*:*:*"),),
        ),
        Broken("policyDocument", "* includes all", (ram_policy(Action=["oss:GetObject"], Resource=["*"]),)),
        Broken("policyDocument", "action oss:*", (ram_policy(Action=["oss:*"], Resource=["acs:oss:*:*:weights/*"]),)),
        Broken(
            "policyName",
            "AliyunOSSFullAccess applies to all buckets",
            (
                resource(
                    "alicloud:ram/userPolicyAttachment:UserPolicyAttachment",
                    "it",
                    {"policyName": "AliyunOSSFullAccess", "policyType": "System"},
                ),
            ),
        ),
    ],
    "disallow-plain-secrets": [
        Broken(
            f"{CONTAINER}.env[VLLM_API_KEY].value",
            "secret",
            (group(pod(env=[{"name": "VLLM_API_KEY", "value": KEY}])),),
        ),
        Broken(f"{CONTAINER}.env[HF_TOKEN].value", "secret", (group(pod(env=[{"name": "HF_TOKEN", "value": KEY}])),)),
        Broken(f"{CONTAINER}.args", "--api-key puts", (group(pod(args=["--api-key", KEY])),)),
        Broken(f"{CONTAINER}.args", "--api-key puts", (group(pod(args=["--api-key=$(VLLM_API_KEY)"])),)),
        Broken(f"{CONTAINER}.command", "--api-key puts", (group(pod(command=["sh", "-c", f"x --api-key {KEY}"])),)),
        Broken(
            "data.credentials.ini",
            "an AccessKey",
            (manifest("ConfigMap", data={"credentials.ini": "id=LTAI5tExample1234abcd"}),),
        ),
        Broken("data.accessKeySecret", "in plain text", (manifest("ConfigMap", data={"accessKeySecret": KEY}),)),
        Broken(
            "data.tls.pem",
            "a private key",
            (manifest("ConfigMap", data={"tls.pem": "-----BEGIN RSA PRIVATE KEY-----"}),),
        ),
        Broken(
            "metadata.annotations.note", "a token of Hugging Face", (service(annotations={"note": f"hf_{'a' * 34}"}),)
        ),
        Broken(
            "spec.csi.volumeAttributes.akSecret",
            "in plain text",
            (manifest("PersistentVolume", spec={"csi": {"volumeAttributes": {"akSecret": KEY}}}),),
        ),
        Broken(
            "spec.mounts[0].options.fs.oss.accessKeySecret",
            "in plain text",
            (manifest("Dataset", spec={"mounts": [{"options": {"fs.oss.accessKeySecret": KEY}}]}),),
        ),
    ],
    "disallow-leaked-secrets": [
        Broken(
            f"{LEADER}.spec.containers[0].env[0].value",
            "this contains the value of apiKey of the Secret key",
            (group(pod(env=[{"name": "X", "value": f"Bearer {KEY}"}])), secret(stringData={"apiKey": KEY})),
        ),
        Broken(
            "data.note",
            "this contains the value of apiKey",
            (
                manifest("ConfigMap", data={"note": KEY}),
                secret(data={"apiKey": base64.b64encode(KEY.encode()).decode(), "bytes": "/w=="}),
            ),
        ),
    ],
    "require-requests-limits": [
        Broken(f"{CONTAINER}.resources.requests", "cpu and memory missing", (group(pod(resources=None)),)),
        Broken(
            f"{CONTAINER}.resources.limits",
            "memory missing",
            (group(pod(resources={"requests": RESOURCES, "limits": {"cpu": "1"}})),),
        ),
        Broken(
            f"{LEADER}.spec.initContainers[init].resources.requests",
            "cpu and memory missing",
            (group(pod(spec={"initContainers": [{"name": "init"}]})),),
        ),
        Broken(
            "spec.jobTemplate.spec.template.spec.containers[c].resources.limits",
            "cpu",
            (
                manifest(
                    "CronJob", spec={"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}}
                ),
            ),
        ),
    ],
    "require-pod-probes": [
        Broken(CONTAINER, "without startupProbe", (group(pod(startupProbe=None)),)),
        Broken(
            CONTAINER, "without readinessProbe, livenessProbe", (group(pod(readinessProbe=None, livenessProbe=None)),)
        ),
        Broken(f"{LEADER}.spec.containers", "unknown which one serves", (group(pod(ports=None)),)),
        Broken(
            "spec.leaderWorkerTemplate.workerTemplate.spec.containers[vllm]",
            "without startupProbe",
            (manifest("LeaderWorkerSet", spec={"leaderWorkerTemplate": {"workerTemplate": pod(startupProbe=None)}}),),
        ),
    ],
    "disallow-mutable-tags": [
        Broken(f"{CONTAINER}.image", "has no fixed version", (group(pod(image="vllm/vllm-openai")),)),
        Broken(f"{CONTAINER}.image", "has no fixed version", (group(pod(image="registry.example:5000/vllm")),)),
        Broken(f"{CONTAINER}.image", "has no fixed version", (group(pod(image="vllm/vllm-openai:latest")),)),
        Broken(f"{CONTAINER}.image", "without a new tag", (group(),), {"requireDigest": True}),
    ],
    "disallow-host-namespaces": [
        Broken(f"{LEADER}.spec.hostNetwork", "the node's", (group(pod(spec={"hostNetwork": True})),)),
        Broken(f"{LEADER}.spec.hostPID", "the node's", (group(pod(spec={"hostPID": True})),)),
        Broken(
            f"{LEADER}.spec.volumes[sock]",
            "hostPath",
            (group(pod(spec={"volumes": [{"name": "sock", "hostPath": {"path": "/run"}}]})),),
        ),
        Broken(
            f"{CONTAINER}.securityContext.privileged",
            "has full access to the node",
            (group(pod(securityContext={"privileged": True})),),
        ),
    ],
    "disable-service-links": [
        Broken(
            f"{LEADER}.spec.enableServiceLinks",
            "a Service named vllm",
            (group(pod(spec={"enableServiceLinks": True})),),
        ),
    ],
    "restrict-rdma": [
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/hpn-type]",
            "series GU8TF only with 8 GPUs, not 4",
            (group(pod(resources={"limits": {"nvidia.com/gpu": "4"}})),),
        ),
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/hpn-type]",
            "series A10 not at all",
            (group(pod(labels={"alibabacloud.com/gpu-model-series": "A10"})),),
        ),
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/hpn-type]",
            "only with 1 or 2 or 4 or 8 or 16 GPUs, not 3",
            (
                group(
                    pod(
                        labels={"alibabacloud.com/compute-class": "gpu-hpn"},
                        resources={"limits": {"nvidia.com/gpu": "3"}},
                    )
                ),
            ),
        ),
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/hpn-type]",
            "without a GPU series",
            (group(pod(labels={"alibabacloud.com/gpu-model-series": ""})),),
        ),
    ],
    "disallow-best-effort": [
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/compute-qos]",
            "evict the pod",
            (group(pod(labels={"alibabacloud.com/compute-qos": "best-effort"})),),
        ),
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/compute-qos]",
            "evict the pod",
            (group(pod(labels={"alibabacloud.com/compute-qos": "best-effort"}), stack="live"),),
            {"productionStacks": ["live"]},
        ),
    ],
    "require-pod-disruption-budget": [
        Broken("spec.replicas", "all 2 copies", (group(replicas=2),)),
        Broken("spec.replicas", "all 2 copies", (group(replicas=2), budget({"matchLabels": {"app": "other"}}))),
    ],
}

KEPT: dict[str, list[tuple[Resource, ...]]] = {
    "disallow-public-services": [(service(),), (BALANCER,), (service("LoadBalancer", {next(iter(PRIVATE)): UNKNOWN}),)],
    "require-api-key": [
        (BALANCER, group()),
        (BALANCER, group(pod(env=UNKNOWN))),
        (service(), group(NO_KEY)),
        (BALANCER,),
    ],
    "require-route-https": [
        (ingress([{"hosts": ["r1.example.com"]}]),),
        (ingress([{"hosts": ["*.example.com"]}]),),
        (ingress([{"secretName": "tls"}]),),
        (ingress(UNKNOWN),),
        (route(sectionName="websecure"), GATEWAY),
        (route(sectionName="https"),),
    ],
    "require-load-balancer-tls": [
        (BALANCER, group(pod(command=["vllm", "serve", "--ssl-certfile", "/tls/tls.crt"]))),
        (service(), group()),
    ],
    "require-network-policy": [
        (group(), wall({"matchLabels": {GROUP_LABEL: "r1"}})),
        (group(), wall({})),
        (
            group(),
            wall({"matchExpressions": [{"key": "role", "operator": "Exists"}]}),
            wall({"matchExpressions": [{"key": "role", "operator": "DoesNotExist"}]}),
        ),
        (
            group(),
            wall({"matchExpressions": [{"key": f"{GROUP_LABEL[:-4]}worker-index", "operator": "In", "values": ["0"]}]}),
            wall(
                {"matchExpressions": [{"key": f"{GROUP_LABEL[:-4]}worker-index", "operator": "NotIn", "values": ["0"]}]}
            ),
        ),
        (group(stack="dev"),),
        (GROUPED,),
    ],
    "disallow-public-buckets": [
        (bucket(), ACL, BLOCKED),
        (
            bucket(bucket=UNKNOWN),
            about_bucket("BucketPublicAccessBlock", bucket=UNKNOWN, referring=True, blockPublicAccess=True),
        ),
    ],
    "require-bucket-encryption": [
        (bucket(),),
        (bucket(serverSideEncryptionRule=UNKNOWN),),
        (bucket(serverSideEncryptionRule=None), about_bucket("BucketServerSideEncryption", sseAlgorithm="KMS")),
    ],
    "require-bucket-tls": [
        (bucket(), about_bucket("BucketPolicy", policy=document(**TLS_ONLY))),
        (bucket(bucket=UNKNOWN), about_bucket("BucketPolicy", bucket=UNKNOWN, referring=True, policy=UNKNOWN)),
    ],
    "require-bucket-protection": [(bucket(),)],
    "restrict-ram-policies": [
        (ram_policy(Action=["oss:GetObject"], Resource=["acs:oss:*:*:weights", "acs:oss:*:*:weights/models/*"]),),
        (ram_policy(Action=["ram:GetRole"], Resource=["acs:ram::1:role/*"]),),
        (resource("alicloud:ram/policy:Policy", "policy", {"policyDocument": UNKNOWN}),),
        (ram_policy(Effect="Deny", Action="*", Resource="*"),),
    ],
    "disallow-plain-secrets": [
        (group(),),
        (group(pod(env=[{"name": "MAX_TOKENS", "value": "1"}, {"name": "TOKEN_FILE", "value": "/x"}])),),
        (group(pod(env=[{"name": "OPENAI_API_KEY", "value": "$(VLLM_API_KEY)"}])),),
        (group(pod(args=["--api-key-header", "x"])),),
        (secret(stringData={"accessKeySecret": KEY}),),
        (manifest("ConfigMap", data={"settings": "level=1"}),),
    ],
    "disallow-leaked-secrets": [
        (group(), secret(stringData={"apiKey": KEY})),
        (group(), secret(stringData={"port": "8000"})),
        (group(), secret(stringData={"apiKey": UNKNOWN})),
    ],
    "require-requests-limits": [(group(),), (group(pod(resources=UNKNOWN)),), (service(),)],
    "require-pod-probes": [(group(),), (manifest("Job", spec={"template": pod(startupProbe=None)}),)],
    "disallow-mutable-tags": [
        (group(),),
        (group(pod(image="registry.example:5000/vllm:v1")),),
        (group(pod(image=f"registry.example/vllm{DIGEST}")),),
        (group(pod(image=UNKNOWN)),),
    ],
    "disallow-host-namespaces": [(group(),), (group(pod(securityContext={"privileged": False})),)],
    "disable-service-links": [(group(),), (manifest("Job", spec={"template": {"spec": {"containers": []}}}),)],
    "restrict-rdma": [
        (group(),),
        (group(pod(labels={"alibabacloud.com/gpu-model-series": "FUTURE"})),),
        (group(pod(resources={"limits": {"nvidia.com/gpu": UNKNOWN}})),),
        (
            group(
                pod(
                    labels={"alibabacloud.com/gpu-model-series": "P16EN"},
                    resources={"limits": {"alibabacloud.com/ppu": "16"}},
                )
            ),
        ),
        (group(pod(labels={"alibabacloud.com/hpn-type": None}, resources={})),),
    ],
    "disallow-best-effort": [
        (group(),),
        (group(pod(labels={"alibabacloud.com/compute-qos": "best-effort"}), stack="dev"),),
    ],
    "require-pod-disruption-budget": [
        (group(),),
        (group(replicas=2), budget({"matchLabels": {"role": "leader"}})),
        (group(replicas=UNKNOWN),),
    ],
}

BY_NAME = {rule.name: rule for rule in RULES}


def findings(name: str, stack: tuple[Resource, ...], config: Mapping[str, Any] | None = None) -> list[Finding]:
    rule = BY_NAME[name]
    arguments = rule.arguments(config or {})
    if isinstance(rule, ResourceRule):
        return [finding for one in stack for finding in rule.check(one, **arguments)]
    return [violation.finding for violation in rule.check(stack, **arguments)]


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in BROKEN.items() for case in cases])
def test_broken(name: str, case: Broken) -> None:
    found = findings(name, case.stack, case.config)
    assert any(finding.path == case.path and case.problem in finding.problem for finding in found), found
    assert all(finding.fix for finding in found)
    # A violation is shown in every log.
    assert not any(KEY in message(finding) for finding in found)


@pytest.mark.parametrize(("name", "stack"), [(name, stack) for name, stacks in KEPT.items() for stack in stacks])
def test_kept(name: str, stack: tuple[Resource, ...]) -> None:
    assert findings(name, stack) == []


def test_every_rule_has_cases() -> None:
    assert set(BROKEN) == set(KEPT) == set(BY_NAME)
    assert len(BY_NAME) == len(RULES)


@pytest.mark.parametrize("name", BY_NAME)
def test_names_are_like_those_of_kyvernos_library(name: str) -> None:
    assert re.fullmatch("(require|restrict|disallow|disable)(-[a-z]+)+", name)


def test_a_stack_rule_names_the_resource() -> None:
    rule = BY_NAME["require-api-key"]
    assert isinstance(rule, StackRule)
    assert [violation.resource for violation in rule.check((group(NO_KEY), BALANCER))] == [BALANCER]


def test_message() -> None:
    [finding] = findings("disallow-public-services", (service("NodePort"),))
    assert message(finding) == (
        "spec.type: NodePort opens the Service on every node; fix: write ClusterIP, or LoadBalancer with a private "
        "address"
    )
    assert message(Finding(path="", problem="it is open", fix="close it")) == "it is open; fix: close it"


def test_plain_data() -> None:
    wire = {"a": [1.0, 1.5, next(iter(UNKNOWN_VALUES))], "b": {"c": True, "d": None}}
    assert plain(copy.deepcopy(wire)) == {"a": [1, 1.5, UNKNOWN], "b": {"c": True, "d": None}}
