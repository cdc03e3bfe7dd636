"""One pod from its start to its end, in a thread of its own."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from local.pod_runner import status
from local.pod_runner.container import Container, prepare
from local.pod_runner.sources import Manifest, MissingError, Sources, UnsupportedError
from local.pod_runner.status import Status

RETRY_SECONDS = 2
"""Between looks for something that is missing."""

Report = Callable[[Manifest, Status], None]

log = logging.getLogger("pod-runner")


class Worker:
    """Runs a pod that has not begun yet.

    :param folder: where its files and its log are.
    :param report: writes a status to the API server, for as long as it takes.
    """

    def __init__(self, pod: Manifest, *, folder: Path, sources: Sources, report: Report) -> None:
        metadata = pod["metadata"]
        self.name = f"{metadata['namespace']}/{metadata['name']}"
        self.finished = threading.Event()
        """Set before the last status is written."""
        self._pod = pod
        self._files = folder / f"{metadata['namespace']}_{metadata['name']}"
        self._log = self._files.with_name(f"{self._files.name}.log")
        self._sources = sources
        self._report = report
        self._stopped = threading.Event()
        self._disrupted = False
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killer: threading.Timer | None = None
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Ends the container: SIGTERM, and SIGKILL when the grace is over. Returns at once."""
        with self._lock:
            if self._stopped.is_set():
                return
            self._stopped.set()
            if self._process is not None:
                log.info("%s: stopping, %.0f s of grace", self.name, grace_seconds)
                self._signal(signal.SIGTERM)
                self._killer = threading.Timer(grace_seconds, self._signal, [signal.SIGKILL])
                self._killer.daemon = True
                self._killer.start()

    def abandon(self, grace_seconds: float) -> None:
        """Ends the container because the runner ends: without a last status."""
        self._disrupted = True
        self.stop(grace_seconds)

    def join(self) -> None:
        """Waits for the end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            last = self._last_status()
        except Exception as error:
            # Neither its text nor its traceback: what it is about may be a secret.
            log.error("%s: %s in the runner", self.name, type(error).__name__)
            last = status.terminated(
                self._pod,
                exit_code=status.START_ERROR,
                started=status.now(),
                message=f"{type(error).__name__} in the pod runner of the embedded cluster",
                reason="StartError",
            )
        shutil.rmtree(self._files, ignore_errors=True)
        self.finished.set()
        if not self._disrupted:
            self._report(self._pod, last)

    def _last_status(self) -> Status:
        started = status.now()
        try:
            container = self._prepared()
            process = self._begin(container)
        except UnsupportedError as error:
            log.info("%s: not supported: %s", self.name, error)
            return status.unsupported(str(error))
        except _StoppedError:
            return status.terminated(self._pod, exit_code=137, started=started, message="stopped before it began")
        except OSError as error:
            message = f"cannot start {error.filename}: {error.strerror}"
            log.info("%s: %s", self.name, message)
            return status.terminated(
                self._pod, exit_code=status.START_ERROR, started=started, message=message, reason="StartError"
            )
        log.info("%s: runs as process %d", self.name, process.pid)
        self._report(self._pod, status.running(self._pod, started))
        code = self._exit_code(process)
        log.info("%s: exit code %d", self.name, code)
        policy = self._pod["spec"]["containers"][0].get("terminationMessagePolicy")
        message = status.termination_message(
            container.termination_log, self._log, failed=code != 0, fallback=policy == "FallbackToLogsOnError"
        )
        return status.terminated(self._pod, exit_code=code, started=started, message=message)

    def _prepared(self) -> Container:
        """Raises UnsupportedError, _StoppedError."""
        said = ""
        while not self._stopped.is_set():
            shutil.rmtree(self._files, ignore_errors=True)
            try:
                return prepare(self._pod, self._files, self._sources)
            except MissingError as error:
                if str(error) != said:
                    said = str(error)
                    log.info("%s: %s", self.name, said)
                    self._report(self._pod, status.waiting(self._pod, said))
            self._stopped.wait(RETRY_SECONDS)
        raise _StoppedError

    def _begin(self, container: Container) -> subprocess.Popen[bytes]:
        """Raises OSError, _StoppedError."""
        with self._lock:
            if self._stopped.is_set():
                raise _StoppedError
            self._process = container.start(self._log)
            return self._process

    def _exit_code(self, process: subprocess.Popen[bytes]) -> int:
        """Waits for it. A signal counts as 128 plus its number."""
        # Its PID stays reserved until the second wait, so that no other process is killed.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            if self._killer is not None:
                self._killer.cancel()
            # Whatever it has started goes with it, as with a container.
            self._signal(signal.SIGKILL)
            code = process.wait()
        return code if code >= 0 else 128 - code

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class _StoppedError(Exception):
    """It was stopped before it began."""
