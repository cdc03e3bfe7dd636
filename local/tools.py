"""Builds the binaries of the embedded cluster and the ``pulumi`` CLI from published Go modules, once.

Each folder under ``local/tools`` is a Go module, and what is missing of a module is built by one call of Go. That of
the cluster pins all of its programs, which share half of what they are compiled of; the versions of others follow it
where they can. What comes of a module is kept in a cache under a key made of the module's files and the flags, so a
changed pin is built and an unchanged one never again.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local import go
from local.go import Progress, Report, ToolError

MODULES = Path(__file__).resolve().parent / "tools"

CLUSTER = "cluster"
"""The module of the embedded cluster's programs."""

TAGS: Mapping[str, tuple[str, ...]] = {
    # seccomp is of runc: pods ask for the profile RuntimeDefault. The others leave out what is not needed.
    CLUSTER: ("seccomp", "no_btrfs", "no_devmapper", "no_zfs", "no_aufs"),
    # Discovery in a score of clouds is most of the code.
    "prometheus": ("remove_all_sd",),
}
"""Build tags by module, for all of its programs, so that nothing is compiled twice."""

OWN: Mapping[str, tuple[str, int, tuple[str, ...]]] = {
    "pulumi": ("version", 3, ()),
    "containerd": ("--version", 2, ("containerd-shim-runc-v2", "ctr", "runc")),
}
"""Programs of this machine that are taken where they are new enough: the argument that prints the version, how many of
its numbers are compared with the pinned ones, and what has to be there, too."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One binary, or files of a Go module.

    :param module: the folder under ``local/tools``; its go.mod pins ``requirement``. :param package: the Go package to
    build, if any; ``.`` or ``./NAME`` is a program of ours in that folder. :param companions: packages that are built
    next to it. :param version_variable: the linker variable that holds the version, if it is not known without.
    :param library: the C library whose headers the build needs, as pkg-config and Debian name it. :param assets:
    folders of the required Go module that are kept next to the binary."""

    name: str
    module: str
    requirement: str
    package: str | None = None
    companions: tuple[str, ...] = ()
    version_variable: str | None = None
    library: str | None = None
    assets: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """All Go packages to build."""
        return (self.package, *self.companions) if self.package else ()

    @property
    def version(self) -> str:
        """The pinned version, such as ``v1.36.3``."""
        text = (MODULES / self.module / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^\s*(?:require )?{re.escape(self.requirement)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise ToolError(f"local/tools/{self.module}/go.mod does not require {self.requirement}")
        return found.group(1)


def _kubernetes(name: str) -> Tool:
    return Tool(
        name=name,
        module=CLUSTER,
        requirement="k8s.io/kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        version_variable="k8s.io/component-base/version.gitVersion",
    )


def _containerd() -> Tool:
    """containerd with what it runs, in one folder."""
    return Tool(
        name="containerd",
        module=CLUSTER,
        requirement="github.com/containerd/containerd/v2",
        package="github.com/containerd/containerd/v2/cmd/containerd",
        companions=(
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
            "github.com/opencontainers/runc",
        ),
        library="libseccomp",
    )


def _network_plugins() -> Tool:
    """The CNI plugins, and the program of a pod's first container, in one folder."""
    folder = "github.com/containernetworking/plugins/plugins"
    return Tool(
        name="ptp",
        module=CLUSTER,
        requirement="github.com/containernetworking/plugins",
        package=f"{folder}/main/ptp",
        companions=(f"{folder}/main/loopback", f"{folder}/ipam/host-local", "./pause"),
    )


def _prometheus(name: str) -> Tool:
    return Tool(
        name=name,
        module="prometheus",
        requirement="github.com/prometheus/prometheus",
        package=f"github.com/prometheus/prometheus/cmd/{name}",
    )


def _files(name: str, requirement: str, folder: str) -> Tool:
    return Tool(name=name, module="definitions", requirement=requirement, assets=(folder,))


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
        ),
        Tool(
            name="etcd",
            module=CLUSTER,
            requirement="go.etcd.io/etcd/server/v3",
            package="go.etcd.io/etcd/server/v3",
        ),
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        _containerd(),
        _network_plugins(),
        Tool(name="coredns", module=CLUSTER, requirement="github.com/coredns/coredns", package="./coredns"),
        Tool(
            name="kwok",
            module=CLUSTER,
            requirement="sigs.k8s.io/kwok",
            package="sigs.k8s.io/kwok/cmd/kwok",
            assets=("kustomize/stage",),
        ),
        Tool(
            name="lws",
            module=CLUSTER,
            requirement="sigs.k8s.io/lws",
            package="sigs.k8s.io/lws/cmd",
            assets=("config/crd/bases", "config/webhook"),
        ),
        Tool(
            name=OFFICIAL_KUBERNETES,
            module="official",
            requirement="github.com/pulumi/pulumi-kubernetes/provider/v4",
            package=".",
            version_variable="github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version",
            assets=("cmd/pulumi-resource-kubernetes",),
        ),
        Tool(
            name="typescript-sdk",
            module="pulumi",
            requirement="github.com/pulumi/pulumi/pkg/v3",
            package="./typescript-sdk",
        ),
        Tool(
            name="pulumi-language-yaml",
            module="yaml",
            requirement="github.com/pulumi/pulumi-yaml",
            package=".",
        ),
        Tool(
            name="ossplugin",
            module="ossplugin",
            requirement="github.com/container-storage-interface/spec",
            package=".",
        ),
        Tool(
            name="netpol",
            module=CLUSTER,
            requirement="github.com/cloudnativelabs/kube-router/v2",
            package="./netpol",
        ),
        Tool(
            name="csi-sanity",
            module="ossplugin",
            requirement="github.com/kubernetes-csi/csi-test/v5",
            package="github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity",
        ),
        Tool(
            name="epp",
            module="endpointpicker",
            requirement="sigs.k8s.io/gateway-api-inference-extension",
            package="sigs.k8s.io/gateway-api-inference-extension/cmd/epp",
        ),
        Tool(
            name="kube-state-metrics",
            module="kube-state-metrics",
            requirement="k8s.io/kube-state-metrics/v2",
            package="k8s.io/kube-state-metrics/v2",
        ),
        _prometheus("promtool"),
        _prometheus("prometheus"),
        _files("gateway-api", "sigs.k8s.io/gateway-api", "config/crd/standard"),
        _files("keda", "github.com/kedacore/keda/v2", "config/crd/bases"),
        Tool(
            name="inference-extension",
            module="endpointpicker",
            requirement="sigs.k8s.io/gateway-api-inference-extension",
            assets=("config/crd/bases",),
        ),
        _files(
            "prometheus-operator",
            "github.com/prometheus-operator/prometheus-operator",
            "example/prometheus-operator-crd",
        ),
    )
}

CLUSTER_TOOLS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "lws")
NODE_TOOLS = ("kubelet", "kube-proxy", "containerd", "ptp", "coredns", "netpol", "ossplugin")
"""Programs of real nodes, instead of kwok."""

DEFINITIONS = ("gateway-api", "inference-extension", "keda", "prometheus-operator")
"""Custom resource definitions that a cluster has from its start, in addition to those of LeaderWorkerSet."""


def tools_of_a_cluster(*, real: bool) -> list[str]:
    """What a cluster with real or with simulated nodes needs."""
    others = [name for name in CLUSTER_TOOLS if not (real and name == "kwok")]
    return [*others, *(NODE_TOOLS if real else ()), *DEFINITIONS]


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
    """The binaries by name; ``report`` gets lines about what is built."""
    found = {name: _own(name) or _cached(TOOLS[name]) for name in names}
    if missing := [TOOLS[name] for name, path in found.items() if not path.parent.is_dir()]:
        _build(missing, report or (lambda line: print(line, file=sys.stderr, flush=True)))
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


def _flags(module: str) -> list[str]:
    """The same for all programs of a module: a variable that a program does not have is left out by the linker."""
    stamps = {
        f" -X {tool.version_variable}={tool.version}"
        for tool in TOOLS.values()
        if tool.module == module and tool.version_variable
    }
    tags = ["-tags", ",".join(TAGS[module])] if module in TAGS else []
    return [*tags, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w" + "".join(sorted(stamps))]


def _cached(wanted: Tool) -> Path:
    key = hashlib.sha256()
    folder = MODULES / wanted.module
    sources = [
        path
        for package in wanted.packages
        if package.startswith(".")
        for path in sorted((folder / package).glob("*.go"))
    ]
    for path in (folder / "go.mod", folder / "go.sum", *sources):
        key.update(path.read_bytes())
    built = wanted.packages if wanted.companions else wanted.package
    key.update(repr((_flags(wanted.module), built, wanted.assets, os.uname().machine, sys.platform)).encode())
    return cache_directory() / "tools" / f"{wanted.name}-{key.hexdigest()[:12]}" / wanted.name


def _build(missing: Sequence[Tool], say: Report) -> None:
    program = go.find()
    if lacking := next(filter(None, map(_lacks_library, missing)), None):
        raise ToolError(lacking)
    modules: dict[str, list[Tool]] = {}
    for wanted in missing:
        modules.setdefault(wanted.module, []).append(wanted)
    verb = "building" if any(wanted.packages for wanted in missing) else "fetching"
    what = ", ".join(f"{wanted.name} {wanted.version}" for wanted in missing)
    with Progress(f"{verb} {what}", say) as progress, ThreadPoolExecutor() as pool:
        # So what a module requires is downloaded while others are compiled.
        listed = {name: pool.submit(_list, program, name, tools, progress) for name, tools in modules.items()}
        for name, tools in modules.items():
            listed[name].result()
            _build_module(program, name, tools, progress)


def _list(program: str, module: str, tools: Sequence[Tool], progress: Progress) -> None:
    if packages := [package for tool in tools for package in tool.packages]:
        printed = go.run(program, MODULES / module, ["list", "-deps", *_flags(module), *packages])
        progress.expect(len(printed.splitlines()))


def _build_module(program: str, module: str, tools: Sequence[Tool], progress: Progress) -> None:
    folder = cache_directory() / "tools"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{module}.lock"):
        # Another process may have built some while this one waited.
        missing = [tool for tool in tools if not _cached(tool).parent.is_dir()]
        scratch = folder / f"{module}.unfinished"
        shutil.rmtree(scratch, ignore_errors=True)  # of a build that was killed
        try:
            built = scratch / "built"
            built.mkdir(parents=True)
            if packages := [package for tool in missing for package in tool.packages]:
                go.build(program, MODULES / module, _flags(module), packages, built, progress)
            for tool in missing:
                kept = scratch / tool.name
                kept.mkdir()
                for package in tool.packages:
                    name = go.output_name(MODULES / module, package)
                    (built / name).rename(kept / (tool.name if package == tool.package else name))
                _copy_assets(program, tool, kept / "assets")
                # The folder appears whole or not at all.
                kept.rename(_cached(tool).parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


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


def _copy_assets(program: str, wanted: Tool, folder: Path) -> None:
    if not wanted.assets:
        return
    module = MODULES / wanted.module
    go.run(program, module, ["mod", "download", wanted.requirement])
    source = go.run(program, module, ["list", "-m", "-f", "{{.Dir}}", wanted.requirement]).strip()
    for name in wanted.assets:
        # Files of the module cache are read-only; copies must be removable.
        shutil.copytree(Path(source) / name, folder / name, copy_function=shutil.copyfile)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
