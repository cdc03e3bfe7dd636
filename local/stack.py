"""What a stack file asks of this machine: the embedded cluster, its nodes, a simulated cloud."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from components.settings import Deployment
from components.stack_config import choices
from local.nodes import GpuNodes
from planner.plan import PlanError, make_plan

PROJECT = "deepseek"
CLUSTER_FOLDER = Path(".state") / "cluster"


class StackError(Exception):
    """There is no such stack file."""


@dataclass(frozen=True, kw_only=True)
class LocalNeeds:
    """What to bring up before the program runs.

    :param embedded_cluster: whether the stack names the embedded cluster's kubeconfig.
    :param emulated_cloud: whether the stack's cloud is on this machine.
    :param nodes: GPU nodes for all groups, those of a rolling update included; None if the settings do not say.
    """

    embedded_cluster: bool
    emulated_cloud: bool
    nodes: GpuNodes | None


def local_needs(root: Path, stack: str) -> LocalNeeds:
    """Reads ``Pulumi.<stack>.yaml``. Mistakes in it are not reported here: the program says them better."""
    path = root / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        raise StackError(f"there is no stack file {path.name}; stacks: {', '.join(_stacks(root))}")
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    raw = (content.get("config") or {}).get(f"{PROJECT}:deployment")
    raw = raw if isinstance(raw, dict) else {}
    cluster, cloud = raw.get("cluster") or {}, raw.get("cloud") or {}
    kubeconfig = str(cluster.get("kubeconfigFile") or "")
    embedded = bool(kubeconfig) and (root / kubeconfig).resolve().parent == (root / CLUSTER_FOLDER).resolve()
    return LocalNeeds(
        embedded_cluster=embedded,
        emulated_cloud=_is_loopback(str(cloud.get("endpoint") or "")),
        nodes=_nodes(raw),
    )


def _stacks(root: Path) -> list[str]:
    return sorted(path.name.split(".")[1] for path in root.glob("Pulumi.*.yaml"))


def _nodes(raw: object) -> GpuNodes | None:
    try:
        settings = Deployment.model_validate(raw)
        plan = make_plan(choices(settings))
    except (ValidationError, PlanError):
        return None
    inference = settings.inference
    return GpuNodes(
        count=(inference.replicas + inference.rollout.max_surge) * plan.group_size,
        series=inference.gpu.series,
        resource=inference.gpu.resource,
        cards=inference.gpu.cards,
        region=settings.cloud.region,
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
