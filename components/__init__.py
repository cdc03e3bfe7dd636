"""The Pulumi components, one per file. Those for other programs are exported here (docs/library.md)."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .public.model_service import ModelService, ModelServiceArgs, NetworkClientArgs
    from .public.model_storage import ModelStorage, ModelStorageArgs
    from .public.model_weights import ModelWeights, ModelWeightsArgs

__all__ = [
    "ModelService",
    "ModelServiceArgs",
    "ModelStorage",
    "ModelStorageArgs",
    "ModelWeights",
    "ModelWeightsArgs",
    "NetworkClientArgs",
]

_MODULES = {
    "ModelService": "model_service",
    "ModelServiceArgs": "model_service",
    "NetworkClientArgs": "model_service",
    "ModelStorage": "model_storage",
    "ModelStorageArgs": "model_storage",
    "ModelWeights": "model_weights",
    "ModelWeightsArgs": "model_weights",
}


def __getattr__(name: str) -> object:
    """Imports a component when it is asked for: the program of this project needs none of them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".public.{_MODULES[name]}", __name__), name)
