"""A container as a process: its environment, its command line, the places that its paths mean."""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.pod_runner.sources import Manifest, MissingError, Sources, UnsupportedError, pod_field
from local.pod_runner.volumes import materialise

SUPPORTED = frozenset(
    {
        *("name", "image", "imagePullPolicy", "command", "args", "env", "envFrom", "volumeMounts", "ports"),
        *("resources", "securityContext", "terminationMessagePath", "terminationMessagePolicy"),
    }
)
"""Fields of a container that are heeded, or that mean nothing to a process of this machine."""

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = (getattr(sys, "_base_executable", sys.executable), "-I", "-S")
"""This interpreter without the packages of its virtual environment, or any."""

TERMINATION_LOG = "/dev/termination-log"

SERVICE = re.compile(r"\b(?P<name>[a-z][a-z0-9-]*)\.(?P<namespace>[a-z0-9-]+)\.svc\.cluster\.local:(?P<port>\d+)")


@dataclass(frozen=True, kw_only=True)
class Container:
    """What is started; ``environment`` is not shown, because it may hold secrets."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    termination_log: Path

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """Starts it, in a process group of its own, with its output in ``log``. Raises OSError, ValueError.

        It ends with the thread that starts it, if that should go first.
        """
        with log.open("wb") as output:
            return subprocess.Popen(  # noqa: S603
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=_in_child,
            )


def prepare(pod: Manifest, folder: Path, sources: Sources) -> Container:
    """Makes the pod's files in ``folder``, which must not exist, and gives its container. Raises MissingError,
    UnsupportedError."""
    container = require_supported(pod)
    environment = _environment(pod, container, sources)
    folder.mkdir(parents=True, mode=0o700)
    volumes = materialise(pod, folder / "volumes", sources)
    places = {mount["mountPath"]: volumes[mount["name"]] for mount in container.get("volumeMounts", [])}
    termination_log = folder / "termination-log"
    places[container.get("terminationMessagePath", TERMINATION_LOG)] = termination_log
    words = [expanded(word, environment) for word in [*container["command"], *container.get("args", [])]]
    words = [relocated(addressed(word, sources), places) for word in words]
    if words[0] in ("python3", "python"):
        words[:1] = PYTHON
    host, port = sources.api_server()
    own = {"PATH": STANDARD_PATH, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    for variable, name in (("HOME", "home"), ("TMPDIR", "tmp")):
        (folder / name).mkdir()
        own[variable] = str(folder / name)
    given = {name: relocated(value, places) for name, value in environment.items()}
    return Container(command=words, environment=own | given, folder=folder, termination_log=termination_log)


def require_supported(pod: Manifest) -> Manifest:
    """The pod's only container. Raises UnsupportedError."""
    spec = pod["spec"]
    if spec.get("initContainers"):
        raise UnsupportedError("init containers")
    if len(spec["containers"]) != 1:
        raise UnsupportedError("several containers")
    # With Always the pod ends with its container here, and its ReplicaSet creates another one.
    if spec["restartPolicy"] == "OnFailure":
        raise UnsupportedError("the restartPolicy OnFailure; write Never")
    if "activeDeadlineSeconds" in spec:
        raise UnsupportedError("activeDeadlineSeconds of a pod; write that of the Job")
    container: Manifest = spec["containers"][0]
    if unknown := sorted(container.keys() - SUPPORTED):
        raise UnsupportedError(f"{', '.join(unknown)} of a container")
    if not container.get("command"):
        raise UnsupportedError("a container without command, because no image is pulled that could have one")
    for mount in container.get("volumeMounts", []):
        if mount.keys() & {"subPath", "subPathExpr"}:
            raise UnsupportedError(f"the subPath of the mount {mount['mountPath']}")
    return container


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` replaced where there is such a variable, ``$$`` by ``$``
    (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container)."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^()]+)\)", value, text)


def relocated(text: str, places: Mapping[str, Path]) -> str:
    """Paths at the start of words replaced by where they are on this machine; the longest path first."""
    folders = {path.rstrip("/"): str(place) for path, place in places.items()}
    paths = "|".join(re.escape(path) for path in sorted(folders, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({paths})(?![\w.-])", lambda match: folders[match[0]], text)


def addressed(text: str, sources: Sources) -> str:
    """Services of engines replaced by where this machine plays them, because its resolver knows no name of a cluster.
    Others stay, and do not resolve."""

    def address(match: re.Match[str]) -> str:
        return sources.address(match["namespace"], match["name"], int(match["port"])) or match[0]

    return SERVICE.sub(address, text)


def _environment(pod: Manifest, container: Manifest, sources: Sources) -> dict[str, str]:
    namespace = pod["metadata"]["namespace"]
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        reference = source.get("secretRef") or source["configMapRef"]
        read = sources.secret if "secretRef" in source else sources.config_map
        try:
            data = read(namespace, reference["name"])
        except MissingError:
            if reference.get("optional"):
                continue
            raise
        variables |= {source.get("prefix", "") + key: _text(value) for key, value in data.items()}
    for entry in container.get("env", []):
        value = _value(pod, entry, variables, sources)
        if value is not None:
            variables[entry["name"]] = value
    return variables


def _value(pod: Manifest, entry: Manifest, variables: Mapping[str, str], sources: Sources) -> str | None:
    """None for an optional key that does not exist."""
    namespace = pod["metadata"]["namespace"]
    match entry.get("valueFrom"):
        case None:
            return expanded(entry.get("value", ""), variables)
        case {"fieldRef": reference}:
            return pod_field(pod, reference["fieldPath"])
        case {"secretKeyRef": reference}:
            return _key("secret", reference, sources.secret, namespace)
        case {"configMapKeyRef": reference}:
            return _key("configmap", reference, sources.config_map, namespace)
        case other:
            raise UnsupportedError(f"{', '.join(other)} of the variable {entry['name']}")


def _key(kind: str, reference: Manifest, read: Any, namespace: str) -> str | None:
    try:
        data = read(namespace, reference["name"])
        if reference["key"] not in data:
            raise MissingError(f'couldn\'t find key {reference["key"]} in {kind} "{namespace}/{reference["name"]}"')
    except MissingError:
        if reference.get("optional"):
            return None
        raise
    return _text(data[reference["key"]])


def _text(value: bytes) -> str:
    # As the bytes that they are, whatever their encoding.
    return os.fsdecode(value)


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _in_child() -> None:
    # The runner blocks signals in order to wait for them, and a child would inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
