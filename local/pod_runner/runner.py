"""Follows the pods, and has a worker for each."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

from kubernetes import client, watch

from local.pod_runner import LABEL, PROGRAMS, status
from local.pod_runner.sources import REQUEST_SECONDS, UNREACHABLE, ClusterSources, Manifest, short
from local.pod_runner.worker import Worker

WATCH_SECONDS = 300
"""Length of one watch; then all is listed again, so that nothing is missed for longer."""

RETRY_SECONDS = 1
STOP_SECONDS = 5
"""Grace of the containers when the runner itself ends."""

PATCH = "application/strategic-merge-patch+json"

log = logging.getLogger("pod-runner")


class Runner:
    """Runs the pods of the cluster behind ``api`` that carry the label; their files and logs are below ``folder``, and
    the Services of engines are played at ``engine``."""

    def __init__(self, api: Any, folder: Path, engine: str) -> None:
        self._api = api
        self._folder = folder
        self._sources = ClusterSources(api, engine)
        self._workers: dict[str, Worker] = {}
        """By uid, until the pod is gone."""
        self._stopping = threading.Event()

    def follow(self) -> None:
        """Watches until the process ends; an API server that is away is waited for."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Scheduled ones alone: the API server sends a pod when it becomes one.
        selection = {"label_selector": f"{LABEL} in ({','.join(PROGRAMS)})", "field_selector": "spec.nodeName!="}
        while not self._stopping.is_set():
            try:
                self._watch(selection)
            except UNREACHABLE as error:
                log.info("the API server does not answer: %s", short(error))
                self._stopping.wait(RETRY_SECONDS)

    def stop(self) -> None:
        """Ends all containers and waits for them. Their pods get their last status from the next runner."""
        self._stopping.set()
        workers = list(self._workers.values())
        for worker in workers:
            worker.abandon(STOP_SECONDS)
        for worker in workers:
            worker.join()

    def _watch(self, selection: dict[str, str]) -> None:
        response = self._api.list_pod_for_all_namespaces(
            **selection, _preload_content=False, _request_timeout=REQUEST_SECONDS
        )
        listed = json.loads(response.data)
        present = {pod["metadata"]["uid"] for pod in listed["items"]}
        for uid in self._workers.keys() - present:
            self._gone(uid)
        for pod in listed["items"]:
            self._see(pod)
        events = watch.Watch().stream(
            self._api.list_pod_for_all_namespaces,
            **selection,
            resource_version=listed["metadata"]["resourceVersion"],
            timeout_seconds=WATCH_SECONDS,
            deserialize=False,
            _request_timeout=WATCH_SECONDS + REQUEST_SECONDS,
        )
        for event in events:
            if event["type"] == "ERROR":
                raise client.ApiException(status=event["object"].get("code"), reason=event["object"].get("reason"))
            if event["type"] == "DELETED":
                self._gone(event["object"]["metadata"]["uid"])
            else:
                self._see(event["object"])

    def _see(self, pod: Manifest) -> None:
        metadata = pod["metadata"]
        worker = self._workers.get(metadata["uid"])
        deleted = "deletionTimestamp" in metadata
        if worker is not None and not worker.finished.is_set():
            if deleted:
                worker.stop(metadata.get("deletionGracePeriodSeconds", 0))
        elif deleted:
            if worker is not None:
                worker.join()
            self._delete(pod)
        elif worker is None and not self._stopping.is_set():
            self._begin(pod)

    def _begin(self, pod: Manifest) -> None:
        phase = pod.get("status", {}).get("phase", "Pending")
        if phase == "Running":
            # Of a runner before this one, whose processes ended with it.
            log.info("%s/%s: its runner was stopped", pod["metadata"]["namespace"], pod["metadata"]["name"])
            self._report(pod, status.disrupted(pod))
        elif phase == "Pending":
            worker = Worker(pod, folder=self._folder, sources=self._sources, report=self._report)
            worker.start()
            self._workers[pod["metadata"]["uid"]] = worker

    def _gone(self, uid: str) -> None:
        """The pod was deleted without waiting for it."""
        worker = self._workers.pop(uid, None)
        if worker is not None:
            worker.stop(0)

    def _delete(self, pod: Manifest) -> None:
        """The last word of a kubelet: all has ended, the object may go."""
        metadata = pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        try:
            self._api.delete_namespaced_pod(
                metadata["name"], metadata["namespace"], body=body, _request_timeout=REQUEST_SECONDS
            )
        except client.ApiException as error:
            if error.status not in (404, 409):
                raise

    def _report(self, pod: Manifest, new: status.Status) -> None:
        metadata = pod["metadata"]
        # With the uid: another pod may have the name by now.
        body = {"metadata": {"uid": metadata["uid"]}, "status": new}
        while not self._stopping.is_set():
            try:
                self._api.patch_namespaced_pod_status(
                    metadata["name"],
                    metadata["namespace"],
                    body,
                    _content_type=PATCH,
                    _request_timeout=REQUEST_SECONDS,
                )
                return
            except UNREACHABLE as error:
                if isinstance(error, client.ApiException) and error.status in (404, 409, 422):
                    if error.status == 422:
                        log.error("%s: the API server refuses its status", metadata["name"])
                    return
                self._stopping.wait(RETRY_SECONDS)
