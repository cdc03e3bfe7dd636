"""What must be known about a model."""

import difflib
from collections.abc import Iterator

from deepseek_acs.planner import catalogue
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec

SIZE_TOLERANCE = 0.05
"""Tolerated deviation of a model's size, for files in addition to its tensors."""


@rule("deepseek_acs/planner/models.toml")
def model_known(spec: ResolvedSpec) -> Iterator[Problem]:
    """The model is in the catalogue, or its config.json or size is set."""
    if spec.model.shapes or spec.model.config_error or spec.model.weights_gib:
        return
    near = difflib.get_close_matches(spec.model.name, catalogue.model_names(), n=1)
    yield (
        Field.MODEL,
        f"{spec.model.name} is not in deepseek_acs/planner/models.toml, so its size is not known",
        f"{f'did you mean {near[0]}? Otherwise set' if near else 'set'} {Field.WEIGHTS_GIB} to the size of its "
        f"safetensors files in GiB, or {Field.CONFIG_FILE} to its config.json, from which its memory follows as well",
    )


@rule("https://huggingface.co/docs/transformers/main_classes/configuration")
def config_readable(spec: ResolvedSpec) -> Iterator[Problem]:
    """The given config.json can be read and has the keys that memory depends on."""
    if spec.model.config_error:
        yield (
            Field.CONFIG_FILE,
            spec.model.config_error,
            "set the path of the config.json that was downloaded with the model's weights",
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


@warning("docs/planner.md")
def model_modelled(spec: ResolvedSpec) -> Iterator[Problem]:
    """The model's shapes are known, and its kind of attention is modelled."""
    shapes = spec.model.shapes
    why = (f"it has {shapes.unpredicted}" if shapes.unpredicted else "") if shapes else "only its size is known"
    if why and (shapes or spec.model.weights_gib):
        yield (
            Field.MODEL,
            f"the memory of {spec.model.name} is bounded, not predicted: {why}",
            "check the figures in the engine's log at its first start",
        )
