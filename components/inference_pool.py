"""An InferencePool of the leaders, and the endpoint picker that chooses the leader of each request.

The API is that of https://gateway-api-inference-extension.sigs.k8s.io/reference/spec/. The picker reads the leaders'
metrics and remembers which prompts it has sent where; a Gateway asks it by Envoy's ext-proc for each request. It is not
deployed by the project's Helm chart, whose pods have no security context and no labels of ACS, and of which a preview
shows nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.planner.metrics import EngineMetrics
from deepseek_acs.planner.vllm_releases.release import Version

from .acs_pods import GENERAL_PURPOSE
from .crds import InferencePool
from .names import name_of
from .network_policy import Client, picker_only
from .python_job import CONTAINER_SECURITY, POD_SECURITY
from .rights import grant

API_GROUP = "inference.networking.k8s.io"
EXTENSION_GROUP = "inference.networking.x-k8s.io"
"""Of what is still alpha. The picker watches it where the cluster serves it."""

EXT_PROC_PORT, HEALTH_PORT, METRICS_PORT = 9002, 9003, 9090
CONFIG_PATH, CONFIG_FILE = "/config", "plugins.json"

GRACE_SECONDS = 130
"""Upstream's: requests that are under way keep their stream to the picker."""


@dataclass(frozen=True, kw_only=True)
class PickerWeights:
    """How much each view of a leader counts, relative to the others."""

    queue: int = 2
    kv_cache: int = 2
    prefix: int = 3


@dataclass(frozen=True, kw_only=True)
class EndpointPickerArgs:
    """What to deploy, with an image that ``image_pull_secrets`` pull. ``engine_version`` is vLLM's, whose metrics the
    picker reads. With ``clients`` only these reach it; they are those of the leaders, proxies and Prometheus among
    them."""

    image: str
    cpu: int
    memory: str
    engine_version: Version
    weights: PickerWeights = PickerWeights()
    image_pull_secrets: tuple[str, ...] = ()
    clients: tuple[Client, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class InferencePoolArgs:
    """A pool with the name of the LeaderWorkerSet ``group``, of the pods that ``selector`` selects, which listen on
    ``port``. ``picker`` is deployed; without it, that of the Service ``picker_service`` is expected."""

    namespace: pulumi.Input[str]
    group: str
    selector: Mapping[str, pulumi.Input[str]]
    port: int
    picker: EndpointPickerArgs | None = None
    picker_service: str | None = None
    picker_port: int = EXT_PROC_PORT


def picker_name(group: str) -> str:
    """Name of the picker's objects."""
    return f"{group}-epp"


def picker_labels(group: str) -> dict[str, str]:
    """Labels of the picker's pods."""
    return {
        "app.kubernetes.io/name": "endpoint-picker",
        "app.kubernetes.io/instance": group,
        "app.kubernetes.io/component": "routing",
    }


class LeaderPool(pulumi.ComponentResource):
    """The InferencePool, and the endpoint picker if it is deployed."""

    name: pulumi.Output[str]
    """Name of the InferencePool."""

    def __init__(self, name: str, args: InferencePoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:access:LeaderPool", name, None, opts)
        service: pulumi.Input[str] = args.picker_service or picker_name(args.group)
        if args.picker is not None:
            service = self._picker(name, args, args.picker)
        pool = InferencePool(
            f"{name}-pool",
            metadata={"name": args.group, "namespace": args.namespace, "labels": picker_labels(args.group)},
            spec=pool_spec(args, service),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.name = pool.metadata["name"]
        self.register_outputs({"name": self.name})

    def _picker(self, name: str, args: InferencePoolArgs, picker: EndpointPickerArgs) -> pulumi.Output[str]:
        own = pulumi.ResourceOptions(parent=self)
        metadata: k8s.meta.v1.ObjectMetaArgsDict = {
            "name": picker_name(args.group),
            "namespace": args.namespace,
            "labels": picker_labels(args.group),
        }
        config = k8s.core.v1.ConfigMap(
            f"{name}-config",
            metadata={**metadata, "name": config_map_name(args.group, picker)},
            data={CONFIG_FILE: picker_config(picker)},
            immutable=True,
            opts=own,
        )
        account = k8s.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=metadata,
            automount_service_account_token=False,
            image_pull_secrets=[{"name": secret} for secret in picker.image_pull_secrets],
            opts=own,
        )
        allowed = grant(f"{name}-role", f"{name}-role-binding", account, rules(args.group), metadata=metadata, opts=own)
        if picker.clients:
            k8s.networking.v1.NetworkPolicy(
                f"{name}-clients",
                metadata=metadata,
                spec=picker_only(picker_labels(args.group), picker.clients, ports=(EXT_PROC_PORT, METRICS_PORT)),
                opts=own,
            )
        k8s.apps.v1.Deployment(
            f"{name}-deployment",
            # Nothing waits for it: it is ready when it has seen the pool, which needs its Service.
            metadata={**metadata, "annotations": {"pulumi.com/skipAwait": "true"}},
            spec={
                "replicas": 1,
                # Two of them would each remember half of the prompts.
                "strategy": {"type": "Recreate"},
                "selector": {"match_labels": picker_labels(args.group)},
                "template": _pod_template(args, picker, config, account),
            },
            opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=[allowed])),
        )
        service = k8s.core.v1.Service(
            f"{name}-service",
            metadata={**metadata, "annotations": {"pulumi.com/skipAwait": "true"}},
            spec={
                "type": "ClusterIP",
                "selector": picker_labels(args.group),
                "ports": [
                    # The name tells meshes the protocol.
                    {"name": "grpc-ext-proc", "port": args.picker_port, "target_port": EXT_PROC_PORT},
                ],
            },
            opts=own,
        )
        return service.metadata["name"]


def pool_spec(args: InferencePoolArgs, service: pulumi.Input[str]) -> dict[str, object]:
    """The spec of the InferencePool. While the picker does not answer, the Gateway chooses a leader by itself, which is
    what a Service does."""
    return {
        "selector": {"matchLabels": args.selector},
        "targetPorts": [{"number": args.port}],
        "endpointPickerRef": {"name": service, "port": {"number": args.picker_port}, "failureMode": "FailOpen"},
    }


def rules(group: str) -> list[k8s.rbac.v1.PolicyRuleArgsDict]:
    """What the picker watches: its own pool, the pods, and, where the cluster has them, priorities and rewrites of
    models."""
    watch = ["get", "list", "watch"]
    return [
        {"api_groups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"api_groups": [API_GROUP], "resources": ["inferencepools"], "resource_names": [group], "verbs": watch},
        {
            "api_groups": [EXTENSION_GROUP],
            "resources": ["inferenceobjectives", "inferencemodelrewrites"],
            "verbs": watch,
        },
    ]


def picker_config(picker: EndpointPickerArgs) -> str:
    """An EndpointPickerConfig: where the metrics are, and how leaders are compared
    (https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob/v1.5.0/site-src/guides/epp-configuration/config-text.md)."""
    metrics, weights = EngineMetrics(version=picker.engine_version), picker.weights
    engine = {
        "name": "vllm",
        "queuedRequestsSpec": metrics.waiting,
        "runningRequestsSpec": metrics.running,
        "kvUsageSpec": metrics.kv_cache_usage,
        # No scorer uses it, and an engine without LoRA does not have the metric, which the picker would report.
        "loraSpec": "",
        "cacheInfoSpec": "vllm:cache_config_info",
    }
    scorers = {
        "queue-scorer": weights.queue,
        "kv-cache-utilization-scorer": weights.kv_cache,
        "prefix-cache-scorer": weights.prefix,
    }
    counted = {name: weight for name, weight in scorers.items() if weight}
    config = {
        "apiVersion": f"{EXTENSION_GROUP}/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [
            *({"type": name} for name in counted),
            {"type": "metrics-data-source", "parameters": {"scheme": "http", "path": "/metrics"}},
            {"type": "core-metrics-extractor", "parameters": {"engineConfigs": [engine]}},
        ],
        "schedulingProfiles": [
            {
                "name": "default",
                "plugins": [{"pluginRef": name, "weight": weight} for name, weight in counted.items()],
            }
        ],
    }
    return json.dumps(config, indent=1)


def config_map_name(group: str, picker: EndpointPickerArgs) -> str:
    """Named by its content, so that another configuration starts another picker."""
    return name_of("epp", group, picker_config(picker))


def picker_arguments(group: str) -> list[str]:
    """Arguments of the picker, which has its namespace from a variable
    (https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob/v1.5.0/pkg/epp/server/options.go). Its
    metrics name models and count requests, so they need no key, for which the picker would ask the API server."""
    return [
        f"--pool-name={group}",
        f"--pool-group={API_GROUP}",
        f"--config-file={CONFIG_PATH}/{CONFIG_FILE}",
        f"--grpc-port={EXT_PROC_PORT}",
        f"--grpc-health-port={HEALTH_PORT}",
        f"--metrics-port={METRICS_PORT}",
        "--metrics-endpoint-auth=false",
        "--enable-pprof=false",
        "--tracing=false",
        "--zap-encoder=json",
    ]


def _pod_template(
    args: InferencePoolArgs,
    picker: EndpointPickerArgs,
    config: k8s.core.v1.ConfigMap,
    account: k8s.core.v1.ServiceAccount,
) -> k8s.core.v1.PodTemplateSpecArgsDict:
    size = {"cpu": str(picker.cpu), "memory": picker.memory}
    check: k8s.core.v1.ProbeArgsDict = {"grpc": {"port": HEALTH_PORT, "service": "inference-extension"}}
    container: k8s.core.v1.ContainerArgsDict = {
        "name": "epp",
        "image": picker.image,
        "args": picker_arguments(args.group),
        "env": [
            {"name": "NAMESPACE", "value_from": {"field_ref": {"field_path": "metadata.namespace"}}},
            {"name": "POD_NAME", "value_from": {"field_ref": {"field_path": "metadata.name"}}},
        ],
        "ports": [
            {"name": "grpc", "container_port": EXT_PROC_PORT},
            {"name": "grpc-health", "container_port": HEALTH_PORT},
            {"name": "metrics", "container_port": METRICS_PORT},
        ],
        "readiness_probe": {**check, "period_seconds": 5},
        "liveness_probe": {**check, "initial_delay_seconds": 5, "period_seconds": 10},
        "resources": {"limits": size, "requests": size},
        "volume_mounts": [{"name": "config", "mount_path": CONFIG_PATH, "read_only": True}],
        "security_context": CONTAINER_SECURITY,
        "termination_message_policy": "FallbackToLogsOnError",
    }
    return {
        "metadata": {
            "labels": {**picker_labels(args.group), **GENERAL_PURPOSE},
            **({"annotations": picker.annotations} if picker.annotations else {}),
        },
        "spec": {
            "service_account_name": account.metadata["name"],
            "automount_service_account_token": True,
            "enable_service_links": False,
            "termination_grace_period_seconds": GRACE_SECONDS,
            "security_context": POD_SECURITY,
            "containers": [container],
            "volumes": [{"name": "config", "config_map": {"name": config.metadata["name"]}}],
        },
    }
