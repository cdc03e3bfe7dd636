"""Labels and names that select the pods of an inference group."""

from collections.abc import Mapping

PART_OF = "deepseek"

CONTAINER = "vllm"
"""Name of the engine's container."""

WORKER_INDEX_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
"""Set on every pod by all versions of the controller. The variable LWS_WORKER_INDEX is not: the version in the ACS App
Marketplace (0.5) does not set it, and Kubernetes does not expand an unknown $(VARIABLE)
(https://github.com/kubernetes-sigs/lws/blob/main/api/leaderworkerset/v1/leaderworkerset_types.go)."""


def common_labels(name: str, *, component: str) -> Mapping[str, str]:
    """Labels of the objects of the inference group ``name``
    (https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/)."""
    return {
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": PART_OF,
    }


def reports_name(group: str) -> str:
    """Name of the ConfigMap with the reports, and of the other objects."""
    return f"{group}-incidents"


def report_command(kubectl: str, config_map: str) -> str:
    """Prints the newest report; ``kubectl`` is the beginning of a command for the namespace."""
    template = "{{index .binaryData .data.newest}}"
    return f"{kubectl} get configmap {config_map} -o go-template='{template}' | base64 --decode | gunzip"
