"""Builds the binaries of the embedded cluster and the ``pulumi`` CLI from published Go modules, once.

Each folder under ``local/tools`` is a Go module that pins one project, or several of which only files are wanted. What
comes of it is kept in a cache under a key made of the module's files and the flags, so a changed pin is built and an
unchanged one never again.
"""

import fcntl
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).resolve().parent / "tools"
GO_VERSION = (1, 26)
GO_NEEDED = f"Go {GO_VERSION[0]}.{GO_VERSION[1]} or newer is needed to build the embedded cluster: https://go.dev/dl"

Report = Callable[[str], None]

OWN: Mapping[str, tuple[str, int, tuple[str, ...]]] = {
    "pulumi": ("version", 3, ()),
    "containerd": ("--version", 2, ("containerd-shim-runc-v2", "ctr", "runc")),
}
"""Programs of this machine that are taken where they are new enough: the argument that prints the version, how many of
its numbers are compared with the pinned ones, and what has to be there, too."""


class ToolError(Exception):
    """A binary cannot be had; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One binary, or files of a Go module.

    :param module: the folder under ``local/tools``; its go.mod pins ``requirement``. :param package: the Go package to
    build, if any; ``.`` is a program of ours in that folder. :param companions: packages that are built next to it;
    ``./NAME`` is one of ours. :param version_variable: the linker variable that holds the version, if it is not
    known without. :param tags: build tags, most of which leave out what is not needed. :param library: the C library
    whose headers the build needs, as pkg-config and Debian name it. :param assets: folders of the required Go module
    that are kept next to the binary. :param minutes: a first build's length on 2 cores, for the progress line."""

    name: str
    module: str
    requirement: str
    package: str | None = None
    companions: tuple[str, ...] = ()
    version_variable: str | None = None
    tags: tuple[str, ...] = ()
    library: str | None = None
    assets: tuple[str, ...] = ()
    minutes: float

    @property
    def version(self) -> str:
        """The pinned version, such as ``v1.36.3``."""
        text = (MODULES / self.module / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^\s*(?:require )?{re.escape(self.requirement)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise ToolError(f"local/tools/{self.module}/go.mod does not require {self.requirement}")
        return found.group(1)


def _kubernetes(name: str, minutes: float) -> Tool:
    return Tool(
        name=name,
        module="kubernetes",
        requirement="k8s.io/kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        version_variable="k8s.io/component-base/version.gitVersion",
        minutes=minutes,
    )


def _containerd(minutes: float) -> Tool:
    """containerd with what it runs, in one folder."""
    return Tool(
        name="containerd",
        module="nodes",
        requirement="github.com/containerd/containerd/v2",
        package="github.com/containerd/containerd/v2/cmd/containerd",
        companions=(
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
            "github.com/opencontainers/runc",
        ),
        # Of runc: pods ask for the profile RuntimeDefault.
        tags=("seccomp", "no_btrfs", "no_devmapper", "no_zfs", "no_aufs"),
        library="libseccomp",
        minutes=minutes,
    )


def _network_plugins(minutes: float) -> Tool:
    """The CNI plugins, and the program of a pod's first container, in one folder."""
    folder = "github.com/containernetworking/plugins/plugins"
    return Tool(
        name="ptp",
        module="nodes",
        requirement="github.com/containernetworking/plugins",
        package=f"{folder}/main/ptp",
        companions=(f"{folder}/main/loopback", f"{folder}/ipam/host-local", "./pause"),
        minutes=minutes,
    )


def _prometheus(name: str, minutes: float) -> Tool:
    return Tool(
        name=name,
        module="prometheus",
        requirement="github.com/prometheus/prometheus",
        package=f"github.com/prometheus/prometheus/cmd/{name}",
        # Discovery in a score of clouds is most of the code.
        tags=("remove_all_sd",),
        minutes=minutes,
    )


def _files(name: str, requirement: str, folder: str) -> Tool:
    return Tool(name=name, module="definitions", requirement=requirement, assets=(folder,), minutes=0.1)


OFFICIAL_KUBERNETES = "pulumi-resource-kubernetes"
"""Pulumi's own kubernetes plugin. Its module has no tagged versions; the pinned commit is that of the tag v4.25.0, the
newest one that the Go module proxy has."""

TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            name="pulumi",
            module="pulumi",
            requirement="github.com/pulumi/pulumi/pkg/v3",
            package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
            version_variable="github.com/pulumi/pulumi/sdk/v3/go/common/version.Version",
            minutes=3,
        ),
        Tool(
            name="etcd",
            module="etcd",
            requirement="go.etcd.io/etcd/server/v3",
            package="go.etcd.io/etcd/server/v3",
            minutes=0.5,
        ),
        _kubernetes("kube-apiserver", 3),
        _kubernetes("kube-controller-manager", 1),
        _kubernetes("kube-scheduler", 0.2),
        _kubernetes("kubelet", 3),
        _kubernetes("kube-proxy", 0.5),
        _containerd(6),
        _network_plugins(0.2),
        Tool(name="coredns", module="nodes", requirement="github.com/coredns/coredns", package=".", minutes=4),
        Tool(
            name="kwok",
            module="kwok",
            requirement="sigs.k8s.io/kwok",
            package="sigs.k8s.io/kwok/cmd/kwok",
            assets=("kustomize/stage",),
            minutes=1,
        ),
        Tool(
            name="lws",
            module="lws",
            requirement="sigs.k8s.io/lws",
            package="sigs.k8s.io/lws/cmd",
            assets=("config/crd/bases", "config/webhook"),
            minutes=1.2,
        ),
        Tool(
            name=OFFICIAL_KUBERNETES,
            module="official",
            requirement="github.com/pulumi/pulumi-kubernetes/provider/v4",
            package=".",
            version_variable="github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version",
            assets=("cmd/pulumi-resource-kubernetes",),
            minutes=10,
        ),
        Tool(
            name="typescript-sdk",
            module="pulumi",
            requirement="github.com/pulumi/pulumi/pkg/v3",
            package=".",
            minutes=1,
        ),
        Tool(
            name="pulumi-language-yaml",
            module="yaml",
            requirement="github.com/pulumi/pulumi-yaml",
            package=".",
            minutes=1.5,
        ),
        Tool(
            name="ossplugin",
            module="ossplugin",
            requirement="github.com/container-storage-interface/spec",
            package=".",
            minutes=1,
        ),
        Tool(
            name="netpol",
            module="netpol",
            requirement="github.com/cloudnativelabs/kube-router/v2",
            package=".",
            minutes=1,
        ),
        Tool(
            name="csi-sanity",
            module="ossplugin",
            requirement="github.com/kubernetes-csi/csi-test/v5",
            package="github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity",
            minutes=0.5,
        ),
        Tool(
            name="epp",
            module="endpointpicker",
            requirement="sigs.k8s.io/gateway-api-inference-extension",
            package="sigs.k8s.io/gateway-api-inference-extension/cmd/epp",
            minutes=4,
        ),
        Tool(
            name="kube-state-metrics",
            module="kube-state-metrics",
            requirement="k8s.io/kube-state-metrics/v2",
            package="k8s.io/kube-state-metrics/v2",
            minutes=2,
        ),
        _prometheus("promtool", 2),
        _prometheus("prometheus", 0.8),
        _files("gateway-api", "sigs.k8s.io/gateway-api", "config/crd/standard"),
        _files("keda", "github.com/kedacore/keda/v2", "config/crd/bases"),
        Tool(
            name="inference-extension",
            module="endpointpicker",
            requirement="sigs.k8s.io/gateway-api-inference-extension",
            assets=("config/crd/bases",),
            minutes=0.1,
        ),
        _files(
            "prometheus-operator",
            "github.com/prometheus-operator/prometheus-operator",
            "example/prometheus-operator-crd",
        ),
    )
}

CLUSTER_TOOLS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "lws")


def cache_directory() -> Path:
    """Where binaries are kept: ``$DEEPSEEK_CACHE``, or ``deepseek`` in the user's cache folder."""
    chosen = os.environ.get("DEEPSEEK_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepseek"


def tool(name: str, report: Report | None = None) -> Path:
    """The binary ``name``: the machine's own if it fits (``OWN``), else one of the cache, built now if it must be."""
    return build_all([name], report)[name]


def assets(name: str) -> Path:
    """The folder with the kept files of ``name``'s Go module, which are fetched if they are not there."""
    return tool(name).parent / "assets"


def build_all(names: Sequence[str], report: Report | None = None) -> dict[str, Path]:
    """The binaries by name; ``report`` gets one line per build."""
    say = report or (lambda line: print(line, file=sys.stderr, flush=True))
    found: dict[str, Path] = {}
    missing = []
    for name in names:
        path = _own(name) or _cached(TOOLS[name])
        if path.parent.is_dir():
            found[name] = path
        else:
            missing.append(TOOLS[name])
    for number, wanted in enumerate(missing, start=1):
        left = math.ceil(sum(tool.minutes for tool in missing[number - 1 :]))
        found[wanted.name] = _build(wanted, f"[{number}/{len(missing)}, {left} min left]", say)
    return found


def _own(name: str) -> Path | None:
    """A program of the machine that is as new as the pinned one and of the same major version."""
    argument, compared, companions = OWN.get(name, ("", 0, ()))
    path = shutil.which(name, path=_searched()) if argument else None
    if path is None or cache_directory().resolve() in Path(path).resolve().parents:
        return None
    if not all(shutil.which(companion, path=_searched()) for companion in companions):
        return None
    printed = subprocess.run([path, argument], capture_output=True, text=True, check=False).stdout  # noqa: S603
    own, pinned = _numbers(printed)[:compared], _numbers(TOOLS[name].version)[:compared]
    return Path(path) if own >= pinned and own[:1] == pinned[:1] else None


def companion(built: Path, name: str) -> Path:
    """What is used together with the program ``built``, of the same folder or of the machine. Raises ToolError."""
    found = shutil.which(name, path=os.pathsep.join([str(built.parent), _searched()]))
    if found is None:
        raise ToolError(f"{name} is missing, which {built} needs")
    return Path(found)


def _searched() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _numbers(version: str) -> tuple[int, ...]:
    found = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


def _flags(wanted: Tool) -> list[str]:
    stamp = f" -X {wanted.version_variable}={wanted.version}" if wanted.version_variable else ""
    tags = ["-tags", ",".join(wanted.tags)] if wanted.tags else []
    return [*tags, "-trimpath", "-buildvcs=false", "-ldflags", f"-s -w{stamp}"]


def _cached(wanted: Tool) -> Path:
    key = hashlib.sha256()
    folder = MODULES / wanted.module
    own = [package for package in (wanted.package, *wanted.companions) if package and package.startswith(".")]
    sources = [path for package in own for path in sorted((folder / package).glob("*.go"))]
    for path in (folder / "go.mod", folder / "go.sum", *sources):
        key.update(path.read_bytes())
    built = (wanted.package, *wanted.companions) if wanted.companions else wanted.package
    key.update(repr((_flags(wanted), built, wanted.assets, os.uname().machine, sys.platform)).encode())
    return cache_directory() / "tools" / f"{wanted.name}-{key.hexdigest()[:12]}" / wanted.name


def _build(wanted: Tool, position: str, say: Report) -> Path:
    target = _cached(wanted)
    folder = target.parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if folder.is_dir():
            return target  # another process built it while this one waited
        go = _go()
        if lacking := _lacks_library(wanted):
            raise ToolError(lacking)
        scratch = folder.with_suffix(f".{os.getpid()}")
        try:
            scratch.mkdir()
            verb = "building" if wanted.package else "fetching"
            line = f"{position} {verb} {wanted.name} {wanted.version} (first time only, about {wanted.minutes:g} min)"
            start = time.monotonic()
            with _elapsed(line, start, say):
                if wanted.package:
                    # Several packages are built into a folder, under their own names.
                    output = f"{scratch}/" if wanted.companions else str(scratch / wanted.name)
                    _go_run(go, wanted, ["build", *_flags(wanted), "-o", output, wanted.package, *wanted.companions])
                _copy_assets(go, wanted, scratch / "assets")
            say(f"{line}: {time.monotonic() - start:.0f} s")
            # The folder appears whole or not at all.
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def lacks_library(names: Iterable[str]) -> str | None:
    """Why the programs cannot be built here, or None; those that are built or are the machine's own need nothing."""
    missing = (name for name in names if _own(name) is None and not _cached(TOOLS[name]).parent.is_dir())
    return next((found for name in missing if (found := _lacks_library(TOOLS[name]))), None)


def _lacks_library(wanted: Tool) -> str | None:
    if wanted.library is None:
        return None
    found = shutil.which("pkg-config") and subprocess.run(["pkg-config", "--exists", wanted.library], check=False)  # noqa: S603, S607
    if found and not found.returncode:
        return None
    return (
        f"{wanted.name} cannot be built without the headers of {wanted.library}; on Debian: "
        f"apt-get install gcc pkg-config {wanted.library}-dev"
    )


def _copy_assets(go: str, wanted: Tool, folder: Path) -> None:
    if not wanted.assets:
        return
    _go_run(go, wanted, ["mod", "download", wanted.requirement])
    module = _go_run(go, wanted, ["list", "-m", "-f", "{{.Dir}}", wanted.requirement]).strip()
    for name in wanted.assets:
        # Files of the module cache are read-only; copies must be removable.
        shutil.copytree(Path(module) / name, folder / name, copy_function=shutil.copyfile)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _go_run(go: str, wanted: Tool, arguments: Sequence[str]) -> str:
    environment = {**os.environ, "GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": os.environ.get("CGO_ENABLED", "1")}
    done = subprocess.run(  # noqa: S603
        [go, *arguments], cwd=MODULES / wanted.module, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ToolError(
            f"go {arguments[0]} of {wanted.package or wanted.requirement} failed in local/tools/{wanted.module}:\n"
            f"{done.stderr.strip()[-2000:]}\n"
            "If a download failed, check that the Go module proxy is reached (go env GOPROXY), and try again."
        )
    return done.stdout


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise ToolError(f"{GO_NEEDED} (no go is on the PATH)")
    printed = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.match(r"go(\d+)\.(\d+)", printed)
    if found is None or tuple(map(int, found.groups())) < GO_VERSION:
        raise ToolError(f"{GO_NEEDED} ({go} is {printed.strip() or 'not a working Go'})")
    return go


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _elapsed(line: str, start: float, say: Report) -> Iterator[None]:
    """Counts the seconds in place on a terminal; elsewhere one line says that the build has begun."""
    if not sys.stderr.isatty():
        say(f"{line} …")
        yield
        return
    done = threading.Event()

    def count() -> None:
        while not done.wait(1):
            print(f"\r{line} … {time.monotonic() - start:.0f} s", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Builds the named programs, ``cluster`` for all of the simulated one's. Returns the exit code."""
    names = [name for given in sys.argv[1:] for name in (CLUSTER_TOOLS if given == "cluster" else (given,))]
    try:
        build_all(names)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
