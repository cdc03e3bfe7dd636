"""Compiled code that outlives a group: two containers in each pod, their program, and their credentials.

Before the engine, ``compile-cache-restore`` gets what an engine with the same key has compiled; next to it,
``compile-cache-save`` writes it to the bucket once the leader answers. Both run the program ``compilecache`` with the
engine's image. The engine itself has no credentials. docs/compile-cache.md has the details."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_kubernetes as k8s

from deepseek_acs.compilecache.archive import FILES
from deepseek_acs.planner.compiled import HELPER_CPU, HELPER_GIB, VARIABLES

from .expansion import interruptible, literal
from .labels import WORKER_INDEX_LABEL
from .model_upload import OIDC_AUDIENCE, OIDC_FOLDER, OIDC_TOKEN_SECONDS, OIDC_VOLUME, oidc_environment
from .names import name_of
from .pod_security import container_security
from .python_job import content_config_map, program_command
from .zipapps import archive_digest

if TYPE_CHECKING:
    from .group_args import InferenceGroupArgs

PACKAGE = "compilecache"
RESTORE, SAVE = "compile-cache-restore", "compile-cache-save"
LABELS = {"app.kubernetes.io/name": PACKAGE, "app.kubernetes.io/component": "inference"}

CACHE_PATH = "/var/cache/compile"
WORK_PATH = "/var/lib/compilecache"

CACHE_SIZE, WORK_SIZE = "10Gi", "3Gi"
"""Limits of the two folders, beyond which Kubernetes evicts the pod: more than ``archive.Limits`` lets in, and by far
more than engines have been seen to compile."""

RESTORE_SECONDS = 180
"""An archive of 1 GiB takes 10 s at 100 MiB/s."""

KEY_ID, KEY_SECRET = "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"
RANK_VARIABLE = "COMPILE_CACHE_RANK"


@dataclass(frozen=True, kw_only=True)
class CompileCacheArgs:
    """``place`` is ``oss://BUCKET/PREFIX``. ``model`` names the weights and ``series`` the GPUs, for the key. Requests
    are signed with an AccessKey, or with a role that the pods' service account assumes."""

    place: pulumi.Input[str]
    region: str
    endpoint: pulumi.Input[str]
    model: str
    series: str
    access_key_id: pulumi.Input[str] | None = None
    access_key_secret: pulumi.Input[str] | None = None
    role_arn: pulumi.Input[str] | None = None
    oidc_provider_arn: pulumi.Input[str] | None = None


def compile_cache_objects(
    name: str, args: CompileCacheArgs, *, group: str, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> list[pulumi.Resource]:
    """What the pods of the LeaderWorkerSet ``group`` mount and read."""
    found: list[pulumi.Resource] = [
        content_config_map(name, config_map_name(group), PACKAGE, namespace=namespace, labels=LABELS, opts=opts)
    ]
    if args.access_key_id is not None and args.access_key_secret is not None:
        # Under the same name with another key: a pod reads it when it starts, and no pod has to be recreated for it.
        secret = k8s.core.v1.Secret(
            f"{name}-key",
            metadata={"name": secret_name(group), "namespace": namespace, "labels": LABELS},
            string_data={KEY_ID: args.access_key_id, KEY_SECRET: args.access_key_secret},
            opts=opts,
        )
        found.append(secret)
    return found


def config_map_name(group: str) -> str:
    """Name of the ConfigMap with the program for the LeaderWorkerSet ``group``."""
    return name_of(PACKAGE, group, archive_digest(PACKAGE))


def secret_name(group: str) -> str:
    """Name of the Secret with the AccessKey of its pods."""
    return f"{group}-{PACKAGE}"


def with_compile_cache(
    template: Mapping[str, Any], args: InferenceGroupArgs, cache: CompileCacheArgs, *, engine: Sequence[str]
) -> dict[str, Any]:
    """The pod template with the two containers, and the variables by which the engine's caches are in their folder.
    ``engine`` is the command that the key counts: without what the template runs before it."""
    spec = template["spec"]
    (container,) = spec["containers"]
    mount = {"name": "compile-cache", "mountPath": CACHE_PATH}
    variables = [{"name": name, "value": f"{CACHE_PATH}/{FILES}/{folder}"} for name, folder in VARIABLES.items()]
    parts = key_parts(args, cache, command=engine, environment=container["env"])
    options = [*_options(cache), f"--port={args.port}", *(literal(f"--part={n}={value}") for n, value in parts.items())]
    restore = f"{_run('restore')} || echo 'compilecache restore: nothing restored; the engine compiles'"
    # It must not end: LeaderWorkerSet recreates a group of which a container was restarted.
    save = interruptible(f"{{ {_call('save')}; while :; do sleep 3600; done; }}")
    return {
        **template,
        "spec": {
            **spec,
            "initContainers": [
                *spec.get("initContainers", []),
                _helper(RESTORE, restore, options, args, cache, mounts=[mount]),
            ],
            "containers": [
                {
                    **container,
                    "env": [*container["env"], *variables],
                    "volumeMounts": [*container["volumeMounts"], mount],
                },
                _helper(SAVE, save, options, args, cache, mounts=[{**mount, "readOnly": True}]),
            ],
            "volumes": [
                *spec["volumes"],
                {"name": "compile-cache", "emptyDir": {"sizeLimit": CACHE_SIZE}},
                {"name": "compile-cache-work", "emptyDir": {"sizeLimit": WORK_SIZE}},
                {"name": PACKAGE, "configMap": {"name": config_map_name(args.name)}},
                *([_oidc_volume()] if cache.role_arn is not None else []),
            ],
        },
    }


def key_parts(
    args: InferenceGroupArgs,
    cache: CompileCacheArgs,
    *,
    command: Sequence[str],
    environment: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """What is known of the key before a pod runs. Of variables, those with a value count, and the names of those that
    Secrets have: what each pod gets of its own, such as its address, does not."""
    variables = {one["name"]: one["value"] for one in environment if "value" in one}
    secrets = [one["name"] for one in environment if "secretKeyRef" in one.get("valueFrom", {})]
    return {
        "image": args.image,
        "model": cache.model,
        "series": cache.series,
        "layout": f"tensor {args.tensor} pipeline {args.pipeline} on {args.pods} pods of {args.gpus} by {args.backend}",
        "arguments": _digest(command),
        "environment": _digest([variables, sorted(secrets)]),
    }


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _call(action: str) -> str:
    return f'{" ".join(program_command(PACKAGE))} {action} "$@"'


def _run(action: str) -> str:
    return interruptible(_call(action))


def _options(cache: CompileCacheArgs) -> list[pulumi.Input[str]]:
    return [
        "--place",
        cache.place,
        "--endpoint",
        cache.endpoint,
        f"--region={cache.region}",
        f"--cache={CACHE_PATH}",
        f"--work={WORK_PATH}",
        f"--seconds={RESTORE_SECONDS}",
    ]


def _helper(
    name: str,
    script: str,
    options: Sequence[pulumi.Input[str]],
    args: InferenceGroupArgs,
    cache: CompileCacheArgs,
    *,
    mounts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A container with the engine's image and user, and without GPUs."""
    size = {"cpu": str(HELPER_CPU), "memory": f"{HELPER_GIB}Gi"}
    rank = {"fieldRef": {"fieldPath": f"metadata.labels['{WORKER_INDEX_LABEL}']"}}
    role = cache.role_arn is not None
    return {
        "name": name,
        "image": args.image,
        # The words after the script are its "$@", and need no quotes.
        "command": ["sh", "-c", script, name, *options],
        "env": [{"name": RANK_VARIABLE, "valueFrom": rank}, *_credentials(args, cache)],
        "resources": {"limits": size, "requests": size},
        "securityContext": container_security(
            run_as_user=args.run_as_user, run_as_group=args.run_as_group, read_only_root=True, rdma=False
        ),
        "volumeMounts": [
            *mounts,
            {"name": "compile-cache-work", "mountPath": WORK_PATH},
            {"name": PACKAGE, "mountPath": f"/opt/{PACKAGE}", "readOnly": True},
            *([{"name": OIDC_VOLUME, "mountPath": OIDC_FOLDER, "readOnly": True}] if role else []),
        ],
    }


def _credentials(args: InferenceGroupArgs, cache: CompileCacheArgs) -> list[dict[str, Any]]:
    if cache.role_arn is not None and cache.oidc_provider_arn is not None:
        return [dict(one) for one in oidc_environment(cache.role_arn, cache.oidc_provider_arn)]
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret_name(args.name), "key": name}}}
        for name in (KEY_ID, KEY_SECRET)
    ]


def _oidc_volume() -> dict[str, Any]:
    token = {"path": "token", "audience": OIDC_AUDIENCE, "expirationSeconds": OIDC_TOKEN_SECONDS}
    return {"name": OIDC_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}
