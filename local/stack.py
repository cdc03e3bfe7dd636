"""What a stack file asks of this machine: the embedded cluster, its nodes, a simulated cloud, a model hub."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deepseek_acs.planner.check import check
from deepseek_acs.planner.resolve import resolve
from deepseek_acs.planner.rules.security import has_ray
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.urls import is_loopback
from deepseek_acs.settings.stack import StackSettings
from local.engine.installation import IMAGE
from local.nodes import GpuNodes
from local.real_nodes.bring_up import ImageNames
from local.services import Service

PROJECT = "deepseek"
CLUSTER_FOLDER = Path(".state") / "cluster"
STATE_FOLDER = Path(".state") / "pulumi" / ".pulumi" / "stacks" / PROJECT
"""Of stacks, where ``local/pulumi_environment.py`` puts the backend."""


class StackError(Exception):
    """There is no such stack file, or the stack cannot be brought up now."""


@dataclass(frozen=True, kw_only=True)
class LocalNeeds:
    """What to bring up before the program runs.

    :param embedded_cluster: whether the stack names the embedded cluster's kubeconfig.
    :param emulated_cloud: whether the stack's cloud is on this machine.
    :param services: web services of this machine, at the addresses of the stack file.
    :param kubeconfig: the stack's kubeconfig, as its file says; empty if it is a secret of the stack.
    :param context: the context of it; empty for its current one.
    :param api_key: whether the engine asks for the stack's API key.
    :param nodes: GPU nodes for all groups, those of a rolling update included; None if the settings do not say.
    :param images: names of images that pods ask for; None likewise.
    :param gated: whether updates wait for a gate, which asks the leaders by their addresses.
    :param ray_on_cpu: whether Ray would join pods of the real vLLM, which refuses it on a CPU.
    """

    embedded_cluster: bool
    emulated_cloud: bool
    services: tuple[Service, ...]
    kubeconfig: str
    context: str
    api_key: bool
    nodes: GpuNodes | None
    images: ImageNames | None
    gated: bool
    ray_on_cpu: bool

    @property
    def on_loopback(self) -> bool:
        """Whether cluster and cloud are both on the loopback interface of this machine, so that the stack's secrets are
        of no use to others."""
        return self.embedded_cluster and self.emulated_cloud


def local_needs(root: Path, stack: str) -> LocalNeeds:
    """Reads ``Pulumi.<stack>.yaml``. Mistakes in it are not reported here: the program says them better."""
    raw = _deployment(root, stack)
    settings = _settings(raw)
    spec = _spec(settings, root) if settings else None
    return LocalNeeds(
        embedded_cluster=_uses_embedded_cluster(root, raw),
        emulated_cloud=is_loopback(_text(raw, "cloud", "endpoint")),
        services=tuple(_services(raw)),
        kubeconfig=_text(raw, "cluster", "kubeconfigFile"),
        context=_text(raw, "cluster", "context"),
        api_key=settings is not None and settings.service.api_key,
        nodes=_nodes(spec) if spec else None,
        images=_images(spec) if spec else None,
        gated=spec is not None and spec.holds_updates,
        ray_on_cpu=spec is not None and any(one.engine.image == IMAGE and has_ray(one) for one in spec.revisions),
    )


def require_free_cluster(root: Path, stack: str) -> None:
    """Raises StackError if another stack has objects in the embedded cluster, whose nodes and ports are for one at a
    time. A stack whose state is not kept in ``.state`` (PULUMI_BACKEND_URL) is not seen."""
    for other in embedded_stacks(root):
        if other != stack and (count := _objects(root / STATE_FOLDER / f"{other}.json")):
            raise StackError(
                f"the stack {other} is up in the embedded cluster ({count} objects), and {stack} would wait for its "
                f"GPU nodes. Take it down first: make destroy STACK={other}"
            )


def embedded_stacks(root: Path) -> list[str]:
    """Stacks of the embedded cluster that have a state in ``.state``."""
    return [
        stack
        for stack in _stacks(root)
        if (root / STATE_FOLDER / f"{stack}.json").is_file() and _uses_embedded_cluster(root, _deployment(root, stack))
    ]


def _objects(state: Path) -> int:
    """Objects of Kubernetes in a stack's state; other resources, such as a retained bucket, do not matter."""
    latest = json.loads(state.read_text(encoding="utf-8"))["checkpoint"].get("latest") or {}
    return sum(resource["type"].startswith("kubernetes:") for resource in latest.get("resources") or ())


def _file(root: Path, stack: str) -> dict[str, Any]:
    path = root / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        raise StackError(f"there is no stack file {path.name}; stacks: {', '.join(_stacks(root))}")
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _deployment(root: Path, stack: str) -> dict[str, Any]:
    raw = (_file(root, stack).get("config") or {}).get(f"{PROJECT}:deployment")
    return raw if isinstance(raw, dict) else {}


def _uses_embedded_cluster(root: Path, raw: Mapping[str, Any]) -> bool:
    kubeconfig = _text(raw, "cluster", "kubeconfigFile")
    return bool(kubeconfig) and (root / kubeconfig).resolve().parent == (root / CLUSTER_FOLDER).resolve()


def _services(raw: Mapping[str, Any]) -> Iterator[Service]:
    cloud, hub = _text(raw, "cloud", "endpoint"), _text(raw, "weights", "source", "endpoint")
    if is_loopback(cloud):
        region = _text(raw, "cloud", "region")
        options = (f"--region={region}",) if region else ()
        yield Service(name="oss", setting="deployment.cloud.endpoint", url=cloud, options=options)
    if is_loopback(hub):
        yield Service(name="hub", setting="deployment.weights.source.endpoint", url=hub)


def _text(raw: object, *path: str) -> str:
    """A text of the stack file, empty if it is not there."""
    for key in path:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw if isinstance(raw, str) else ""


def _stacks(root: Path) -> list[str]:
    return sorted(path.name.split(".")[1] for path in root.glob("Pulumi.*.yaml"))


def _settings(raw: object) -> StackSettings | None:
    try:
        return StackSettings.model_validate(raw)
    except ValidationError:
        return None


def _spec(settings: StackSettings, root: Path) -> ResolvedSpec | None:
    spec = resolve(settings, folder=root)
    return None if any(finding.severity == "error" for finding in check(spec, suggest=False)) else spec


def _nodes(spec: ResolvedSpec) -> GpuNodes:
    return GpuNodes(
        count=sum((one.replicas.most + one.rollout.max_surge) * one.layout.pods for one in spec.revisions),
        series=spec.gpu.series,
        resource=spec.gpu.resource,
        gpus_per_pod=spec.layout.gpus_per_pod,
        region=spec.cloud.region,
    )


def _images(spec: ResolvedSpec) -> ImageNames:
    benchmark = spec.benchmark_image
    asked = dict.fromkeys((*(one.engine.image for one in spec.revisions), *([benchmark] if benchmark else [])))
    return ImageNames(
        engine=tuple(name for name in asked if name != IMAGE),
        jobs=(spec.weights.upload.image,),
        vllm=tuple(name for name in asked if name == IMAGE),
    )
