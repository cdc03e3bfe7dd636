"""The filter that runs inside of the leaders' server, in front of the engine: its program, its settings and its keys.

vLLM loads it as a middleware, so it needs no image, no port and no hop of its own, streams and drains as the engine
does, and sees the path as the router does. docs/access.md says what it refuses.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from .names import name_of

MODULE = "requestfilter"
MOUNT_PATH = f"/opt/{MODULE}"
KEYS_PATH = f"/etc/{MODULE}/keys"
SETTINGS_FILE = "settings.json"
LABELS = {"app.kubernetes.io/name": MODULE, "app.kubernetes.io/component": "inference"}

METRICS_KEY = "metrics"
"""Name of the key that opens ``/metrics`` alone, in the Secret with all keys."""

ARGUMENTS = (
    # Closed by the filter as well; what is not there needs no filter.
    "--disable-fastapi-docs",
    "--allowed-origins=[]",
    # The last middleware is the outermost.
    "--middleware",
    f"{MODULE}.RequestFilter",
)
"""Of ``vllm serve`` (https://docs.vllm.ai/en/stable/cli/serve/; in 0.7.2 already)."""

PYTHONPATH = "PYTHONPATH"


@dataclass(frozen=True, kw_only=True)
class RequestFilterArgs:
    """What the filter admits; the fields are those of ``requestfilter.program.Settings``."""

    paths: tuple[str, ...]
    header_bytes: int
    body_bytes: int
    sequences: int
    prompt_characters: int
    prompt_tokens: int
    open_metrics: bool = False

    @property
    def settings(self) -> str:
        """The file that the program reads."""
        return json.dumps({**asdict(self), "keys": KEYS_PATH}, indent=1)


def client_key(client: str) -> str:
    """Name of a client's key in the Secret with all keys."""
    return f"client-{client}"


def request_filter_config_map(
    name: str, args: RequestFilterArgs, *, group: str, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> k8s.core.v1.ConfigMap:
    """Program and settings, named by their content, so that the pods never see them change."""
    return k8s.core.v1.ConfigMap(
        name,
        metadata={"name": config_map_name(args, group=group), "namespace": namespace, "labels": LABELS},
        data={f"{MODULE}.py": _source(), SETTINGS_FILE: args.settings},
        immutable=True,
        opts=opts,
    )


def config_map_name(args: RequestFilterArgs, *, group: str) -> str:
    """Name of the ConfigMap for the LeaderWorkerSet ``group``."""
    return name_of(MODULE, group, _source(), args.settings)


@cache
def _source() -> str:
    return files("deepseek_acs.requestfilter").joinpath("program.py").read_text(encoding="utf-8")


def with_request_filter(
    spec: Mapping[str, Any], container: Mapping[str, Any], *, config_map: str, keys_secret: pulumi.Input[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pod's spec and the container in it that serves, with the filter's files. The container's command needs
    ``ARGUMENTS``."""
    volumes = [
        {"name": MODULE, "configMap": {"name": config_map}},
        {"name": f"{MODULE}-keys", "secret": {"secretName": keys_secret}},
    ]
    mounts = [
        {"name": MODULE, "mountPath": MOUNT_PATH, "readOnly": True},
        {"name": f"{MODULE}-keys", "mountPath": KEYS_PATH, "readOnly": True},
    ]
    return (
        {**spec, "volumes": [*spec["volumes"], *volumes]},
        {
            **container,
            "env": _importable(container["env"]),
            "volumeMounts": [*container["volumeMounts"], *mounts],
        },
    )


def _importable(environment: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """With the program's folder before those where the user wants modules to be found."""
    given = [variable["value"] for variable in environment if variable["name"] == PYTHONPATH]
    others = [variable for variable in environment if variable["name"] != PYTHONPATH]
    return [*others, {"name": PYTHONPATH, "value": ":".join([MOUNT_PATH, *given])}]
