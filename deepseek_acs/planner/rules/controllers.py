"""Features that need a newer controller than the cluster may have. The LeaderWorkerSet controller in the ACS App
Marketplace was 0.5 when last checked. An old controller ignores unknown fields, or rejects the object."""

from collections.abc import Iterator
from dataclasses import dataclass

from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm_releases.release import Version

FLUID_CHART_MIN = (1, 0, 11)
"""First version of ack-fluid that supports pods of ACS, with the label ``fluid-sidecar-target: acs``
(https://www.alibabacloud.com/help/en/ack/cloud-native-ai-suite/user-guide/accelerate-argo-workflows-1)."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A feature of the controller. ``older`` says what versions before ``since`` do, ``instead`` what to write for
    them."""

    field: Field
    what: str
    since: Version
    older: str
    instead: str


PARTITION = Feature(field=Field.PARTITION, what="a partition", since=(0, 7, 0), older="updates all groups", instead="0")
"""https://github.com/kubernetes-sigs/lws/releases/tag/v0.7.0"""

GATE = Feature(
    field=Field.GATE,
    what="a gate",
    since=(0, 7, 0),
    older="updates all groups before one was asked",
    instead="no gate",
)
"""https://github.com/kubernetes-sigs/lws/releases/tag/v0.7.0"""

SURGE_ONLY = Feature(field=Field.MAX_UNAVAILABLE, what="0", since=(0, 9, 0), older="creates no pod at all", instead="1")
"""https://github.com/kubernetes-sigs/lws/issues/776"""

RESTART_AFTER_START = Feature(
    field=Field.GROUP_RESTART, what="afterStart", since=(0, 9, 0), older="refuses it", instead="onPodRestart"
)
"""https://lws.sigs.k8s.io/docs/concepts/failure-handling/"""


def used_features(spec: ResolvedSpec) -> list[Feature]:
    """Features that the deployment uses."""
    used = {
        PARTITION: spec.rollout.partition > 0,
        GATE: spec.gate is not None,
        SURGE_ONLY: spec.rollout.max_unavailable == 0,
        RESTART_AFTER_START: spec.lifecycle is not None and spec.lifecycle.group_restart == "afterStart",
    }
    return [feature for feature, is_used in used.items() if is_used]


@rule("https://github.com/kubernetes-sigs/lws/releases")
def installed_lws(spec: ResolvedSpec) -> Iterator[Problem]:
    """The LeaderWorkerSet controller that the stack installs supports what the deployment uses."""
    lws = spec.operators.lws
    if lws.kind != "install":
        return
    for feature in used_features(spec):
        if lws.version_numbers < feature.since:
            yield (
                feature.field,
                f"{feature.what} needs LeaderWorkerSet {_text(feature.since)}; {lws.version}, which the stack "
                f"installs, {feature.older}",
                f"raise {Field.LWS_VERSION}, or write {feature.instead}",
            )


@warning("https://github.com/kubernetes-sigs/lws/releases")
def expected_lws(spec: ResolvedSpec) -> Iterator[Problem]:
    """The LeaderWorkerSet controller that the cluster has supports what the deployment uses."""
    if spec.operators.lws.kind == "install":
        return
    for feature in used_features(spec):
        yield (
            feature.field,
            f"{feature.what} needs LeaderWorkerSet {_text(feature.since)} in the cluster; an older one {feature.older}",
            f"check the controller's version, or write {feature.instead}",
        )


@warning("https://www.alibabacloud.com/help/en/ack/cloud-native-ai-suite/user-guide/accelerate-argo-workflows-1")
def fluid_chart(spec: ResolvedSpec) -> Iterator[Problem]:
    """ack-fluid supports pods of ACS and adds the cache's client to those with a label."""
    fluid, storage = spec.operators.fluid, spec.storage
    version = fluid.chart_version if fluid.kind == "install" else None
    if storage.kind == "fluid" and storage.sidecar == "acs" and version is not None and version < FLUID_CHART_MIN:
        yield (
            Field.FLUID_CHART,
            f"ack-fluid {_text(version)} is older than {_text(FLUID_CHART_MIN)}, the first version that adds the "
            f"cache's client to pods of ACS ({Field.SIDECAR}: acs); the GPU pods may find no weights",
            "set the address of a newer chart, and its imageTag",
        )


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
