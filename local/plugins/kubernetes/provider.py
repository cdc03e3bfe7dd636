"""The provider: the life of one object as the engine asks for it.

Secrets: the engine is told that this provider does not know them, so it hands over plain values and itself marks in the
answer what was secret before. No value is ever put into a message; messages carry names, fields and the API server's
own words.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pulumi.runtime.rpc import UNKNOWN

from local.plugins.kubernetes import ignored, job_pods, readiness, wait_for
from local.plugins.kubernetes.api import Api, ApiError, Reference, UnknownKindError
from local.plugins.kubernetes.diff import AUTONAMED

VERSION = "4.34.2"
DEFAULT_TIMEOUT_SECONDS = 600
"""The official plugin's, for resources without custom timeouts."""
POLL_SECONDS = 0.5
KIND_ATTEMPTS = 5
"""How often the creation of a custom resource is tried whose definition may be about to be served."""

Properties = dict[str, Any]
Status = Callable[[str], None]


class ProviderError(Exception):
    """A request failed; the text is for the user."""


class InitializationError(ProviderError):
    """The object exists but did not become ready; the engine keeps it and the next update continues."""

    def __init__(self, reference: Reference, live: Properties, reasons: list[str]) -> None:
        super().__init__(f"{reference} was created or changed, but is not ready: {'; '.join(reasons)}")
        self.id = reference.id
        self.live = live
        self.reasons = reasons


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The provider's inputs; ``api`` is None, and ``unreachable`` says why, where there is no cluster."""

    api: Api | None = None
    unreachable: str = ""
    namespace: str = "default"
    mutable: frozenset[str] = frozenset()


@dataclass
class KubernetesStandIn:
    """One configured provider; its methods block and are called from several threads."""

    configuration: Configuration = field(default_factory=Configuration)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def configure(self, inputs: Mapping[str, Any]) -> None:
        """Takes the provider's inputs; a cluster that cannot be reached is a problem only once it is needed."""
        mutable = {"Secret": "enableSecretMutable", "ConfigMap": "enableConfigMapMutable"}
        kinds = frozenset(kind for kind, key in mutable.items() if _flag(inputs.get(key)))
        namespace = str(inputs.get("namespace") or "default")
        api, unreachable = None, ""
        try:
            kubeconfig = inputs.get("kubeconfig")
            if not kubeconfig or kubeconfig == UNKNOWN:
                raise ApiError("the provider has no kubeconfig")
            api = Api(str(kubeconfig), inputs.get("context") or None)
            api.request("GET", "/version")
        except ApiError as error:
            api, unreachable = None, str(error)
        self.configuration = Configuration(api=api, unreachable=unreachable, namespace=namespace, mutable=kinds)

    def check(
        self, old: Mapping[str, Any], new: Mapping[str, Any], *, token: str, name: str, seed: bytes
    ) -> Properties:
        """The inputs with identity filled in: apiVersion and kind of the token, a name, a namespace."""
        group_version, kind = token.removeprefix("kubernetes:").rsplit(":", 1)
        if group_version.startswith(("helm.sh/", "yaml", "kustomize")):
            raise ProviderError(
                f"the stand-in for the kubernetes plugin does not serve {token}; install the official plugin: "
                f"pulumi plugin install resource kubernetes v{VERSION}"
            )
        checked = {**new, "apiVersion": group_version.removeprefix("core/"), "kind": kind}
        metadata = dict(checked.get("metadata") or {})
        before = old.get("metadata") or {}
        if not metadata.get("name"):
            kept = before.get("name") if (before.get("annotations") or {}).get(AUTONAMED) == "true" else None
            metadata["name"] = kept or f"{name}-{hashlib.sha256(seed).hexdigest()[:8]}"
            metadata["annotations"] = {**(metadata.get("annotations") or {}), AUTONAMED: "true"}
        if not metadata.get("namespace") and kind not in CLUSTER_KINDS:
            metadata["namespace"] = self.configuration.namespace
        checked["metadata"] = metadata
        if annotation := _annotations(checked).get("pulumi.com/waitFor"):
            try:
                wait_for.parse(annotation)
            except wait_for.WaitForError as error:
                raise ProviderError(str(error)) from None
        return checked

    def replaces_unready(self, inputs: Properties) -> bool:
        """Whether ``pulumi.com/replaceUnready`` replaces this object: a Job that is there and is not complete. What
        cannot be asked is no reason, as with the official plugin."""
        api = self.configuration.api
        if _annotations(inputs).get("pulumi.com/replaceUnready") != "true" or inputs["kind"] != "Job" or api is None:
            return False
        try:
            live = api.get(self._reference(inputs))
            return live is not None and bool(readiness.unmet(live))
        except readiness.FailedError:
            return True
        except ApiError:
            return False

    def preview(self, inputs: Properties, *, urn: str, ignore: Sequence[str] = ()) -> Properties:
        """The object as the server would store it; the inputs where it cannot be asked yet."""
        api = self.configuration.api
        if api is None or has_unknown(inputs):
            return inputs
        try:
            reference = self._reference(inputs)
            settled = self._settle(reference, inputs, ignore, urn=urn)
            live = api.apply(reference, settled, manager=_manager(urn), force=_force(inputs), dry_run=True)
        except UnknownKindError:
            return inputs
        except ApiError as error:
            if error.status == 404:
                return inputs  # its namespace is created by the same update
            raise _readable(inputs, error) from None
        return _state(live)

    def create(self, inputs: Properties, *, urn: str, seconds: float, status: Status) -> tuple[str, Properties]:
        """Applies a new object and waits for it."""
        api = self._api()
        try:
            reference = self._retry_kind(inputs)
            if api.get(reference) is not None:
                raise ProviderError(
                    f"{reference} exists already and is not managed by this stack; delete it, give another name, or "
                    f"adopt it: pulumi import {_token(inputs)} <resource name> {reference.id}"
                )
            live = api.apply(reference, inputs, manager=_manager(urn), force=_force(inputs), dry_run=False)
        except ApiError as error:
            raise _readable(inputs, error) from None
        return reference.id, _state(self._wait(reference, inputs, live, seconds, status))

    def update(
        self, inputs: Properties, *, urn: str, seconds: float, status: Status, ignore: Sequence[str] = ()
    ) -> Properties:
        """Applies the changed object, but for the fields at the paths ``ignore``, and waits for it."""
        api = self._api()
        try:
            reference = self._reference(inputs)
            settled = self._settle(reference, inputs, ignore, urn=urn)
            live = api.apply(reference, settled, manager=_manager(urn), force=_force(inputs), dry_run=False)
        except ApiError as error:
            raise _readable(inputs, error) from None
        return _state(self._wait(reference, inputs, live, seconds, status))

    def read(self, resource_id: str, *, token: str, inputs: Properties) -> tuple[str, Properties, Properties]:
        """Id, state and inputs of the live object; an empty id if there is none."""
        api = self._api()
        namespace, _, name = resource_id.rpartition("/")
        group_version, kind = token.removeprefix("kubernetes:").rsplit(":", 1)
        identity = {
            "apiVersion": group_version.removeprefix("core/"),
            "kind": kind,
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        }
        try:
            live = api.get(self._reference(identity))
        except UnknownKindError:
            live = None
        except ApiError as error:
            raise _readable(identity, error) from None
        if live is None:
            return "", {}, {}
        state = _state(live)
        return resource_id, state, inputs or {k: v for k, v in state.items() if k != "status"}

    def delete(self, resource_id: str, *, state: Properties, seconds: float) -> None:
        """Deletes the object and waits until it is gone."""
        self._api()
        try:
            reference = self._reference(state)
        except UnknownKindError:
            return  # its definition is gone, and all objects with it
        try:
            self._delete(reference, state, seconds)
        except ApiError as error:
            raise _readable(state, error) from None

    def _api(self) -> Api:
        if self.configuration.api is None:
            raise ProviderError(f"no cluster: {self.configuration.unreachable}")
        return self.configuration.api

    def _reference(self, manifest: Mapping[str, Any]) -> Reference:
        kind = self._api().kind(manifest["apiVersion"], manifest["kind"])
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace") or self.configuration.namespace
        return Reference(kind, metadata["name"], namespace if kind.namespaced else None)

    def _settle(self, reference: Reference, inputs: Properties, ignore: Sequence[str], *, urn: str) -> Properties:
        live = self._api().get(reference) if ignore else None
        return inputs if live is None else ignored.settle(inputs, live, ignore, manager=_manager(urn))

    def _retry_kind(self, inputs: Properties) -> Reference:
        for attempt in range(KIND_ATTEMPTS):
            try:
                return self._reference(inputs)
            except UnknownKindError:
                if self.cancelled.wait(2**attempt / 4):
                    break
        return self._reference(inputs)

    def _delete(self, reference: Reference, manifest: Properties, seconds: float) -> None:
        api = self._api()
        live = api.get(reference)
        if live is None:
            return
        propagation = _annotations(manifest).get("pulumi.com/deletionPropagationPolicy", "foreground").title()
        try:
            api.delete(reference, propagation)
        except ApiError as error:
            if error.status != 404:
                raise
        deadline = time.monotonic() + (seconds or DEFAULT_TIMEOUT_SECONDS)
        uid = live["metadata"]["uid"]
        while (live := api.get(reference)) is not None and live["metadata"]["uid"] == uid:
            if time.monotonic() > deadline or self.cancelled.wait(POLL_SECONDS):
                held = ", ".join(live["metadata"].get("finalizers", [])) or "none"
                raise ProviderError(f"{reference} is not gone yet; finalizers that hold it: {held}")

    def _wait(
        self, reference: Reference, inputs: Properties, live: Properties, seconds: float, status: Status
    ) -> Properties:
        """Polls until the object is ready; raises InitializationError at the end of the time, or when it has failed."""
        annotations = _annotations(inputs)
        if annotations.get("pulumi.com/skipAwait") == "true":
            return live
        conditions = wait_for.parse(annotations["pulumi.com/waitFor"]) if "pulumi.com/waitFor" in annotations else ()
        seconds = seconds or float(annotations.get("pulumi.com/timeoutSeconds", DEFAULT_TIMEOUT_SECONDS))
        deadline = time.monotonic() + seconds
        shown = ""
        while True:
            try:
                missing = wait_for.unmet(conditions, live) if conditions else readiness.unmet(live)
            except readiness.FailedError as error:
                raise self._not_ready(reference, live, [str(error)]) from None
            if not missing:
                return live
            text = f"waiting: {'; '.join([*missing, *job_pods.progress(self._pods(reference))])}"
            if text != shown:
                status(text)
                shown = text
            if time.monotonic() > deadline:
                raise self._not_ready(reference, live, [f"timeout after {seconds:.0f} s", *missing])
            if self.cancelled.wait(POLL_SECONDS):
                raise InitializationError(reference, _state(live), ["cancelled while waiting", *missing])
            live = self._get_patiently(reference, live, missing)

    def _not_ready(self, reference: Reference, live: Properties, reasons: list[str]) -> InitializationError:
        """With all that the cluster tells about it."""
        said = "\n".join(reasons)
        events = [event for event in self._events(reference) if event.partition(": ")[2] not in said]
        return InitializationError(
            reference, _state(live), [*reasons, *job_pods.failures(self._pods(reference)), *events]
        )

    def _get_patiently(self, reference: Reference, live: Properties, missing: list[str]) -> Properties:
        try:
            found = self._api().get(reference)
        except ApiError as error:
            raise InitializationError(reference, _state(live), [str(error), *missing]) from None
        if found is None:
            raise InitializationError(reference, _state(live), ["it was deleted while it was waited for"])
        return found

    def _pods(self, reference: Reference) -> list[Properties]:
        """Of a Job; of anything else, none."""
        if reference.kind.name != "Job":
            return []
        try:
            return self._api().pods_of(reference)
        except ApiError:
            return []

    def _events(self, reference: Reference) -> list[str]:
        try:
            return self._api().warnings(reference)
        except ApiError:
            return []


CLUSTER_KINDS = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "StorageClass",
        "ValidatingWebhookConfiguration",
    }
)
"""Kinds without a namespace, as far as Check must know them before a cluster can be asked."""


def has_unknown(value: Any) -> bool:
    """Whether a value that only the update will know is anywhere inside."""
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknown(item) for item in value)
    return bool(value == UNKNOWN)


def provider_is_replaced(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """With a cluster identifier only its change replaces the provider, and with it every object; without one a change
    of the kubeconfig does."""
    if old.get("clusterIdentifier") or new.get("clusterIdentifier"):
        return bool(old.get("clusterIdentifier") != new.get("clusterIdentifier"))
    return any(old.get(key) != new.get(key) for key in ("kubeconfig", "context", "cluster"))


def _annotations(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    return (manifest.get("metadata") or {}).get("annotations") or {}


def _manager(urn: str) -> str:
    """The field manager: the same for each update of one resource, and another for each resource."""
    return f"pulumi-kubernetes-{hashlib.sha256(urn.encode()).hexdigest()[:8]}"


def _force(inputs: Properties) -> bool:
    return _annotations(inputs).get("pulumi.com/patchForce") == "true"


def _state(live: Properties) -> Properties:
    """The live object without the server's book-keeping of managers."""
    metadata = {key: value for key, value in live["metadata"].items() if key != "managedFields"}
    return {**live, "metadata": metadata}


def _token(manifest: Mapping[str, Any]) -> str:
    group_version = manifest["apiVersion"] if "/" in manifest["apiVersion"] else f"core/{manifest['apiVersion']}"
    return f"kubernetes:{group_version}:{manifest['kind']}"


def _flag(value: object) -> bool:
    return value in (True, "true")


def _readable(manifest: Mapping[str, Any], error: ApiError) -> ProviderError:
    metadata = manifest["metadata"]
    name = "/".join(filter(None, (metadata.get("namespace"), metadata.get("name"))))
    text = f"{manifest['kind']} {name}: {error}"
    if error.reason == "Conflict" and "conflict with" in str(error):
        text += ". To take the fields over, set the annotation pulumi.com/patchForce to true"
    if manifest["kind"] == "Secret" and error.status == 422:
        # The server quotes values that it refuses.
        text = f"Secret {name}: the API server refused its contents ({error.reason}); they are not shown here"
    return ProviderError(text)
