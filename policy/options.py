"""What a company can set about the rules: lists of what is accepted, and how strict a rule is.

A company's list takes the place of the default one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Option:
    """Something about a rule that a company can set: ``argument`` of its check, and a JSON schema with a default."""

    argument: str
    schema: Mapping[str, Any]


def _names(argument: str, description: str, default: Sequence[str] = (), *, pattern: str = "^.+$") -> Option:
    """A list of strings, each of the form ``pattern``."""
    strings = {"type": "string", "pattern": pattern}
    return Option(
        argument=argument,
        schema={
            "type": "array",
            "items": strings,
            "uniqueItems": True,
            "default": list(default),
            "description": description,
        },
    )


def _whole_number(argument: str, description: str, default: int, *, most: int) -> Option:
    schema = {"type": "integer", "minimum": 0, "maximum": most, "default": default, "description": description}
    return Option(argument=argument, schema=schema)


def _switch(argument: str, description: str, *, default: bool = True) -> Option:
    return Option(argument=argument, schema={"type": "boolean", "default": default, "description": description})


ALLOWED_TYPES = _names(
    "allowed_types",
    "type tokens of resources that a stack may have in addition to those that the program creates",
    pattern="^[^:]+:[^:]+:[^:]+$",
)
ALLOWED_LOAD_BALANCERS = _names(
    "allowed_load_balancers", "IDs of existing load balancers without a public address", pattern="^[a-z]+-[a-z0-9]+$"
)
PUBLIC_CONTAINERS = _names(
    "allowed_containers",
    "names of containers without ports whose pods may have a public address to download through (`weights.upload.eip`)",
    ("modelmover",),
)
MIN_PREFIX_LENGTH = _whole_number(
    "min_prefix_length", "shortest prefix of an IPv4 network of clients; 16 is 65,536 addresses", 16, most=32
)
MIN_PREFIX_LENGTH_IPV6 = _whole_number(
    "min_prefix_length_ipv6", "the same for IPv6; 56 is what a VPC has", 56, most=128
)
ALLOWED_NETWORKS = _names(
    "allowed_networks",
    "networks that may be wider; by default, the one that health checks of a load balancer come from",
    ("100.64.0.0/10",),
    pattern="^[0-9a-fA-F.:]+/[0-9]+$",
)
CLIENT_NETWORKS = {
    "minPrefixLength": MIN_PREFIX_LENGTH,
    "minPrefixLengthIPv6": MIN_PREFIX_LENGTH_IPV6,
    "allowedNetworks": ALLOWED_NETWORKS,
}
EXEMPT_STACKS = _names("exempt_stacks", "names of stacks that need not keep the rule; local stacks never need to")
ALLOWED_PATHS = _names(
    "allowed_paths",
    "paths that a route may let through; one that ends in `/*` means all below it",
    (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/responses",
        "/v1/responses/*",
    ),
    pattern="^/",
)
ALLOWED_CLASSES = _names("allowed_classes", "ingress classes that are maintained", ("alb", "apig", "mse"))
REDIRECTING_CLASSES = _names(
    "redirecting_classes", "ingress classes whose controllers redirect to HTTPS without an annotation"
)
ALLOWED_PRINCIPALS = _names("allowed_principals", "additional principals that are allowed")
ALLOWED_POLICIES = _names("allowed_policies", "names of RAM policies that identities of the stack may hold in addition")
ALLOWED_ACTIONS = _names(
    "allowed_actions",
    "operations that identities of the stack may be allowed; by default, what moving and reading weights needs",
    (
        "oss:AbortMultipartUpload",
        "oss:DeleteObject",
        "oss:GetBucketInfo",
        "oss:GetObject",
        "oss:ListMultipartUploads",
        "oss:ListObjects",
        "oss:ListParts",
        "oss:PutObject",
    ),
    pattern="^[a-z]+:[A-Za-z]+$",
)
ALLOWED_API_GROUPS = _names(
    "allowed_api_groups",
    "API groups that a Role of the stack may be about",
    (
        "data.fluid.io",
        "events.k8s.io",
        "inference.networking.k8s.io",
        "inference.networking.x-k8s.io",
        "keda.sh",
        "leaderworkerset.x-k8s.io",
    ),
    pattern="^.*$",
)
ALLOWED_CORE_RIGHTS = _names(
    "allowed_core_rights",
    "rights in the core API group, which has Secrets, as `resource:verb`, and in other groups that are not in "
    "`allowedApiGroups`, as `resource.group:verb`; all but `list`, `watch` and those to logs only on named objects",
    (
        "configmaps:get",
        "configmaps:patch",
        "events:list",
        "pods/log:get",
        "pods:list",
        "pods:watch",
        "statefulsets.apps:get",
    ),
    pattern="^[a-z/.]+:[a-z]+$",
)
ALLOWED_CLUSTER_ROLES = _names("allowed_cluster_roles", "ClusterRoles that the stack may bind in its namespace")
REQUIRE_DIGEST = _switch("require_digest", "whether a tag with a version is not enough", default=False)
ALLOWED_REGISTRIES = _names(
    "allowed_registries",
    "registries and repositories of images, with the registry's host",
    (
        "ac2-registry.cn-hangzhou.cr.aliyuncs.com/ac2",
        "docker.io/vllm/vllm-openai",
        "registry.k8s.io/gateway-api-inference-extension",
        "registry-cn-hangzhou.ack.aliyuncs.com/ack-demo",
    ),
)
ALLOWED_CHARTS = _names(
    "allowed_charts",
    "places that Helm charts may come from",
    (
        "https://aliacs-app-catalog.oss-cn-hangzhou.aliyuncs.com/charts-incubator",
        "oci://registry.k8s.io/lws/charts",
    ),
    pattern="^(oci|https)://",
)
RDMA_CAPABILITIES = _names(
    "rdma_capabilities",
    "capabilities that pods with RDMA may add; it pins memory",
    ("IPC_LOCK",),
    pattern="^[A-Z_]+$",
)
ALLOW_PRIVILEGED_FOR_FLUID = _switch(
    "allow_privileged_for_fluid",
    "whether a namespace with a Fluid cache may enforce `privileged`, which the cache's client needs",
)
ALLOW_PRIVILEGED_FOR_RDMA = _switch(
    "allow_privileged_for_rdma", "the same for pods with RDMA, whose IPC_LOCK is not in `baseline`"
)
ROOT_CONTAINERS = _names(
    "root_containers",
    "names of containers that may run as root, as vLLM's images do; without them, `security.pods.runAsUser` is "
    "mandatory",
    ("vllm", "vllm-bench", "compile-cache-restore", "compile-cache-save"),
)
TOKEN_CONTAINERS = _names(
    "token_containers",
    "names of containers that call the API server; by default, the ones that wait for Fluid's preload, that give up "
    "groups, that take requests from new groups, that keep evidence of incidents, that let an update go "
    "on, and that choose the leader of a request",
    ("preload", "costguard", "canaryguard", "incidents", "gate", "epp"),
)
ALLOWED_CSI_DRIVERS = _names(
    "allowed_csi_drivers",
    "CSI drivers of PersistentVolumes; by default, that of OSS (`storage.kind: csi`)",
    ("ossplugin.csi.alibabacloud.com",),
)
ALLOWED_OPTIONS = _names(
    "allowed_options", "options and variables of the engine that are accepted", pattern="^[-_A-Za-z0-9]+$"
)
REQUEST_FILTERS = _names(
    "request_filters",
    "middleware that checks the API key on every path; by default, the program's request filter",
    ("requestfilter.RequestFilter",),
)
MINIMUM_VERSION = Option(
    argument="minimum_version",
    schema={
        "type": "string",
        "pattern": r"^([0-9]+(\.[0-9]+)+)?$",
        "default": "",
        "description": "oldest version of vLLM that may run anywhere",
    },
)
ACCEPTED_ADVISORIES = _names("accepted", "IDs of vulnerabilities that are accepted")
ALLOWED_MIDDLEWARE = _names(
    "allowed_middleware",
    "modules that run in the engine's server; by default, the program's request filter",
    ("requestfilter.RequestFilter",),
)
ALLOWED_HOSTS = _names("allowed_hosts", "hosts to which secrets may go by plain HTTP")
MAX_HOURLY_COST = Option(
    argument="max_hourly_cost",
    schema={
        "type": "number",
        "minimum": 0,
        "default": 0,
        "description": "most that all GPUs of a stack may cost per hour, with autoscaling and updates; 0 sets none",
    },
)
GPU_HOUR = Option(
    argument="gpu_hour",
    schema={
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": 0},
        "default": {},
        "description": "price of one GPU for an hour by series, in the currency of the limit",
    },
)
