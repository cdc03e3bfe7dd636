"""Updates by a second revision: who gets which requests, and with which GPUs."""

from collections.abc import Iterator

from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.metrics import EngineMetrics
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec

WEIGHTS = "https://gateway-api.sigs.k8s.io/guides/user-guides/traffic-splitting/"


@rule(WEIGHTS)
def update_weight(spec: ResolvedSpec) -> Iterator[Problem]:
    """Something divides the requests between two revisions."""
    update = spec.update
    if update and 0 < update.weight < 100 and not spec.weighs_requests:
        route = spec.service.route
        there = "there is no route" if route is None else f"a route of kind {route.kind} has one backend"
        yield (
            Field.UPDATE_WEIGHT,
            f"{there}, so nothing sends {update.weight} % of the requests to {update.candidate.name}",
            f"write a {Field.ROUTE} of kind gateway; or 0, test {update.candidate.name} by its own Service, and then "
            "100",
        )


@rule(WEIGHTS)
def update_limits(spec: ResolvedSpec) -> Iterator[Problem]:
    """What the new groups lose by themselves is a weight in a route."""
    if spec.update and spec.update.limits and not spec.weighs_requests:
        yield (
            Field.UPDATE_LIMITS,
            "without a route of kind gateway there is no weight that a program could set to 0",
            f"write a {Field.ROUTE} of kind gateway, or remove it and watch the alerts of the new groups",
        )


@rule("https://github.com/vllm-project/vllm/pull/15202")
def update_first_token(spec: ResolvedSpec) -> Iterator[Problem]:
    """The limit of the first token is within the range of the engine's histogram."""
    limits = spec.update.limits if spec.update else None
    seconds = limits.time_to_first_token_seconds if limits else None
    if spec.update is None or seconds is None:
        return
    vllm = spec.update.candidate.engine.vllm
    longest = EngineMetrics(version=vllm.version).longest_first_token_seconds
    if seconds > longest:
        yield (
            Field.UPDATE_LIMITS,
            f"the histogram of {vllm.name} ends at {longest:g} s, so no first token counts as later than {seconds:g} s",
            f"write timeToFirstTokenSeconds: {longest:g} or less, or remove it",
        )


@rule("docs/updates.md")
def update_gpus(spec: ResolvedSpec) -> Iterator[Problem]:
    """There are GPUs for both revisions at once."""
    update, available = spec.update, spec.gpu.available
    if update is None or available is None or update.candidate.gpu.series != spec.gpu.series:
        return
    held, added = spec.replicas.most * spec.layout.gpus, update.candidate.replicas.most * update.candidate.layout.gpus
    if held + added > available:
        enough = max(0, (available - added) // spec.layout.gpus)
        fewer = f", or serve with {enough} of {spec.replicas.most} groups meanwhile" if enough else ""
        yield (
            Field.UPDATE,
            f"{update.candidate.name} needs {added} GPUs in addition to the {held} of {spec.name}, and {available} are "
            "available",
            f"correct {Field.AVAILABLE} if there are more{fewer}, or change {Field.GROUP} without update, which needs "
            "no other GPUs and interrupts the service",
        )


@rule("docs/updates.md")
def update_served_name(spec: ResolvedSpec) -> Iterator[Problem]:
    """Clients ask for the new model by the same name."""
    if spec.update and (new := spec.update.candidate.model.served_name) != (old := spec.model.served_name):
        yield (
            Field.UPDATE,
            f"its model is served as {new}, and clients ask for {old}: their requests would fail with 404",
            f"write model.servedName: {old}",
        )


@rule("docs/updates.md")
def update_weights(spec: ResolvedSpec) -> Iterator[Problem]:
    """The storage layer can hold two models."""
    if spec.update is None or "weights" not in spec.update.sections:
        return
    if spec.storage.kind == "fluid":
        yield (
            Field.UPDATE,
            "the cache holds the weights of one model, and a second cache needs memory for all of them",
            f"write {Field.STORAGE_KIND}: csi, or serve the new model by a stack of its own",
        )
    elif spec.weights.identity.kind == "rrsa":
        yield (
            Field.UPDATE,
            "with an identity of kind rrsa one service account moves weights, and the Job of the old ones has it",
            "write an identity of kind ramUser or accessKey, or serve the new model by a stack of its own",
        )


@rule("docs/updates.md")
def update_of_groups(spec: ResolvedSpec) -> Iterator[Problem]:
    """There are groups to update."""
    if spec.update and spec.replicas.most == 0:
        yield (
            Field.UPDATE,
            f"with {Field.REPLICAS} 0 no group serves that the new ones could relieve",
            f"remove it, and write its sections into {Field.GROUP}",
        )


@warning("docs/lifecycle.md")
def update_drains(spec: ResolvedSpec) -> Iterator[Problem]:
    """Groups finish their requests before they are deleted."""
    if spec.update and spec.lifecycle is None:
        yield (
            Field.LIFECYCLE,
            "without it, the requests that still run when the old groups are deleted are lost",
            "write it before the update, as its own change: it changes the pods",
        )


@warning("docs/updates.md")
def update_is_complete(spec: ResolvedSpec) -> Iterator[Problem]:
    """The stack file describes the promoted revision in one place."""
    if spec.promoted:
        places = [
            f"{name} to deployment.{'' if name in ('model', 'weights') else 'inference.'}{name}"
            for name in spec.promoted
        ]
        yield (
            Field.UPDATE,
            f"revision {spec.revision} is promoted, and the next update needs this section",
            f"move {', '.join(places)}, write revision: {spec.revision} into {Field.GROUP}, and remove "
            f"{Field.UPDATE}: nothing changes in the cluster",
        )
