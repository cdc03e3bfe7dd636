"""``python -m local.gateway --port N --kubeconfig FILE``: serves until it is terminated."""

import argparse
import http.client
import json
import sys
import threading
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.stream import portforward

from local.gateway.table import Pod, Table, rules_of

LOOK_SECONDS = 0.5
ANSWER_SECONDS = 120
ROUTES = ("gateway.networking.k8s.io", "v1", "httproutes")
CONTROLLER = "deepseek.local/gateway"
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
"""https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1"""


class Controller:
    """Looks at the cluster, and accepts its routes."""

    def __init__(self, kubeconfig: Path, table: Table) -> None:
        api = config.new_client_from_config(str(kubeconfig))
        self._custom, self._discovery = client.CustomObjectsApi(api), client.DiscoveryV1Api(api)
        self._api, self._table = api, table

    def look(self) -> None:
        """Once. Raises client.ApiException, urllib3.exceptions.HTTPError."""
        group, version, plural = ROUTES
        routes = self._custom.list_cluster_custom_object(group, version, plural)["items"]
        slices = self._discovery.list_endpoint_slice_for_all_namespaces(_preload_content=False)
        self._table.update(rules_of(routes, json.loads(slices.data)["items"]))
        for route in routes:
            if not (route.get("status") or {}).get("parents"):
                self._accept(route)

    def _accept(self, route: Any) -> None:
        group, version, plural = ROUTES
        metadata = route["metadata"]
        accepted = {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "",
            "observedGeneration": metadata["generation"],
            "lastTransitionTime": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        parents = [
            {"parentRef": parent, "controllerName": CONTROLLER, "conditions": [accepted]}
            for parent in route["spec"]["parentRefs"]
        ]
        self._custom.patch_namespaced_custom_object_status(
            group, version, metadata["namespace"], plural, metadata["name"], {"status": {"parents": parents}}
        )

    def watch(self, ended: threading.Event) -> None:
        """Until ``ended``."""
        while not ended.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception as error:  # of the client, of urllib3: the next look may succeed
                print(f"looking again: {type(error).__name__}", file=sys.stderr, flush=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, kubeconfig: Path, table: Table, *arguments: Any) -> None:
        self._kubeconfig, self._table = kubeconfig, table
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pod = self._table.choose((self.headers.get("Host") or "").split(":")[0], self.path.split("?")[0])
        if isinstance(pod, int):
            self._say(pod, b"no route, or no pod of its backend is ready")
            return
        try:
            status, headers, content = self._asked(pod, body)
        except (OSError, http.client.HTTPException, client.ApiException) as error:
            self._say(502, f"{pod.name}: {type(error).__name__}".encode())
            return
        self._say(status, content, {**headers, "X-Backend-Pod": pod.name})

    def _asked(self, pod: Pod, body: bytes) -> tuple[int, dict[str, str], bytes]:
        # A client of its own: the one of the cluster is changed by a port-forward while it lasts.
        api = client.CoreV1Api(config.new_client_from_config(str(self._kubeconfig)))
        forward = portforward(api.connect_get_namespaced_pod_portforward, pod.name, pod.namespace, ports=str(pod.port))
        connection = http.client.HTTPConnection("localhost", pod.port)
        connection.sock = forward.socket(pod.port)
        connection.sock.settimeout(ANSWER_SECONDS)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            connection.request(self.command, self.path, body or None, kept)
            answer = connection.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
            return answer.status, headers, answer.read()
        finally:
            connection.close()
            forward.close()

    def _say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.gateway", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: any free one)")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="of the cluster whose routes it serves")
    arguments = parser.parse_args()
    table, ended = Table(), threading.Event()
    controller = Controller(arguments.kubeconfig, table)
    threading.Thread(target=controller.watch, args=[ended], daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), partial(_Handler, arguments.kubeconfig, table))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
