"""Kubernetes' label selectors (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/)."""

from collections.abc import Mapping
from typing import Any

from policy.resources import could_be, items, mapping, text


def selects(selector: Any, labels: Mapping[str, Any]) -> bool:
    """Whether a selector, with ``matchLabels`` and ``matchExpressions``, selects an object with these labels."""
    matches = all(key in labels and could_be(labels[key], value) for key, value in _labels(selector).items())
    return matches and all(_holds(mapping(one), labels) for one in items(mapping(selector).get("matchExpressions")))


def _labels(selector: Any) -> Mapping[str, Any]:
    return mapping(mapping(selector).get("matchLabels"))


def _holds(expression: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    key, values = text(expression.get("key")), items(expression.get("values"))
    present = key in labels
    is_one_of = present and any(could_be(labels[key], value) for value in values)
    match expression.get("operator"):
        case "In":
            return is_one_of
        case "NotIn":
            return not is_one_of
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
    return False
