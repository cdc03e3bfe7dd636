"""Resources for the tests of the policies: a stack that keeps every rule, and what is needed to break it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.resources import Resource
from policy.rules import RULES, ResourceRule

Kept = tuple[Resource, ...]
"""Resources that keep a rule."""


@dataclass(frozen=True)
class Broken:
    """Resources that break a rule, with what is said: the path, and a piece of the problem."""

    path: str
    problem: str
    stack: tuple[Resource, ...]
    config: Mapping[str, Any] | None = None


KEY = "sk-0123456789abcdef"

API_GROUPS = {
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "Dataset": "data.fluid.io/v1alpha1",
    "JindoRuntime": "data.fluid.io/v1alpha1",
    "Gateway": "gateway.networking.k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "TCPRoute": "gateway.networking.k8s.io/v1alpha2",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "InferencePool": "inference.networking.k8s.io/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
}
"""Of kinds that are not in the core group."""


def resource(type_: str, name: str, properties: Mapping[str, Any], **fields: Any) -> Resource:
    stack = fields.pop("stack", "live")
    urn = f"urn:pulumi:{stack}::deepseek::{type_}::{name}"
    return Resource(type=type_, name=name, urn=urn, properties=properties, **fields)


def manifest(kind: str, *, name: str = "it", stack: str = "live", **body: Any) -> Resource:
    api_version = API_GROUPS.get(kind, "v1")
    token = api_version if "/" in api_version else f"core/{api_version}"
    metadata = {"name": name, "namespace": "models", **body.pop("metadata", {})}
    properties = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
    return resource(f"kubernetes:{token}:{kind}", name, properties, stack=stack)


RESOURCES = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "8"}
PROBE = {"httpGet": {"path": "/health", "port": "http"}}
HARDENED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
ENGINE: Mapping[str, Any] = {
    "name": "vllm",
    "image": "registry-cn-hangzhou.ack.aliyuncs.com/ack-demo/vllm:v0.30.1",
    "command": ["vllm", "serve", "/models", "--middleware", "requestfilter.RequestFilter"],
    "ports": [{"name": "http", "containerPort": 8000}],
    "resources": {"requests": RESOURCES, "limits": RESOURCES},
    "env": [{"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "key"}}}],
    "securityContext": HARDENED,
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


def pod(
    *,
    labels: Mapping[str, Any] | None = None,
    annotations: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    security: Mapping[str, Any] | None = None,
    **container: Any,
) -> Any:
    """A pod template of the engine; a field of the container that is None is left out, and ``security`` is added to
    its security context."""
    engine = {key: value for key, value in {**ENGINE, **container}.items() if value is not None}
    if security is not None:
        engine["securityContext"] = {**HARDENED, **security}
    return {
        "metadata": {"labels": {"role": "leader", **LABELS, **(labels or {})}, "annotations": annotations or {}},
        "spec": {
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "containers": [engine],
            **(spec or {}),
        },
    }


def group(template: Any = None, *, stack: str = "live", **spec: Any) -> Resource:
    worker = pod(ports=None, env=None)
    del worker["metadata"]["labels"]["role"]
    leader_worker = {"leaderTemplate": template or pod(), "workerTemplate": worker}
    return manifest(
        "LeaderWorkerSet", name="r1", stack=stack, spec={"replicas": 1, "leaderWorkerTemplate": leader_worker, **spec}
    )


LOAD_BALANCER = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer"
PRIVATE = {f"{LOAD_BALANCER}-address-type": "intranet"}
LISTED = {
    f"{LOAD_BALANCER}-acl-{name}": value for name, value in (("id", "acl-1"), ("status", "on"), ("type", "white"))
}
ENCRYPTED = {f"{LOAD_BALANCER}-protocol-port": "https:443"}
GROUP_LABEL = "leaderworkerset.sigs.k8s.io/name"
NO_KEY = pod(env=[])
LEADER = "spec.leaderWorkerTemplate.leaderTemplate"
CONTAINER = f"{LEADER}.spec.containers[vllm]"


def service(type_: str = "ClusterIP", annotations: Mapping[str, Any] | None = None, **spec: Any) -> Resource:
    return manifest("Service", metadata={"annotations": annotations or {}}, spec={"type": type_, **spec})


BALANCER = service("LoadBalancer", PRIVATE)

EXACT = {"path": "/v1/models", "pathType": "Exact"}


def ingress(
    tls: Any = ({"secretName": "tls"},),
    host: str = "r1.example.com",
    *,
    class_name: str | None = "alb",
    annotations: Mapping[str, Any] | None = None,
    paths: Sequence[Any] = (EXACT,),
    **spec: Any,
) -> Resource:
    redirect = {"alb.ingress.kubernetes.io/ssl-redirect": "true"} if class_name == "alb" else {}
    body = {
        "tls": tls if not isinstance(tls, tuple) else list(tls),
        "rules": [{"host": host, "http": {"paths": list(paths)}}],
        **({"ingressClassName": class_name} if class_name else {}),
        **spec,
    }
    return manifest("Ingress", metadata={"annotations": {**redirect, **(annotations or {})}}, spec=body)


def http_route(matches: Any = ({"path": {"type": "Exact", "value": "/v1/models"}},), **fields: Any) -> Resource:
    rule = {"matches": list(matches) if isinstance(matches, tuple) else matches, **fields}
    parent = {"name": "gate", "sectionName": "websecure"}
    return manifest("HTTPRoute", spec={"parentRefs": [parent], "rules": [rule]})


def pool(labels: Any) -> Resource:
    return manifest("InferencePool", spec={"selector": {"matchLabels": labels}, "targetPorts": [{"number": 8000}]})


def attached(**parent: Any) -> Resource:
    """A route at a Gateway."""
    return manifest("HTTPRoute", spec={"parentRefs": [{"name": "gate", **parent}]})


GATEWAY = manifest(
    "Gateway",
    name="gate",
    spec={"listeners": [{"name": "web", "protocol": "HTTP"}, {"name": "websecure", "protocol": "HTTPS"}]},
)


def network_policy(selector: Any, **spec: Any) -> Resource:
    return manifest("NetworkPolicy", spec={"podSelector": selector, **spec})


def admits(*peers: Any, **rule: Any) -> Resource:
    """A NetworkPolicy with one rule for these clients, by default at the engine's port."""
    return network_policy({}, ingress=[{"from": list(peers), "ports": [{"port": 8000}], **rule}])


def network(cidr: Any) -> Any:
    return {"ipBlock": {"cidr": cidr}}


def budget(selector: Any) -> Resource:
    return manifest("PodDisruptionBudget", spec={"minAvailable": 1, "selector": selector})


def bucket(*, protected: bool = True, read_only: bool = False, **properties: Any) -> Resource:
    properties = {"bucket": "weights", "serverSideEncryptionRule": {"sseAlgorithm": "AES256"}, **properties}
    return resource("alicloud:oss/bucket:Bucket", "bucket", properties, protected=protected, read_only=read_only)


def about_bucket(kind: str, *, bucket: Any = "weights", referring: bool = False, **properties: Any) -> Resource:
    type_ = f"alicloud:oss/{kind[0].lower()}{kind[1:]}:{kind}"
    references = {"bucket": ("urn:pulumi:live::deepseek::alicloud:oss/bucket:Bucket::bucket",)} if referring else {}
    return resource(type_, kind, {"bucket": bucket, **properties}, references=references)


def document(**statement: Any) -> str:
    return json.dumps({"Version": "1", "Statement": [{"Effect": "Allow", **statement}]})


READ = {"Action": ["oss:GetObject"], "Resource": ["acs:oss:*:*:weights/models/*"]}
"""A statement that allows no more than it needs to."""


def ram_policy(**statement: Any) -> Resource:
    return resource("alicloud:ram/policy:Policy", "policy", {"policyDocument": document(**{**READ, **statement})})


def attachment(name: Any, kind: str = "Custom", **fields: Any) -> Resource:
    type_ = "alicloud:ram/userPolicyAttachment:UserPolicyAttachment"
    return resource(type_, "attachment", {"policyName": name, "policyType": kind}, **fields)


IDENTITY = {"oidc:aud": "sts.aliyuncs.com", "oidc:iss": "https://oidc.example", "oidc:sub": "system:serviceaccount:a:b"}


def role(**statement: Any) -> Resource:
    trusted = {
        "Action": "sts:AssumeRole",
        "Principal": {"Federated": ["acs:ram::1:oidc-provider/c1"]},
        "Condition": {"StringEquals": IDENTITY},
        **statement,
    }
    return resource("alicloud:ram/role:Role", "role", {"assumeRolePolicyDocument": document(**trusted)})


BLOCKED = about_bucket("BucketPublicAccessBlock", blockPublicAccess=True)
ACL = about_bucket("BucketAcl", acl="private")
TLS_ONLY: Mapping[str, Any] = {
    "Effect": "Deny",
    "Principal": ["*"],
    "Action": ["oss:*"],
    "Resource": ["acs:oss:*:*:weights", "acs:oss:*:*:weights/*"],
    "Condition": {"Bool": {"acs:SecureTransport": ["false"]}},
}


def bucket_policy(**statement: Any) -> Resource:
    return about_bucket("BucketPolicy", policy=document(**{**TLS_ONLY, **statement}))


def secret(**fields: Any) -> Resource:
    return manifest("Secret", name="key", **fields)


def cloud(*endpoints: Mapping[str, str]) -> Resource:
    given = {"endpoints": json.dumps(list(endpoints))} if endpoints else {}
    return resource("pulumi:providers:alicloud", "alicloud", {"region": "cn-hangzhou", **given})


EMULATED = cloud(dict.fromkeys(("oss", "ram", "sts", "slb"), "http://127.0.0.1:19000"))
"""The provider of a local stack."""

SOUND: Sequence[Resource] = (
    cloud(),
    resource("pulumi:providers:pulumi", "default", {}),
    resource("pulumi:index:Stash", "applied", {"input": {}}),
    group(),
    manifest(
        "Namespace",
        metadata={
            "labels": {f"pod-security.kubernetes.io/{mode}": "baseline" for mode in ("enforce", "audit", "warn")}
        },
    ),
    secret(stringData={"key": KEY}),
    network_policy({"matchLabels": {GROUP_LABEL: "r1"}}, ingress=[]),
    service(),
    http_route(),
    bucket(),
    ACL,
    BLOCKED,
    bucket_policy(),
    resource("alicloud:ram/policy:Policy", "read", {"policyName": "read", "policyDocument": document(**READ)}),
    attachment("read"),
    role(),
)
"""A stack that keeps every rule."""


def found(
    stack: Sequence[Resource], *names: str, config: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Finding]]:
    """What the rules of these names say, by default the mandatory ones, with the rule's name."""
    for rule in RULES:
        if rule.name not in names if names else rule.level != "mandatory":
            continue
        arguments = rule.arguments(config or {})
        if isinstance(rule, ResourceRule):
            yield from ((rule.name, finding) for one in stack for finding in rule.check(one, **arguments))
        else:
            yield from ((rule.name, violation.finding) for violation in rule.check(stack, **arguments))
