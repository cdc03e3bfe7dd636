"""Labels and names that select the pods of an inference group."""

from collections.abc import Mapping

PART_OF = "deepseek"

CONTAINER = "vllm"
"""Name of the engine's container."""


def common_labels(name: str, *, component: str) -> Mapping[str, str]:
    """Labels of the objects of the inference group ``name``
    (https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/)."""
    return {
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": PART_OF,
    }
