"""Published vulnerabilities of the engine, as the deployment is set."""

from collections.abc import Iterator, Sequence

from deepseek_acs.planner.advisories import Advisory, advisories, applying
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec

TABLE = "deepseek_acs/planner/advisories.toml"


def is_reached_from_outside(spec: ResolvedSpec) -> bool:
    """Whether clients outside the cluster reach the engine's port."""
    return spec.service.route is not None or spec.service.kind == "internalLoadBalancer"


def _open(spec: ResolvedSpec) -> list[Advisory]:
    accepted = set(spec.security.accepted_advisories)
    return [advisory for advisory in applying(spec) if not advisory.names & accepted]


def _stops(advisory: Advisory, spec: ResolvedSpec) -> bool:
    # What was not read in a record is reported, and does not stop a deployment.
    return advisory.reach == "api" and advisory.confirmed and is_reached_from_outside(spec)


@rule(TABLE)
def exposed_advisories(spec: ResolvedSpec) -> Iterator[Problem]:
    """Clients outside the cluster can use no published vulnerability of the engine that is not accepted."""
    if found := [advisory for advisory in _open(spec) if _stops(advisory, spec)]:
        way = Field.ROUTE if spec.service.route else "the load balancer"
        yield Field.IMAGE, f"by {way}, clients can use {_listed(found, spec)}", _fix(found)


@warning(TABLE)
def known_advisories(spec: ResolvedSpec) -> Iterator[Problem]:
    """The deployment has no published vulnerability that is not accepted."""
    if found := [advisory for advisory in _open(spec) if not _stops(advisory, spec)]:
        yield Field.IMAGE, f"this deployment has {_listed(found, spec)}", _fix(found)


@warning(TABLE)
def accepted_advisories(spec: ResolvedSpec) -> Iterator[Problem]:
    """Accepted vulnerabilities are known, and those of the deployment."""
    known = {name for advisory in advisories() for name in advisory.names}
    here = {name for advisory in applying(spec) for name in advisory.names}
    for name in spec.security.accepted_advisories:
        if name not in here:
            why = "does not concern this deployment" if name in known else f"is not in {TABLE}"
            yield Field.ACCEPTED_ADVISORIES, f"{name} {why}", "remove it, so that it accepts nothing that comes later"


def _listed(found: Sequence[Advisory], spec: ResolvedSpec) -> str:
    count = "1 published vulnerability" if len(found) == 1 else f"{len(found)} published vulnerabilities"
    unsure = "" if all(advisory.confirmed for advisory in found) else "; ? is not confirmed"
    listed = "; ".join(f"{advisory.id}{'' if advisory.confirmed else '?'} ({advisory.effect})" for advisory in found)
    return f"{count} of {spec.engine.vllm.name}{unsure}: {listed}"


def _fix(found: Sequence[Advisory]) -> str:
    ways = []
    if fixed := [advisory.fixed for advisory in found if advisory.fixed and advisory.package == "vllm"]:
        ways.append(f"use an image with vLLM {'.'.join(map(str, max(fixed)))} or newer")
    if any(advisory.package == "torch" for advisory in found):
        ways.append("load safetensors only")
    if any(advisory.package == "ray" for advisory in found):
        ways.append(f"close Ray's ports with {Field.NETWORK_POLICY} or {Field.SECURITY_GROUPS}, or use the backend mp")
    return f"{', and '.join(ways)}; or name what you accept in {Field.ACCEPTED_ADVISORIES}"
