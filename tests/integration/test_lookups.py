"""What the program itself asks of the cluster and of OSS, of servers on this machine."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.live_bucket import bucket_exists
from components.live_cluster import METADATA_ONLY, LiveCluster, LookupFailedError
from deepseek_acs.settings.cloud import CloudSettings
from local.oss.server import OssServer
from tests.integration.conftest import BUCKET, REGION

pytestmark = pytest.mark.integration

TOKEN = "hidden-token"
RESOURCES = {
    "/api/v1": [("Namespace", "namespaces", False), ("Secret", "secrets", True), ("Secret", "secrets/status", True)],
    "/apis/leaderworkerset.x-k8s.io/v1": [("LeaderWorkerSet", "leaderworkersets", True)],
}
OBJECTS: dict[str, dict[str, Any]] = {
    "/api/v1/namespaces/deepseek": {"metadata": {"name": "deepseek"}},
    "/api/v1/namespaces/deepseek/secrets/key": {"metadata": {"name": "key"}},
    "/api/v1/namespaces/deepseek/configmaps/r1-incidents": {"metadata": {"name": "r1-incidents"}, "data": {"a": "b"}},
    "/apis/leaderworkerset.x-k8s.io/v1/namespaces/deepseek/leaderworkersets/r1": {"metadata": {"name": "r1"}},
    "/apis/batch/v1/namespaces/deepseek/jobs": {"items": [{"metadata": {"name": "model-upload-1"}}]},
    "/apis/batch/v1/namespaces/deepseek/jobs/model-upload-1": {},
}


class ApiServer(ThreadingHTTPServer):
    """Knows RESOURCES and OBJECTS, and forbids everything in the namespace or bucket ``secret``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, str | None, str | None]] = []
        self.breaks = False
        """Whether connections are closed without an answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self) -> None:
        if self.server.breaks:
            self.close_connection = True
            return
        accept, token = self.headers.get("Accept"), self.headers.get("Authorization")
        self.server.requests.append((self.command, self.path, accept, token))
        if "/secret/" in self.path:
            self._answer(403, {})
        elif self.path in RESOURCES:
            listed = [{"kind": kind, "name": name, "namespaced": own} for kind, name, own in RESOURCES[self.path]]
            self._answer(200, {"resources": listed})
        elif self.path in OBJECTS:
            self._answer(200, OBJECTS[self.path])
        else:
            self._answer(404, {})

    do_DELETE = do_GET  # noqa: N815 - the name that the class gives

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def kubeconfig(url: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }
    )


class TestCluster:
    @pytest.fixture(params=["contents", "file"])
    def cluster(self, request: pytest.FixtureRequest, server: ApiServer, tmp_path: Path) -> LiveCluster:
        text = kubeconfig(server.url)
        if request.param == "contents":
            return LiveCluster(text, "x")
        file = tmp_path / "kubeconfig"
        file.write_text(text)
        return LiveCluster(file, "x")

    def test_objects_of_every_kind_of_place(self, cluster: LiveCluster, server: ApiServer) -> None:
        assert cluster.metadata("v1", "Namespace", namespace=None, name="deepseek") == {"name": "deepseek"}
        assert cluster.metadata("v1", "Secret", namespace="deepseek", name="key") == {"name": "key"}
        group = ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
        assert cluster.metadata(*group, namespace="deepseek", name="r1") == {"name": "r1"}
        assert {token for *_, token in server.requests} == {f"Bearer {TOKEN}"}

    def test_texts_of_a_config_map(self, cluster: LiveCluster) -> None:
        assert cluster.config_map("deepseek", "r1-incidents") == {"a": "b"}
        assert cluster.config_map("deepseek", "other") is None

    def test_what_is_not_there(self, cluster: LiveCluster) -> None:
        assert cluster.metadata("v1", "Secret", namespace="deepseek", name="other") is None
        assert cluster.metadata("v1", "Unheard", namespace="deepseek", name="key") is None
        assert cluster.metadata("data.fluid.io/v1alpha1", "Dataset", namespace="deepseek", name="key") is None

    def test_content_of_a_secret_is_not_asked_for(self, cluster: LiveCluster, server: ApiServer) -> None:
        cluster.metadata("v1", "Secret", namespace="deepseek", name="key")
        assert [accept for _, path, accept, _ in server.requests if path.endswith("/key")] == [METADATA_ONLY]

    def test_kinds_are_asked_for_once(self, cluster: LiveCluster, server: ApiServer) -> None:
        assert cluster.serves("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
        assert not cluster.serves("leaderworkerset.x-k8s.io/v1", "Other")
        assert not cluster.serves("keda.sh/v1alpha1", "ScaledObject")
        assert not cluster.serves("keda.sh/v1alpha1", "TriggerAuthentication")
        assert len(server.requests) == 2

    def test_jobs(self, cluster: LiveCluster, server: ApiServer) -> None:
        (job,) = cluster.jobs("deepseek")
        cluster.delete_job("deepseek", job["metadata"]["name"])
        assert server.requests[-1][:2] == ("DELETE", "/apis/batch/v1/namespaces/deepseek/jobs/model-upload-1")

    def test_refusal(self, cluster: LiveCluster) -> None:
        with pytest.raises(LookupFailedError, match="status 403"):
            cluster.metadata("v1", "Secret", namespace="secret", name="key")

    def test_server_that_is_not_there_is_waited_for_once(self, server: ApiServer) -> None:
        url = server.url
        server.shutdown()
        server.server_close()
        cluster = LiveCluster(kubeconfig(url), None)
        with pytest.raises(LookupFailedError) as first:
            cluster.serves("v1", "Secret")
        with pytest.raises(LookupFailedError) as second:
            cluster.serves("v1", "Secret")
        assert first.value is second.value

    def test_server_that_has_answered_is_asked_again(self, cluster: LiveCluster, server: ApiServer) -> None:
        """One connection that breaks must not end all lookups of a long update."""
        assert cluster.serves("v1", "Secret")
        server.breaks = True
        with pytest.raises(LookupFailedError):
            cluster.metadata("v1", "Secret", namespace="deepseek", name="key")
        server.breaks = False
        assert cluster.metadata("v1", "Secret", namespace="deepseek", name="key") == {"name": "key"}

    @pytest.mark.parametrize("text", [f"token: {TOKEN}", f"token: [{TOKEN}", "", TOKEN])
    def test_kubeconfig_that_is_none_is_not_quoted(self, text: str) -> None:
        with pytest.raises(LookupFailedError, match="the kubeconfig cannot be used") as caught:
            LiveCluster(text, None).serves("v1", "Secret")
        assert TOKEN not in str(caught.value)
        assert caught.value.__cause__ is None


class TestBucket:
    def test_taken_or_free(self, oss: OssServer) -> None:
        cloud = CloudSettings(region=REGION, endpoint=oss.url)
        assert bucket_exists(cloud, BUCKET)
        assert not bucket_exists(cloud, "nobody-has-this")

    def test_refusal_that_is_not_of_oss_says_nothing(self, server: ApiServer) -> None:
        """But of a proxy, for example."""
        assert not bucket_exists(CloudSettings(region=REGION, endpoint=server.url), "secret")
        assert [path for _, path, _, _ in server.requests] == ["/secret/"]

    def test_without_a_way_there_nothing_is_known(self) -> None:
        # Port 9 of this machine: nothing listens there.
        assert not bucket_exists(CloudSettings(region=REGION, endpoint="http://127.0.0.1:9"), BUCKET)
