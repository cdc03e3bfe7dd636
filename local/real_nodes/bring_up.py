"""Starts and stops the nodes, and gives them their images."""

import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from local import tools
from local.processes import Process, ProcessError, ProcessStatus, python_process, wait_until
from local.real_nodes import cgroups, configuration, contents
from local.real_nodes.images import NAME, Image, full_name, unique, write_image
from local.real_nodes.namespaces import network_of
from local.real_nodes.node import write_configuration
from local.real_nodes.plan import NODES, WITHOUT_PROXY, NodePlan, Plan
from local.real_nodes.relay import EGRESS_SOCKET
from local.real_nodes.relay_client import CONTROL_SOCKET

COMPANIONS = {"runc": "containerd", "ctr": "containerd", "pause": "ptp"}
"""Programs, each by the one that it comes with."""

NETWORK, DNS = "nodes-network", "coredns"
NODE_PROCESSES = tuple(f"node-{letter}" for letter in "abcdefgh"[:NODES])
START_SECONDS = 90
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
NO_SPACE = "no space left on device"
UNAVAILABLE = ("unavailable", "connection error", "error reading from server")
"""gRPC's words for a server that has gone, or is not there."""

KEPT_ARCHIVES = 8
"""Of a kind of image, those that were used last: each version of the program makes its own, of 80 MB."""

IMPORTS = 3
"""Of one image, if containerd ends in the middle of it."""

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ImageNames:
    """Names that a stack gives to images: of the engine, of Jobs, which need Python, and of a real vLLM."""

    engine: tuple[str, ...]
    jobs: tuple[str, ...]
    vllm: tuple[str, ...] = ()


class ImageError(ProcessError):
    """An image cannot be made or imported; the text says what to do."""


class ContainerdEndedError(ImageError):
    """It has ended in the middle of an import."""


class RealNodes:
    """The nodes of the cluster in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._cluster = folder
        self.folder = folder / "nodes"
        self.cgroup = cgroups.group_of(folder)

    def known(self) -> list[Process]:
        """All processes, in the order of start."""
        names = (NETWORK, DNS, *NODE_PROCESSES)
        return [Process(name=name, command=(), folder=self._cluster) for name in names]

    def status(self) -> list[ProcessStatus]:
        """Those that were started and not stopped."""
        return [process.status() for process in self.known() if process.was_started]

    def stop(self) -> None:
        """Ends all, and removes what a killed node has left. Raises OSError."""
        for process in reversed(self.known()):
            process.stop()
        with contextlib.suppress(FileNotFoundError):
            cgroups.remove(self.cgroup)

    def start(self, plan: Plan, images: ImageNames, say: Report) -> list[tuple[NodePlan, Process]]:
        """Starts what does not run, with all images in place, and gives the nodes, which may not be ready yet. Raises
        ProcessError, ImageError."""
        archives = list(archives_of(images, Path(plan.binaries["pause"]), say, engine=Path(plan.engine)))
        network = self._start_network(plan)
        self._write_files(plan)
        command = [plan.binaries["coredns"], "-conf", str(self.folder / "Corefile")]
        within = ["nsenter", f"--net={network_of(network)}"]
        Process(name=DNS, command=[*within, *command], folder=self._cluster, environment=WITHOUT_PROXY).start()
        found = [(node, self._start_node(plan, name, node, network)) for name, node in self._named(plan)]
        for node, process in found:
            for archive in archives:
                self._import(Path(plan.binaries["ctr"]), node, process, archive, say)
        return found

    def _import(self, ctr: Path, node: NodePlan, process: Process, archive: Path, say: Report) -> None:
        for left in reversed(range(IMPORTS)):
            wait_until("containerd answers", partial(_answers, process), seconds=START_SECONDS, process=process)
            try:
                import_image(ctr, _containerd(process), archive, self.folder / node.name, say)
                return
            except ContainerdEndedError:
                # The node starts it again.
                if not left:
                    raise

    def _start_network(self, plan: Plan) -> int:
        """The bridge and the relay. Their process, whose network namespace it is."""
        path = self.folder / "plan.json"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        plan.write(path)
        network = python_process(NETWORK, "local.real_nodes.network", str(path), folder=self._cluster)
        if network.running() is None or path.read_text(encoding="utf-8") != before:
            # The nodes have lost their links with it, or are told something else.
            self.stop()
            for name in (CONTROL_SOCKET, EGRESS_SOCKET):
                (self.folder / name).unlink(missing_ok=True)
        network.start()
        wait_until("it relays", (self.folder / CONTROL_SOCKET).exists, seconds=START_SECONDS, process=network)
        running = network.running()
        if running is None:
            raise ProcessError(f"{NETWORK} has ended; its log is {network.log}")
        return running.pid

    def _start_node(self, plan: Plan, name: str, node: NodePlan, network: int) -> Process:
        arguments = (str(self.folder / "plan.json"), node.name, str(network))
        process = python_process(name, "local.real_nodes.node", *arguments, folder=self._cluster)
        if process.running() is None:
            # What a killed node has left.
            cgroups.remove(f"{self.cgroup}/{node.name}")
        process.start()
        return process

    def _named(self, plan: Plan) -> Iterator[tuple[str, NodePlan]]:
        yield from zip(NODE_PROCESSES, plan.nodes, strict=True)

    def _write_files(self, plan: Plan) -> None:
        plugins = self.folder / "cni-plugins"
        plugins.mkdir(exist_ok=True)
        plugin = plugins / configuration.CNI_PLUGIN
        plugin.write_text(configuration.cni_plugin_script(), encoding="utf-8")
        plugin.chmod(0o755)
        corefile = configuration.corefile(self.folder / "coredns.kubeconfig")
        (self.folder / "Corefile").write_text(corefile, encoding="utf-8")
        for node in plan.nodes:
            write_configuration(plan, node, self.folder)


def binaries_of(built: Mapping[str, Path]) -> dict[str, str]:
    """All programs of the nodes by name, of tools that were built."""
    companions = {name: tools.companion(built[other], name) for name, other in COMPANIONS.items()}
    return {
        name: str(path) for name, path in {**built, **companions}.items() if name in (*tools.NODE_TOOLS, *COMPANIONS)
    }


def _containerd(process: Process) -> Path | None:
    """Its socket as this machine sees it, once it is there."""
    running = process.running()
    with contextlib.suppress(psutil.NoSuchProcess, IndexError, OSError):
        if running is not None:
            first = running.children()[0].children()[0].pid
            # By the root of the node's first process: the node has a /run of its own.
            path = Path(f"/proc/{first}/root{configuration.CONTAINERD_SOCKET}")
            return path if path.is_socket() else None
    return None


def _answers(process: Process) -> bool:
    path = _containerd(process)
    if path is None:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        # One that was killed has left its socket.
        return probe.connect_ex(str(path)) == 0


def archives_of(names: ImageNames, pause: Path, say: Report, *, engine: Path = Path()) -> Iterator[Path]:
    """The files of all images, made if they must be. Raises ImageError."""
    python = contents.python_image()
    wanted: dict[str, tuple[Image, tuple[str, ...]]] = {
        "pause": (contents.pause_image(pause), (configuration.PAUSE_IMAGE,)),
        "jobs": (python, names.jobs),
    }
    if names.engine:
        wanted["engine"] = (contents.engine_image(python), names.engine)
    if names.vllm:
        wanted["vllm"] = (contents.vllm_image(python, engine), names.vllm)
    folder = tools.cache_directory() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (image, given) in wanted.items():
        own = unique(map(full_name, given))
        path = folder / f"{kind}-{image.key(own)}.tar"
        if not _is_used_again(path):
            say(f"making the image of {kind}")
            try:
                write_image(path, image, own, architecture=ARCHITECTURES[platform.machine()])
            except OSError as error:
                raise ImageError(f"the image of {kind} cannot be written to {path}: {error.strerror}") from None
            _delete_old(folder.glob(f"{kind}-*.tar"))
        yield path


def _is_used_again(archive: Path) -> bool:
    """Whether it is there; then it is the one that was used last."""
    try:
        os.utime(archive)
    except FileNotFoundError:
        return False
    return True


def _delete_old(archives: Iterable[Path]) -> None:
    """All but some. Another cluster may delete some of them at the same time."""
    used: dict[Path, float] = {}
    for path in archives:
        with contextlib.suppress(FileNotFoundError):
            used[path] = path.stat().st_mtime
    for path in sorted(used, key=lambda one: used[one])[:-KEPT_ARCHIVES]:
        path.unlink(missing_ok=True)


def import_image(ctr: Path, address: Path | None, archive: Path, node: Path, say: Report) -> None:
    """Imports what is not there under these names already; ``node`` is the node's folder. Raises ImageError."""
    call = [str(ctr), "--address", str(address), "--namespace", "k8s.io", "images"]
    try:
        wanted = described(archive)
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        archive.unlink(missing_ok=True)
        raise _damaged(archive, str(error)) from None
    listed = subprocess.run([*call, "list"], capture_output=True, text=True, check=False)  # noqa: S603
    present = {line.split()[0]: line.split()[2] for line in listed.stdout.splitlines()[1:]}
    if wanted.items() <= present.items():
        return
    say(f"{node.name}: importing {archive.stem.rpartition('-')[0]} ({archive.stat().st_size >> 20} MiB)")
    done = subprocess.run([*call, "import", str(archive)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode == 0:
        return
    why = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or [f"exit code {done.returncode}"]
    if NO_SPACE in why[0]:
        folder = node / "containerd"
        free = shutil.disk_usage(folder).free >> 20
        raise ImageError(
            f"the disk is full while {node.name} imports {archive.name} into {folder}: {free} MiB are free; make room "
            "and run it again"
        )
    if any(word in why[0].lower() for word in UNAVAILABLE):
        raise ContainerdEndedError(
            f"containerd of {node.name} has ended while it imported {archive.name}; run it again"
        )
    archive.unlink(missing_ok=True)
    raise _damaged(archive, why[0])


def _damaged(archive: Path, why: str) -> ImageError:
    return ImageError(f"the image {archive} is damaged ({why}); it was deleted, and the next make up makes it again")


def described(archive: Path) -> dict[str, str]:
    """Digests of an archive's images by name. Raises OSError, tarfile.TarError, ValueError, KeyError."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile("index.json")
        if file is None:
            raise ValueError("index.json is not a file")
        index = json.load(file)
    return {manifest["annotations"][NAME]: manifest["digest"] for manifest in index["manifests"]}
