"""The provider: the life of one object as the engine asks for it, and the texts of the official plugin
(https://github.com/pulumi/pulumi-kubernetes/tree/master/provider/pkg; what it does is in ``facts.toml``).

Secrets: the engine is told that this provider does not know them, so it hands over plain values and itself marks in the
answer what was secret before.
"""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pulumi.runtime.rpc import UNKNOWN

from local.plugins.kubernetes import managed_fields, readiness, wait_for
from local.plugins.kubernetes.api import Api, ApiError, Reference, UnknownKindError
from local.plugins.kubernetes.diff import AUTONAMED, normalized, pruned
from local.plugins.kubernetes.facts import FACTS

VERSION = "4.34.2"
POLL_SECONDS = 0.5
KIND_ATTEMPTS = 5
"""How often a creation is tried whose namespace or definition may be about to be there."""

FIELD_MANAGER = "__fieldManager"
"""Of the state: the manager of an object without the annotation."""

EXISTS = """

The resource already exists in the cluster. This can happen when:

  - Renaming a Pulumi resource: use an alias to preserve the identity,
    or use deleteBeforeReplace if the resource needs replacement.
  - Managing an existing resource: use a Patch resource (e.g. NamespacePatch)
    to manage specific fields without owning the resource lifecycle.
  - Adopting a resource into Pulumi: use `pulumi import`. Note that
    protected resources (e.g. kube-system) cannot be deleted on destroy.
  - Intentional upsert: set upsertExistingObjects on the provider to allow
    server-side apply to update existing objects on create."""
TIMED_OUT = "timed out waiting for the condition"
CANCELED = "context canceled"

Properties = dict[str, Any]
Status = Callable[[str], None]


class ProviderError(Exception):
    """A request failed; the text is for the user."""


class InitializationError(ProviderError):
    """The object exists but did not become ready; the engine keeps it and the next update continues."""

    def __init__(self, resource_id: str, state: Properties, reasons: Sequence[str]) -> None:
        super().__init__(reasons[0])
        self.id = resource_id
        self.live = state
        self.reasons = list(reasons)


class UnreadyError(Exception):
    """The wait has ended without success; ``live`` is the object as it was seen last."""

    def __init__(self, live: Properties, text: str, *details: str) -> None:
        super().__init__(text)
        self.live = live
        self.details = details


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The provider's inputs; ``api`` is None, and ``unreachable`` says why, where there is no cluster."""

    api: Api | None = None
    unreachable: str = ""
    namespace: str = "default"
    mutable: frozenset[str] = frozenset()
    upserts: bool = False
    forces: bool = False


@dataclass
class FakeKubernetes:
    """One configured provider; its methods block and are called from several threads."""

    configuration: Configuration = field(default_factory=Configuration)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def configure(self, inputs: Mapping[str, Any]) -> None:
        """Takes the provider's inputs; a cluster that cannot be reached is a problem only once it is needed."""
        contents = FACTS["contents"].items()
        mutable = frozenset(kind for kind, facts in contents if _flag(inputs.get(facts["option"])))
        forces = inputs.get("enablePatchForce", os.environ.get("PULUMI_K8S_ENABLE_PATCH_FORCE"))
        upserts = inputs.get(FACTS["create"]["option"], os.environ.get("PULUMI_K8S_UPSERT_EXISTING_OBJECTS"))
        api, unreachable = None, ""
        try:
            kubeconfig = inputs.get("kubeconfig")
            if not kubeconfig or kubeconfig == UNKNOWN:
                raise ApiError("the provider has no kubeconfig")
            api = Api(str(kubeconfig), inputs.get("context") or None)
            api.request("GET", "/version")
        except ApiError as error:
            api, unreachable = None, str(error)
        self.configuration = Configuration(
            api=api,
            unreachable=unreachable,
            namespace=str(inputs.get("namespace") or "default"),
            mutable=mutable,
            upserts=_flag(upserts),
            forces=_flag(forces),
        )

    def check(
        self, old: Mapping[str, Any], new: Mapping[str, Any], *, token: str, name: str, seed: bytes
    ) -> Properties:
        """The inputs with identity filled in: apiVersion and kind of the token, a name, a namespace."""
        group_version, kind = token.removeprefix("kubernetes:").rsplit(":", 1)
        unserved = group_version.startswith(("helm.sh/", "yaml", "kustomize"))
        waited = kind in FACTS["waiting"]["not_served"] and _annotations(new).get("pulumi.com/skipAwait") != "true"
        if unserved or waited or kind.endswith("Patch"):
            raise ProviderError(
                f"the fake kubernetes plugin does not serve {token}; install the official plugin: "
                f"pulumi plugin install resource kubernetes v{VERSION}"
            )
        checked = {**new, "apiVersion": group_version.removeprefix("core/"), "kind": kind}
        metadata = dict(checked.get("metadata") or {})
        before = old.get("metadata") or {}
        if not metadata.get("name"):
            kept = before.get("name") if (before.get("annotations") or {}).get(AUTONAMED) == "true" else None
            digits = hashlib.sha256(seed).hexdigest()[: FACTS["check"]["name_digits"]]
            metadata["name"] = kept or f"{name}-{digits}"
            metadata["annotations"] = {**(metadata.get("annotations") or {}), AUTONAMED: "true"}
        if not metadata.get("namespace") and kind not in FACTS["check"]["cluster_kinds"]:
            metadata["namespace"] = self.configuration.namespace
        return {**checked, "metadata": metadata}

    def replaces_unready(self, inputs: Properties) -> bool:
        """Whether ``pulumi.com/replaceUnready`` replaces this object: a Job that is there and is not complete. What
        cannot be reached does not fail it, as with the official plugin."""
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

    def preview_create(self, inputs: Properties, *, urn: str) -> Properties:
        """The new object as the server would store it; the inputs where it cannot be asked, or has it already."""
        api = self.configuration.api
        if api is None or has_unknown(inputs):
            return inputs
        try:
            reference = self._reference(inputs)
            try:
                live = self._write_new(reference, inputs, _manager(inputs), dry_run=True)
            except ApiError as error:
                if not (self.configuration.upserts and "field is immutable" in str(error)):
                    raise
                # What it replaces is still there.
                other = {
                    **inputs,
                    "metadata": {**inputs["metadata"], "name": f"{reference.name}{secrets.token_hex(3)}"},
                }
                live = self._write_new(self._reference(other), other, _manager(inputs), dry_run=True)
        except UnknownKindError:
            return inputs
        except ApiError as error:
            # The last one: its namespace is created by the same update.
            if error.reason in ("AlreadyExists", "Forbidden", "NotFound"):
                return inputs
            raise _not_created(urn, error, _manager(inputs)) from None
        return {key: value for key, value in _state(live, "").items() if key != "status"}

    def create(self, inputs: Properties, *, urn: str, seconds: float, status: Status) -> tuple[str, Properties]:
        """Writes a new object and waits for it."""
        manager = _manager(inputs)
        try:
            reference, live = self._create_patiently(inputs, manager)
            live = self._wait(reference, inputs, live, seconds, status)
        except ApiError as error:
            raise _not_created(urn, error, manager) from None
        except wait_for.WaitForError as error:
            raise _not_created(urn, ApiError(str(error)), manager) from None
        except UnreadyError as error:
            reason = (
                f'resource "{urn}" was successfully created, but the Kubernetes API server reported that it failed to '
                f"fully initialize or become live: {error}"
            )
            raise InitializationError(reference.id, _state(error.live, manager), [reason, *error.details]) from None
        return reference.id, _state(live, manager)

    def update(
        self,
        old: Properties,
        inputs: Properties,
        *,
        urn: str,
        seconds: float = 0,
        status: Status = lambda _: None,
        ignore: Sequence[str] = (),
        preview: bool = False,
    ) -> Properties:
        """Applies the changed object, but for the fields at the paths ``ignore``, and waits for it; in a preview, what
        the server would make of it. ``old`` is the state."""
        api = self.configuration.api
        if preview and (api is None or has_unknown(inputs)):
            return inputs
        api = self._api()
        before = old.get(FIELD_MANAGER) or _manager({})
        manager = _manager(inputs, before)
        try:
            reference = self._reference(inputs)
        except ApiError as error:
            if preview and isinstance(error, UnknownKindError):
                return inputs
            raise ProviderError(f'update of resource "{urn}" failed: {error}') from None
        try:
            live = self._apply_change(reference, inputs, manager, ignore, preview=preview)
            if preview:
                return _state(live, manager)
            live = self._wait(reference, inputs, live, seconds, status)
            if before != manager:
                identity = {"apiVersion": inputs["apiVersion"], "kind": inputs["kind"]}
                metadata = {key: live["metadata"][key] for key in ("name", "namespace") if key in live["metadata"]}
                api.apply(reference, {**identity, "metadata": metadata}, manager=before, force=False, dry_run=False)
        except (ApiError, UnreadyError, wait_for.WaitForError) as error:
            if preview and isinstance(error, ApiError) and error.reason == "Forbidden":
                return inputs
            raise self._not_updated(urn, reference, manager, error) from None
        return _state(live, manager)

    def read(
        self, resource_id: str, *, token: str, inputs: Properties, state: Properties
    ) -> tuple[str, Properties, Properties]:
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
            reference = self._reference(identity)
            live = api.get(reference)
        except UnknownKindError:
            live = None
        except ApiError as error:
            raise ProviderError(str(error)) from None
        if live is None:
            return "", {}, {}
        found = _state(live, state.get(FIELD_MANAGER, ""))
        if not inputs:
            return (
                resource_id,
                found,
                {key: value for key, value in found.items() if key not in ("status", FIELD_MANAGER)},
            )
        if kind in FACTS["waiting"]["read"] and _annotations(inputs).get("pulumi.com/skipAwait") != "true":
            self._require_ready(reference, live, found)
        return resource_id, found, pruned(found, normalized(inputs))

    def delete(self, resource_id: str, *, state: Properties, seconds: float, warn: Status = lambda _: None) -> None:
        """Deletes the object and waits until it is gone."""
        api = self._api()
        try:
            reference = self._reference(state)
            if api.get(reference) is None:
                return
            propagation = _annotations(state).get("pulumi.com/deletionPropagationPolicy", "foreground").title()
            api.delete(reference, propagation)
            skips = _annotations(state).get("pulumi.com/skipAwait") == "true"
            if skips and reference.kind.name in FACTS["waiting"]["skipped_on_delete"]:
                return
            deadline = time.monotonic() + _seconds(state, seconds)
            while (live := api.get(reference)) is not None:
                timed_out = time.monotonic() > deadline
                if timed_out or self.cancelled.wait(POLL_SECONDS):
                    finalizers = ", ".join(live["metadata"].get("finalizers", []))
                    warn(f"finalizers might be preventing deletion ({finalizers})")
                    manager = str(state.get(FIELD_MANAGER, ""))
                    reason = TIMED_OUT if timed_out else CANCELED
                    raise InitializationError(reference.id, _state(live, manager), [reason])
        except UnknownKindError:
            return  # its definition is gone, and all objects with it
        except ApiError as error:
            if error.status != 404:
                raise ProviderError(str(error)) from None

    def _api(self) -> Api:
        if self.configuration.api is None:
            raise ProviderError(f"configured Kubernetes cluster is unreachable: {self.configuration.unreachable}")
        return self.configuration.api

    def _reference(self, manifest: Mapping[str, Any]) -> Reference:
        kind = self._api().kind(manifest["apiVersion"], manifest["kind"])
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace") or self.configuration.namespace
        return Reference(kind, metadata["name"], namespace if kind.namespaced else None)

    def _write_new(self, reference: Reference, inputs: Properties, manager: str, *, dry_run: bool) -> Properties:
        """Creates it or, where the provider upserts, applies it to whatever is there."""
        written: Properties
        if self.configuration.upserts:
            force = dry_run or self._forces(inputs)
            written = self._api().apply(reference, inputs, manager=manager, force=force, dry_run=dry_run)
        else:
            written = self._api().create(reference, inputs, manager=FACTS["create"]["manager"], dry_run=dry_run)
        return written

    def _create_patiently(self, inputs: Properties, manager: str) -> tuple[Reference, Properties]:
        for attempt in range(KIND_ATTEMPTS):
            try:
                reference = self._reference(inputs)
                return reference, self._write_new(reference, inputs, manager, dry_run=False)
            except ApiError as error:
                if error.status != 404 or self.cancelled.wait(2**attempt / 4):
                    raise
        reference = self._reference(inputs)
        return reference, self._write_new(reference, inputs, manager, dry_run=False)

    def _apply_change(
        self, reference: Reference, inputs: Properties, manager: str, ignore: Sequence[str], *, preview: bool
    ) -> Properties:
        api = self._api()
        live: Properties = api.request("GET", reference.path)
        if not preview and live["metadata"].get("managedFields"):
            live = api.set_managers(reference, managed_fields.taken_over(live["metadata"]["managedFields"], manager))
        settled = managed_fields.settle(inputs, live, ignore, manager=manager)
        force = self._forces(inputs) or (preview and managed_fields.forced_in_preview(live))
        applied: Properties = api.apply(reference, settled, manager=manager, force=force, dry_run=preview)
        return applied

    def _forces(self, inputs: Properties) -> bool:
        return self.configuration.forces or _annotations(inputs).get("pulumi.com/patchForce") == "true"

    def _not_updated(self, urn: str, reference: Reference, manager: str, error: Exception) -> ProviderError:
        """The object as it is, with the error; without it where it cannot be read."""
        failed = f'update of resource "{urn}" failed: {_text(error, manager)}\nunable to get cluster state: '
        if isinstance(error, UnreadyError) and str(error) == CANCELED:
            return ProviderError(f"{failed}client rate limiter Wait returned an error: {CANCELED}")
        try:
            live = self._api().request("GET", reference.path)
        except ApiError as unread:
            return ProviderError(f"{failed}{unread}")
        reason = (
            f'the Kubernetes API server reported that "{reference.id}" failed to fully initialize or become live: '
            f"{_text(error, manager)}"
        )
        return InitializationError(reference.id, _state(live, manager), [reason, *getattr(error, "details", ())])

    def _require_ready(self, reference: Reference, live: Properties, state: Properties) -> None:
        try:
            missing = self._missing(reference, live)
        except readiness.FailedError as error:
            missing = [str(error)]
        if missing:
            reasons = [_failed(live), *readiness.pod_messages(self._pods(reference))]
            raise InitializationError(reference.id, state, [*reasons, *(text for text in missing if text[0] == "[")])

    def _wait(
        self, reference: Reference, inputs: Properties, live: Properties, seconds: float, status: Status
    ) -> Properties:
        """Polls until the object is ready; raises UnreadyError at the end of the time, or when it has failed. That it
        was deleted in between does not end the wait, and neither does a new object of its name."""
        annotations = _annotations(inputs)
        if annotations.get("pulumi.com/skipAwait") == "true":
            return live
        conditions = wait_for.parse(annotations["pulumi.com/waitFor"]) if "pulumi.com/waitFor" in annotations else ()
        deadline = time.monotonic() + _seconds(inputs, seconds)
        shown, told = set[str](), list[str]()
        while True:
            # First: the official plugin watches the pods, and has heard of their end before that of the Job.
            pods = [] if conditions else readiness.pod_messages(self._pods(reference))
            told += [text for text in pods if text not in told]
            try:
                missing = wait_for.unmet(conditions, live) if conditions else self._missing(reference, live)
            except readiness.FailedError as error:
                raise UnreadyError(live, _failed(live), *told, str(error)) from None
            if not missing:
                return live
            for text in [*missing, *pods, *self._warnings(live)]:
                if text and text not in shown:
                    shown.add(text)
                    status(text)
            if time.monotonic() > deadline:
                built_in = None if conditions else f"'{reference.name}' timed out waiting to be Ready"
                raise UnreadyError(live, built_in or TIMED_OUT, *told)
            if self.cancelled.wait(POLL_SECONDS):
                built_in = None if conditions else f'Resource operation was cancelled for "{reference.name}"'
                raise UnreadyError(live, built_in or CANCELED, *told)
            live = self._seen(reference, live)

    def _missing(self, reference: Reference, live: Properties) -> list[str]:
        if reference.kind.name not in FACTS["waiting"]["served"]:
            return []
        endpoints = self._api().endpoints_of(reference) if reference.kind.name == "Service" else None
        return readiness.unmet(live, endpoints)

    def _seen(self, reference: Reference, live: Properties) -> Properties:
        """The object now, or as it was where it cannot be seen, or only an earlier generation."""
        try:
            found = self._api().get(reference)
        except ApiError:
            return live
        if found is None or found["metadata"].get("generation", 0) < live["metadata"].get("generation", 0):
            return live
        return found

    def _pods(self, reference: Reference) -> list[Properties]:
        """Of a Job; of anything else, none."""
        try:
            return self._api().pods_of(reference) if reference.kind.name == "Job" else []
        except ApiError:
            return []

    def _warnings(self, live: Properties) -> list[str]:
        try:
            return self._api().warnings(live)
        except ApiError:
            return []


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


def _manager(inputs: Mapping[str, Any], otherwise: str = "") -> str:
    given = _annotations(inputs).get(FACTS["field_managers"]["annotation"]) or otherwise
    return given or f"{FACTS['field_managers']['prefix']}{secrets.token_hex(4)}"


def _seconds(manifest: Properties, seconds: float) -> float:
    annotated = _annotations(manifest).get("pulumi.com/timeoutSeconds")
    return seconds or float(annotated or FACTS["waiting"]["default_seconds"])


def _state(live: Properties, manager: str) -> Properties:
    """The live object without the server's book-keeping of managers, and with the name of this one."""
    metadata = {key: value for key, value in live["metadata"].items() if key != "managedFields"}
    return {**live, "metadata": metadata, **({FIELD_MANAGER: manager} if manager else {})}


def _flag(value: object) -> bool:
    return value in (True, "true")


def _failed(live: Properties) -> str:
    return f"Resource '{live['metadata']['name']}' was created but failed to initialize"


def _not_created(urn: str, error: ApiError, manager: str) -> ProviderError:
    text = _text(error, manager) + (EXISTS if error.reason == "AlreadyExists" else "")
    return ProviderError(f'resource "{urn}" was not successfully created by the Kubernetes API server: {text}')


def _text(error: Exception, manager: str) -> str:
    if not isinstance(error, ApiError) or error.reason != "Conflict":
        return str(error)
    link = (
        "https://www.pulumi.com/registry/packages/kubernetes/how-to-guides/managing-resources-with-server-side-apply/"
        "#handle-field-conflicts-on-existing-resources"
    )
    return (
        f"server-side apply field conflict detected, see {link} for troubleshooting help\n"
        f'The resource managed by field manager "{manager}" had an apply conflict: {error}'
    )
