"""What needs a newer LeaderWorkerSet controller than there may be: the one in the ACS App Marketplace was 0.5 when last
seen, and an older one takes what it does not know without a word, or refuses it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.engine import Version
from planner.findings import Finding


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Something that the controller has since a version. ``older`` says what one before that does, ``instead`` what to
    write for it."""

    path: str
    what: str
    since: Version
    older: str
    instead: str
    source: str


PARTITION = Feature(
    path="deployment.inference.rollout.partition",
    what="a partition",
    since=(0, 7, 0),
    older="updates all groups",
    instead="0",
    source="https://github.com/kubernetes-sigs/lws/releases/tag/v0.7.0",
)
SURGE_ONLY = Feature(
    path="deployment.inference.rollout.maxUnavailable",
    what="0",
    since=(0, 9, 0),
    older="makes no pod at all",
    instead="1",
    source="https://github.com/kubernetes-sigs/lws/issues/776",
)
RESTART_AFTER_START = Feature(
    path="deployment.inference.lifecycle.groupRestart",
    what="afterStart",
    since=(0, 9, 0),
    older="refuses it",
    instead="onPodRestart",
    source="https://lws.sigs.k8s.io/docs/concepts/failure-handling/",
)


def asked_features(*, partition: int, max_unavailable: int, restart_after_start: bool) -> list[Feature]:
    """The features that the settings ask for."""
    asked = {PARTITION: partition > 0, SURGE_ONLY: max_unavailable == 0, RESTART_AFTER_START: restart_after_start}
    return [feature for feature, wanted in asked.items() if wanted]


def controller_findings(asked: Sequence[Feature], *, installs: Version | None) -> list[Finding]:
    """What the controller that the stack installs cannot do; nothing if it installs none."""
    return [
        Finding(
            path=feature.path,
            problem=f"{feature.what} needs LeaderWorkerSet {_text(feature.since)}; {_text(installs)}, which the stack "
            f"installs, {feature.older}",
            fix=f"raise deployment.operators.lws.version, or write {feature.instead}",
        )
        for feature in asked
        if installs is not None and installs < feature.since
    ]


def controller_warnings(asked: Sequence[Feature], *, installs: Version | None) -> list[str]:
    """What is asked of a controller of unknown version."""
    return [
        f"{feature.path}: {feature.what} needs LeaderWorkerSet {_text(feature.since)} in the cluster; an older one "
        f"{feature.older}"
        for feature in asked
        if installs is None
    ]


def _text(version: Version | None) -> str:
    return ".".join(map(str, version or ()))
