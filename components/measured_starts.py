"""Reads the starts that the program ``incidents`` has measured, from the ConfigMap that it writes."""

import dataclasses
import json

import pulumi

from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.starts import measured_starts, start_plan

from .labels import reports_name
from .live_cluster import LiveCluster, LookupFailedError
from .secrets import KUBECONFIG


def with_starts(spec: ResolvedSpec, config: pulumi.Config) -> ResolvedSpec:
    """``spec`` with the measured starts of its groups, if there are enough. What cannot be read is said, and the times
    then follow from the plan."""
    if spec.observability is None or spec.observability.incidents is None:
        return spec
    # The value itself, which ``config`` gives only as an output. It is used here and not kept.
    kubeconfig = spec.kubeconfig or pulumi.runtime.get_config(config.full_key(KUBECONFIG))
    if kubeconfig is None or (spec.kubeconfig is not None and not spec.kubeconfig.is_file()):
        return spec
    cluster, name = LiveCluster(kubeconfig, spec.cluster.context), reports_name(spec.name)
    try:
        data = cluster.config_map(spec.cluster.namespace, name) or {}
        starts = measured_starts(json.loads(data.get("starts", "[]")), start_plan(spec))
    except LookupFailedError as error:
        pulumi.log.info(f"measured starts were not read, and times follow from the plan: {error}")
        return spec
    except (KeyError, TypeError, ValueError):
        pulumi.log.warn(
            f"the key starts of the ConfigMap {spec.cluster.namespace}/{name} is not what the program incidents "
            "writes, and times follow from the plan; remove the key"
        )
        return spec
    return dataclasses.replace(spec, starts=starts)
