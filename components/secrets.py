"""The stack's secrets: separate configuration keys, because Pulumi encrypts whole keys only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pulumi
from pulumi.runtime.config import is_config_secret

from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.urls import is_unencrypted

from .credentials import AccessKey, Certificate
from .secret_forms import (
    api_key_problem,
    certificate_problem,
    header_problem,
    kubeconfig_problem,
    pair_problem,
    private_key_problem,
    word_problem,
)

KUBECONFIG = "kubeconfig"
ACCESS_KEY_ID = "ossAccessKeyId"
ACCESS_KEY_SECRET = "ossAccessKeySecret"  # noqa: S105 - the name of a configuration key
HUB_TOKEN = "hubToken"  # noqa: S105 - as above
PROMETHEUS_TOKEN = "prometheusToken"  # noqa: S105 - as above
API_KEY = "apiKey"
CLIENT_KEY = "apiKey-{client}"
"""The key of a client of ``service.requestFilter.clients``."""

RAY_TOKEN = "rayToken"  # noqa: S105 - as above
TLS_CERTIFICATE = "tlsCertificate"
TLS_KEY = "tlsKey"

SECRET_FORMS: Mapping[str, Callable[[str], str | None]] = {
    KUBECONFIG: kubeconfig_problem,
    ACCESS_KEY_ID: word_problem,
    ACCESS_KEY_SECRET: word_problem,
    HUB_TOKEN: word_problem,
    API_KEY: api_key_problem,
    RAY_TOKEN: api_key_problem,
    PROMETHEUS_TOKEN: header_problem,
    TLS_CERTIFICATE: certificate_problem,
    TLS_KEY: private_key_problem,
}
"""Checks of secrets whose form is known."""

SECRET_CONDITIONS: Mapping[str, str] = {
    KUBECONFIG: "`cluster.kubeconfigFile` is not set",
    ACCESS_KEY_ID: "`weights.identity.kind` is `accessKey`",
    ACCESS_KEY_SECRET: "`weights.identity.kind` is `accessKey`",
    HUB_TOKEN: "the repository on the model hub is private or gated",
    API_KEY: "`service.apiKey` is `true`",
    RAY_TOKEN: "`inference.engine.rayToken` is `true`",
    PROMETHEUS_TOKEN: "`inference.scaling.prometheus.authorization` is `true`",
    TLS_CERTIFICATE: "`service.route.tls.kind` is `config`",
    TLS_KEY: "`service.route.tls.kind` is `config`",
}
"""When the program needs a secret, in Markdown for docs/configuration.md and stack.schema.json."""

CLIENT_KEY_CONDITION = "`service.requestFilter.clients` has NAME"
"""The same for ``CLIENT_KEY``."""

SECRET_FIXES = {
    KUBECONFIG: "{set} < KUBECONFIG-FILE, or set deployment.cluster.kubeconfigFile",
    API_KEY: "openssl rand -hex 32 | {set}",
    RAY_TOKEN: "openssl rand -hex 32 | {set}",
    TLS_CERTIFICATE: "{set} < CERTIFICATE-FILE",
    TLS_KEY: "{set} < KEY-FILE",
}
"""Commands for secrets that are not typed; ``{set}`` is the command that sets the key."""


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """The secrets that the specification needs; None for the others."""

    kubeconfig: pulumi.Output[str] | None = None
    access_key: AccessKey | None = None
    hub_token: pulumi.Output[str] | None = None
    api_key: pulumi.Output[str] | None = None
    ray_token: pulumi.Output[str] | None = None
    certificate: Certificate | None = None
    prometheus_token: pulumi.Output[str] | None = None
    client_keys: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)
    """By the names of ``service.requestFilter.clients``."""


def secret_findings(config: pulumi.Config, spec: ResolvedSpec) -> list[Finding]:
    """Findings about secrets that are missing or have an invalid form."""
    found = []
    # The hub's token is only needed for private repositories, and used if it is set.
    optional = [HUB_TOKEN] if config.get_secret(HUB_TOKEN) is not None else []
    for key in [*_secret_keys(spec), *optional]:
        name = f"{config.name}:{key}"
        # get_secret would wrap the value, and get would warn about a secret read as plain text. It is not passed on.
        value = pulumi.runtime.get_config(name)
        problem = _secret_problem(key, value, hidden=is_config_secret(name))
        if problem:
            # The short form of --stack: users copy the command, and a longer one would be wrapped.
            command = f"pulumi config set -s {pulumi.get_stack()} --secret {name}"
            fix = SECRET_FIXES.get(_kind(key), "{set}").format(set=command)
            found.append(Finding(path=name, problem=problem, fix=fix))
    hub = spec.weights.hub
    if optional and hub and hub.endpoint and is_unencrypted(hub.endpoint):
        found.append(
            Finding(
                path="deployment.weights.source.endpoint",
                problem=f"the secret {config.name}:{HUB_TOKEN} would be sent there by plain HTTP",
                fix="write https://, or remove the secret",
            )
        )
    certificate, key = (f"{config.name}:{name}" for name in (TLS_CERTIFICATE, TLS_KEY))
    if TLS_KEY in _secret_keys(spec) and not {certificate, key} & {finding.path for finding in found}:
        problem = pair_problem(pulumi.runtime.get_config(certificate) or "", pulumi.runtime.get_config(key) or "")
        if problem:
            found.append(Finding(path=key, problem=problem, fix=f"set {certificate} and {key} from one pair"))
    return found


def read_secrets(config: pulumi.Config, spec: ResolvedSpec) -> Secrets:
    """The secrets that the specification needs, after ``secret_findings`` has found no problem."""
    keys = _secret_keys(spec)
    return Secrets(
        kubeconfig=config.require_secret(KUBECONFIG) if KUBECONFIG in keys else None,
        access_key=AccessKey(
            key_id=config.require_secret(ACCESS_KEY_ID), key_secret=config.require_secret(ACCESS_KEY_SECRET)
        )
        if ACCESS_KEY_ID in keys
        else None,
        hub_token=config.get_secret(HUB_TOKEN),
        api_key=config.require_secret(API_KEY) if API_KEY in keys else None,
        client_keys={client: config.require_secret(CLIENT_KEY.format(client=client)) for client in _clients(spec)},
        ray_token=config.require_secret(RAY_TOKEN) if RAY_TOKEN in keys else None,
        certificate=Certificate(chain=config.require_secret(TLS_CERTIFICATE), key=config.require_secret(TLS_KEY))
        if TLS_KEY in keys
        else None,
        prometheus_token=config.require_secret(PROMETHEUS_TOKEN) if PROMETHEUS_TOKEN in keys else None,
    )


def _secret_keys(spec: ResolvedSpec) -> list[str]:
    keys = [] if spec.kubeconfig else [KUBECONFIG]
    if spec.weights.identity.kind == "accessKey":
        keys += [ACCESS_KEY_ID, ACCESS_KEY_SECRET]
    if spec.service.api_key:
        keys += [API_KEY, *(CLIENT_KEY.format(client=client) for client in _clients(spec))]
    if spec.engine.ray_token:
        keys.append(RAY_TOKEN)
    route, scaler = spec.service.route, spec.replicas.scaler
    if route and route.kind == "ingress" and route.tls.kind == "config":
        keys += [TLS_CERTIFICATE, TLS_KEY]
    if scaler and scaler.kind == "queue" and scaler.prometheus.authorization:
        keys.append(PROMETHEUS_TOKEN)
    return keys


def _clients(spec: ResolvedSpec) -> tuple[str, ...]:
    return spec.request_filter.clients if spec.request_filter else ()


def _kind(key: str) -> str:
    """The key whose form and whose way to be set a client's key has."""
    return API_KEY if key.startswith(CLIENT_KEY.format(client="")) else key


def _secret_problem(key: str, value: str | None, *, hidden: bool) -> str | None:
    if value is None:
        return "this secret is not set"
    if not hidden:
        return "it is in plain text in the stack file: any reader of the file, or of an old version, can use it"
    if not value.strip():
        return "this secret is empty"
    form = SECRET_FORMS.get(_kind(key))
    return form(value) if form else None
