"""The inference group: a LeaderWorkerSet whose groups of pods each form one vLLM engine over several machines.

Leader and worker templates come from one function and differ in their command, the leader's label, port and probes.
"""

import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.acs_pods import gpu_placement, network_environment
from components.crds import LeaderWorkerSet
from components.group_access import GroupAccess, secured
from components.lifecycle import (
    Role,
    grace,
    interruptible,
    pod_lifecycle,
    program,
    serve_arguments,
)
from components.monitoring.logs import labels as common_labels
from components.monitoring.logs import log_arguments, log_environment
from components.settings.base import quantity
from components.settings.deployment import Deployment
from components.settings.inference import InferenceSettings
from components.settings.model import ModelSettings
from components.settings.observability import ObservabilitySettings
from components.settings.scaling import Autoscaler, ManualScaling
from components.storage import ModelMount
from planner.catalogue import resource_name
from planner.loading import PROBE_PERIOD_SECONDS, LoadBudget
from planner.spec import ResolvedSpec

CONTAINER = "vllm"

WORKER_INDEX_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
"""Set on every pod by all versions of the controller. The variable LWS_WORKER_INDEX is not: the version in the ACS
App Marketplace (0.5) does not know it, and Kubernetes leaves an unknown $(VARIABLE) as it stands
(https://github.com/kubernetes-sigs/lws/blob/main/api/leaderworkerset/v1/leaderworkerset_types.go)."""

DELETE_SECONDS = 900
"""Time until a deleted group and its pods are gone, beyond the time that they are given to end; large processes on ACS
take minutes."""


@dataclass(frozen=True, kw_only=True)
class InferenceGroupArgs:
    """``plan`` gives the layout, the size of the pods and the time that loading may take."""

    namespace: str
    model: ModelSettings
    inference: InferenceSettings
    plan: ResolvedSpec
    mount: ModelMount
    access: GroupAccess = field(default_factory=GroupAccess)
    observability: ObservabilitySettings | None = None


def group_args(settings: Deployment, plan: ResolvedSpec, mount: ModelMount, access: GroupAccess) -> InferenceGroupArgs:
    """What the settings ask of the group."""
    return InferenceGroupArgs(
        namespace=settings.cluster.namespace,
        model=settings.model,
        inference=settings.inference,
        plan=plan,
        mount=mount,
        access=access,
        observability=settings.observability,
    )


class InferenceGroup(pulumi.ComponentResource):
    """The LeaderWorkerSet; created when all its groups answer."""

    name: pulumi.Output[str]
    leader_labels: Mapping[str, pulumi.Input[str]]
    """What selects the leaders, and only them."""
    template_digest: pulumi.Output[str]
    """Changes when all pods are made anew; not with the number of replicas."""

    def __init__(self, name: str, args: InferenceGroupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:inference:InferenceGroup", name, None, opts)
        group = self._leader_worker_set(args)
        self.template_digest = template_digest(args)
        self.name = group.metadata["name"]
        self.leader_labels = {"leaderworkerset.sigs.k8s.io/name": self.name, "role": "leader"}
        self.register_outputs({"name": self.name})

    def _leader_worker_set(self, args: InferenceGroupArgs) -> LeaderWorkerSet:
        inference = args.inference
        return LeaderWorkerSet(
            "group",
            metadata={
                "name": inference.name,
                "namespace": args.namespace,
                "annotations": _annotations(inference),
            },
            spec=group_spec(args),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[args.mount.ready, *self._program(args)],
                custom_timeouts=_timeouts(args),
                ignore_changes=autoscaled_fields(inference.scaling),
                hooks=self._announced(args),
            ),
        )

    def _announced(self, args: InferenceGroupArgs) -> pulumi.ResourceHookBinding:
        """Says how long an update will wait, and where to look meanwhile: the provider reports neither the group's pods
        nor their events."""
        hook = pulumi.ResourceHook(
            f"{self.pulumi_resource_name}-wait", lambda hooked: pulumi.log.info(waiting_text(args, hooked))
        )
        return pulumi.ResourceHookBinding(before_create=[hook], before_update=[hook])

    def _program(self, args: InferenceGroupArgs) -> list[pulumi.Resource]:
        if args.inference.lifecycle is None:
            return []
        return [program(args.namespace, pulumi.ResourceOptions(parent=self))]


def waiting_text(args: InferenceGroupArgs, hooked: pulumi.ResourceHookArgs) -> str:
    """One line for the beginning of the wait."""
    timeouts = _timeouts(args)
    longest = timeouts.create if hooked.old_inputs is None else timeouts.update
    return (
        f"waiting up to {longest} for the pods of {args.namespace}/{args.inference.name}; meanwhile, in another shell: "
        f"make verify STACK={pulumi.get_stack()}, or kubectl -n {args.namespace} get pods,events"
    )


def group_spec(args: InferenceGroupArgs) -> dict[str, Any]:
    """The spec of the LeaderWorkerSet."""
    rollout, lifecycle = args.inference.rollout, args.inference.lifecycle
    after_start = lifecycle is not None and lifecycle.group_restart == "afterStart"
    rolling_update = {"maxUnavailable": rollout.max_unavailable, "maxSurge": rollout.max_surge}
    if rollout.partition:
        rolling_update["partition"] = rollout.partition
    return {
        "replicas": args.plan.replicas.first,
        # LeaderReady would deadlock: a leader becomes ready only together with its workers.
        "startupPolicy": "LeaderCreated",
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": rolling_update,
        },
        "leaderWorkerTemplate": {
            "size": args.plan.layout.pods,
            # An engine over several pods does not survive the loss of one: start the whole group anew.
            "restartPolicy": "RecreateGroupAfterStart" if after_start else "RecreateGroupOnPodRestart",
            "leaderTemplate": pod_template("leader", args),
            "workerTemplate": pod_template("worker", args),
        },
    }


def template_digest(args: InferenceGroupArgs) -> pulumi.Output[str]:
    """Eight hexadecimal digits that stand for the templates of the pods."""
    template = pulumi.Output.json_dumps(group_spec(args)["leaderWorkerTemplate"], sort_keys=True)
    return template.apply(lambda text: hashlib.sha256(text.encode()).hexdigest()[:8])


def autoscaled_fields(scaling: ManualScaling | Autoscaler) -> list[str]:
    """What the program sets at the creation and never again, because an autoscaler does. Leaving it out instead would
    take the field from a live group, which would fall back to one replica: docs/scaling.md."""
    return [] if isinstance(scaling, ManualScaling) else ["spec.replicas"]


def _annotations(inference: InferenceSettings) -> dict[str, str]:
    scaling = inference.scaling
    manual = isinstance(scaling, ManualScaling)
    conditions = ready_conditions(inference.replicas if manual else None)
    take_over = {"pulumi.com/patchForce": "true"} if isinstance(scaling, ManualScaling) and scaling.take_over else {}
    return {"pulumi.com/waitFor": json.dumps(conditions), **take_over}


def ready_conditions(replicas: int | None) -> list[str]:
    """What ``pulumi.com/waitFor`` waits for. Controllers before 0.9 report no observed generation, so a condition can
    be stale right after an update; the count of ready groups then at least tells a scaling that is still under way.
    ``replicas`` is None where an autoscaler may change it in the meantime."""
    conditions = ["condition=Available"]
    if replicas:
        # The field is absent at 0.
        conditions.append(f"jsonpath={{.status.readyReplicas}}={replicas}")
    return conditions


def _timeouts(args: InferenceGroupArgs) -> pulumi.CustomTimeouts:
    """Far above Pulumi's 10 minutes: see ``planner/loading.py`` for the arithmetic."""
    return pulumi.CustomTimeouts(
        create=f"{math.ceil(args.plan.budget.create_seconds / 60)}m",
        update=f"{math.ceil(args.plan.update_seconds / 60)}m",
        delete=f"{math.ceil((DELETE_SECONDS + grace(args.inference)) / 60)}m",
    )


def pod_template(role: Role, args: InferenceGroupArgs) -> dict[str, Any]:
    """The pod template of the leader or of the workers."""
    inference, placement = args.inference, gpu_placement(args.inference)
    lifecycle = pod_lifecycle(role, inference, args.plan, served_name=args.model.served_name)
    labels = {**placement.labels, **args.mount.sidecar.labels}
    resources, shared_gib = container_resources(args), args.plan.pod.shared_memory_gib
    container = {
        "name": CONTAINER,
        "image": inference.engine.image,
        "command": command(role, args),
        "env": _environment(args),
        "resources": {"limits": resources, "requests": resources},
        "volumeMounts": [
            {"name": "llm-model", "mountPath": args.mount.model_path, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - in the pod
            *lifecycle.mounts,
        ],
    }
    if role == "leader":
        labels = {"role": "leader", **labels}
        container["ports"] = [{"name": "http", "containerPort": inference.engine.port}]
        container |= probes(args.plan.budget)
    container |= lifecycle.container
    if args.observability:
        labels = {**common_labels(inference.name, component=role), **labels}
    metadata: dict[str, Any] = {"labels": labels}
    if placement.annotations:
        metadata["annotations"] = placement.annotations
    template = {
        "metadata": metadata,
        "spec": {
            **({"nodeSelector": placement.node_selector} if placement.node_selector else {}),
            # A Service named "vllm" would otherwise set VLLM_PORT, which the engine takes for its own
            # (https://docs.vllm.ai/en/stable/configuration/env_vars.html).
            "enableServiceLinks": False,
            **lifecycle.spec,
            "volumes": [
                {
                    "name": "llm-model",
                    "persistentVolumeClaim": {"claimName": args.mount.claim_name, "readOnly": True},
                },
                {
                    "name": "shm",
                    "emptyDir": {"medium": "Memory", "sizeLimit": quantity(shared_gib)},
                },
                *lifecycle.volumes,
            ],
            "containers": [container],
        },
    }
    return secured(template, args.access, inference, serves=role == "leader")


def container_resources(args: InferenceGroupArgs) -> dict[str, str]:
    """Requests and limits of the engine's container. ACS normalises GPU pods to requests = limits; saying so keeps what
    is billed visible here. It bills the sum over all containers, so a sidecar's share is taken off."""
    gpu, plan, sidecar = args.inference.gpu, args.plan, args.mount.sidecar
    return {
        gpu.resource or resource_name(gpu.series): str(plan.layout.cards),
        "cpu": str(plan.pod.cpu - sidecar.cpu),
        "memory": quantity(plan.pod.memory_gib - sidecar.memory_mib / 1024),
    }


def probes(budget: LoadBudget) -> dict[str, Any]:
    """The leader's probes, on vLLM's ``/health``, which answers once the model is loaded on all pods.

    The startup probe grants ``budget.startup_seconds`` (arithmetic in ``planner/loading.py``); until it succeeds the
    other two are not run. Readiness takes a leader out of the Service after 30 s without an answer. Liveness waits
    three minutes, because a restart of one container rebuilds the whole group and loads the model again. Workers have
    none: they serve no HTTP, and the end of their process is the end of the container.
    """
    check = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 10}
    return {
        "startupProbe": check
        | {"periodSeconds": PROBE_PERIOD_SECONDS, "failureThreshold": budget.startup_failure_threshold},
        "readinessProbe": check | {"periodSeconds": 10, "failureThreshold": 3},
        "livenessProbe": check | {"periodSeconds": 30, "failureThreshold": 6},
    }


def _environment(args: InferenceGroupArgs) -> list[dict[str, Any]]:
    environment: list[dict[str, Any]] = [
        *({"name": name, "value": value} for name, value in network_environment(args.inference).items()),
        {"name": "VLLM_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    if args.inference.engine.backend == "mp":
        index = {"fieldRef": {"fieldPath": f"metadata.labels['{WORKER_INDEX_LABEL}']"}}
        environment.append({"name": "NODE_RANK", "valueFrom": index})
    if args.observability:
        given = {variable["name"] for variable in environment}
        logs = log_environment(args.observability.logs)
        environment += [{"name": name, "value": value} for name, value in logs.items() if name not in given]
    return environment


def command(role: Role, args: InferenceGroupArgs) -> list[str]:
    """The container's command; Kubernetes puts in the variables that the LeaderWorkerSet controller sets.

    A group of one pod needs neither Ray nor rendezvous, and its worker template makes no pod.
    """
    serve = _serve(args)
    if args.plan.layout.pods == 1:
        return serve
    if args.inference.engine.backend == "mp":
        return [*serve, *_mp_arguments(role)]
    return ["sh", "-c", _ray_script(role, args, serve)]


def _serve(args: InferenceGroupArgs) -> list[str]:
    engine, plan = args.inference.engine, args.plan
    arguments = [
        "vllm",
        "serve",
        f"{args.mount.model_path}/",
        "--port",
        str(engine.port),
        *(["--trust-remote-code"] if engine.trust_remote_code else []),
        "--served-model-name",
        args.model.served_name,
        *(["--max-model-len", str(plan.engine.max_model_len)] if plan.engine.max_model_len else []),
        "--gpu-memory-utilization",
        str(engine.gpu_memory_utilization),
        "--tensor-parallel-size",
        str(plan.layout.tensor),
        "--pipeline-parallel-size",
        str(plan.layout.pipeline),
        *(["--enforce-eager"] if engine.enforce_eager else []),
        *_log_arguments(args),
        *serve_arguments(args.inference),
        *engine.extra_args,
    ]
    if plan.layout.pods > 1:
        # Explicit, because vLLM's own guess depends on its version and on what the image contains.
        arguments += ["--distributed-executor-backend", engine.backend]
    return arguments


def _log_arguments(args: InferenceGroupArgs) -> list[str]:
    engine = args.inference.engine
    if args.observability is None:
        return []
    return log_arguments(args.observability.logs, image=engine.image, extra_args=engine.extra_args)


def _mp_arguments(role: Role) -> Sequence[str]:
    """vLLM's own multi-node backend (https://docs.vllm.ai/en/latest/deployment/frameworks/lws.html)."""
    return [
        "--nnodes=$(LWS_GROUP_SIZE)",
        "--node-rank=$(NODE_RANK)",
        "--master-addr=$(LWS_LEADER_ADDRESS)",
        *(["--headless"] if role == "worker" else []),
    ]


def _ray_script(role: Role, args: InferenceGroupArgs, serve: Sequence[str]) -> str:
    """Start of Ray by the image's script, which waits for the other pods; its own 300 s are less than the difference
    between two pulls of an image of 10 GiB."""
    script = args.inference.engine.ray_script
    timeout = f"--ray_init_timeout={args.plan.budget.ray_init_seconds}"
    if role == "worker":
        # exec, so that the end of Ray is the end of the container, which restarts the group.
        return interruptible(args.inference, f"exec {script} worker --ray_address=$(LWS_LEADER_ADDRESS) {timeout}")
    # && and not ;: a Ray that did not start must not be hidden by a vLLM that starts with too few GPUs.
    start = interruptible(args.inference, f"{script} leader --ray_cluster_size=$(LWS_GROUP_SIZE) {timeout}")
    return f"{start} && exec {shlex.join(serve)}"
