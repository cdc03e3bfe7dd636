"""Secrets in readable places: pod specs, argument lists, ConfigMaps. No finding repeats a value."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.pods import pods
from policy.resources import Resource, Violation, items, mapping, of_kind, secret_values, text, texts

SECRET_NAME = re.compile(
    r"(api[_.-]?key|access[_.-]?key([_.-]?(id|secret))?|secret([_.-]?key)?|akid|aksecret|token|passw(or)?d|passphrase"
    r"|credentials?|private[_.-]?key)$",
    re.IGNORECASE,
)
"""Endings of names of variables and keys whose values are secrets. MAX_TOKENS and TOKEN_FILE do not match."""

SECRET_OPTION = re.compile(
    r"(?<!\S)--(api-key|hf-token|hub-token|token|password|secret-key|access-key(-id|-secret)?)(?=[=\s]|$)"
)
"""Command line options that take a secret; any user of the machine can read arguments."""

SECRET_VALUES: Mapping[str, re.Pattern[str]] = {
    "an AccessKey of Alibaba Cloud": re.compile(r"\bLTAI[A-Za-z0-9]{12,26}\b"),
    "a token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
"""Strings that are secrets in any place."""

_REFERENCE = re.compile(r"\$\([A-Za-z0-9_.-]+\)")
"""A reference to another variable, expanded by Kubernetes."""

SHORTEST_SECRET = 8
"""Characters; shorter values of a Secret are found in unrelated texts."""

OPEN_VALUES = frozenset({"Authorization"})
"""In a Secret only because KEDA reads the name of a header from the same place as its value
(https://keda.sh/docs/latest/scalers/prometheus/)."""

INSTEAD = "keep it in a Secret and reference it by secretKeyRef"


def plain_secrets(resource: Resource) -> Iterator[Finding]:
    """A secret in an object that is not a Secret."""
    if not resource.type.startswith("kubernetes:") or resource.kind in ("", "Secret"):
        return
    for path, value in texts(resource.properties):
        for what, pattern in SECRET_VALUES.items():
            if pattern.search(value):
                yield Finding(path=path, problem=f"this is {what}", fix=INSTEAD)
    yield from _variables(resource)
    yield from _options(resource)
    for path, values in _open_mappings(resource):
        for key, value in values.items():
            if SECRET_NAME.search(key) and text(value):
                yield Finding(path=f"{path}.{key}", problem="this looks like a secret in plain text", fix=INSTEAD)


def _variables(resource: Resource) -> Iterator[Finding]:
    for pod in pods(resource):
        for path, container in pod.containers():
            for variable in map(mapping, items(container.get("env"))):
                name, value = text(variable.get("name")), variable.get("value")
                if SECRET_NAME.search(name) and value and not _REFERENCE.fullmatch(text(value)):
                    yield Finding(
                        path=f"{path}.env[{name}].value",
                        problem="this looks like a secret in plain text",
                        fix="write valueFrom.secretKeyRef instead of value",
                    )


def _options(resource: Resource) -> Iterator[Finding]:
    for pod in pods(resource):
        for path, container in pod.containers():
            for field in ("command", "args"):
                for argument in map(text, items(container.get(field))):
                    for option in SECRET_OPTION.findall(argument):
                        yield Finding(
                            path=f"{path}.{field}",
                            problem=f"--{option[0]} puts a secret into the argument list, which every process can read",
                            fix="pass it as an environment variable from a Secret (vLLM reads VLLM_API_KEY, HF_TOKEN)",
                        )


def _open_mappings(resource: Resource) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Maps with free keys and plain-text values."""
    match resource.kind:
        case "ConfigMap":
            yield "data", mapping(resource.properties.get("data"))
        case "PersistentVolume":
            yield "spec.csi.volumeAttributes", mapping(mapping(resource.spec.get("csi")).get("volumeAttributes"))
        case "Dataset":
            for index, mount in enumerate(items(resource.spec.get("mounts"))):
                yield f"spec.mounts[{index}].options", mapping(mapping(mount).get("options"))


def leaked_secret_data(stack: Sequence[Resource]) -> Iterator[Violation]:
    """The value of one of the stack's Secrets, written into another object."""
    values = {
        value: f"{key} of the Secret {secret.title}"
        for secret in of_kind(stack, "Secret")
        for key, value in secret_values(secret)
        if len(value) >= SHORTEST_SECRET and value not in OPEN_VALUES
    }
    for resource in stack:
        if not resource.type.startswith("kubernetes:") or resource.kind in ("", "Secret"):
            continue
        for path, written in texts(resource.properties):
            for value, source in values.items():
                if value in written:
                    finding = Finding(path=path, problem=f"this contains the value of {source}", fix=INSTEAD)
                    yield Violation(resource=resource, finding=finding)
