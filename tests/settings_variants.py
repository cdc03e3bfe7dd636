"""For every setting of the schema, one legal other value: a stack's settings with and without it.

The settings are read from the classes that the schema is generated from. A value follows from the field's type where
any value of this type is legal, and is written down where not. A setting without a value fails the tests that ask.
"""

import copy
import json
import runpy
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import trustme
from google.protobuf import json_format
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components.changes import group_update
from deepseek_acs.planner.effect import GROUP, Action, EffectClass, Operation, Update, classes, revisions
from deepseek_acs.planner.resolve import resolve
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.settings.stack import StackSettings
from tests.unit.conftest import PROJECT, ROOT, RRSA, Recorder, merged, plain, stack_settings

ISSUED = trustme.CA().issue_cert("llm.example.com")
CERTIFICATE, KEY = ISSUED.cert_chain_pems[0].bytes().decode(), ISSUED.private_key_pem.bytes().decode()

ABSENT = object()
"""Marks a setting that a stack file does not have."""

IMAGE = "vllm/vllm-openai:v0.33.0"
WINDOW = {"start": "0 8 * * *", "end": "0 20 * * *", "replicas": 2}
QUEUE = {"kind": "queue", "maxReplicas": 3, "prometheus": {"url": "http://prometheus.monitoring:9090"}}

BASE: dict[str, Any] = {
    "cloud": {"region": "cn-hangzhou"},
    "cluster": {"namespace": "deepseek", "createNamespace": True},
    "weights": {"source": {"kind": "modelScope", "revision": "a" * 40}, "manifestSha256": "0af1" * 16},
    "inference": {
        "replicas": 1,
        "gpu": {"series": "GU8TF", "perPod": 8},
        "resources": {"cpu": 64, "memory": "512Gi", "sharedMemory": "48Gi"},
        "parallelism": {"tensor": 8, "pipeline": 2},
        "engine": {"image": IMAGE, "backend": "mp", "maxModelLen": 32768, "toolCalling": {"parser": "deepseek_v3"}},
        "rollout": {},
        "lifecycle": {"requestSeconds": 600, "disruptionBudget": {}, "healthCheck": {}},
        "preflight": {},
        "guard": {},
    },
    "service": {
        "apiKey": True,
        "requestFilter": {},
        "route": {"kind": "ingress", "className": "alb", "host": "llm.example.com", "tls": {"kind": "controller"}},
    },
    "security": {"networkPolicy": {"clients": [{"cidr": "10.1.0.0/24"}], "egress": {}}, "pods": {}},
    "observability": {"alerts": {}, "dashboard": {}, "logs": {}, "incidents": {}},
    "verification": {"benchmark": {}},
}
"""A stack with all that can be switched on together."""

IMAGE_WITH_RAY = "example.com/vllm-ray:v0.33.0"
RAY: dict[str, Any] = {
    "inference": {"engine": {"image": IMAGE_WITH_RAY, "backend": "ray"}},
    "security": {"securityGroups": ["sg-bp1fg655nh68xyz9i"]},
}
GATEWAY = {
    "kind": "gateway",
    "name": "internal",
    "namespace": "gateways",
    "sectionName": "https",
    "host": "a.example.com",
}
POOL = {**GATEWAY, "kind": "inferencePool"}
EXPECTED_PICKER = {"kind": "expect", "service": "picker"}


def _ingress(tls: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "ingress", "className": "alb", "host": "llm.example.com", "tls": tls}


UPDATE: dict[str, Any] = {
    "service": {"route": GATEWAY},
    "update": {
        "revision": "v34",
        **{name: BASE["inference"][name] for name in ("engine", "gpu", "parallelism", "resources")},
        "engine": {**BASE["inference"]["engine"], "image": f"{IMAGE}-cu129"},
    },
}
"""A second revision that gets no requests yet."""

UPDATE_OF_MODEL = {
    **UPDATE,
    "update": {
        **UPDATE["update"],
        "model": {"name": "deepseek-ai/DeepSeek-V3"},
        "weights": {
            "source": {"kind": "modelScope", "revision": "c" * 40},
            "manifestSha256": "2cf3" * 16,
            "prefix": "models/DeepSeek-V3",
        },
    },
}


def _update(**settings: Any) -> dict[str, Any]:
    return {**UPDATE, "update": {**UPDATE["update"], **settings}}


def _new_weights(source: Mapping[str, Any]) -> dict[str, Any]:
    weights = {**UPDATE_OF_MODEL["update"]["weights"], "source": source}
    return {**UPDATE_OF_MODEL, "update": {**UPDATE_OF_MODEL["update"], "weights": weights}}


def _scaling(**settings: Any) -> dict[str, Any]:
    return {"inference": {"replicas": None, "scaling": settings}}


CONTEXTS: Mapping[str, dict[str, Any]] = {
    "weights.source[huggingFace]": {"weights": {"source": {"kind": "huggingFace", "revision": "a" * 40}}},
    "weights.bucket[existing]": {"weights": {"bucket": {"kind": "existing", "name": "models-of-mine"}}},
    "weights.identity[ramUser]": {"weights": {"identity": {"kind": "ramUser"}}},
    "weights.identity[rrsa]": {"weights": {"identity": RRSA}},
    "storage[fluid]": {"storage": {"kind": "fluid"}},
    "inference.scaling[manual]": {"inference": {"scaling": {"kind": "manual"}}},
    "inference.scaling[schedule]": _scaling(kind="schedule", minReplicas=1, windows=[WINDOW]),
    "inference.scaling[queue]": _scaling(**QUEUE),
    "inference.scaling[queue].activationQuery": _scaling(**QUEUE, minReplicas=0, activationQuery="sum(a)"),
    "inference.scaling[hpa]": _scaling(kind="hpa", maxReplicas=3),
    "inference.engine.rayScript": RAY,
    "inference.engine.rayToken": RAY,
    "inference.engine.backend": RAY,
    "model.configFile": {
        "model": {"name": "Qwen/Qwen3-235B-A22B-FP8"},
        "inference": {"parallelism": {"tensor": 4, "pipeline": 2}},
    },
    "security.pods.runAsGroup": {"security": {"pods": {"runAsUser": 1000}}},
    "service.apiKey": {"service": {"apiKey": False, "requestFilter": None, "route": None}},
    "inference.gang": {"inference": {"replicas": 1, "guard": None, "gang": {}, "gpu": {"computeClass": "gpu-hpn"}}},
    "inference.rollout.restarts": {"inference": {"rollout": {"restarts": {"allow": "confirmed"}}}},
    "inference.rollout.restarts.windows": {
        "inference": {
            "rollout": {"restarts": {"allow": "window", "windows": [{"start": "0 1 * * *", "end": "0 2 * * *"}]}}
        }
    },
    "verification.gate": {"verification": {"gate": {"questions": [{"ask": "1 + 1?", "holds": ["2"]}]}}},
    "service.allowedCidrs": {"service": {"kind": "internalLoadBalancer", "allowedCidrs": ["10.0.0.0/16"]}},
    "service.route[gateway]": {"service": {"route": GATEWAY}},
    "service.route[inferencePool]": {"service": {"route": POOL}},
    "service.route[inferencePool].endpointPicker[expect]": {
        "service": {"route": {**POOL, "endpointPicker": EXPECTED_PICKER}}
    },
    "service.route[ingress].tls[secret]": {"service": {"route": _ingress({"kind": "secret", "name": "certificate"})}},
    "observability.traces": {"observability": {"traces": {"endpoint": "http://collector.tracing:4317"}}},
    "update": UPDATE,
    "update.model": UPDATE_OF_MODEL,
    "update.weights": UPDATE_OF_MODEL,
    "update.weights.source[huggingFace]": _new_weights({"kind": "huggingFace", "revision": "c" * 40}),
    "update.model.configFile": merged(
        UPDATE_OF_MODEL,
        {"update": {"model": {"name": "Qwen/Qwen3-235B-A22B-FP8"}, "parallelism": {"tensor": 4, "pipeline": 2}}},
    ),
    "update.limits": _update(weight=10, limits={}),
    "update.engine.rayScript": merged(UPDATE, {**RAY, "update": {"engine": RAY["inference"]["engine"]}}),
    "update.engine.rayToken": merged(UPDATE, {**RAY, "update": {"engine": RAY["inference"]["engine"]}}),
    "update.engine.backend": merged(UPDATE, {**RAY, "update": {"engine": RAY["inference"]["engine"]}}),
    "operators.lws[install]": {"operators": {"lws": {"kind": "install"}}},
    "operators.fluid[install]": {"storage": {"kind": "fluid"}, "operators": {"fluid": {"kind": "install"}}},
}
"""What a setting needs around it, by the longest beginning of its path."""

OTHERS: Mapping[str, Any] = {
    "cloud.region": "cn-shanghai",
    "cloud.endpoint": "http://127.0.0.1:19000",
    "cloud.vpcId": "vpc-bp1fg655nh68xyz9i",
    "cluster.kubeconfigFile": "~/.kube/../.kube/config",
    "cluster.context": "other",
    "cluster.namespace": "another",
    "model.name": "deepseek-ai/DeepSeek-V3",
    "model.servedName": "other",
    "model.weightsGiB": 642,
    "model.configFile": "tests/planner/published/Qwen--Qwen3-235B-A22B-FP8/config.json",
    "weights.manifestSha256": "1bf2" * 16,
    "weights.prefix": "models/other",
    "weights.upload.image": "example.com/python:3.12",
    "weights.upload.memory": "32Gi",
    "weights.upload.eipBandwidthMbps": 200,
    "weights.upload.rightsEnd": "2030-01-01",
    "weights.bucket[create].name": "models-of-ours",
    "weights.bucket[existing].name": "models-of-others",
    "weights.source[modelScope].revision": "b" * 40,
    "weights.source[huggingFace].revision": "b" * 40,
    "weights.source[modelScope].repository": "deepseek-ai/DeepSeek-R1-0528",
    "weights.source[huggingFace].repository": "deepseek-ai/DeepSeek-R1-0528",
    "weights.source[modelScope].endpoint": "https://modelscope.example.com",
    "weights.source[huggingFace].endpoint": "https://hf-mirror.com",
    "weights.source[modelScope].include": ["*.safetensors", "*.json", "*.py"],
    "weights.source[huggingFace].include": ["*.safetensors", "*.json", "*.py"],
    "weights.source[modelScope].exclude": ["*.jpg"],
    "weights.source[huggingFace].exclude": ["*.jpg"],
    "weights.identity[rrsa].oidcProviderArn": "acs:ram::1:oidc-provider/ack-rrsa-c2",
    "weights.identity[rrsa].oidcIssuer": "https://oidc-ack-cn-hangzhou.oss-cn-hangzhou.aliyuncs.com/c2",
    "storage[csi].mountOptions": ["umask=022"],
    "storage[fluid].workers": 8,
    "storage[fluid].cpu": 32,
    "storage[fluid].memory": "256Gi",
    "storage[fluid].sidecarMemory": "16Gi",
    "inference.name": "other",
    "inference.scaling[schedule].timezone": "Europe/Berlin",
    "inference.scaling[schedule].windows": [{**WINDOW, "replicas": 3}],
    "inference.scaling[schedule].hold": 1,
    "inference.scaling[schedule].minReplicas": 0,
    "inference.scaling[queue].prometheus.url": "http://prometheus.other:9090",
    "inference.scaling[queue].activationQuery": "sum(b)",
    "inference.scaling[queue].hold": 1,
    "inference.scaling[hpa].hold": 1,
    "inference.scaling[hpa].waitingMetric": "waiting",
    "inference.scaling[hpa].cacheMetric": "usage",
    "inference.gpu.series": "GU8TEF",
    "inference.gpu.perPod": ABSENT,
    "inference.gpu.gpuMemoryGiB": 94,
    "inference.gpu.available": 64,
    "inference.gpu.driverVersion": "580.95.05",
    "inference.gpu.resource": "example.com/gpu",
    "inference.resources.cpu": 72,
    "inference.resources.memory": "768Gi",
    "inference.resources.sharedMemory": "64Gi",
    "inference.resources.extraEphemeralStorage": "50Gi",
    "inference.parallelism.tensor": ABSENT,
    "inference.parallelism.pipeline": 3,
    "inference.zone": "cn-hangzhou-j",
    "inference.engine.image": "vllm/vllm-openai:v0.32.0",
    "inference.engine.version": "0.32.0",
    "inference.engine.rayScript": "/other.sh",
    "inference.engine.maxModelLen": 16384,
    "inference.engine.startupSeconds": 9000,
    "inference.engine.gpuMemoryUtilization": 0.9,
    "inference.engine.kvCacheGiB": 30,
    "inference.engine.compileCache": "bucket",
    "inference.engine.trustRemoteCode": True,
    "inference.engine.reasoningParser": "deepseek_r1",
    "inference.engine.toolCalling.parser": "deepseek_v31",
    "inference.engine.toolCalling.chatTemplate": "/template.jinja",
    "inference.engine.prefixCaching": False,
    "inference.engine.chunkedPrefill": True,
    "inference.engine.speculativeTokens": 1,
    "inference.engine.env": {"A": "b"},
    "inference.engine.secretEnv": {"A": {"secret": "b", "key": "c"}},
    "inference.engine.extraArgs": ["--max-num-seqs=64"],
    "inference.rollout.restarts.windows": [{"start": "0 2 * * *", "end": "0 3 * * *"}],
    "inference.rollout.restarts.confirm": "7f3a9c12",
    "inference.rollout.restarts.timezone": "Europe/Berlin",
    "inference.lifecycle.graceSeconds": 900,
    "inference.lifecycle.lostNodeSeconds": 60,
    "inference.preflight.leastGBps": 10,
    "inference.guard.unreadySeconds": 20000,
    "inference.revision": "v34",
    "update.revision": "v35",
    "update.model.name": "deepseek-ai/DeepSeek-R1",
    "update.weight": 10,
    "update.replicas": 2,
    "update.limits.errorShare": 0.1,
    "update.limits.timeToFirstTokenSeconds": 5,
    "update.engine.image": "vllm/vllm-openai:v0.32.0-cu129",
    "service.name": "other",
    "service.requestFilter.clients": ["chat"],
    "service.requestFilter.maxPromptCharacters": 100000,
    "service.allowedCidrs": ["10.2.0.0/16"],
    "service.route[ingress].host": "other.example.com",
    "service.route[ingress].className": "mse",
    "service.route[ingress].annotations": {"a.example.com/b": "c"},
    "service.route[ingress].tls[secret].name": "other",
    "service.route[gateway].host": "other.example.com",
    "service.route[gateway].name": "other",
    "service.route[gateway].namespace": "other",
    "service.route[gateway].sectionName": "other",
    "service.route[inferencePool].host": "other.example.com",
    "service.route[inferencePool].name": "other",
    "service.route[inferencePool].namespace": "other",
    "service.route[inferencePool].sectionName": "other",
    "service.route[inferencePool].endpointPicker[deploy].image": "example.com/epp:v1.5.0",
    "service.route[inferencePool].endpointPicker[deploy].memory": "8Gi",
    "service.route[inferencePool].endpointPicker[expect].service": "other",
    "security.networkPolicy.clients": [{"cidr": "10.2.0.0/24"}],
    "security.networkPolicy.egress.closedCidrs": ["10.9.0.0/16"],
    "security.securityGroups": ["sg-bp1fg655nh68xyz9i"],
    "security.pods.runAsUser": 1000,
    "security.pods.imagePullSecrets": ["registry"],
    "security.acceptedAdvisories": ["CVE-2025-48956"],
    "operators.lws[install].version": "0.8.0",
    "operators.lws[install].repository": "oci://example.com/lws/charts",
    "operators.lws[install].image": "example.com/lws",
    "operators.fluid[install].chart": "https://example.com/ack-fluid-1.0.14.tgz",
    "operators.fluid[install].imageTag": "v1.0.14",
    "prices.currency": "CNY",
    **{f"prices.{name}": 2.5 for name in ("gpuHour", "vcpuHour", "memoryGiBHour", "storageGiBMonth", "trafficGiB")},
    "observability.labels": {"release": "other"},
    "observability.alerts.timeToFirstTokenSeconds": 5,
    "observability.alerts.interTokenSeconds": 0.2,
    "observability.alerts.runbook": "https://example.com/runbook",
    "observability.dashboard.labels": {"dashboard": "1"},
    "observability.dashboard.folder": "Models",
    "observability.logs.ncclDebug": "INFO",
    "observability.logs.slsLogstore": "deepseek",
    "observability.traces.endpoint": "http://collector.other:4317",
    "verification.benchmark.image": "vllm/vllm-openai:v0.32.0",
    "verification.benchmark.requestRate": 2,
    "verification.benchmark.maxConcurrency": 4,
    "verification.benchmark.memory": "32Gi",
    "verification.gate.questions": [{"ask": "1 + 2?", "holds": ["3"]}],
}

KINDS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "weights.source[modelScope]": ({"weights": {"source": {"kind": "bucket"}}}, {}),
    "weights.source[bucket]": ({}, {"weights": {"source": {"kind": "bucket"}}}),
    "weights.bucket[create]": (CONTEXTS["weights.bucket[existing]"], {}),
    "weights.identity[ramUser]": (CONTEXTS["weights.identity[rrsa]"], {}),
    "weights.identity[accessKey]": ({}, {"weights": {"identity": {"kind": "accessKey"}}}),
    "update.weights.source[modelScope]": (_new_weights({"kind": "bucket"}), UPDATE_OF_MODEL),
    "update.weights.source[huggingFace]": (UPDATE_OF_MODEL, CONTEXTS["update.weights.source[huggingFace]"]),
    "update.weights.source[bucket]": (UPDATE_OF_MODEL, _new_weights({"kind": "bucket"})),
    "storage[csi]": (CONTEXTS["storage[fluid]"], {}),
    "inference.scaling[manual]": (CONTEXTS["inference.scaling[hpa]"], {}),
    "service.route[ingress]": (CONTEXTS["service.route[gateway]"], {}),
    "service.route[inferencePool].endpointPicker[deploy]": (
        CONTEXTS["service.route[inferencePool].endpointPicker[expect]"],
        CONTEXTS["service.route[inferencePool]"],
    ),
    "service.route[inferencePool].endpointPicker[expect]": (
        CONTEXTS["service.route[inferencePool]"],
        CONTEXTS["service.route[inferencePool].endpointPicker[expect]"],
    ),
    "service.route[ingress].tls[config]": ({}, {"service": {"route": _ingress({"kind": "config"})}}),
    "service.route[ingress].tls[controller]": ({"service": {"route": _ingress({"kind": "none"})}}, {}),
    "service.route[ingress].tls[none]": ({}, {"service": {"route": _ingress({"kind": "none"})}}),
    "operators.lws[expect]": (CONTEXTS["operators.lws[install]"], {}),
    "operators.fluid[install]": (CONTEXTS["storage[fluid]"], CONTEXTS["operators.fluid[install]"]),
    "operators.fluid[expect]": (
        CONTEXTS["operators.fluid[install]"],
        {"storage": {"kind": "fluid"}, "operators": {"fluid": {"kind": "expect"}}},
    ),
}
"""Settings of one kind and of another, where the base is of this kind or the context does not say it."""


TOGETHER: Mapping[str, tuple[str, Any]] = {
    "observability.traces.protocol": ("endpoint", "http://collector.tracing:4318/v1/traces"),
}
"""A setting of the same section that has to change with it."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One setting: settings of a stack before and after its value is changed."""

    path: str
    before: dict[str, Any]
    after: dict[str, Any]


def settings_of(model: type[BaseModel] = StackSettings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """All settings by path; a section that depends on its kind has it in brackets."""
    for field in model.model_fields.values():
        path = f"{prefix}{field.alias}"
        sections = _models(field.annotation)
        if not sections:
            yield path, field
        for section in sections:
            kind = section.model_fields.get("kind") if len(sections) > 1 else None
            suffix = f"[{typing.get_args(kind.annotation)[0]}]" if kind else ""
            yield from settings_of(section, f"{path}{suffix}.")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []


def variants() -> list[Variant]:
    """One for each setting."""
    return [_variant(path, field) for path, field in settings_of()]


def _variant(path: str, field: FieldInfo) -> Variant:
    context = max((beginning for beginning in CONTEXTS if path.startswith(beginning)), key=len, default="")
    stack = merged(merged(stack_settings("dev"), BASE), CONTEXTS.get(context, {}))
    if path.endswith("].kind"):
        base = merged(stack_settings("dev"), BASE)
        before, after = KINDS.get(path.removesuffix(".kind"), ({}, CONTEXTS.get(context, {})))
        return Variant(path=path, before=merged(base, before), after=merged(base, after))
    parts = [part.partition("[") for part in path.split(".")]
    after = copy.deepcopy(stack)
    section: dict[str, Any] = after
    for name, _, kind in parts[:-1]:
        section = section.setdefault(name, {"kind": kind.removesuffix("]")} if kind else {})
    last = parts[-1][0]
    current = section.get(last, field.default)
    # A section of an update is one of the stack, too.
    known = next((name for name in (path, *_sections_of_stack(path)) if name in OTHERS), None)
    other = _other(field, current) if known is None else OTHERS[known]
    if other is ABSENT:
        del section[last]
    else:
        section |= {last: other, **dict([TOGETHER[path]] if path in TOGETHER else [])}
    if path == "update.model.servedName":
        # Both revisions have the same one.
        after["model"]["servedName"] = other
    return Variant(path=path, before=stack, after=after)


def _sections_of_stack(path: str) -> list[str]:
    found = path.removeprefix("update.")
    return [] if found == path else [f"inference.{found}", found]


def _other(field: FieldInfo, current: Any) -> Any:
    annotation = field.annotation
    if bool in (annotation, *typing.get_args(annotation)):
        return not current
    if typing.get_origin(annotation) is typing.Literal:
        return next(choice for choice in typing.get_args(annotation) if choice != current)
    if isinstance(current, int | float) and not isinstance(current, bool):
        return current + 1 if isinstance(current, int) else round(current * 1.1, 3)
    if annotation in (int, float) or {int, float} & {*typing.get_args(annotation)}:
        return 1
    raise AssertionError(f"no other value is known of a setting with the default {field.default}")


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What the program says of one variant: classes, and what happens to objects by their names in the program. With
    the inputs of all objects before and after; those of a retained one stay in the cluster."""

    classes: tuple[EffectClass, ...]
    actions: Mapping[str, Action]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    retained: frozenset[str]


def effects(variant: Variant, deploy: Callable[..., Recorder], runs: dict[str, Recorder]) -> Effects:
    """The classes of the change, with mocks in the engine's place: what is in one run only is created or deleted, and
    what has another name in the cluster is replaced. ``runs`` keeps the runs of settings that several variants have."""
    settings = json.dumps(variant.before)
    if settings not in runs:
        runs[settings] = _run(variant.before, deploy)
    before, after = runs[settings], _run(variant.after, deploy)
    old, new = dict(_objects(before)), dict(_objects(after))
    retained = {key for key in old if before.requests[key].retainOnDelete or before.requests[key].protect}
    for key in sorted(old.keys() & new.keys()):
        if ":Secret::" in key and _action(old[key], new[key]) == "replace":
            # Mocks give it the same name again; in the cluster, generated names differ.
            new = json.loads(json.dumps(new).replace(f"{key.split('::')[1]}-1a2b3c4d", generated_name(key, again=True)))
    earlier, spec = (_resolved(settings) for settings in (variant.before, variant.after))
    scaled = {one.name for one in spec.revisions if one.replicas.scaler is not None}
    for key in old.keys() & new.keys():
        if kind_of(key) == GROUP and _cluster_name(new[key]) in scaled:
            # The program leaves the number to the autoscaler.
            new[key]["spec"]["replicas"] = old[key]["spec"]["replicas"]
    actions = {
        key: action for key in sorted(old.keys() | new.keys()) if (action := _action(old.get(key), new.get(key)))
    }
    actions = {key: action for key, action in actions.items() if not (action == "delete" and key in retained)}
    groups = {
        (name := _cluster_name(new[key])): group_update(old[key], new[key], autoscaled=name in scaled)
        for key, action in actions.items()
        if kind_of(key) == GROUP and action == "update"
    }
    update = Update(
        before=variant.before,
        settings=variant.after,
        revisions=revisions(earlier),
        operations=[operation(key, action, new.get(key, old.get(key))) for key, action in actions.items()],
        groups=groups,
    )
    return Effects(classes=classes(update, spec), actions=actions, before=old, after=new, retained=frozenset(retained))


def operation(key: str, action: Action, inputs: Any) -> Operation:
    """What happens to an object, as the program sees it."""
    kind = kind_of(key)
    return Operation(action=action, kind=kind, name=_cluster_name(inputs) if kind == GROUP else key.split("::")[1])


def generated_name(key: str, *, again: bool) -> str:
    """The name of an object that has none, when it is created first, and when it is replaced."""
    return f"{key.split('::')[1]}-{'2b3c4d5e' if again else '1a2b3c4d'}"


def _resolved(settings: Mapping[str, Any]) -> ResolvedSpec:
    return resolve(StackSettings.model_validate(settings), folder=ROOT)


def kind_of(key: str) -> str:
    """The kind in ``kubernetes:group/version:Kind::name``."""
    return key.split("::")[0].rsplit(":", 1)[-1]


def _cluster_name(inputs: Mapping[str, Any]) -> str:
    return str(inputs["metadata"]["name"])


def _run(settings: Mapping[str, Any], deploy: Callable[..., Recorder]) -> Recorder:
    names = ["apiKey", "apiKey-chat", "rayToken", "ossAccessKeyId", "ossAccessKeySecret", "prometheusToken"]
    secrets = {f"{PROJECT}:{name}": f"{index}123456789abcdef" * 4 for index, name in enumerate(names)}
    secrets |= {f"{PROJECT}:tlsCertificate": CERTIFICATE, f"{PROJECT}:tlsKey": KEY}
    config = {f"{PROJECT}:deployment": json.dumps(settings), **secrets}

    def main() -> None:
        runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")

    return deploy(main, stack="dev", config=config, secret_keys=list(secrets))


def _objects(recorder: Recorder) -> Iterator[tuple[str, Any]]:
    for key, request in recorder.requests.items():
        if key.startswith(("kubernetes:", "alicloud:")):
            yield key, plain(json_format.MessageToDict(request.object))


def _action(old: Any, new: Any) -> Action | None:
    if old is None or new is None:
        return "create" if old is None else "delete"
    if _identity(old) != _identity(new):
        return "replace"
    return "update" if old != new else None


def _identity(inputs: Mapping[str, Any]) -> Any:
    metadata = inputs.get("metadata") or {}
    immutable = (
        {k: v for k, v in inputs.items() if k in ("data", "stringData", "bucket")} if inputs.get("immutable") else {}
    )
    return metadata.get("namespace"), metadata.get("name"), inputs.get("bucket"), immutable
