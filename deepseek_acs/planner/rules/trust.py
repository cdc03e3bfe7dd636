"""What the pods load and run, and by what it is known."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime

from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.advisories import is_reached_from_outside
from deepseek_acs.planner.rules.dangerous import is_exposed
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec

CUSTOM_CODE = "https://huggingface.co/docs/transformers/models#custom-models"
WEIGHTS = "docs/weights.md"

COMMIT = re.compile("[0-9a-f]{40}")


def _unpinned_code(spec: ResolvedSpec) -> Iterator[Problem]:
    """Nothing where no code of the model runs, or what runs is known by commit and digest."""
    if not spec.engine.trust_remote_code:
        return
    hub = spec.weights.hub
    if hub is not None and not COMMIT.fullmatch(hub.revision):
        yield (
            Field.REVISION,
            f"{hub.revision} is a branch or a tag, and who can move it runs code on the GPUs: "
            f"{Field.TRUST_REMOTE_CODE} is on",
            "write the commit that you have read",
        )
    if spec.weights.manifest_sha256 is None:
        yield (
            Field.MANIFEST,
            f"{Field.TRUST_REMOTE_CODE} is on, and all who can write to the bucket, or answer for the hub, choose the "
            "code",
            _how_to_pin(spec),
        )


def _how_to_pin(spec: ResolvedSpec) -> str:
    jobs = "-l app.kubernetes.io/component=model-upload --tail=1"
    return f"write what the Job says when it is done: kubectl -n {spec.cluster.namespace} logs {jobs}"


def _serves_clients_outside(spec: ResolvedSpec) -> bool:
    # Without groups nothing runs, and the weights can be moved to learn their digest.
    return is_reached_from_outside(spec) and spec.replicas.most > 0


@rule(CUSTOM_CODE)
def exposed_remote_code_is_pinned(spec: ResolvedSpec) -> Iterator[Problem]:
    """Behind a route or a load balancer, code that comes with the model is known by commit and digest."""
    if _serves_clients_outside(spec):
        for field, problem, fix in _unpinned_code(spec):
            yield field, problem, f"{fix}. {Field.REPLICAS}: 0 moves the weights without running it"


@warning(CUSTOM_CODE)
def remote_code_is_pinned(spec: ResolvedSpec) -> Iterator[Problem]:
    """Code that comes with the model is known by commit and digest."""
    if not _serves_clients_outside(spec):
        yield from _unpinned_code(spec)


@warning(CUSTOM_CODE)
def remote_code_is_needed(spec: ResolvedSpec) -> Iterator[Problem]:
    """Code that comes with the model runs only where vLLM itself has no code for it."""
    shapes, vllm = spec.model.shapes, spec.engine.vllm
    if shapes is None or spec.engine.trust_remote_code == vllm.needs_code_of(shapes):
        return
    if spec.engine.trust_remote_code:
        yield (
            Field.TRUST_REMOTE_CODE,
            f"{vllm.name} has code of its own for {spec.model.name}, and does not need that of the repository",
            "remove it",
        )
    else:
        yield (
            Field.TRUST_REMOTE_CODE,
            f"{vllm.name} may know {spec.model.name} only by the code of its repository, and then ends at its start",
            "use a newer image, or remove it",
        )


@warning(WEIGHTS)
def weights_are_pinned(spec: ResolvedSpec) -> Iterator[Problem]:
    """The weights that clients are served from are known by a digest."""
    if spec.weights.manifest_sha256 is None and is_exposed(spec) and not spec.engine.trust_remote_code:
        yield (
            Field.MANIFEST,
            "the pods load whatever is in the bucket: nothing of it is known here, and the manifest may be written by "
            "the same key as the weights",
            _how_to_pin(spec),
        )


@warning("https://kubernetes.io/docs/concepts/containers/images/#image-names")
def images_are_pinned(spec: ResolvedSpec) -> Iterator[Problem]:
    """Images that clients are served from, and the one that has the mover's key, are known by their digest."""
    if not is_exposed(spec):
        return
    images = [(Field.IMAGE, spec.engine.image), (Field.UPLOAD, spec.weights.upload.image)]
    if spec.picker:
        images.append((Field.PICKER_IMAGE, spec.picker.image))
    for field, image in images:
        if "@sha256:" not in image:
            yield (
                field,
                f"the registry may give another image for {image} tomorrow",
                "append the digest that you have tested: docs/access.md#images",
            )


@warning(WEIGHTS)
def mover_keeps_no_right(spec: ResolvedSpec) -> Iterator[Problem]:
    """The mover's key may write only as long as there is something to move."""
    weights = spec.weights
    ends = weights.upload.rights_end is not None
    if (
        weights.hub is not None
        and weights.manifest_sha256 is not None
        and weights.identity.kind == "ramUser"
        and not ends
    ):
        yield (
            Field.SOURCE,
            "the digest says that the weights are moved, and the mover's AccessKey may still write and delete them",
            f"write bucket once they are: its policy then only reads; or write {Field.RIGHTS_END}",
        )


@warning(WEIGHTS)
def mover_rights_end(spec: ResolvedSpec) -> Iterator[Problem]:
    """The day on which the mover's rights end is to come, and the rights are this program's to end."""
    end = spec.weights.upload.rights_end
    if end is None:
        return
    if spec.weights.identity.kind == "accessKey":
        yield Field.RIGHTS_END, "the mover uses your own AccessKey, whose rights are not set here", "remove it"
    elif spec.weights.hub is not None and date.fromisoformat(end) <= datetime.now(UTC).date():
        yield (
            Field.RIGHTS_END,
            f"since {end} the mover has no rights: a Job that has something to move fails",
            f"write a later day, or {Field.SOURCE}: bucket if the weights are moved",
        )
