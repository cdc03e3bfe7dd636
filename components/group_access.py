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
HOME_VOLUME = "home"
HOME_ENVIRONMENT = {"HOME": HOME, "USER": "engine"}


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
            run_as_user=args.run_as_user, run_as_group=args.run_as_group, rdma=args.uses_rdma
        )
        if args.run_as_user:
            container |= _with_home(container)
            # Only the group: the cache's client, which the cluster adds to the pod, has to be root.
            group = {"fsGroup": args.run_as_group or args.run_as_user, "fsGroupChangePolicy": "OnRootMismatch"}
            spec["securityContext"] = group
            spec["volumes"] = [*spec["volumes"], {"name": HOME_VOLUME, "emptyDir": {}}]
    return {**template, "spec": {**spec, "containers": [container]}}


def _with_home(container: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM, Triton and Ray keep their caches below the home folder. PyTorch asks for the user's name, and an ID that
    the image does not define has none."""
    given = {variable["name"] for variable in container["env"]}
    home = [{"name": name, "value": value} for name, value in HOME_ENVIRONMENT.items() if name not in given]
    return {
        "env": [*container["env"], *home],
        "volumeMounts": [*container["volumeMounts"], {"name": HOME_VOLUME, "mountPath": HOME}],
    }
