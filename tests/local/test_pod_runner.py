"""The pod runner: its parts with made-up pods, and Jobs on a real embedded cluster."""

import io
import json
import sys
import time
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import client, config

from deepseek_acs.modelmover.errors import CONTINUE_EXIT_CODES
from local import tools
from local.cluster import Cluster
from local.nodes import GpuNodes, ensure_nodes
from local.plugins.kubernetes.provider import FakeKubernetes, InitializationError
from local.pod_runner import status
from local.pod_runner.container import PYTHON, STANDARD_PATH, addressed, expanded, prepare, relocated
from local.pod_runner.sources import MissingError, UnsupportedError
from local.pod_runner.worker import Worker
from local.processes import Process

LABELS = {"app.kubernetes.io/name": "modelmover"}
SECRET = "hunter2-do-not-show"
EVENTUALLY_SECONDS = 60


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + EVENTUALLY_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class FakeSources:
    """A cluster of two dicts."""

    def __init__(self) -> None:
        self.config_maps: dict[str, dict[str, bytes]] = {"settings": {"colour": b"blue", "program.bin": b"\0\xff"}}
        self.secrets: dict[str, dict[str, bytes]] = {"credentials": {"KEY": SECRET.encode()}}

    def config_map(self, namespace: str, name: str) -> dict[str, bytes]:
        return self._found(self.config_maps, "configmap", name)

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        return self._found(self.secrets, "secret", name)

    def token(self, pod: Mapping[str, Any], audience: str | None, seconds: int) -> bytes:
        return f"token for {audience} of {pod['spec']['serviceAccountName']}, {seconds} s".encode()

    def api_server(self) -> tuple[str, str]:
        return "127.0.0.1", "6443"

    def address(self, namespace: str, service: str, port: int) -> str | None:
        return "127.0.0.1:9" if (namespace, service, port) == ("n", "leaders", 8000) else None

    def _found(self, kind: dict[str, dict[str, bytes]], word: str, name: str) -> dict[str, bytes]:
        if name not in kind:
            raise MissingError(f'{word} "{name}" not found')
        return kind[name]


def pod(*command: str, volumes: Any = (), **container: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "mover-0", "namespace": "n", "uid": "u-1", "labels": {"a/b": "c"}},
        "spec": {
            "restartPolicy": "Never",
            "nodeName": "node-0",
            "serviceAccountName": "mover",
            "volumes": list(volumes),
            "containers": [{"name": "main", "image": "any:1", "command": list(command or ("true",)), **container}],
        },
    }


class TestContainer:
    @pytest.mark.parametrize(
        ("text", "result"),
        [("$(A)/x", "1/x"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("$A $(A)$(A)", "$A 11"), ("$$$(A)", "$1")],
    )
    def test_variables_are_expanded_as_kubernetes_does(self, text: str, result: str) -> None:
        assert expanded(text, {"A": "1"}) == result

    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("/opt/mover/x.pyz", "/here/a/x.pyz"),
            ("/opt/mover", "/here/a"),
            ("--folder=/opt/mover/sub", "--folder=/here/b"),
            ("cat /opt/mover/x; ls '/opt/mover'", "cat /here/a/x; ls '/here/a'"),
            ("/opt/mover-2/x", "/opt/mover-2/x"),
            ("oss://bucket/opt/mover/x", "oss://bucket/opt/mover/x"),
            ("https://hub/opt/mover", "https://hub/opt/mover"),
        ],
    )
    def test_only_paths_at_the_start_of_words_are_relocated(self, text: str, result: str) -> None:
        # A folder below another mount's path, as a second replacement would find it.
        places = {"/opt/mover": Path("/here/a"), "/opt/mover/sub": Path("/here/b"), "/here": Path("/elsewhere")}
        assert relocated(text, places) == result

    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("--url=http://leaders.n.svc.cluster.local:8000/v1", "--url=http://127.0.0.1:9/v1"),
            ("http://leaders.n.svc.cluster.local:8001", "http://leaders.n.svc.cluster.local:8001"),
            ("http://others.n.svc.cluster.local:8000", "http://others.n.svc.cluster.local:8000"),
            ("leaders.n.svc.cluster.local", "leaders.n.svc.cluster.local"),
        ],
    )
    def test_only_services_of_engines_are_played_here(self, text: str, result: str) -> None:
        assert addressed(text, FakeSources()) == result

    def test_environment(self, tmp_path: Path) -> None:
        env = [
            {"name": "PLAIN", "value": "$(KEY)-$(PRE_colour)-$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}},
            {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "credentials", "key": "KEY"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "credentials", "key": "no", "optional": True}}},
        ]
        sources = [
            {"secretRef": {"name": "credentials"}},
            {"configMapRef": {"name": "settings"}, "prefix": "PRE_"},
            {"configMapRef": {"name": "nosuch", "optional": True}},
        ]
        folder = tmp_path / "pod"
        found = prepare(pod("echo", "$(COLOUR)", env=env, envFrom=sources), folder, FakeSources())
        assert found.command == ["echo", "blue"]
        assert {name: value for name, value in found.environment.items() if not name.startswith("PRE_")} == {
            "PATH": STANDARD_PATH,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": "6443",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "KEY": SECRET,
            "PLAIN": f"{SECRET}-blue-$(LATER)",
            "LATER": "x",
            "NAME": "mover-0",
            "LABEL": "c",
            "COLOUR": "blue",
            "TOKEN": SECRET,
        }
        assert SECRET not in repr(found)

    def test_python_is_this_interpreter_without_packages(self, tmp_path: Path) -> None:
        volumes = [{"name": "v", "configMap": {"name": "settings"}}]
        mounts = [{"name": "v", "mountPath": "/opt/v"}]
        made = pod("python3", "/opt/v/program.bin", volumes=volumes, volumeMounts=mounts)
        found = prepare(made, tmp_path / "pod", FakeSources())
        assert found.command == [*PYTHON, str(tmp_path / "pod" / "volumes" / "v" / "program.bin")]
        assert PYTHON[0] != sys.executable, "that is the virtual environment's"

    def test_volumes(self, tmp_path: Path) -> None:
        projected = [
            {"serviceAccountToken": {"path": "token", "audience": "sts", "expirationSeconds": 600}},
            {"configMap": {"name": "settings", "items": [{"key": "colour", "path": "deep/colour"}]}},
            {"secret": {"name": "nosuch", "optional": True}},
            {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]
        volumes = [
            {"name": "all", "projected": {"sources": projected, "defaultMode": 0o400}},
            {"name": "secret", "secret": {"secretName": "credentials"}},
            {"name": "program", "configMap": {"name": "settings", "defaultMode": 0o755}},
            {"name": "scratch", "emptyDir": {}},
        ]
        prepare(pod(volumes=volumes), tmp_path / "pod", FakeSources())
        found = tmp_path / "pod" / "volumes"
        assert (found / "all" / "token").read_text() == "token for sts of mover, 600 s"
        assert (found / "all" / "deep" / "colour").read_text() == "blue"
        assert (found / "all" / "ns").read_text() == "n"
        assert (found / "secret" / "KEY").read_text() == SECRET
        assert (found / "program" / "program.bin").read_bytes() == b"\0\xff"
        assert list((found / "scratch").iterdir()) == []
        assert (found / "all" / "token").stat().st_mode & 0o777 == 0o400
        assert (tmp_path / "pod").stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"volumes": [{"name": "v", "configMap": {"name": "nosuch"}}]}, 'configmap "nosuch" not found'),
            (
                {"volumes": [{"name": "v", "secret": {"secretName": "credentials", "items": [{"key": "x"}]}}]},
                'secret "credentials" has no key "x"',
            ),
            ({"envFrom": [{"secretRef": {"name": "nosuch"}}]}, 'secret "nosuch" not found'),
            (
                {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}]},
                'couldn\'t find key x in configmap "n/settings"',
            ),
        ],
    )
    def test_what_is_missing_is_named(self, change: dict[str, Any], message: str, tmp_path: Path) -> None:
        with pytest.raises(MissingError) as caught:
            prepare(pod(**change), tmp_path / "pod", FakeSources())
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("spec", "container", "message"),
        [
            ({"initContainers": [{}]}, {}, "init containers"),
            ({"restartPolicy": "OnFailure"}, {}, "the restartPolicy OnFailure; write Never"),
            ({"activeDeadlineSeconds": 5}, {}, "activeDeadlineSeconds of a pod; write that of the Job"),
            ({"containers": [{}, {}]}, {}, "several containers"),
            ({}, {"command": []}, "a container without command"),
            ({}, {"livenessProbe": {}, "lifecycle": {}}, "lifecycle, livenessProbe of a container"),
            ({}, {"volumeMounts": [{"mountPath": "/m", "subPath": "x"}]}, "the subPath of the mount /m"),
            ({"volumes": [{"name": "v", "hostPath": {}}]}, {}, "the volume v of the kind hostPath"),
            ({"volumes": [{"name": "v", "projected": {"sources": [{"x": 1}]}}]}, {}, "the projection of x"),
            (
                {},
                {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {}}}]},
                "resourceFieldRef of the variable A",
            ),
            (
                {},
                {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]},
                "the field status.podIP; those that are:",
            ),
        ],
    )
    def test_what_is_not_supported_is_named(
        self, spec: dict[str, Any], container: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        made = pod(**container)
        made["spec"].update(spec)
        with pytest.raises(UnsupportedError) as caught:
            prepare(made, tmp_path / "pod", FakeSources())
        assert str(caught.value).startswith(message)


class TestTerminationMessage:
    @pytest.mark.parametrize(
        ("own", "failed", "fallback", "message"),
        [
            ("mine", True, True, "mine"),
            (None, True, False, ""),
            (None, False, True, ""),
            (None, True, True, "".join(f"{n}\n" for n in range(20, 100))),
        ],
    )
    def test_own_file_or_end_of_the_log(
        self, own: str | None, failed: bool, fallback: bool, message: str, tmp_path: Path
    ) -> None:
        file, log = tmp_path / "termination-log", tmp_path / "log"
        log.write_text("".join(f"{n}\n" for n in range(100)))
        if own is not None:
            file.write_text(own)
        assert status.termination_message(file, log, failed=failed, fallback=fallback) == message

    def test_limits_in_bytes(self, tmp_path: Path) -> None:
        file, log = tmp_path / "termination-log", tmp_path / "log"
        log.write_text("x" * 5000)
        assert len(status.termination_message(file, log, failed=True, fallback=True)) == status.LOG_BYTES
        file.write_text("x" * 5000)
        assert len(status.termination_message(file, log, failed=True, fallback=True)) == status.MESSAGE_BYTES


class Run:
    """One pod with a worker, and what was reported."""

    def __init__(self, made: dict[str, Any], folder: Path, sources: FakeSources | None = None) -> None:
        self.reports: list[dict[str, Any]] = []
        self.folder = folder
        self.worker = Worker(
            made,
            folder=folder,
            sources=sources or FakeSources(),
            report=lambda pod, new: self.reports.append(json.loads(json.dumps(new))),
        )
        self.worker.start()

    @property
    def log(self) -> str:
        return (self.folder / "n_mover-0.log").read_text()

    def end(self) -> dict[str, Any]:
        self.worker.join()
        last: dict[str, Any] = self.reports[-1]
        return last

    def state(self) -> dict[str, Any]:
        (container,) = self.end()["containerStatuses"]
        return {key: value for key, value in container["state"].items() if value is not None}


@pytest.mark.integration
class TestWorker:
    def test_success(self, tmp_path: Path) -> None:
        run = Run(pod("sh", "-c", "echo done > /dev/termination-log; env; pwd"), tmp_path)
        assert run.end()["phase"] == "Succeeded"
        assert [report["phase"] for report in run.reports] == ["Running", "Succeeded"]
        running = run.reports[0]
        assert running["containerStatuses"][0]["ready"]
        assert {c["type"]: c["status"] for c in running["conditions"]} == {
            "Initialized": "True",
            "Ready": "True",
            "ContainersReady": "True",
        }
        state = run.state()["terminated"]
        assert (state["exitCode"], state["reason"], state["message"]) == (0, "Completed", "done\n")
        variables = {line.split("=")[0] for line in run.log.splitlines() if "=" in line}
        of_every_pod = {"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}
        assert variables - {"_", "PWD", "SHLVL", "OLDPWD"} == {"PATH", "HOME", "TMPDIR", *of_every_pod}, (
            "nothing is inherited"
        )
        assert not (tmp_path / "n_mover-0").exists(), "its secrets go with it"

    def test_failure_shows_the_end_of_the_log(self, tmp_path: Path) -> None:
        made = pod("sh", "-c", "echo no such model >&2; exit 66", terminationMessagePolicy="FallbackToLogsOnError")
        run = Run(made, tmp_path)
        assert run.end()["phase"] == "Failed"
        state = run.state()["terminated"]
        assert (state["exitCode"], state["reason"], state["message"]) == (66, "Error", "no such model\n")

    def test_command_that_does_not_exist(self, tmp_path: Path) -> None:
        state = Run(pod("no-such-program"), tmp_path).state()["terminated"]
        assert (state["exitCode"], state["reason"]) == (128, "StartError")
        assert state["message"] == "cannot start no-such-program: No such file or directory"

    def test_unexpected_error_names_only_its_kind(self, tmp_path: Path) -> None:
        sources = FakeSources()
        sources.secrets["credentials"] = {"KEY": f"{SECRET}\0".encode()}
        made = pod(envFrom=[{"secretRef": {"name": "credentials"}}])
        state = Run(made, tmp_path, sources).state()["terminated"]
        assert state["message"] == "ValueError in the pod runner of the embedded cluster"

    def test_not_supported(self, tmp_path: Path) -> None:
        last = Run(pod(workingDir="/x"), tmp_path).end()
        assert (last["phase"], last["reason"]) == ("Failed", "Unsupported")
        assert "does not support workingDir of a container" in last["message"]

    def test_missing_secret_is_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("local.pod_runner.worker.RETRY_SECONDS", 0.01)
        sources = FakeSources()
        run = Run(pod(envFrom=[{"secretRef": {"name": "later"}}]), tmp_path, sources)
        eventually(lambda: bool(run.reports))
        sources.secrets["later"] = {}
        assert run.end()["phase"] == "Succeeded"
        assert [report["phase"] for report in run.reports] == ["Pending", "Running", "Succeeded"]
        waiting = run.reports[0]["containerStatuses"][0]["state"]["waiting"]
        assert waiting == {"reason": "CreateContainerConfigError", "message": 'secret "later" not found'}

    def test_stop_before_the_start(self, tmp_path: Path) -> None:
        run = Run(pod(envFrom=[{"secretRef": {"name": "never"}}]), tmp_path)
        eventually(lambda: bool(run.reports))
        run.worker.stop(30)
        assert run.state()["terminated"]["message"] == "stopped before it began"

    @pytest.mark.parametrize(
        ("trap", "grace", "exit_code"), [("trap 'exit 7' TERM", 30, 7), ("trap '' TERM", 0.1, 137)]
    )
    def test_stop_asks_and_then_kills_all_of_it(self, trap: str, grace: float, exit_code: int, tmp_path: Path) -> None:
        # The child ignores SIGTERM in both cases, and holds nothing that the parent waits for.
        child = "(trap '' TERM; while :; do sleep 0.05; done) & echo $!"
        run = Run(pod("sh", "-c", f"{trap}; {child}; while :; do sleep 0.05; done"), tmp_path)
        eventually(lambda: len(run.reports) == 1 and run.log.endswith("\n"))
        run.worker.stop(grace)
        assert run.state()["terminated"]["exitCode"] == exit_code
        eventually(lambda: not _runs(int(run.log.splitlines()[0])))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# ---- on a real cluster ----------------------------------------------------------------------------------------------


def zipped(source: str) -> str:
    """A Python program as one file, in base64."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", source)
    return b64encode(archive.getvalue()).decode()


class Jobs:
    """A cluster with one node, and Jobs that run a Python program out of a ConfigMap."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        api = config.new_client_from_config(str(cluster.kubeconfig))
        self.core: Any = client.CoreV1Api(api)
        self.batch: Any = client.BatchV1Api(api)

    def program(self, name: str, source: str) -> None:
        self.core.create_namespaced_config_map(
            "default", {"metadata": {"name": name}, "binaryData": {"program.pyz": zipped(source)}}
        )

    def run(self, name: str, source: str, **options: Any) -> None:
        self.program(name, source)
        self.batch.create_namespaced_job("default", self.manifest(name, **options))

    def manifest(
        self,
        name: str,
        *,
        labels: Mapping[str, str] = LABELS,
        backoff_limit: int = 0,
        env: Any = (),
        env_from: Any = (),
    ) -> dict[str, Any]:
        """A Job whose program is in the ConfigMap with its name."""
        container = {
            "name": "main",
            "image": "any:1",
            "command": ["python3", "/opt/program/program.pyz"],
            "env": list(env),
            "envFrom": list(env_from),
            "volumeMounts": [{"name": "program", "mountPath": "/opt/program"}],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
        template = {
            "metadata": {"labels": dict(labels)},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "containers": [container],
                "volumes": [{"name": "program", "configMap": {"name": name}}],
            },
        }
        rules = [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "Ignore", "onExitCodes": {"operator": "In", "values": list(CONTINUE_EXIT_CODES)}},
        ]
        spec = {"backoffLimit": backoff_limit, "podFailurePolicy": {"rules": rules}, "template": template}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "namespace": "default", "annotations": {"pulumi.com/replaceUnready": "true"}},
            "spec": spec,
        }

    def kill(self, part: str) -> None:
        process = Process(name=part, command=(), folder=self.cluster.folder).running()
        assert process is not None
        process.kill()
        process.wait()

    def condition(self, name: str, kind: str) -> Any:
        conditions = self.batch.read_namespaced_job(name, "default").status.conditions or []
        return next((c for c in conditions if c.type == kind and c.status == "True"), None)

    def until(self, name: str, kind: str) -> Any:
        eventually(lambda: self.condition(name, kind) is not None)
        return self.condition(name, kind)

    def pods(self, name: str) -> list[Any]:
        found = self.core.list_namespaced_pod("default", label_selector=f"batch.kubernetes.io/job-name={name}").items
        return sorted(found, key=lambda pod: pod.metadata.creation_timestamp)

    def log(self, pod: Any) -> str:
        path = self.cluster.folder / "pods" / f"default_{pod.metadata.name}.log"
        return path.read_text() if path.exists() else ""

    def running(self, name: str) -> tuple[Any, int]:
        """The pod and the process of a program that prints its number."""
        eventually(lambda: any(self.log(pod).endswith("\n") for pod in self.pods(name)))
        (pod,) = self.pods(name)
        eventually(lambda: self.core.read_namespaced_pod(pod.metadata.name, "default").status.phase == "Running")
        return pod, int(self.log(pod).splitlines()[0])


PRINT = "import os, time\nprint(os.getpid(), flush=True)\n"
PRINT_AND_WAIT = f"{PRINT}time.sleep(600)\n"


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    tools.build_all(tools.CLUSTER_TOOLS)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    nodes = GpuNodes(count=0, series="", resource="x.y/gpu", gpus_per_pod=1, region="r")
    ensure_nodes(cluster.kubeconfig, nodes, kubelet_port=cluster.kubelet_port)
    yield Jobs(cluster)
    cluster.stop(delete=True)


@pytest.mark.e2e
@pytest.mark.slow
class TestOnCluster:
    def test_job_succeeds_with_its_environment_and_token(self, jobs: Jobs) -> None:
        source = (
            "import os, sys\n"
            "token = open(os.environ['TOKEN']).read()\n"
            "print(os.environ['KEY'] == os.environ['COPY'], token.count('.'), [p for p in sys.path if 'site-' in p])"
        )
        jobs.core.create_namespaced_secret("default", {"metadata": {"name": "key"}, "stringData": {"KEY": SECRET}})
        # The volume that the API server adds to every pod.
        token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
        env = [{"name": "COPY", "value": "$(KEY)"}, {"name": "TOKEN", "value": token}]
        jobs.run("good", source, env=env, env_from=[{"secretRef": {"name": "key"}}])
        jobs.until("good", "Complete")
        (pod,) = jobs.pods("good")
        assert jobs.log(pod) == "True 2 []\n"
        assert pod.status.phase == "Succeeded"
        assert pod.status.container_statuses[0].state.terminated.reason == "Completed"
        assert SECRET not in Process(name="pod-runner", command=(), folder=jobs.cluster.folder).log.read_text()

    def test_permanent_failure_ends_the_job_and_says_why(self, jobs: Jobs) -> None:
        jobs.run("hopeless", "import sys\nprint('no such model')\nsys.exit(66)")
        assert jobs.until("hopeless", "Failed").reason == "BackoffLimitExceeded"
        (pod,) = jobs.pods("hopeless")
        state = pod.status.container_statuses[0].state.terminated
        assert (state.exit_code, state.message) == (66, "no such model\n")

    def test_pod_that_moved_a_part_is_followed_by_one_that_continues(self, jobs: Jobs, tmp_path: Path) -> None:
        """Twice, although no failure is allowed."""
        program = f"""
import pathlib, sys
runs = pathlib.Path({str(tmp_path / "runs")!r})
with runs.open("a") as file:
    file.write("x")
sys.exit(75 if len(runs.read_text()) < 3 else 0)
"""
        jobs.run("unfinished", program)
        jobs.until("unfinished", "Complete")
        assert (tmp_path / "runs").read_text() == "xxx"

    def test_other_failures_are_retried_up_to_the_limit(self, jobs: Jobs) -> None:
        jobs.run("unlucky", "raise SystemExit(1)", backoff_limit=1)
        assert jobs.until("unlucky", "Failed").reason == "BackoffLimitExceeded"
        assert [pod.status.phase for pod in jobs.pods("unlucky")] == ["Failed", "Failed"]

    def test_missing_secret_is_shown_and_waited_for(self, jobs: Jobs) -> None:
        jobs.run("early", "", env_from=[{"secretRef": {"name": "late"}}])

        def reason() -> str | None:
            states = [s.state.waiting for pod in jobs.pods("early") for s in pod.status.container_statuses or []]
            return states[0].reason if states and states[0] else None

        eventually(lambda: reason() == "CreateContainerConfigError")
        jobs.core.create_namespaced_secret("default", {"metadata": {"name": "late"}})
        jobs.until("early", "Complete")

    def test_other_pods_are_left_to_kwok(self, jobs: Jobs) -> None:
        jobs.run("other", "raise SystemExit(1)", labels={"app.kubernetes.io/name": "other"})
        jobs.until("other", "Complete")
        (pod,) = jobs.pods("other")
        assert jobs.log(pod) == ""

    def test_deletion_ends_the_process_and_then_the_pod(self, jobs: Jobs) -> None:
        jobs.run("long", PRINT_AND_WAIT)
        pod, pid = jobs.running("long")
        jobs.batch.delete_namespaced_job("long", "default", propagation_policy="Foreground")
        eventually(lambda: jobs.pods("long") == [])
        assert not _runs(pid)
        assert not (jobs.cluster.folder / "pods" / f"default_{pod.metadata.name}").exists()

    def test_killed_runner_counts_as_a_disruption(self, jobs: Jobs) -> None:
        source = f"import os\nif os.path.exists({str(jobs.cluster.folder / 'again')!r}): raise SystemExit\n"
        jobs.run("disrupted", source + PRINT_AND_WAIT)
        pod, pid = jobs.running("disrupted")
        jobs.kill("pod-runner")
        eventually(lambda: not _runs(pid))
        (jobs.cluster.folder / "again").touch()
        jobs.cluster.start()
        jobs.until("disrupted", "Complete")
        first, second = jobs.pods("disrupted")
        assert first.metadata.uid == pod.metadata.uid
        assert (first.status.phase, second.status.phase) == ("Failed", "Succeeded")
        assert ("DisruptionTarget", "True") in [(c.type, c.status) for c in first.status.conditions]
        assert "the pod runner" in first.status.message.lower()

    def test_end_is_reported_although_the_api_server_was_away(self, jobs: Jobs) -> None:
        may_end = jobs.cluster.folder / "may-end"
        jobs.run("patient", f"{PRINT}import os.path\nwhile not os.path.exists({str(may_end)!r}): time.sleep(0.05)")
        _, pid = jobs.running("patient")
        jobs.kill("kube-apiserver")
        may_end.touch()
        eventually(lambda: not _runs(pid))
        jobs.cluster.start()
        jobs.until("patient", "Complete")
        jobs.run("after", "")
        jobs.until("after", "Complete")

    def test_stand_in_for_the_kubernetes_plugin(self, jobs: Jobs) -> None:
        """A Job that fails, as ``pulumi up`` meets it, and the next ``pulumi up``."""
        fake = FakeKubernetes()
        fake.configure({"kubeconfig": str(jobs.cluster.kubeconfig)})
        shown: list[str] = []

        def create(inputs: dict[str, Any]) -> None:
            fake.create(inputs, urn=f"urn:{inputs['metadata']['name']}", seconds=60, status=shown.append)

        def program(source: str) -> dict[str, Any]:
            return {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "moved", "namespace": "default"},
                "binaryData": {"program.pyz": zipped(source)},
            }

        job = jobs.manifest("moved")
        create(program("import sys\nprint('no such model')\nsys.exit(66)"))
        with pytest.raises(InitializationError) as caught:
            create(job)
        assert caught.value.reasons[0].endswith("Resource 'moved' was created but failed to initialize")
        assert caught.value.reasons[-1].startswith("[BackoffLimitExceeded] Job has reached")
        (pod,) = jobs.pods("moved")
        assert f"[Pod {pod.metadata.name}]: [Error] no such model" in [text.strip() for text in caught.value.reasons]
        assert any(text.startswith('Waiting for Job "moved" to succeed') for text in shown)
        assert fake.replaces_unready(job)
        fake.delete("default/moved", state=job, seconds=60)
        fake.update({}, program("print('moved')"), urn="urn:moved")
        create(job)
        assert not fake.replaces_unready(job)

    def test_stop_of_the_cluster_leaves_no_process(self, jobs: Jobs) -> None:
        jobs.run("last", PRINT_AND_WAIT)
        _, pid = jobs.running("last")
        jobs.cluster.stop()
        assert not _runs(pid)
