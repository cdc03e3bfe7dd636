"""The web services of a local stack: OSS and RAM in the place of the cloud, and a model hub. Real servers with data on
this machine's disk, at the addresses that the stack file gives."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from local.processes import Process, ProcessError, ProcessStatus, listens, locked, python_process, wait_until

START_SECONDS = 30

MODULES = {"oss": "local.oss", "hub": "local.hubs"}
"""In the order of start."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service.

    :param name: a key of ``MODULES``.
    :param setting: where the stack file gives its address.
    :param url: the address, on this machine.
    :param options: arguments of its program, besides port and data.
    """

    name: str
    setting: str
    url: str
    options: tuple[str, ...] = ()


class Services:
    """The services whose data are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def start(self, wanted: Iterable[Service]) -> None:
        """Starts those that do not run and waits until they answer. Raises ProcessError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self._folder):
            for service in wanted:
                self._start(service)

    def stop(self) -> None:
        """Ends all of them, and keeps their data."""
        if self._folder.exists():
            with locked(self._folder):
                for process in self._known():
                    process.stop()

    def status(self) -> list[ProcessStatus]:
        """Those that were started and not stopped."""
        return [process.status() for process in self._known() if process.was_started]

    def _known(self) -> list[Process]:
        return [Process(name=name, command=(), folder=self._folder) for name in MODULES]

    def _start(self, service: Service) -> None:
        port = _port(service)
        process = python_process(
            service.name,
            MODULES[service.name],
            f"--port={port}",
            f"--data={self._folder / service.name}",
            *service.options,
            folder=self._folder,
        )
        running = process.running()
        if running is not None and running.cmdline() != process.command:
            # The stack file has another address for it since.
            process.stop()
            running = None
        if running is None and listens(port):
            raise ProcessError(
                f"{service.setting} is {service.url}, but another program holds the port {port}. Stop that program, or "
                f"write another port into {service.setting} of the stack file."
            )
        process.start()
        wait_until(f"{service.url} answers", lambda: _answers(service.url), seconds=START_SECONDS, process=process)


def _port(service: Service) -> int:
    parts = urlsplit(service.url)
    if parts.scheme != "http" or parts.port is None:
        raise ProcessError(
            f"{service.setting} is {service.url}: the services of this machine are served by plain HTTP at a port; "
            f"write it as http://127.0.0.1:PORT"
        )
    return parts.port


def _answers(url: str) -> bool:
    with contextlib.suppress(URLError, OSError), urlopen(f"{url.rstrip('/')}/-/health", timeout=5) as response:  # noqa: S310
        return bool(response.status == 200)
    return False
