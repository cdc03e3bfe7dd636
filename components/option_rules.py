"""What a preview warns of: options that are on and may not hold, or that do not agree with each other."""

from collections.abc import Iterator

from components.pod_security import namespace_labels
from components.settings.base import mebibytes
from components.settings.deployment import Deployment
from components.settings.operators import FLUID_CHART_MIN, InstallFluid
from components.settings.scaling import QueueScaling
from components.settings.storage import FluidCacheSettings
from planner.acs_rules import ticket_warnings
from planner.shutdown import ANNOUNCE_SECONDS, LOAD_BALANCER_MAX

POLICIES_ON_ACS = "https://help.aliyun.com/en/ack/product-overview/poseidon"
"""The component that enforces NetworkPolicy. Of the pods of ACS, its limitations name those with CPUs only."""


def option_warnings(settings: Deployment) -> list[str]:
    """Each begins with the setting that it is about."""
    return [
        *_policies_may_not_hold(settings),
        *_namespace_is_not_labelled(settings),
        *_fluid_is_too_old(settings),
        *_old_groups_lose_what_they_use(settings),
        *_requests_are_cut_off(settings),
        *_metrics_may_not_be_found(settings),
        *_nothing_is_verified(settings),
        *_benchmark_needs_a_ticket(settings),
    ]


def _policies_may_not_hold(settings: Deployment) -> Iterator[str]:
    security = settings.security
    if security.network_policy is not None and not security.security_groups:
        yield (
            "deployment.security.networkPolicy: Alibaba Cloud documents network policies for the CPU pods of ACS, with "
            f"the component Poseidon, and not for GPU pods ({POLICIES_ON_ACS}); try whether they hold "
            "(docs/access.md), or set deployment.security.securityGroups, too"
        )


def _namespace_is_not_labelled(settings: Deployment) -> Iterator[str]:
    labels = namespace_labels(settings)
    if labels and not settings.cluster.create_namespace:
        text = " ".join(f"{name}={value}" for name, value in labels.items())
        yield (
            "deployment.security.pods: the namespace is not the stack's, which therefore leaves its labels alone; "
            f"label it: kubectl label namespace {settings.cluster.namespace} {text}"
        )


def _fluid_is_too_old(settings: Deployment) -> Iterator[str]:
    """For the label of the GPU pods by which it adds the cache's client."""
    fluid, storage = settings.operators.fluid, settings.storage
    version = fluid.chart_version if isinstance(fluid, InstallFluid) else None
    labelled = isinstance(storage, FluidCacheSettings) and storage.sidecar == "acs"
    if labelled and version is not None and version < FLUID_CHART_MIN:
        found, least = (".".join(map(str, parts)) for parts in (version, FLUID_CHART_MIN))
        yield (
            f"deployment.operators.fluid.chart: ack-fluid {found} is older than {least}, from which on it adds the "
            "cache's client to pods of ACS (deployment.storage.sidecar: acs); the GPU pods may find no weights; write "
            "a newer chart, and its imageTag"
        )


def _old_groups_lose_what_they_use(settings: Deployment) -> Iterator[str]:
    partition = settings.inference.rollout.partition
    if partition:
        key = "deepseek:apiKey, " if settings.service.api_key else ""
        yield (
            f"deployment.inference.rollout.partition: an update with another {key}storage, model or bucket ends with "
            f"the deletion of the old one, which groups below {partition} still use: pulumi up waits for it in vain, "
            "and a pod of theirs that fails does not come back; finish the rollout (partition: 0) before you change "
            "them"
        )


def _requests_are_cut_off(settings: Deployment) -> Iterator[str]:
    """Where the way in and the pods do not agree on the longest request."""
    lifecycle, service = settings.inference.lifecycle, settings.service
    if lifecycle is None:
        return
    path, seconds = "deployment.inference.lifecycle.requestSeconds", lifecycle.request_seconds
    if service.route is not None and service.route.request_seconds > seconds:
        yield (
            f"{path}: the route admits requests of {service.route.request_seconds} s "
            f"(deployment.service.route.requestSeconds), and a pod that ends finishes those of {seconds} s; write the "
            "same number"
        )
    if service.kind == "internalLoadBalancer" and seconds > LOAD_BALANCER_MAX - ANNOUNCE_SECONDS:
        yield (
            f"{path}: the load balancer cuts the connections to a pod that ends after {LOAD_BALANCER_MAX} s, so "
            f"requests of {seconds} s that come through it are not finished"
        )


def _metrics_may_not_be_found(settings: Deployment) -> Iterator[str]:
    if isinstance(settings.inference.scaling, QueueScaling) and settings.observability is None:
        yield (
            "deployment.inference.scaling: queue selects metrics by the labels namespace and leaderworkerset, which "
            "the PodMonitor of deployment.observability adds; where nothing else adds them, the number of groups never "
            "changes: set deployment.observability, or see that your Prometheus has them (docs/scaling.md)"
        )


def _nothing_is_verified(settings: Deployment) -> Iterator[str]:
    verification = settings.verification
    asks = verification is not None and (verification.smoke or verification.benchmark is not None)
    if asks and settings.inference.first_replicas == 0:
        yield (
            "deployment.verification: there is no group to begin with, so nothing is asked; make verify does when "
            "there is one"
        )


def _benchmark_needs_a_ticket(settings: Deployment) -> list[str]:
    benchmark = settings.verification.benchmark if settings.verification else None
    if benchmark is None:
        return []
    memory_gib = mebibytes(benchmark.memory) / 1024
    return ticket_warnings("deployment.verification.benchmark", cpu=benchmark.cpu, memory_gib=memory_gib)
