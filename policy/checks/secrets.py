"""Secrets where many can read them: pod specs, argument lists, ConfigMaps. No finding repeats a value."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepseek_acs.planner.dangerous import REFERENCE, SECRET_FLAGS, flag_of, meant
from deepseek_acs.planner.findings import Finding
from deepseek_acs.settings.secret_texts import names_a_secret, secret_in
from policy.pods import pods
from policy.resources import Resource, Violation, items, mapping, of_kind, secret_values, text, texts

SECRET_NAME = re.compile(
    r"(api[_.-]?key|access[_.-]?key([_.-]?(id|secret))?|secret([_.-]?key)?|akid|aksecret|token|passw(or)?d|passphrase"
    r"|credentials?|private[_.-]?key)$",
    re.IGNORECASE,
)
"""Endings of names of variables and keys whose values are secrets. MAX_TOKENS and TOKEN_FILE do not match."""

FILE_NAME = re.compile(r"(file|path|dir)$", re.IGNORECASE)
"""Variables that say where a secret is."""

SECRET_OPTION = re.compile(
    r"(?<!\S)--(api-key|hf-token|hub-token|token|password|secret-key|access-key(-id|-secret)?)(?=[=\s]|$)"
)
"""Command line options that take a secret; every user of the machine sees arguments."""

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
        if what := secret_in(value):
            yield Finding(path=path, problem=f"this looks like {what}", fix=INSTEAD)
    yield from _variables(resource)
    yield from _options(resource)
    for path, values in _open_mappings(resource):
        for key, value in values.items():
            if _names_a_secret(key) and text(value):
                yield Finding(path=f"{path}.{key}", problem="this looks like a secret in plain text", fix=INSTEAD)


def _names_a_secret(name: str) -> bool:
    return bool(SECRET_NAME.search(name)) or (names_a_secret(name) and not FILE_NAME.search(name))


def _variables(resource: Resource) -> Iterator[Finding]:
    for pod in pods(resource):
        for path, container in pod.containers():
            for variable in map(mapping, items(container.get("env"))):
                name, value = text(variable.get("name")), variable.get("value")
                if _names_a_secret(name) and value and not REFERENCE.fullmatch(text(value)):
                    yield Finding(
                        path=f"{path}.env[{name}].value",
                        problem="this looks like a secret in plain text",
                        fix="write valueFrom.secretKeyRef instead of value",
                    )


def _options(resource: Resource) -> Iterator[Finding]:
    fix = "give it by an environment variable from a Secret (vLLM reads VLLM_API_KEY, HF_TOKEN)"
    for pod in pods(resource):
        for path, container in pod.containers():
            variables = _secret_variables(container)
            for field in ("command", "args"):
                for argument in map(text, items(container.get(field))):
                    options = {f"--{found[0]}" for found in SECRET_OPTION.findall(argument)}
                    if pod.has_engine():
                        options |= {name for word in argument.split() if (name := _secret_flag(word))}
                    for option in sorted(options):
                        yield Finding(
                            path=f"{path}.{field}",
                            problem=f"{option} puts a secret into the argument list, which every process can read",
                            fix=fix,
                        )
                    for name in sorted(variables & {*REFERENCE.findall(argument)}):
                        yield Finding(
                            path=f"{path}.{field}",
                            problem=f"$({name}) puts a secret into the argument list, which every process can read",
                            fix=f"remove it; programs read the variable {name} by themselves",
                        )


def _secret_flag(word: str) -> str | None:
    """The option with a secret that vLLM takes a word for."""
    flag = flag_of(word)
    return meant(flag, sorted(SECRET_FLAGS)) if flag.startswith("--") and len(flag) > len("--a") else None


def _secret_variables(container: Mapping[str, Any]) -> set[str]:
    variables = map(mapping, items(container.get("env")))
    return {text(one.get("name")) for one in variables if mapping(one.get("valueFrom")).get("secretKeyRef")}


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
