"""The inference group: a LeaderWorkerSet in which each group of pods forms one vLLM engine on several machines.

Leader and worker templates come from one function and differ in their command, the leader's label, port and probes.
"""

import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from deepseek_acs.planner.findings import Finding, report
from deepseek_acs.planner.loading import POD_START_SECONDS, PROBE_PERIOD_SECONDS, failure_threshold
from deepseek_acs.settings.base import quantity

from .compile_cache import compile_cache_objects, with_compile_cache
from .crds import LeaderWorkerSet
from .expansion import interruptible, literal
from .group_access import with_access
from .group_args import InferenceGroupArgs
from .labels import CONTAINER, WORKER_INDEX_LABEL, common_labels
from .lifecycle import Role, engineprobe_config_map, pod_lifecycle
from .names import json_text
from .preflight import preflight_config_map, with_preflight
from .request_filter import ARGUMENTS as FILTER_ARGUMENTS
from .request_filter import request_filter_config_map

DELETE_SECONDS = 900
"""Time until a deleted group and its pods are gone, in addition to their grace period; large processes on ACS take
minutes."""


class InferenceGroup(pulumi.ComponentResource):
    """The LeaderWorkerSet. Its creation is complete when all groups answer."""

    name: pulumi.Output[str]
    leader_labels: Mapping[str, pulumi.Input[str]]
    """Selector of the leaders only."""
    template_digest: pulumi.Output[str]
    """Changes whenever all pods are recreated, but not with the number of replicas."""

    def __init__(self, name: str, args: InferenceGroupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:inference:InferenceGroup", name, None, opts)
        group = self._leader_worker_set(name, args)
        self.template_digest = template_digest(args)
        self.name = group.metadata["name"]
        self.leader_labels = {"leaderworkerset.sigs.k8s.io/name": self.name, "role": "leader"}
        self.register_outputs({"name": self.name, "templateDigest": self.template_digest})

    def _leader_worker_set(self, name: str, args: InferenceGroupArgs) -> LeaderWorkerSet:
        own = pulumi.ResourceOptions(parent=self)
        needed: list[pulumi.Resource] = []
        if args.request_seconds is not None:
            needed.append(engineprobe_config_map(f"{name}-engineprobe", args, own))
        if args.preflight is not None:
            needed.append(
                preflight_config_map(f"{name}-preflight", group=args.name, namespace=args.namespace, opts=own)
            )
        if args.request_filter is not None:
            needed.append(
                request_filter_config_map(
                    f"{name}-requestfilter", args.request_filter, group=args.name, namespace=args.namespace, opts=own
                )
            )
        if args.compile_cache is not None:
            needed += compile_cache_objects(
                f"{name}-compilecache", args.compile_cache, group=args.name, namespace=args.namespace, opts=own
            )
        return LeaderWorkerSet(
            f"{name}-group",
            metadata={"name": args.name, "namespace": args.namespace, "annotations": _annotations(args)},
            spec=group_spec(args),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=needed,
                custom_timeouts=_timeouts(args),
                # Set only at creation, because an autoscaler changes it later. Without a value, the field would be
                # removed from a live group, which would fall back to one replica: docs/scaling.md.
                ignore_changes=["spec.replicas"] if args.autoscaled else [],
                hooks=self._announced(args),
            ),
        )

    def _announced(self, args: InferenceGroupArgs) -> pulumi.ResourceHookBinding:
        """Logs how long an update will wait, and how to follow it: the provider reports neither the group's pods nor
        their events."""
        hook = pulumi.ResourceHook(
            f"{self.pulumi_resource_name}-wait", lambda hooked: pulumi.log.info(waiting_text(args, hooked))
        )
        if not args.has_requests_of_route:
            return pulumi.ResourceHookBinding(before_create=[hook], before_update=[hook])
        refuse = pulumi.ResourceHook(
            f"{self.pulumi_resource_name}-template",
            lambda hooked: refuse_other_template(args, hooked),
            pulumi.ResourceHookOptions(on_dry_run=True),
        )
        return pulumi.ResourceHookBinding(before_create=[hook], before_update=[refuse, hook])


def refuse_other_template(args: InferenceGroupArgs, hooked: pulumi.ResourceHookArgs) -> None:
    """Raises RunError for another pod template than before."""
    before, after = (
        ((inputs or {}).get("spec") or {}).get("leaderWorkerTemplate")
        for inputs in (hooked.old_inputs, hooked.new_inputs)
    )
    if before == after:
        return
    found = Finding(
        path="deployment.update",
        problem=f"the pods of {args.name} would change while the route sends requests to them: they load the model "
        "again, and these requests fail",
        fix="write another deployment.update.revision, whose groups start next to these; or weight: 0, and change them "
        "then",
    )
    raise pulumi.RunError(report([found], where=f"Pulumi.{pulumi.get_stack()}.yaml"))


def waiting_text(args: InferenceGroupArgs, hooked: pulumi.ResourceHookArgs) -> str:
    """One line, logged when the wait starts."""
    timeouts = _timeouts(args)
    longest = timeouts.create if hooked.old_inputs is None else timeouts.update
    namespace = (hooked.new_inputs or {}).get("metadata", {}).get("namespace", "")
    pods = f"the pods of {namespace}/{args.name}"
    commands = [*([args.check_command] if args.check_command else []), f"kubectl -n {namespace} get pods,events"]
    waits = f"the gate waits for {pods}" if args.gated else f"waiting up to {longest} for {pods}"
    return f"{waits}; to follow it, in another shell: {', or '.join(commands)}"


def group_spec(args: InferenceGroupArgs) -> dict[str, Any]:
    """The spec of the LeaderWorkerSet."""
    rolling_update = {"maxUnavailable": args.max_unavailable, "maxSurge": args.max_surge}
    if args.partition:
        rolling_update["partition"] = args.partition
    return {
        "replicas": args.replicas,
        # LeaderReady would deadlock: a leader becomes ready only together with its workers.
        "startupPolicy": "LeaderCreated",
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": rolling_update,
        },
        "leaderWorkerTemplate": {
            "size": args.pods,
            # An engine on several pods does not survive the loss of one pod: recreate the whole group.
            "restartPolicy": "RecreateGroupAfterStart" if args.restart_after_start else "RecreateGroupOnPodRestart",
            "leaderTemplate": pod_template("leader", args),
            "workerTemplate": pod_template("worker", args),
        },
    }


def template_digest(args: InferenceGroupArgs) -> pulumi.Output[str]:
    """Eight hexadecimal digits: a hash of the pod templates."""
    template = json_text(group_spec(args)["leaderWorkerTemplate"], sort_keys=True)
    return template.apply(lambda text: hashlib.sha256(text.encode()).hexdigest()[:8])


def _annotations(args: InferenceGroupArgs) -> dict[str, str]:
    conditions = ready_conditions(None if args.autoscaled else args.replicas)
    awaited = {"pulumi.com/skipAwait": "true"} if args.gated else {"pulumi.com/waitFor": json.dumps(conditions)}
    take_over = {"pulumi.com/patchForce": "true"} if args.take_over else {}
    return {**awaited, **take_over}


def ready_conditions(replicas: int | None) -> list[str]:
    """What ``pulumi.com/waitFor`` waits for. Controllers before 0.9 report no observed generation, so a condition can
    be stale right after an update. The number of ready groups at least shows that scaling is still in progress.
    ``replicas`` is None where an autoscaler may change it in the meantime."""
    conditions = ["condition=Available"]
    if replicas:
        # The field is absent at 0.
        conditions.append(f"jsonpath={{.status.readyReplicas}}={replicas}")
    return conditions


def _timeouts(args: InferenceGroupArgs) -> pulumi.CustomTimeouts:
    """Far above Pulumi's 10 minutes: see ``deepseek_acs/planner/loading.py`` for the arithmetic."""
    return pulumi.CustomTimeouts(
        create=f"{math.ceil(args.create_seconds / 60)}m",
        update=f"{math.ceil(args.update_seconds / 60)}m",
        delete=f"{math.ceil((DELETE_SECONDS + args.grace_seconds) / 60)}m",
    )


def pod_template(role: Role, args: InferenceGroupArgs) -> dict[str, Any]:
    """The pod template of the leader or of the workers."""
    lifecycle = pod_lifecycle(role, args)
    labels, resources = dict(args.labels), _resources(args)
    container = {
        "name": CONTAINER,
        "image": args.image,
        "command": command(role, args),
        "env": _environment(args),
        "resources": {"limits": resources, "requests": resources},
        "volumeMounts": [
            {"name": "llm-model", "mountPath": args.model_path, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - in the pod
            *lifecycle.mounts,
        ],
    }
    if role == "leader":
        labels = {"role": "leader", **labels}
        container["ports"] = [{"name": "http", "containerPort": args.port}]
        container |= probes(args.startup_seconds)
    container |= lifecycle.container
    if args.has_common_labels:
        labels = {**common_labels(args.name, component=role), **labels}
    template = {
        "metadata": {"labels": labels, **({"annotations": dict(args.annotations)} if args.annotations else {})},
        "spec": {
            **({"nodeSelector": dict(args.node_selector)} if args.node_selector else {}),
            # A Service named "vllm" would otherwise set VLLM_PORT, which the engine reads as its own
            # (https://docs.vllm.ai/en/stable/configuration/env_vars.html).
            "enableServiceLinks": False,
            **lifecycle.spec,
            "volumes": [
                {
                    "name": "llm-model",
                    "persistentVolumeClaim": {"claimName": args.claim_name, "readOnly": True},
                },
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(args.shared_memory_gib)}},
                *lifecycle.volumes,
            ],
            "containers": [container],
        },
    }
    if args.preflight is not None:
        template = with_preflight(template, args.preflight, group=args.name, model_path=args.model_path)
    template = with_access(template, args, serves=role == "leader")
    if args.compile_cache is not None:
        template = with_compile_cache(template, args, args.compile_cache, engine=command(role, args))
    return template


def _resources(args: InferenceGroupArgs) -> dict[str, str]:
    """Requests and limits of the engine's container. ACS normalises GPU pods to requests = limits; writing both shows
    here what is billed."""
    return {args.gpu_resource: str(args.gpus), "cpu": str(args.cpu), "memory": quantity(args.memory_gib)}


def probes(startup_seconds: int) -> dict[str, Any]:
    """The leader's probes, on vLLM's ``/health``, which answers once the model is loaded on all pods.

    The startup probe grants ``startup_seconds`` (arithmetic in ``deepseek_acs/planner/loading.py``); until it succeeds
    the other two are not run. Readiness takes a leader out of the Service after 30 s without an answer. Liveness waits
    three minutes, because a restart of one container recreates the whole group and loads the model again. Workers have
    no probes: they serve no HTTP, and when their process exits, the container terminates."""
    check = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 10}
    return {
        "startupProbe": check
        | {"periodSeconds": PROBE_PERIOD_SECONDS, "failureThreshold": failure_threshold(startup_seconds)},
        "readinessProbe": check | {"periodSeconds": 10, "failureThreshold": 3},
        "livenessProbe": check | {"periodSeconds": 30, "failureThreshold": 6},
    }


def _environment(args: InferenceGroupArgs) -> list[dict[str, Any]]:
    environment: list[dict[str, Any]] = [
        *({"name": name, "value": literal(value)} for name, value in args.environment.items()),
        *(_from_secret(name, *place) for name, place in args.secret_environment.items()),
        {"name": "VLLM_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    if args.backend == "mp":
        index = {"fieldRef": {"fieldPath": f"metadata.labels['{WORKER_INDEX_LABEL}']"}}
        environment.append({"name": "NODE_RANK", "valueFrom": index})
    given = args.environment.keys() | args.secret_environment.keys()
    defaults = {name: value for name, value in args.default_environment.items() if name not in given}
    return [*environment, *({"name": name, "value": value} for name, value in defaults.items())]


def _from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def command(role: Role, args: InferenceGroupArgs) -> list[str]:
    """The container's command; Kubernetes expands the variables that the LeaderWorkerSet controller sets.

    A group of one pod needs neither Ray nor rendezvous, and its worker template creates no pod.
    """
    serve = _serve(role, args)
    if args.pods == 1:
        return serve
    if args.backend == "mp":
        return [*serve, *_mp_arguments(role)]
    return ["sh", "-c", _ray_script(role, args, serve)]


def _serve(role: Role, args: InferenceGroupArgs) -> list[str]:
    arguments = [
        "vllm",
        "serve",
        f"{args.model_path}/",
        "--port",
        str(args.port),
        *(["--trust-remote-code"] if args.trust_remote_code else []),
        "--served-model-name",
        args.served_name,
        *(["--max-model-len", str(args.max_model_len)] if args.max_model_len else []),
        "--gpu-memory-utilization",
        str(args.gpu_memory_utilization),
        "--tensor-parallel-size",
        str(args.tensor),
        "--pipeline-parallel-size",
        str(args.pipeline),
        *(["--enforce-eager"] if args.enforce_eager else []),
        *args.arguments,
    ]
    if args.pods > 1:
        # Explicit, because vLLM's default depends on its version and on the packages in the image.
        arguments += ["--distributed-executor-backend", args.backend]
    if role == "leader" and args.request_filter is not None:
        arguments += FILTER_ARGUMENTS
    return [literal(argument) for argument in arguments]


def _mp_arguments(role: Role) -> Sequence[str]:
    """vLLM's own multi-node backend (https://docs.vllm.ai/en/latest/deployment/frameworks/lws.html)."""
    return [
        "--nnodes=$(LWS_GROUP_SIZE)",
        "--node-rank=$(NODE_RANK)",
        "--master-addr=$(LWS_LEADER_ADDRESS)",
        *(["--headless"] if role == "worker" else []),
    ]


def _ray_script(role: Role, args: InferenceGroupArgs, serve: Sequence[str]) -> str:
    """Starts Ray with the image's script, which waits for the other pods. Its default of 300 s is less than the
    difference between two pulls of an image of 10 GiB, so it waits as long as a pod may take to start its container."""
    script = shlex.quote(literal(args.ray_script))
    timeout, drains = f"--ray_init_timeout={POD_START_SECONDS}", args.request_seconds is not None
    if role == "worker":
        # exec, so that the container terminates with Ray, which restarts the group.
        start = f"exec {script} worker --ray_address=$(LWS_LEADER_ADDRESS) {timeout}"
        return interruptible(start) if drains else start
    # && and not ;: if Ray does not start, vLLM must not start with too few GPUs and hide that.
    start = f"{script} leader --ray_cluster_size=$(LWS_GROUP_SIZE) {timeout}"
    return f"{interruptible(start) if drains else start} && exec {shlex.join(serve)}"
