"""Published vulnerabilities of the engine behind an entry from outside the cluster."""

from collections.abc import Iterator, Sequence

from deepseek_acs.planner.advisories import Advisory, Release, advisories, image_release, release
from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.vllm_releases.release import changed_in
from policy.checks.engine_options import middleware
from policy.checks.exposure import API_KEY_VARIABLE, entries
from policy.pods import ENGINE, GROUP, Pod, leader, pods
from policy.resources import UNKNOWN, Resource, Violation, could_be, items, mapping, of_kind, text

FILTER = "requestfilter.RequestFilter"
"""The program's own request filter: what another one closes is not known."""


def unpatched_engine(
    stack: Sequence[Resource], *, minimum_version: str, accepted: Sequence[str]
) -> Iterator[Violation]:
    """An engine with a vulnerability that clients from outside can use, as far as the manifests tell; or one that is
    older than a company wants anywhere."""
    ways_in = entries(stack)
    for group in of_kind(stack, GROUP):
        serving = leader(group)
        is_entered = any(could_be(entry.namespace, group.namespace) for entry in ways_in)
        for pod in pods(group):
            for path, container in pod.containers():
                found = image_release(text(container.get("image"))) if container.get("name") == ENGINE else None
                if found is None:
                    continue  # disallow-mutable-tags and the preview ask for a version
                version = ".".join(map(str, found))
                if minimum_version and found < release(minimum_version):
                    problem = f"vLLM {version} is older than {minimum_version}"
                elif pod == serving and is_entered:
                    is_filtered = FILTER in middleware(pod)
                    usable = [
                        one
                        for one in advisories()
                        if not one.names & {*accepted} and _is_usable(one, found, pod, is_filtered=is_filtered)
                    ]
                    listed = "; ".join(f"{one.id} ({one.effect})" for one in usable)
                    problem = f"clients can use what is published of vLLM {version}: {listed}" if listed else ""
                else:
                    problem = ""
                if problem:
                    finding = Finding(path=f"{path}.image", problem=problem, fix="use a newer image of vLLM")
                    yield Violation(resource=group, finding=finding)


def _is_usable(advisory: Advisory, found: Release, pod: Pod, *, is_filtered: bool) -> bool:
    """Whether a client can use it. What only the settings tell is left to the preview."""
    conditions = {"key": _may_have_key(pod), "v0-engine": found < changed_in("v1")}
    return (
        advisory.package == "vllm"
        and advisory.reach == "api"
        and advisory.confirmed
        and advisory.concerns(found)
        and all(conditions.get(need, False) for need in advisory.needs)
        and not (advisory.filtered and is_filtered)
    )


def _may_have_key(pod: Pod) -> bool:
    return any(
        container.get("env") is UNKNOWN
        or any(could_be(mapping(one).get("name"), API_KEY_VARIABLE) for one in items(container.get("env")))
        for _, container in pod.containers()
    )
