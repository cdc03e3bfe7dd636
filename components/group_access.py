"""What access control and security add to the pods of the inference group: one pure function over their templates."""

from collections.abc import Mapping
from typing import Any

from .group_args import InferenceGroupArgs
from .pod_security import container_security
from .request_filter import config_map_name, with_request_filter

API_KEY_VARIABLE = "VLLM_API_KEY"
"""The engine requires this key (https://docs.vllm.ai/en/stable/configuration/env_vars.html). As an argument it would be
visible in the process list."""

RAY_MODE_VARIABLE = "RAY_AUTH_MODE"
RAY_TOKEN_VARIABLE = "RAY_AUTH_TOKEN"  # noqa: S105 - the name of a variable
"""With these, Ray 2.52 and newer ask for the token at all ports; older versions do not know them
(https://docs.ray.io/en/latest/ray-security/token-auth.html)."""

HOME = "/home/engine"
HOME_ENVIRONMENT = {"HOME": HOME, "USER": "engine"}
TMP = "/tmp"  # noqa: S108 - in the pod


def with_access(template: Mapping[str, Any], args: InferenceGroupArgs, *, serves: bool) -> dict[str, Any]:
    """The pod template with keys, service account and hardening; in any case without a token for the API server.
    ``serves`` says whether the pod answers requests: only those know the clients' key."""
    spec = {**template["spec"], "automountServiceAccountToken": False}
    (engine,) = spec["containers"]
    container = {**engine, "env": [*engine["env"]]}
    if serves and args.api_key_secret is not None:
        reference = {"name": args.api_key_secret, "key": API_KEY_VARIABLE}
        container["env"].append({"name": API_KEY_VARIABLE, "valueFrom": {"secretKeyRef": reference}})
        if args.request_filter is not None:
            config_map = config_map_name(args.request_filter, group=args.name)
            spec, container = with_request_filter(
                spec, container, config_map=config_map, keys_secret=args.api_key_secret
            )
    if args.ray_token_secret is not None:
        reference = {"name": args.ray_token_secret, "key": RAY_TOKEN_VARIABLE}
        container["env"].append({"name": RAY_MODE_VARIABLE, "value": "token"})
        container["env"].append({"name": RAY_TOKEN_VARIABLE, "valueFrom": {"secretKeyRef": reference}})
    if args.service_account is not None:
        spec["serviceAccountName"] = args.service_account
    if args.hardened:
        container["securityContext"] = container_security(
            run_as_user=args.run_as_user,
            run_as_group=args.run_as_group,
            read_only_root=args.read_only_root,
            rdma=args.uses_rdma,
        )
        if args.run_as_user or args.read_only_root:
            container["env"] += _home_environment(container)
            spec, container = _with_folder("home", HOME, spec, container)
        if args.read_only_root:
            spec, container = _with_folder("tmp", TMP, spec, container)
        if args.run_as_user:
            # Only the group: the cache's client, which the cluster adds to the pod, has to be root.
            group = {"fsGroup": args.run_as_group or args.run_as_user, "fsGroupChangePolicy": "OnRootMismatch"}
            spec["securityContext"] = group
    return {**template, "spec": {**spec, "containers": [container]}}


def _home_environment(container: Mapping[str, Any]) -> list[dict[str, str]]:
    """vLLM, Triton and Ray keep their caches below the home folder. PyTorch asks for the user's name, and an ID that
    the image does not define has none."""
    given = {variable["name"] for variable in container["env"]}
    return [{"name": name, "value": value} for name, value in HOME_ENVIRONMENT.items() if name not in given]


def _with_folder(
    name: str, path: str, spec: Mapping[str, Any], container: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod's spec and its container with an empty folder that the engine may write to."""
    return (
        {**spec, "volumes": [*spec["volumes"], {"name": name, "emptyDir": {}}]},
        {**container, "volumeMounts": [*container["volumeMounts"], {"name": name, "mountPath": path}]},
    )
