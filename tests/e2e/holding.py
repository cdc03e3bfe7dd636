"""Requests that are held open, so that a test acts at exactly that moment."""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kubernetes import client

from local.certificates import Certificates
from tests.e2e.conftest import Project, eventually

WEBHOOK_SECONDS = 30
"""The longest that the API server waits for a webhook."""
NAME = "held-by-a-test"


@contextmanager
def held_by_service(project: Project, service: str, method: str, path: str) -> Iterator[Callable[[], None]]:
    """Holds the first request to ``oss`` or ``hub`` that matches, and serves it at the end. What is given waits for
    it."""
    project.control(service, "POST", "faults", [{"action": "hold", "method": method, "path": path}])
    try:
        yield lambda: eventually(lambda: project.control(service, "GET", "faults") != [0])
    finally:
        project.control(service, "DELETE", "faults")


@contextmanager
def held_by_api_server(project: Project, operation: str, resource: str) -> Iterator[Callable[[], None]]:
    """Holds the engine's first ``operation`` on a ``resource``, by an admission webhook, and admits it at the end. What
    is given waits for it."""
    with _Webhook(project) as webhook:
        api = client.AdmissionregistrationV1Api(project.api)
        api.create_validating_webhook_configuration(webhook.configuration(operation, resource))
        try:
            # The API server takes it up in its own time; a dry run shows when it has.
            eventually(lambda: webhook.is_asked_about_a_dry_run(project))
            yield lambda: eventually(webhook.holds.is_set)
        finally:
            webhook.released.set()
            api.delete_validating_webhook_configuration(NAME)


class _Webhook(ThreadingHTTPServer):
    def __init__(self, project: Project) -> None:
        super().__init__(("127.0.0.1", 0), _Review)
        self.holds, self.released, self.was_asked = threading.Event(), threading.Event(), threading.Event()
        certificates = Certificates(project.cluster.folder / "certificates")
        self._authority = certificates.authority.certificate.read_bytes()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server.certificate, certificates.server.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> "_Webhook":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: the client of a held request may be gone."""

    def configuration(self, operation: str, resource: str) -> dict[str, Any]:
        rules = [
            {"apiGroups": ["*"], "apiVersions": ["*"], "operations": [what], "resources": [of]}
            for what, of in ((operation, resource), ("CREATE", "configmaps"))
        ]
        webhook = {
            "name": f"{NAME}.example.com",
            "clientConfig": {
                "url": f"https://127.0.0.1:{self.server_port}/",
                "caBundle": base64.b64encode(self._authority).decode(),
            },
            "rules": rules,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore",
            "timeoutSeconds": WEBHOOK_SECONDS,
        }
        return {"metadata": {"name": NAME}, "webhooks": [webhook]}

    def is_asked_about_a_dry_run(self, project: Project) -> bool:
        project.core.create_namespaced_config_map("default", {"metadata": {"name": NAME}}, dry_run="All")
        return self.was_asked.is_set()

    def review(self, request: dict[str, Any]) -> None:
        self.was_asked.set()
        from_the_engine = request["userInfo"]["username"] == "deepseek-local-admin"
        if request.get("dryRun") or not from_the_engine or request["kind"]["kind"] == "ConfigMap":
            return
        if not self.holds.is_set():
            self.holds.set()
            self.released.wait(WEBHOOK_SECONDS)


class _Review(BaseHTTPRequestHandler):
    server: _Webhook

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        self.server.review(request)
        answer = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {"uid": request["uid"], "allowed": True},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""
