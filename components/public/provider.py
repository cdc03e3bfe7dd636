"""The provider that serves the public components to programs in other languages."""

from importlib.metadata import version

from pulumi.provider.experimental import component_provider_host
from pulumi.provider.experimental.util import camel_case

from . import arguments
from .model_service import ModelService
from .model_storage import ModelStorage
from .model_weights import ModelWeights

PACKAGE = "deepseek-acs"
"""Name of the package, in which the components are, and of the distribution."""

COMPONENTS = [ModelService, ModelStorage, ModelWeights]


def serve() -> None:
    """Serves them until the engine ends it. Errors name arguments as the schema does."""
    arguments.spell = camel_case
    component_provider_host([*COMPONENTS], PACKAGE, version=version(PACKAGE))
