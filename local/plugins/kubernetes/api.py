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
    def path(self) -> str:
        prefix = (
            f"/api/{self.kind.api_version}" if "/" not in self.kind.api_version else f"/apis/{self.kind.api_version}"
        )
        namespace = f"/namespaces/{self.namespace}" if self.kind.namespaced else ""
        return f"{prefix}{namespace}/{self.kind.plural}/{self.name}"

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

    def request(self, method: str, path: str, *, body: object = None, query: Mapping[str, str] | None = None) -> Any:
        """The answer as JSON; raises ApiError with the API server's own message."""
        content_type = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
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

    def apply(self, reference: Reference, manifest: Manifest, *, manager: str, force: bool, dry_run: bool) -> Any:
        """Server-side apply; ``dry_run`` lets the server validate and default it without storing it."""
        query = {"fieldManager": manager, "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        return self.request("PATCH", reference.path, body=manifest, query=query)

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

    def warnings(self, reference: Reference, *, most: int = 5) -> list[str]:
        """The latest Warning events of the object and of what it made (by the prefix of the name)."""
        if not reference.kind.namespaced:
            return []
        found = self.request(
            "GET", f"/api/v1/namespaces/{reference.namespace}/events", query={"fieldSelector": "type=Warning"}
        )["items"]
        ours = [e for e in found if e["involvedObject"].get("name", "").startswith(reference.name)]
        return [f"{e['involvedObject']['kind']} {e['involvedObject']['name']}: {e['message']}" for e in ours[-most:]]


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
