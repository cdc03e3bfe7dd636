"""The model that is served."""

from typing import Annotated

from pydantic import Field

from deepseek_acs.settings.base import Settings


class ModelSettings(Settings):
    """The model that is served."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["deepseek-ai/DeepSeek-R1"])]
    """Name under which ModelScope and Hugging Face publish the model. Its size is taken from
    deepseek_acs/planner/models.toml."""

    served_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]+$")] = "ds"
    """Name that clients use in the "model" field of a request."""

    weights_gib: Annotated[float | None, Field(alias="weightsGiB", gt=0, le=20_000)] = None
    """Size of the model's safetensors files in GiB, for a model that is not in deepseek_acs/planner/models.toml. Its
    memory can then only be bounded; with configFile it is computed."""

    config_file: Annotated[str | None, Field(min_length=1)] = None
    """Path of the model's config.json, relative to the project or starting with ~, for a model that is not in
    deepseek_acs/planner/models.toml. A model.safetensors.index.json in the same folder gives the size of the files."""
