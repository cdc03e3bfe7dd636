"""What a policy accepts, among all that could be written: only what its options name."""

import ipaddress
import string
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from policy.checks.rbac import VERBS
from policy.options import ALLOWED_ACTIONS, ALLOWED_PATHS, ALLOWED_REGISTRIES
from policy.resources import UNKNOWN
from policy.rules import RULES, ResourceRule
from tests.policy.cloud_cases import cluster_role
from tests.policy.pod_cases import volumes
from tests.policy.stacks import (
    IDENTITY,
    admits,
    bucket_policy,
    found,
    group,
    http_route,
    ingress,
    manifest,
    network,
    pod,
    ram_policy,
    role,
)

ACTIONS = ALLOWED_ACTIONS.schema["default"]
PATHS = ALLOWED_PATHS.schema["default"]
REGISTRIES = ALLOWED_REGISTRIES.schema["default"]
CAPABILITIES = st.sampled_from(["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "CHOWN", "IPC_LOCK", "NET_BIND_SERVICE"])


def is_found(rule: str, *resources: Any, **config: Any) -> bool:
    return bool(list(found(resources, rule, config=config)))


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 32))
def test_any_ipv4_network_wider_than_the_option_is_found(address: int, prefix: int, limit: int) -> None:
    cidr = ipaddress.IPv4Network((address, prefix), strict=False)
    config = {"minPrefixLength": limit, "allowedNetworks": []}
    assert is_found("restrict-network-policy-peers", admits(network(str(cidr))), **config) is (prefix < limit)


@given(st.integers(0, 2**128 - 1), st.integers(0, 128), st.integers(0, 128))
def test_any_ipv6_network_wider_than_the_option_is_found(address: int, prefix: int, limit: int) -> None:
    cidr = ipaddress.IPv6Network((address, prefix), strict=False)
    config = {"minPrefixLengthIPv6": limit}
    assert is_found("restrict-network-policy-peers", admits(network(str(cidr))), **config) is (prefix < limit)


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_an_accepted_network_accepts_what_is_in_it_and_no_more(
    address: int, prefix: int, other_address: int, other_prefix: int
) -> None:
    cidr = ipaddress.IPv4Network((address, prefix), strict=False)
    accepted = ipaddress.IPv4Network((other_address, other_prefix), strict=False)
    config = {"minPrefixLength": 32, "allowedNetworks": [str(accepted)]}
    is_fine = prefix == 32 or cidr.subnet_of(accepted)
    assert is_found("restrict-network-policy-peers", admits(network(str(cidr))), **config) is not is_fine


@given(
    st.lists(
        st.sampled_from(
            [
                {"podSelector": {"matchLabels": {"app": "client"}}},
                {"ipBlock": {"cidr": "10.1.0.0/24"}},
                {"namespaceSelector": {}},
                {"ipBlock": {"cidr": "0.0.0.0/0"}},
                {},
            ]
        ),
        max_size=4,
    )
)
def test_one_wide_peer_among_narrow_ones_is_found(peers: list[Any]) -> None:
    narrow = [{"podSelector": {"matchLabels": {"app": "client"}}}, {"ipBlock": {"cidr": "10.1.0.0/24"}}]
    is_wide = not peers or any(peer not in narrow for peer in peers)
    assert is_found("restrict-network-policy-peers", admits(*peers)) is is_wide


@given(st.one_of(st.sampled_from(ACTIONS), st.text(alphabet=string.ascii_letters + ":*?.-", max_size=24)))
def test_any_action_outside_the_list_is_found(action: str) -> None:
    assert is_found("restrict-ram-policies", ram_policy(Action=[action])) is (action not in ACTIONS)


@given(st.sampled_from(ACTIONS), st.integers(0, 24), st.sampled_from("*?"), st.booleans())
def test_any_spelling_of_a_wildcard_action_is_found(action: str, at: int, wildcard: str, is_upper: bool) -> None:
    spelled = action[:at] + wildcard + action[at + 1 :]
    given_action = spelled.upper() if is_upper else spelled
    assert is_found("restrict-ram-policies", ram_policy(Action=["oss:GetObject", given_action]))


@given(st.text(alphabet="abc*?/-", max_size=12))
def test_resources_name_one_bucket_and_a_folder(place: str) -> None:
    bucket, slash, objects = place.partition("/")
    is_fine = bucket != "" and not set(bucket) & set("*?") and (not slash or objects[:1] not in ("", "*", "?", "/"))
    found_wide = is_found("restrict-ram-policies", ram_policy(Resource=[f"acs:oss:*:*:{place}"]))
    assert found_wide is not is_fine


@given(
    st.dictionaries(
        st.sampled_from(["RAM", "Service", "Federated"]), st.lists(st.text(alphabet="ab*", max_size=3), max_size=2)
    )
)
def test_any_principal_outside_the_list_is_found(principal: dict[str, list[str]]) -> None:
    is_federated = set(principal) == {"Federated"}
    accepted = ["a", "b"]
    is_listed = bool(principal) and all(
        names and set(names) <= set(accepted) for kind, names in principal.items() if kind != "Federated"
    )
    expected = not (is_federated or is_listed)
    assert is_found("restrict-ram-roles", role(Principal=principal), allowedPrincipals=accepted) is expected


@given(st.sets(st.sampled_from(sorted(IDENTITY))), st.sampled_from(["StringEquals", "StringLike"]))
def test_a_role_names_one_service_account_entirely(names: set[str], operator: str) -> None:
    condition = {operator: {name: IDENTITY[name] for name in names}}
    is_fine = names == set(IDENTITY) and operator == "StringEquals"
    assert is_found("restrict-ram-roles", role(Condition=condition)) is not is_fine


@given(st.lists(st.sampled_from(["1", "2", "*", ""]), max_size=3), st.lists(st.sampled_from(["1", "2"])))
def test_any_grant_outside_the_list_is_found(principals: list[str], accepted: list[str]) -> None:
    one = bucket_policy(Effect="Allow", Principal=principals)
    is_fine = bool(principals) and set(principals) <= set(accepted)
    assert is_found("restrict-bucket-policies", one, allowedPrincipals=accepted) is not is_fine


@given(st.one_of(st.sampled_from(PATHS), st.text(alphabet="/v1modelsrponc.%*", max_size=20)))
def test_any_path_outside_the_list_is_found(path: str) -> None:
    is_below = path.startswith("/v1/responses/") and set(path[14:]) <= set(string.ascii_letters + string.digits + "/_-")
    is_fine = path in PATHS or (is_below and "//" not in path and not path.endswith("/"))
    assert is_found("restrict-route-paths", http_route([{"path": {"type": "Exact", "value": path}}])) is not is_fine
    assert is_found("restrict-route-paths", ingress(paths=[{"path": path, "pathType": "Exact"}])) is not is_fine


@given(st.text(alphabet="/v1models", max_size=12), st.sampled_from(["Prefix", "ImplementationSpecific", "", None]))
def test_a_prefix_is_never_narrower_than_it_looks(path: str, kind: str | None) -> None:
    assert is_found("restrict-route-paths", ingress(paths=[{"path": path, "pathType": kind}]))


@given(st.sets(CAPABILITIES), st.booleans(), st.sampled_from([["ALL"], ["NET_RAW"], []]))
def test_capabilities_are_dropped_but_for_those_of_rdma(added: set[str], has_rdma: bool, dropped: list[str]) -> None:
    labels = {} if has_rdma else {"alibabacloud.com/hpn-type": None}
    one = group(pod(labels=labels, security={"capabilities": {"drop": dropped, "add": sorted(added)}}))
    allowed = {"NET_BIND_SERVICE", "IPC_LOCK"} if has_rdma else {"NET_BIND_SERVICE"}
    # The worker of the stack adds IPC_LOCK and has RDMA.
    assert is_found("restrict-capabilities", one) is not (dropped == ["ALL"] and added <= allowed)


@given(st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=8))
def test_any_volume_outside_the_standard_is_found(kind: str) -> None:
    assert is_found("restrict-volume-types", volumes({"name": "x", kind: {}})) is (
        kind not in ("csi", "secret", "name")
    )


@given(st.one_of(st.sampled_from(sorted(VERBS)), st.text(alphabet=string.printable, max_size=12)))
def test_any_other_verb_is_found(verb: str) -> None:
    assert is_found("restrict-roles", cluster_role(verbs=["get", verb])) is (verb not in VERBS)


@given(st.sampled_from(REGISTRIES), st.text(alphabet="abc/.-", max_size=8))
def test_an_image_begins_with_a_whole_registry(registry: str, suffix: str) -> None:
    is_fine = suffix == "" or suffix.startswith("/")
    one = group(pod(image=f"{registry}{suffix}:v1.0"))
    assert is_found("restrict-image-registries", one) is not is_fine


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(alphabet=string.printable, max_size=6), st.just(UNKNOWN)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["spec", "rules", "ingress", "from", "template", "containers", "env", "name", "ports", "path", "tls"]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=12,
)
KINDS = (
    "LeaderWorkerSet",
    "Job",
    "Service",
    "Ingress",
    "HTTPRoute",
    "NetworkPolicy",
    "Role",
    "RoleBinding",
    "JindoRuntime",
)


@given(st.sampled_from(KINDS), VALUES, VALUES)
def test_no_check_fails_on_any_shape(kind: str, spec: Any, rules: Any) -> None:
    one = manifest(kind, spec=spec, rules=rules, subjects=rules, roleRef=spec)
    for rule in RULES:
        arguments = rule.arguments({})
        list(rule.check(one, **arguments) if isinstance(rule, ResourceRule) else rule.check([one], **arguments))


@given(st.integers(0, 50), st.integers(1, 8), st.integers(0, 5), st.floats(0, 100), st.floats(0.01, 100_000))
def test_any_cost_above_the_limit_is_found(replicas: int, size: int, surge: int, price: float, limit: float) -> None:
    rolling = {"rollingUpdateConfiguration": {"maxSurge": surge}}
    both = {"leaderTemplate": pod(), "workerTemplate": pod(), "size": size}
    stack = group(leaderWorkerTemplate=both, replicas=replicas, rolloutStrategy=rolling)
    config = {"maxHourlyCost": limit, "gpuHour": {"GU8TF": price}}
    cost = (replicas + surge) * 8 * size * price
    assume(abs(cost - limit) > 1e-6)
    assert is_found("restrict-hourly-cost", stack, **config) is (cost > limit)
    unknown = group(leaderWorkerTemplate=both, replicas=UNKNOWN)
    assert not is_found("restrict-hourly-cost", unknown, **config), "asked for again in the update"
