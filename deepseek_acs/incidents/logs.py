"""Follows the logs of containers, and keeps the last lines of each, in a file as well."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from deepseek_acs.apiserver import ApiError, ApiServer

from .redaction import Redaction
from .starts import Starts

SILENCE_SECONDS = 300
"""A connection over which nothing comes for longer may be dead, and is replaced."""

RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1, 60
"""Before a log that has ended is asked for again: at first the container may be restarted, later it has done its
work."""


class Journal:
    """The last ``most`` lines of one container, each with its time. The file survives a restart of the program."""

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._lock = path, threading.Lock()
        self._lines = deque(path.read_text(encoding="utf-8").splitlines() if path.exists() else (), maxlen=most)
        self._written = len(self._lines)

    def add(self, line: str) -> None:
        """Ignores a line that is not newer than the last one: after an interruption, the same come again."""
        with self._lock:
            if self._lines and not _is_newer(line, self._lines[-1]):
                return
            self._lines.append(line)
            self._written += 1
            if self._written <= 2 * (self._lines.maxlen or 1):
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(f"{line}\n")
                return
            new = self._path.with_suffix(".new")
            new.write_text("".join(f"{one}\n" for one in self._lines), encoding="utf-8")
            new.replace(self._path)
            self._written = len(self._lines)

    def lines(self) -> list[str]:
        with self._lock:
            return list(self._lines)

    def last_time(self) -> str | None:
        """As the kubelet wrote it; None without lines."""
        with self._lock:
            return self._lines[-1].partition(" ")[0] if self._lines else None

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class Logs:
    """The journals of all containers, in ``folder``. A thread follows each container until its pod is forgotten."""

    def __init__(
        self, api: ApiServer, namespace: str, folder: Path, *, most: int, redaction: Redaction, starts: Starts
    ) -> None:
        self._api, self._pods = api, f"/api/v1/namespaces/{namespace}/pods"
        self._folder, self._most, self._redaction, self._starts = folder, most, redaction, starts
        self._journals: dict[tuple[str, str], Journal] = {}
        self._followed: set[str] = set()

    def follow(self, pod: Mapping[str, Any], containers: list[str]) -> None:
        """Follows containers that are not followed yet."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        self._followed.add(uid)
        for container in containers:
            if (uid, container) in self._journals:
                continue
            journal = Journal(self._folder / f"{uid}.{container}.log", self._most)
            self._journals[uid, container] = journal
            arguments = (name, uid, container, journal)
            threading.Thread(target=self._follow, args=arguments, daemon=True).start()

    def of(self, uid: str) -> dict[str, list[str]]:
        """The last lines of a pod by container; also of one that was followed by an earlier run of the program."""
        found = {container: journal.lines() for (of, container), journal in self._journals.items() if of == uid}
        for path in self._folder.glob(f"{uid}.*.log"):
            container = path.name.removeprefix(f"{uid}.").removesuffix(".log")
            found.setdefault(container, Journal(path, self._most).lines())
        return dict(sorted(found.items()))

    def forget(self, uid: str) -> None:
        """Removes what is kept of a pod."""
        self._followed.discard(uid)
        for key in [key for key in self._journals if key[0] == uid]:
            self._journals.pop(key).remove()
        for path in self._folder.glob(f"{uid}.*.log"):
            path.unlink(missing_ok=True)

    def _follow(self, name: str, uid: str, container: str, journal: Journal) -> None:
        if journal.last_time() is None:
            # The container may have been restarted before this program was there.
            self._read(name, uid, container, journal, previous="true", tailLines=str(self._most))
        wait = RETRY_SECONDS
        while uid in self._followed:
            since = journal.last_time()
            bound = {"sinceTime": _whole_second(since)} if since else {"tailLines": str(self._most)}
            self._read(name, uid, container, journal, follow="true", **bound)
            wait = RETRY_SECONDS if journal.last_time() != since else min(2 * wait, LONGEST_RETRY_SECONDS)
            time.sleep(wait)
            if not self._is_there(name, uid):
                return

    def _read(self, name: str, uid: str, container: str, journal: Journal, **query: str) -> None:
        parameters = urlencode({"container": container, "timestamps": "true", **query})
        try:
            for line in self._api.stream(
                f"{self._pods}/{quote(name)}/log?{parameters}", silence_seconds=SILENCE_SECONDS
            ):
                at, _, text = line.decode("utf-8", "replace").rstrip("\r\n").partition(" ")
                # The kubelet writes its own errors into the stream, without a time.
                datetime.fromisoformat(at)
                journal.add(f"{at} {self._redaction.clean(text)}")
                self._starts.line(uid, at, text)
        except (ApiError, ValueError):
            return

    def _is_there(self, name: str, uid: str) -> bool:
        """Whether the pod of that name is still the same: its successor has the same name."""
        selection = quote(f"metadata.name={name}")
        try:
            found = self._api.get(f"{self._pods}?fieldSelector={selection}") or {}
        except ApiError:
            return True
        return any(one["metadata"]["uid"] == uid for one in found.get("items") or [])


def _is_newer(line: str, than: str) -> bool:
    """By time, and for the same microsecond by text: the kubelet writes nanoseconds, Python reads microseconds."""
    one, other = (datetime.fromisoformat(text.partition(" ")[0]) for text in (line, than))
    return one > other or (one == other and line > than)


def _whole_second(text: str) -> str:
    return datetime.fromisoformat(text).isoformat(timespec="seconds")
