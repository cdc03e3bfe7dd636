"""An update by a second revision, with requests under way all the time: none of them is lost.

Real nodes, so that pods end as they do elsewhere; the requests go through the emulator of a Gateway. One stack through
its life, in the order of the file: each test begins where the one before it ended.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from kubernetes.stream import portforward

from local import tools
from local.real_nodes.requirements import problem
from tests.e2e.conftest import ROOT, Project, left_in_namespace, make_project

LACKING = problem((ROOT, tools.cache_directory()))
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

KEY = "0123456789abcdef" * 4
HOST = "llm.example.com"
CLIENTS = 4
ENGINE = {"image": "vllm/vllm-openai:v0.33.0", "backend": "mp", "maxModelLen": 2048}
NEW_ENGINE = {**ENGINE, "image": "vllm/vllm-openai:v0.33.0-cu129"}
OLD, NEW = "deepseek-r1", "deepseek-r1-cu129"
ROUTES = ("gateway.networking.k8s.io", "v1")
UPDATE = {"revision": "cu129", "engine": NEW_ENGINE}
SOON_SECONDS = 120


def soon(condition: Callable[[], bool], seconds: float = SOON_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Up with new groups, so that the nodes have room and images for them. From then on ``pulumi`` alone is called:
    ``make`` would make other nodes for other settings."""
    tools.build_all(tools.NODE_TOOLS)
    found = make_project(tmp_path_factory.mktemp("updates"), "local")
    found.variables["NODES"] = "real"
    found.change(inference={"engine": ENGINE, "lifecycle": {"requestSeconds": 30}}, update=UPDATE)
    try:
        found.run("up")
        yield found
    finally:
        found.stop()


def up(project: Project, *options: str, command: str = "up", fails: bool = False) -> str:
    """``pulumi up``, or another command."""
    exports = [line for line in project.run("env").splitlines() if line.startswith("export ")]
    words = ["pulumi", command, "--stack", project.stack, *([] if command == "preview" else ["--yes"]), *options]
    if command == "up":
        words.append("--skip-preview")
    done = subprocess.run(
        ["bash", "-c", "\n".join([*exports, 'exec "$@"']), "pulumi", *words],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert (done.returncode != 0) is fails, output
    return output


@pytest.fixture(scope="module")
def gateway(project: Project) -> Iterator[int]:
    """The port of the emulator, which needs the cluster."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local.gateway", "--kubeconfig", str(project.cluster.kubeconfig)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    yield int(process.stdout.readline().rsplit(":", 1)[1])
    process.kill()
    process.wait()


def leaders(project: Project, group: str) -> dict[str, Any]:
    """Pods by name."""
    selector = f"leaderworkerset.sigs.k8s.io/name={group},leaderworkerset.sigs.k8s.io/worker-index=0"
    found = project.core.list_namespaced_pod(project.namespace, label_selector=selector).items
    return {pod.metadata.name: pod for pod in found}


def uids(project: Project, group: str) -> set[str]:
    found = project.core.list_namespaced_pod(
        project.namespace, label_selector=f"leaderworkerset.sigs.k8s.io/name={group}"
    )
    return {pod.metadata.uid for pod in found.items}


def groups(project: Project) -> set[str]:
    found = project.custom.list_namespaced_custom_object(
        "leaderworkerset.x-k8s.io", "v1", project.namespace, "leaderworkersets"
    )
    return {group["metadata"]["name"] for group in found["items"]}


def weights(project: Project) -> dict[str, int]:
    """Of the route, by Service."""
    (route,) = project.custom.list_namespaced_custom_object(*ROUTES, project.namespace, "httproutes")["items"]
    return {backend["name"]: backend.get("weight", 1) for backend in route["spec"]["rules"][0]["backendRefs"]}


def fault(project: Project, group: str, **rule: Any) -> None:
    """In the engines of a group, from now on; without a rule, the faults end."""
    for name in leaders(project, group):
        forward = portforward(
            project.core.connect_get_namespaced_pod_portforward, name, project.namespace, ports="8000"
        )
        connection = http.client.HTTPConnection("localhost", 8000)
        connection.sock = forward.socket(8000)
        body = json.dumps([{"times": None, "path": "^/v1/chat", **rule}]) if rule else None
        connection.request("POST" if rule else "DELETE", "/-/faults", body)
        assert connection.getresponse().status == 204
        connection.close()


def answer_slowly(project: Project, group: str) -> None:
    """So that requests are under way at every moment."""
    fault(project, group, action="delay", seconds=1.5)


@dataclass
class Traffic:
    """What the clients have got: pods that answered, and what went wrong."""

    answered: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def reaches(self, group: str) -> bool:
        return any(pod.startswith(f"{group}-") and pod.count("-") == group.count("-") + 1 for pod in self.answered)


@contextmanager
def traffic(port: int) -> Iterator[Traffic]:
    """Clients that ask without a pause."""
    found, ended = Traffic(), threading.Event()
    body = json.dumps({"model": "ds", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    headers = {"Host": HOST, "Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}

    def ask() -> None:
        while not ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status == 200 and b"choices" in content:
                    found.answered.append(str(answer.getheader("X-Backend-Pod")))
                else:
                    found.lost.append(f"{answer.status} {content[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                found.lost.append(repr(error))
            finally:
                connection.close()

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_route_to_the_old_groups(project: Project, gateway: int) -> None:
    project.pulumi("stack", "select", "--create", project.stack)
    project.pulumi("config", "set", "--stack", project.stack, "--secret", "deepseek:apiKey", given=KEY)
    route = {"kind": "gateway", "name": "public", "sectionName": "http", "plainHttp": True, "host": HOST}
    project.change(service={"kind": "clusterIP", "apiKey": True, "route": route}, update=None)
    up(project)
    assert groups(project) == {OLD}
    assert weights(project) == {"ds-leader": 1}
    with traffic(gateway) as found:
        soon(lambda: len(found.answered) > CLIENTS)
    assert found.lost == []
    answer_slowly(project, OLD)


def update(project: Project, gateway: int, **settings: Any) -> tuple[Traffic, str]:
    """``pulumi up`` under traffic, which goes on until the new weights have had an effect."""
    project.change(update={**UPDATE, **settings})
    with traffic(gateway) as found:
        soon(lambda: len(found.answered) > CLIENTS)
        output = up(project)
        if any(leaders(project, NEW)):
            answer_slowly(project, NEW)
        before = len(found.answered)
        soon(lambda: len(found.answered) > before + 5 * CLIENTS)
        found.answered = found.answered[before + CLIENTS :]
    return found, output


def test_new_groups_without_requests(project: Project, gateway: int) -> None:
    old = uids(project, OLD)
    found, output = update(project, gateway, weight=0)
    assert f"revision  {NEW} gets 0 % of the requests: 1 group, vLLM 0.33.0, tensor 8 × pipeline 2" in output
    assert "its GPUs  16 GU8TF in addition to 16 of deepseek-r1, of the account" in output
    assert found.lost == []
    assert not found.reaches(NEW)
    assert weights(project) == {"ds-leader": 100, "ds-leader-cu129": 0}
    assert uids(project, OLD) == old
    service = project.core.read_namespaced_service("ds-leader-cu129", project.namespace)
    assert service.spec.selector == {"leaderworkerset.sigs.k8s.io/name": NEW, "role": "leader"}


def test_new_groups_with_a_part_of_the_requests(project: Project, gateway: int) -> None:
    new = uids(project, NEW)
    found, _ = update(project, gateway, weight=25)
    assert found.lost == []
    assert found.reaches(OLD)
    assert found.reaches(NEW)
    assert uids(project, NEW) == new
    assert f"{NEW}: 1 of 1 replicas ready, Available" in project.run("verify")


def test_errors_take_the_requests_away(project: Project, gateway: int) -> None:
    limits = {"leastRequests": 5}
    found, _ = update(project, gateway, weight=50, limits=limits)
    assert found.lost == []
    fault(project, NEW)
    fault(project, NEW, action="answer", status=500)
    with traffic(gateway):
        soon(lambda: weights(project) == {"ds-leader": 100 - 50, "ds-leader-cu129": 0})
    status = project.core.read_namespaced_config_map("deepseek-r1-canaryguard", project.namespace).data
    assert status["putBack"].startswith("weight of ds-leader-cu129 set from 50 to 0: ")
    assert f"requests were answered with status 5xx by {NEW} in 5 min" in status["putBack"]
    events = project.core.list_namespaced_event(project.namespace).items
    assert [e.reason for e in events if e.reporting_component == "deepseek-canaryguard"] == ["PutBack"]
    with traffic(gateway) as found:
        soon(lambda: len(found.answered) > 5 * CLIENTS)
    assert found.lost == []
    assert not found.reaches(NEW)
    assert f"{NEW} gets no requests any more: weight of" in project.run("verify", fails=True)
    up(project, "--expect-no-changes")
    assert weights(project)["ds-leader-cu129"] == 0
    fault(project, NEW)


def test_all_requests_and_back_again(project: Project, gateway: int) -> None:
    old, new = uids(project, OLD), uids(project, NEW)
    found, _ = update(project, gateway, weight=100)
    assert found.lost == []
    assert not found.reaches(OLD)
    found, _ = update(project, gateway, weight=0)
    assert found.lost == []
    assert not found.reaches(NEW)
    assert (uids(project, OLD), uids(project, NEW)) == (old, new)


def test_promotion(project: Project, gateway: int) -> None:
    new = uids(project, NEW)
    update(project, gateway, weight=100)
    found, output = update(project, gateway, weight=100, promote=True)
    assert found.lost == []
    assert not found.reaches(OLD)
    assert "move engine to deployment.inference.engine, write revision: cu129 into deployment.inference" in output
    assert groups(project) == {NEW}
    assert uids(project, NEW) == new, "no model was loaded again"
    assert weights(project) == {"ds-leader-cu129": 1}


def test_the_sections_are_moved_in_the_stack_file(project: Project) -> None:
    new = uids(project, NEW)
    project.change(update=None, inference={"engine": NEW_ENGINE, "revision": "cu129"})
    assert "effect    nothing: no object changes" in up(project, command="preview")
    assert "~ 1 updated" in up(project), "the record of the settings"
    assert uids(project, NEW) == new
    assert "The endpoint answers." in project.run("verify")


def test_groups_with_requests_do_not_change(project: Project) -> None:
    project.change(update={"revision": "next", "engine": ENGINE, "weight": 10})
    up(project)
    project.change(update={"engine": {**ENGINE, "maxModelLen": 1024}})
    for command in ("preview", "up"):
        output = " ".join(up(project, command=command, fails=True).split())
        assert "the pods of deepseek-r1-next would change while the route sends requests to them" in output
        assert "write another deployment.update.revision" in output
    project.change(update={"weight": 0})
    up(project)
    project.change(update=None)
    up(project)
    assert groups(project) == {NEW}


def test_nothing_is_left(project: Project) -> None:
    project.run("destroy")
    assert left_in_namespace(project) == {"kube-root-ca.crt"}
