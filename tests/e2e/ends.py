"""Ways in which a group of real pods ends, and what the program ``incidents`` says of it."""

import base64
import copy
import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from kubernetes import client

from tests.e2e.conftest import Project, eventually

LWS = ("leaderworkerset.x-k8s.io", "v1")
REVISION = "leaderworkerset.sigs.k8s.io/template-revision-hash"
CONFLICT = 409
STORE = "deepseek-r1-incidents"
LEADER, WORKER = "deepseek-r1-0", "deepseek-r1-0-1"


class Ends:
    """Of the group of ``project``; ``seconds`` are the longest wait for anything."""

    def __init__(self, project: Project, seconds: float) -> None:
        self.project, self._seconds = project, seconds
        self._template = copy.deepcopy(project.group()["spec"]["leaderWorkerTemplate"])
        self._known = list(map(_key, self.listed()))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self._seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.listed()}"
            time.sleep(1)

    def listed(self) -> list[dict[str, Any]]:
        """The list of ends, the latest last."""
        return list(json.loads((self._store().data or {}).get("ends", "[]")))

    def starts(self) -> list[dict[str, Any]]:
        """The measured starts, the latest last."""
        return list(json.loads((self._store().data or {}).get("starts", "[]")))

    def next(self, *, requested: bool) -> dict[str, Any]:
        """The first end that is listed since the last call and was requested, or was not."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.listed() if _key(one) not in self._known and one["requested"] is requested]

        self.until(lambda: bool(found()), "no end is listed")
        entry = found()[0]
        self._known.append(_key(entry))
        return entry

    def last(self) -> str:
        """The sentence about the last one."""
        return str(self._store().data["last"])

    def scale(self, replicas: int) -> None:
        self.project.custom.patch_namespaced_custom_object_scale(
            *LWS,
            self.project.namespace,
            "leaderworkersets",
            "deepseek-r1",
            {"spec": {"replicas": replicas}},
            field_manager="a-test",
        )

    def report(self, entry: dict[str, Any]) -> str:
        packed = base64.b64decode(self._store().binary_data[entry["report"]])
        return gzip.decompress(packed).decode()

    def reports(self) -> list[str]:
        """All that are kept, the oldest first."""
        packed = sorted((self._store().binary_data or {}).items())
        return [gzip.decompress(base64.b64decode(one)).decode() for _, one in packed]

    def ready(self) -> None:
        """Waits until both pods of the current template serve."""
        apps = client.AppsV1Api(self.project.core.api_client)

        def all_ready() -> bool:
            group = self.project.group()
            if group["status"].get("observedGeneration") != group["metadata"]["generation"]:
                return False
            leaders = apps.read_namespaced_stateful_set("deepseek-r1", self.project.namespace)
            pods = list(self.project.pods().values())
            if any(pod.metadata.labels[REVISION] != leaders.spec.template.metadata.labels[REVISION] for pod in pods):
                return False
            states = [status for pod in pods for status in pod.status.container_statuses or ()]
            going = [pod for pod in pods if pod.metadata.deletion_timestamp is not None]
            return len(states) == 2 and all(one.ready for one in states) and not going

        self.until(all_ready, "the group is not ready")
        self._known = list(map(_key, self.listed()))

    def process(self, pod: str) -> psutil.Process:
        """The first process of the container of a group's pod, as this machine sees it."""
        found = self.project.pods()[pod].metadata.uid
        return first_process(found)

    def watcher(self) -> psutil.Process:
        """The first process of the program's container."""
        label = "app.kubernetes.io/name=incidents"
        (pod,) = self.project.core.list_namespaced_pod(self.project.namespace, label_selector=label).items
        return first_process(pod.metadata.uid)

    def kubelet(self, node: str) -> psutil.Process:
        """Of a node, by its name."""
        (found,) = (p for p in psutil.process_iter() if _is_kubelet_of(p, node, self.project.folder))
        return found

    @contextmanager
    def changed(self, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
        """The template changed by hand, and put back at the end."""
        changed = copy.deepcopy(self._template)
        change(changed)
        self._replace(changed)
        try:
            yield
        finally:
            self._replace(self._template)

    def _replace(self, template: dict[str, Any]) -> None:
        def is_replaced() -> bool:
            group = self.project.group()
            group["spec"]["leaderWorkerTemplate"] = template
            try:
                self.project.custom.replace_namespaced_custom_object(
                    *LWS, self.project.namespace, "leaderworkersets", "deepseek-r1", group, field_manager="a-test"
                )
            except client.ApiException as error:
                if error.status == CONFLICT:
                    # The controller has written the status in between.
                    return False
                raise
            return True

        eventually(is_replaced)

    def _store(self) -> Any:
        return self.project.core.read_namespaced_config_map(STORE, self.project.namespace)


def first_process(uid: str) -> psutil.Process:
    """That of a pod's container, as this machine sees it."""
    for process in psutil.process_iter():
        status, groups = _read(process.pid, "status"), _read(process.pid, "cgroup")
        is_first = any(line.split()[-1] == "1" for line in status.splitlines() if line.startswith("NSpid"))
        if uid in groups.replace("_", "-") and is_first and process.name() != "pause":
            return process
    raise AssertionError(f"no process of the pod {uid}")


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    """Another one for an end that is counted as one more of the same kind."""
    return entry["uid"], entry.get("last", entry["at"])


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def _is_kubelet_of(process: psutil.Process, node: str, folder: Path) -> bool:
    try:
        return process.name() == "kubelet" and any(
            node in word and str(folder) in " ".join(process.cmdline()) for word in process.cmdline()
        )
    except psutil.Error:
        return False
