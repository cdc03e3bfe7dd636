"""What must be known about a model."""

import difflib
from collections.abc import Iterator

from deepseek_acs.planner import catalogue
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.upload import SHAPES_TOLERANCE, SIZE_TOLERANCE
from deepseek_acs.planner.weights import files_gib

QUANTISATION_FILE = "put the model's hf_quant_config.json next to the file if it has one, or else "
"""A checkpoint of NVIDIA's tools looks as if it had 16 bits without it."""

SIZE_OF_FILES = f"set {Field.WEIGHTS_GIB} to the size of its safetensors files in GiB"


@rule("deepseek_acs/planner/models.toml")
def model_known(spec: ResolvedSpec) -> Iterator[Problem]:
    """The model is in the catalogue, or its config.json or size is set."""
    model = spec.model
    if model.shapes or model.config_error or model.weights_gib:
        return
    if model.unpredicted:
        yield (
            Field.WEIGHTS_GIB,
            f"the size of {model.name} is not known: it has {model.unpredicted.why}, so that it does not follow from "
            "its config.json",
            f"{SIZE_OF_FILES}, or put its model.safetensors.index.json next to its config.json",
        )
        return
    near = difflib.get_close_matches(spec.model.name, catalogue.model_names(), n=1)
    yield (
        Field.MODEL,
        f"{spec.model.name} is not in deepseek_acs/planner/models.toml, so its size is not known",
        f"{f'did you mean {near[0]}? Otherwise ' if near else ''}{SIZE_OF_FILES}, or {Field.CONFIG_FILE} to its "
        "config.json, from which its memory follows as well",
    )


@rule("https://huggingface.co/docs/transformers/main_classes/configuration")
def config_readable(spec: ResolvedSpec) -> Iterator[Problem]:
    """The given config.json can be read and is one of a model."""
    if spec.model.config_error:
        yield (
            Field.CONFIG_FILE,
            spec.model.config_error,
            f"set the path of the config.json that was downloaded with the model's weights, or remove it and "
            f"{SIZE_OF_FILES}",
        )


@rule("deepseek_acs/planner/models.toml")
def model_size(spec: ResolvedSpec) -> Iterator[Problem]:
    """The given size agrees with the published size of the model."""
    # Only what is published: a size from shapes may lack parts that are not modelled, and the given one is better.
    given, known = spec.model.stated_gib, spec.model.shapes.weights_gib if spec.model.shapes else None
    if given is not None and known is not None and abs(given - known) > SIZE_TOLERANCE * known:
        yield (
            Field.WEIGHTS_GIB,
            f"{given:g} GiB are not the {known:.1f} GiB of {spec.model.name}, on which load times and cache would be "
            "planned",
            f"remove it, or correct {Field.MODEL}",
        )


@rule("docs/planner.md")
def shapes_agree(spec: ResolvedSpec) -> Iterator[Problem]:
    """The size of the model's files agrees with the size that follows from its shapes."""
    shapes = spec.model.shapes
    if shapes is None:
        return
    known = shapes.weights_gib
    given = spec.model.stated_gib if known is None else known
    least, most = files_gib(shapes)
    if given is None or least * (1 - SHAPES_TOLERANCE) <= given <= most * (1 + SHAPES_TOLERANCE):
        return
    index = f"the index next to {Field.CONFIG_FILE} says"
    yield (
        Field.WEIGHTS_GIB if known is None else Field.CONFIG_FILE,
        f"{'' if known is None else index + ' '}{given:.1f} GiB{'' if known is None else ', which'} are not the "
        f"{least:.1f} GiB that follow from the shapes of {spec.model.name}: either one of the two belongs to another "
        "model, or its config.json has a property that the plan does not support",
        f"correct it; if it is right, {QUANTISATION_FILE if shapes.quantisation is None else ''}remove "
        f"{Field.CONFIG_FILE} and {SIZE_OF_FILES}: memory is then bounded, not predicted"
        if spec.model.has_config_file
        else "correct or remove it",
    )


@warning("docs/planner.md")
def model_modelled(spec: ResolvedSpec) -> Iterator[Problem]:
    """The model's shapes are known and its kind of attention is modelled."""
    unpredicted = spec.model.unpredicted
    why = f"it has {unpredicted.why}" if unpredicted else "only its size is known"
    if spec.model.shapes is None and spec.model.weights_gib:
        yield (
            Field.MODEL,
            f"the memory of {spec.model.name} is bounded, not predicted: {why}",
            "check the figures in the engine's log at its first start",
        )


@warning("https://docs.vllm.ai/en/stable/configuration/conserving_memory/")
def images(spec: ResolvedSpec) -> Iterator[Problem]:
    """The memory for images is included in the plan."""
    if spec.memory and spec.reads_images:
        yield (
            Field.EXTRA_ARGS,
            f"{spec.model.name} also reads images; the memory that encoding them needs is not included in the plan",
            'write --limit-mm-per-prompt={"image": 0, "video": 0} if no images are sent, or check the figures in the '
            "engine's log at its first start",
        )
