"""The inference group: a LeaderWorkerSet whose groups of pods each form one vLLM engine over several machines.

Leader and worker templates come from one function and differ in their command, the leader's label, port and probes.
"""

import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi

from components.acs_pods import gpu_placement, network_environment
from components.crds import LeaderWorkerSet
from components.settings.base import quantity
from components.settings.inference import InferenceSettings
from components.settings.model import ModelSettings
from components.storage import ModelMount
from planner.loading import PROBE_PERIOD_SECONDS, LoadBudget
from planner.plan import Plan
from planner.pods import resource_name

Role = Literal["leader", "worker"]

CONTAINER = "vllm"

WORKER_INDEX_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
"""Set on every pod by all versions of the controller. The variable LWS_WORKER_INDEX is not: the version in the ACS
App Marketplace (0.5) does not know it, and Kubernetes leaves an unknown $(VARIABLE) as it stands."""

DELETE_SECONDS = 900
"""Time until a deleted group and its pods are gone; large processes on ACS take minutes to end."""


@dataclass(frozen=True, kw_only=True)
class InferenceGroupArgs:
    """``plan`` gives the layout, the size of the pods and the time that loading may take."""

    namespace: str
    model: ModelSettings
    inference: InferenceSettings
    plan: Plan
    mount: ModelMount


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
        inference, budget = args.inference, args.plan.budget
        return LeaderWorkerSet(
            "group",
            metadata={
                "name": inference.name,
                "namespace": args.namespace,
                "annotations": {"pulumi.com/waitFor": json.dumps(ready_conditions(inference.replicas))},
            },
            spec=group_spec(args),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[args.mount.ready],
                custom_timeouts=_timeouts(inference, budget),
            ),
        )


def group_spec(args: InferenceGroupArgs) -> dict[str, Any]:
    """The spec of the LeaderWorkerSet."""
    rollout = args.inference.rollout
    return {
        "replicas": args.inference.replicas,
        # LeaderReady would deadlock: a leader becomes ready only together with its workers.
        "startupPolicy": "LeaderCreated",
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {"maxUnavailable": rollout.max_unavailable, "maxSurge": rollout.max_surge},
        },
        "leaderWorkerTemplate": {
            "size": args.plan.group_size,
            # An engine over several pods does not survive the loss of one: start the whole group anew.
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": pod_template("leader", args),
            "workerTemplate": pod_template("worker", args),
        },
    }


def template_digest(args: InferenceGroupArgs) -> pulumi.Output[str]:
    """Eight hexadecimal digits that stand for the templates of the pods."""
    template = pulumi.Output.json_dumps(group_spec(args)["leaderWorkerTemplate"], sort_keys=True)
    return template.apply(lambda text: hashlib.sha256(text.encode()).hexdigest()[:8])


def ready_conditions(replicas: int) -> list[str]:
    """What ``pulumi.com/waitFor`` waits for. Controllers before 0.9 report no observed generation, so a condition can
    be stale right after an update; the count of ready groups then at least tells a scaling that is still under way."""
    conditions = ["condition=Available"]
    if replicas:
        # The field is absent at 0.
        conditions.append(f"jsonpath={{.status.readyReplicas}}={replicas}")
    return conditions


def _timeouts(inference: InferenceSettings, budget: LoadBudget) -> pulumi.CustomTimeouts:
    """Far above Pulumi's 10 minutes: see ``planner/loading.py`` for the arithmetic."""
    groups_at_once = inference.rollout.max_unavailable + inference.rollout.max_surge
    update_seconds = budget.update_seconds(replicas=inference.replicas, groups_at_once=groups_at_once)
    return pulumi.CustomTimeouts(
        create=f"{math.ceil(budget.create_seconds / 60)}m",
        update=f"{math.ceil(update_seconds / 60)}m",
        delete=f"{DELETE_SECONDS // 60}m",
    )


def pod_template(role: Role, args: InferenceGroupArgs) -> dict[str, Any]:
    """The pod template of the leader or of the workers."""
    inference, placement = args.inference, gpu_placement(args.inference)
    labels = {**placement.labels, **args.mount.sidecar.labels}
    resources = container_resources(args)
    container = {
        "name": CONTAINER,
        "image": inference.engine.image,
        "command": command(role, args),
        "env": _environment(args),
        "resources": {"limits": resources, "requests": resources},
        "volumeMounts": [
            {"name": "llm-model", "mountPath": args.mount.model_path, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - in the pod
        ],
    }
    if role == "leader":
        labels = {"role": "leader", **labels}
        container["ports"] = [{"name": "http", "containerPort": inference.engine.port}]
        container |= probes(args.plan.budget)
    metadata: dict[str, Any] = {"labels": labels}
    if placement.annotations:
        metadata["annotations"] = placement.annotations
    return {
        "metadata": metadata,
        "spec": {
            **({"nodeSelector": placement.node_selector} if placement.node_selector else {}),
            # A Service named "vllm" would otherwise set VLLM_PORT, which the engine takes for its own
            # (https://docs.vllm.ai/en/stable/configuration/env_vars.html).
            "enableServiceLinks": False,
            "volumes": [
                {
                    "name": "llm-model",
                    "persistentVolumeClaim": {"claimName": args.mount.claim_name, "readOnly": True},
                },
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(args.plan.shared_memory_gib)}},
            ],
            "containers": [container],
        },
    }


def container_resources(args: InferenceGroupArgs) -> dict[str, str]:
    """Requests and limits of the engine's container. ACS normalises GPU pods to requests = limits; saying so keeps what
    is billed visible here. It bills the sum over all containers, so a sidecar's share is taken off."""
    gpu, plan, sidecar = args.inference.gpu, args.plan, args.mount.sidecar
    return {
        gpu.resource or resource_name(gpu.series): str(plan.layout.cards),
        "cpu": str(plan.cpu - sidecar.cpu),
        "memory": quantity(plan.memory_gib - sidecar.memory_mib / 1024),
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
    return environment


def command(role: Role, args: InferenceGroupArgs) -> list[str]:
    """The container's command; Kubernetes puts in the variables that the LeaderWorkerSet controller sets.

    A group of one pod needs neither Ray nor rendezvous, and its worker template makes no pod.
    """
    serve = _serve(args)
    if args.plan.group_size == 1:
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
        *(["--max-model-len", str(plan.max_model_len)] if plan.max_model_len else []),
        "--gpu-memory-utilization",
        str(engine.gpu_memory_utilization),
        "--tensor-parallel-size",
        str(plan.layout.tensor),
        "--pipeline-parallel-size",
        str(plan.layout.pipeline),
        *(["--enforce-eager"] if engine.enforce_eager else []),
        *engine.extra_args,
    ]
    if plan.group_size > 1:
        # Explicit, because vLLM's own guess depends on its version and on what the image contains.
        arguments += ["--distributed-executor-backend", engine.backend]
    return arguments


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
        return f"exec {script} worker --ray_address=$(LWS_LEADER_ADDRESS) {timeout}"
    # && and not ;: a Ray that did not start must not be hidden by a vLLM that starts with too few GPUs.
    return f"{script} leader --ray_cluster_size=$(LWS_GROUP_SIZE) {timeout} && exec {shlex.join(serve)}"
