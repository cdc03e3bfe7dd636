"""REST access to objects of any kind, through the official client's configuration, authentication and connections."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, ApiException

Manifest = Mapping[str, Any]

TIMEOUT_SECONDS = 30
APPLY = "application/apply-patch+yaml"


class ApiError(Exception):
    """The API server refused a request, or there is none. ``status`` is the HTTP status, 0 if it was not reached."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class UnknownKindError(ApiError):
    """The cluster does not serve this kind (yet)."""


@dataclass(frozen=True)
class Kind:
    """``api_version`` is ``v1`` or ``group/version``, ``plural`` the name in URLs."""

    api_version: str
    name: str
    plural: str
    namespaced: bool


@dataclass(frozen=True)
class Reference:
    """One object."""

    kind: Kind
    name: str
    namespace: str | None

    @property
    def collection(self) -> str:
        prefix = (
            f"/api/{self.kind.api_version}" if "/" not in self.kind.api_version else f"/apis/{self.kind.api_version}"
        )
        namespace = f"/namespaces/{self.namespace}" if self.kind.namespaced else ""
        return f"{prefix}{namespace}/{self.kind.plural}"

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.name}"

    @property
    def id(self) -> str:
        """As the official plugin writes it: ``namespace/name``, or ``name`` for kinds of the whole cluster."""
        return f"{self.namespace}/{self.name}" if self.kind.namespaced else self.name

    def __str__(self) -> str:
        return f"{self.kind.name} {self.id}"


class Api:
    """One cluster, from a kubeconfig given as contents or as a path."""

    def __init__(self, kubeconfig: str, context: str | None) -> None:
        contents = yaml.safe_load(_contents(kubeconfig))
        if not isinstance(contents, dict):
            raise ApiError("the kubeconfig is neither the path of an existing file nor the contents of one")
        try:
            self._client: ApiClient = config.new_client_from_config_dict(contents, context=context)
        except config.ConfigException as error:
            raise ApiError(f"the kubeconfig cannot be used: {error}") from None
        self.server: str = self._client.configuration.host
        # One attempt, so that an unreachable server is reported at once.
        self._client.configuration.retries = False
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """The answer as JSON; raises ApiError with the API server's own message."""
        serialized = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._client.call_api(*serialized, _request_timeout=TIMEOUT_SECONDS)
            content = response.read()
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(f"the cluster at {self.server} is unreachable ({type(error).__name__})") from None
        if response.status >= 400:
            raise _api_error(response.status, content)
        return json.loads(content)

    def kind(self, api_version: str, name: str) -> Kind:
        """The kind, from the server's own list; raises UnknownKindError."""
        with self._lock:
            if (api_version, name) not in self._kinds:
                self._discover(api_version)
            if (api_version, name) not in self._kinds:
                raise UnknownKindError(f"the cluster does not know the kind {name} of {api_version}", status=404)
            return self._kinds[api_version, name]

    def _discover(self, api_version: str) -> None:
        prefix = "/api" if "/" not in api_version else "/apis"
        try:
            found = self.request("GET", f"{prefix}/{api_version}")
        except ApiError as error:
            if error.status == 404:
                return
            raise
        for item in found["resources"]:
            if "/" not in item["name"]:
                kind = Kind(api_version, item["kind"], item["name"], item["namespaced"])
                self._kinds[api_version, kind.name] = kind

    def get(self, reference: Reference) -> dict[str, Any] | None:
        """The live object, or None."""
        try:
            found: dict[str, Any] = self.request("GET", reference.path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    def create(self, reference: Reference, manifest: Manifest, *, manager: str, dry_run: bool) -> Any:
        """A plain create, which fails where the object exists."""
        query = {"fieldManager": manager, **({"dryRun": "All"} if dry_run else {})}
        return self.request("POST", reference.collection, body=manifest, query=query)

    def apply(self, reference: Reference, manifest: Manifest, *, manager: str, force: bool, dry_run: bool) -> Any:
        """Server-side apply; ``dry_run`` lets the server validate and default it without storing it."""
        query = {"fieldManager": manager, "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        return self.request("PATCH", reference.path, body=manifest, query=query, content_type=APPLY)

    def set_managers(self, reference: Reference, entries: list[dict[str, Any]]) -> Any:
        """Replaces ``metadata.managedFields``."""
        patch = [{"op": "replace", "path": "/metadata/managedFields", "value": entries}]
        return self.request("PATCH", reference.path, body=patch, content_type="application/json-patch+json")

    def delete(self, reference: Reference, propagation: str) -> None:
        """Asks for deletion; the object may live on until its finalizers are done."""
        self.request("DELETE", reference.path, body={"propagationPolicy": propagation})

    def pods_of(self, job: Reference) -> list[dict[str, Any]]:
        """The pods that a Job has made and that are still there, from the oldest to the newest."""
        found = self.request(
            "GET",
            f"/api/v1/namespaces/{job.namespace}/pods",
            query={"labelSelector": f"batch.kubernetes.io/job-name={job.name}"},
        )["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def endpoints_of(self, service: Reference) -> dict[str, Any] | None:
        """Of a Service, under its name."""
        return self.get(Reference(Kind("v1", "Endpoints", "endpoints", True), service.name, service.namespace))

    def warnings(self, live: Manifest) -> list[str]:
        """The Warning events of this very object, from the oldest to the newest."""
        namespace = live["metadata"].get("namespace", "default")
        fields = f"type=Warning,involvedObject.uid={live['metadata']['uid']}"
        found = self.request("GET", f"/api/v1/namespaces/{namespace}/events", query={"fieldSelector": fields})["items"]
        return [f"{event.get('reason')}: {event.get('message')}" for event in found]


def _contents(kubeconfig: str) -> str:
    # A path is short and has no line break; anything else is the contents, which must not reach an error.
    if "\n" not in kubeconfig and len(kubeconfig) < 4096:
        path = Path(kubeconfig).expanduser()
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return kubeconfig


def _api_error(status: int, content: bytes) -> ApiError:
    try:
        answer = json.loads(content)
    except ValueError:
        answer = {}
    message = answer.get("message") or f"the API server answered with status {status}"
    return ApiError(message, status=status, reason=answer.get("reason", ""))
