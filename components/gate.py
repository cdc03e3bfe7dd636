"""Asks the first new group of an update, before the others are updated: a Job with the program ``gate``, and the
ConfigMap with the records of what was accepted.

The Job may read and change the one LeaderWorkerSet, read its StatefulSet and the pods of the namespace, write the
records, and write events (docs/adr/0007-a-gate-moves-the-partition.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.apiserver import CREDENTIALS
from deepseek_acs.gate.record import accepted

from .acs_pods import GENERAL_PURPOSE
from .group_access import API_KEY_VARIABLE
from .labels import CONTAINER
from .names import name_of
from .network_policy import VERIFICATION
from .python_job import (
    continued,
    pod_with_token,
    program_config_map,
    program_container,
    program_job,
    secret_variable,
)
from .rights import grant

PACKAGE = "gate"
PAPER, PAPER_FILE = "/etc/gate", "paper.json"
SIZE: Mapping[str, str] = {"cpu": "1", "memory": "1Gi"}

KILLED_EXIT_CODES = (137, 143)
"""Of a program that was killed or terminated; another pod continues
(https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy)."""

RECORD_FIELDS = {
    "templateDigest": "template_digest",
    "imageDigest": "image_digest",
    "acceptedAt": "accepted_at",
    "questions": "asked",
    "answered": "passed",
    "timeToFirstTokenSeconds": "first_token_seconds",
    "tokensPerSecond": "tokens_per_second",
}
"""Fields of the stack's output, and those of the program's record."""


@dataclass(frozen=True, kw_only=True)
class QuestionArgs:
    """A prompt, and what a right answer contains."""

    ask: str
    holds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GateArgs:
    """``group`` is the LeaderWorkerSet whose leaders serve ``model`` at ``port``, and ``template_digest`` that of the
    template that is to be accepted. With ``baseline``, the LeaderWorkerSet is a second one, which is compared with the
    record of that one. ``long_tokens`` is the length of the long prompt, 0 for none. ``ready_seconds`` is what the
    first new group may take, and ``deadline_seconds`` what all may take together.
    ``image`` is an image with Python 3.11."""

    namespace: pulumi.Input[str]
    store: pulumi.Input[str]
    group: str
    model: str
    port: int
    template_digest: pulumi.Input[str]
    baseline: str | None = None
    questions: tuple[QuestionArgs, ...]
    max_tokens: int
    at_least: float
    worse_by: float
    long_tokens: int
    requests: int
    concurrency: int
    output_tokens: int
    slower_by: float
    returns: bool
    ready_seconds: int
    deadline_seconds: int
    silence_seconds: int
    long_seconds: int
    api_key_secret: pulumi.Input[str] | None = None
    image: str
    annotations: Mapping[str, str] = field(default_factory=dict)


def store_name(base_name: str) -> str:
    """Name of the ConfigMap with the records of all revisions."""
    return f"{base_name}-known-good"


def gate_labels(group: str) -> dict[str, str]:
    """Of the pod, which the network policy lets ask the leaders, and of all objects."""
    return {"app.kubernetes.io/name": PACKAGE, "app.kubernetes.io/instance": group, **VERIFICATION}


class KnownGood(pulumi.ComponentResource):
    """The ConfigMap with the records, which the gates of all revisions write."""

    name: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        base_name: str,
        namespace: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("deepseek:verification:KnownGood", name, None, opts)
        store = k8s.core.v1.ConfigMap(
            f"{name}-records",
            metadata={"name": store_name(base_name), "namespace": namespace, "labels": gate_labels(base_name)},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.name = store.metadata["name"]
        self.register_outputs({"name": self.name})


class Gate(pulumi.ComponentResource):
    """The Job of one LeaderWorkerSet, its rights, and what it asks. ``known_good`` is the accepted record."""

    known_good: pulumi.Output[Mapping[str, Any] | None]

    def __init__(self, name: str, args: GateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:verification:Gate", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        labels = gate_labels(args.group)
        metadata: k8s.meta.v1.ObjectMetaArgsDict = {
            "name": f"{args.group}-{PACKAGE}",
            "namespace": args.namespace,
            "labels": labels,
        }
        account = k8s.core.v1.ServiceAccount(
            f"{name}-account", metadata=metadata, automount_service_account_token=False, opts=own
        )
        allowed = grant(f"{name}-role", f"{name}-role-binding", account, rules(args), metadata=metadata, opts=own)
        zipped = program_config_map(PACKAGE, namespace=args.namespace, labels=VERIFICATION, parent=self)
        paper = _paper(name, args, own)
        job = program_job(
            f"{name}-job",
            kind=PACKAGE,
            # It waits for more groups as well.
            content=[name, args.template_digest, args.deadline_seconds],
            namespace=args.namespace,
            labels=labels,
            template={
                "metadata": {
                    "labels": {**labels, **GENERAL_PURPOSE},
                    **({"annotations": args.annotations} if args.annotations else {}),
                },
                "spec": _pod(args, zipped, account, paper),
            },
            deadline_seconds=args.deadline_seconds,
            failure_rules=continued(PACKAGE, KILLED_EXIT_CODES),
            opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=[allowed])),
        )
        # Known only when the Job has written it.
        place = pulumi.Output.all(args.namespace, args.store, job.id).apply(lambda known: f"{known[0]}/{known[1]}")
        records = k8s.core.v1.ConfigMap.get(f"{name}-record", place, own)
        self.known_good = records.data.apply(lambda data: record_output(data, args.group))
        self.register_outputs({"job": job.metadata["name"], "knownGood": self.known_good})


def record_output(data: Mapping[str, str] | None, group: str) -> Mapping[str, Any] | None:
    """The accepted record without the template; None if there is none."""
    record = accepted(data or {}, group)
    return None if record is None else {name: getattr(record, field) for name, field in RECORD_FIELDS.items()}


def rules(args: GateArgs) -> list[k8s.rbac.v1.PolicyRuleArgsDict]:
    """A rule for ``list`` and ``create`` cannot name objects
    (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources)."""
    return [
        {
            "api_groups": ["leaderworkerset.x-k8s.io"],
            "resources": ["leaderworkersets"],
            "resource_names": [args.group],
            "verbs": ["get", "patch"],
        },
        {"api_groups": ["apps"], "resources": ["statefulsets"], "resource_names": [args.group], "verbs": ["get"]},
        {"api_groups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"api_groups": [""], "resources": ["configmaps"], "resource_names": [args.store], "verbs": ["get", "patch"]},
        {"api_groups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    ]


def _paper(name: str, args: GateArgs, own: pulumi.ResourceOptions) -> k8s.core.v1.ConfigMap:
    """What is asked, named by its content: other questions are another Job."""
    content = {
        "questions": [{"ask": one.ask, "holds": list(one.holds)} for one in args.questions],
        "max_tokens": args.max_tokens,
        "long_tokens": args.long_tokens,
        "requests": args.requests,
        "concurrency": args.concurrency,
        "output_tokens": args.output_tokens,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1)
    return k8s.core.v1.ConfigMap(
        f"{name}-paper",
        metadata={"name": name_of("gate-paper", name, text), "namespace": args.namespace, "labels": VERIFICATION},
        data={PAPER_FILE: text},
        immutable=True,
        opts=own,
    )


def _pod(
    args: GateArgs,
    zipped: k8s.core.v1.ConfigMap,
    account: k8s.core.v1.ServiceAccount,
    paper: k8s.core.v1.ConfigMap,
) -> k8s.core.v1.PodSpecArgsDict:
    container = program_container(
        PACKAGE,
        image=args.image,
        arguments=_arguments(args),
        size=SIZE,
        env=secret_variable(API_KEY_VARIABLE, args.api_key_secret, API_KEY_VARIABLE),
        mounts=[{"name": "paper", "mount_path": PAPER, "read_only": True}],
    )
    volume: k8s.core.v1.VolumeArgsDict = {"name": "paper", "config_map": {"name": paper.metadata["name"]}}
    return {**pod_with_token(container, zipped, account, [volume]), "restart_policy": "Never"}


def _arguments(args: GateArgs) -> list[pulumi.Input[str]]:
    return [
        pulumi.Output.format("--namespace={0}", args.namespace),
        f"--group={args.group}",
        f"--port={args.port}",
        f"--container={CONTAINER}",
        f"--model={args.model}",
        pulumi.Output.format("--digest={0}", args.template_digest),
        pulumi.Output.format("--store={0}", args.store),
        f"--paper={PAPER}/{PAPER_FILE}",
        *([] if args.baseline is None else [f"--baseline={args.baseline}"]),
        *(["--return"] if args.returns else []),
        f"--at-least={args.at_least:g}",
        f"--worse-by={args.worse_by:g}",
        f"--slower-by={args.slower_by:g}",
        f"--ready-seconds={args.ready_seconds}",
        f"--silence-seconds={args.silence_seconds}",
        f"--long-seconds={args.long_seconds}",
        f"--credentials={CREDENTIALS}",
    ]
