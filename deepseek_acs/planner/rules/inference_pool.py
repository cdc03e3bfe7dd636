"""A pool of leaders behind an endpoint picker: where it can choose, and what it may read."""

import re
from collections.abc import Iterator

from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import VLLM, Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm import split_arguments

EXTENSION = "https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob"

OLDEST = (1, 4)
"""First release whose configuration names the engine's metrics
(https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob/v1.4.0/pkg/epp/framework/plugins/datalayer/extractor/metrics/factories.go)."""

PICKER_TAG = re.compile(r"/epp:v([0-9]+)\.([0-9]+)\.")
"""Of the project's own image; other images have versions of their own."""

CACHING, NO_CACHING = "--enable-prefix-caching", "--no-enable-prefix-caching"


@rule(f"{EXTENSION}/v1.4.0/config/charts/epplib/templates/_config.yaml")
def picker_version(spec: ResolvedSpec) -> Iterator[Problem]:
    """The endpoint picker reads the configuration that the stack writes."""
    found = PICKER_TAG.search(spec.picker.image) if spec.picker else None
    if found and tuple(map(int, found.groups())) < OLDEST:
        yield (
            Field.PICKER_IMAGE,
            f"version {'.'.join(found.groups())} knows no metrics by the engine's version, and ends at its "
            "configuration",
            "write an image of 1.4.0 or newer",
        )


@warning("https://gateway-api-inference-extension.sigs.k8s.io/")
def pool_of_several(spec: ResolvedSpec) -> Iterator[Problem]:
    """A pool has several leaders to choose from."""
    if _has_pool(spec) and spec.replicas.most == 1:
        yield (
            Field.ROUTE,
            "the pool has one leader, so the endpoint picker costs a pod and a hop, and chooses nothing",
            f"raise {Field.REPLICAS}, or write a route of kind gateway",
        )


@warning(f"{VLLM}/config/cache.py")
def prefixes_are_kept(spec: ResolvedSpec) -> Iterator[Problem]:
    """Leaders keep the prefixes by which the endpoint picker compares them."""
    if spec.picker is None or not spec.picker.weights.prefix:
        return
    given = split_arguments(spec.engine.arguments)
    # V1 keeps them by default, V0 does not.
    is_off = NO_CACHING in given or (spec.engine.vllm.is_v0 and CACHING not in given)
    if is_off:
        yield (
            Field.PICKER_PREFIX,
            f"{spec.engine.vllm.name} keeps no prefixes here, so requests follow each other to one leader for nothing",
            f"write {Field.PREFIX_CACHING}: true if the version can, or weight 0",
        )


@warning("docs/inference-pool.md")
def metrics_need_no_key(spec: ResolvedSpec) -> Iterator[Problem]:
    """Who reads the leaders' metrics without a key is limited by the network."""
    if not _has_pool(spec) or spec.request_filter is None:
        return
    is_listed = spec.security.network_policy is not None or spec.security.security_groups
    if not is_listed or spec.service.kind == "internalLoadBalancer":
        is_balanced = spec.service.kind == "internalLoadBalancer"
        who = "the load balancer's clients" if is_balanced else "all pods of the cluster"
        yield (
            Field.ROUTE,
            f"an endpoint picker sends no key, so /metrics of the leaders needs none: {who} read the load and the "
            "model's name, but no prompts",
            f"list the clients in {Field.NETWORK_POLICY} and write {Field.SERVICE_KIND}: clusterIP, or accept it",
        )


def _has_pool(spec: ResolvedSpec) -> bool:
    return spec.service.route is not None and spec.service.route.kind == "inferencePool"
