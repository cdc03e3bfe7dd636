"""What must be known of a model."""

import difflib

from planner import catalogue
from planner.case import Case
from planner.rules.rule import Rule, Values

SIZE_TOLERANCE = 0.05
"""Of a model's size, for files beside its tensors."""


def _model_known(case: Case) -> Values | None:
    choices = case.choices
    if case.model or case.config_error or choices.weights_gib is not None:
        return None
    near = difflib.get_close_matches(choices.model, catalogue.model_names(), n=1)
    return {"model": choices.model, "meant": f"did you mean {near[0]}? Otherwise set" if near else "set"}


def _config_readable(case: Case) -> Values | None:
    return {"error": case.config_error} if case.config_error else None


def _model_size(case: Case) -> Values | None:
    # Only what is published: a size from shapes may lack parts that are not modelled, and the given one is better.
    given, known = case.choices.weights_gib, case.model.weights_gib if case.model else None
    if given is None or known is None or abs(given - known) <= SIZE_TOLERANCE * known:
        return None
    return {"given": given, "known": known, "model": case.choices.model}


def _model_modelled(case: Case) -> Values | None:
    if case.model is None:
        return {"model": case.choices.model, "why": "only its size is known"} if case.weights_gib is not None else None
    return {"model": case.model.name, "why": f"it has {case.model.unpredicted}"} if case.model.unpredicted else None


MODEL_RULES = (
    Rule(
        id="model-known",
        statement="The model is in the catalogue, or its config.json or size is given.",
        source="planner/models.toml",
        path="deployment.model.name",
        problem="{model} is not in planner/models.toml, so its size is unknown",
        fix="{meant} deployment.model.weightsGiB to the size of its safetensors files in GiB, or "
        "deployment.model.configFile to its config.json, which also tells its memory",
        check=_model_known,
    ),
    Rule(
        id="config-readable",
        statement="A config.json that is given can be read and has the keys that memory depends on.",
        source="https://huggingface.co/docs/transformers/main_classes/configuration",
        path="deployment.model.configFile",
        problem="{error}",
        fix="give the path of the model's own config.json, as downloaded with its weights",
        check=_config_readable,
    ),
    Rule(
        id="model-size",
        statement="A size that is given is that of the model, where it is published.",
        source="planner/models.toml",
        path="deployment.model.weightsGiB",
        problem="{given:g} GiB are not the {known:.1f} GiB of {model}, on which load times and cache would be planned",
        fix="remove it, or write deployment.model.name of the model that is meant",
        check=_model_size,
    ),
    Rule(
        id="model-modelled",
        statement="The model's shapes are known and its kind of attention is modelled.",
        source="docs/planner.md",
        path="deployment.model.name",
        problem="the memory of {model} is bounded, not predicted: {why}",
        fix="check the engine's own figures at its first start",
        check=_model_modelled,
        severity="warning",
    ),
)
