"""What a hostile or careless colleague adds to a sound stack: a mandatory policy finds each of it."""

import json
from collections.abc import Mapping, Sequence

import pytest

from policy.resources import Resource
from tests.policy.access_cases import by_secret
from tests.policy.cloud_cases import binding
from tests.policy.stacks import (
    BALANCER,
    LOAD_BALANCER,
    PRIVATE,
    SOUND,
    TLS_ONLY,
    about_bucket,
    admits,
    attachment,
    bucket_policy,
    found,
    group,
    ingress,
    manifest,
    network,
    network_policy,
    pod,
    ram_policy,
    resource,
    role,
    secret,
    service,
)

ALLOW_ALL = network_policy({}, ingress=[{}])

PROBES: Mapping[str, tuple[str, Sequence[Resource]]] = {
    "a network policy that admits everyone": ("restrict-network-policy-peers", [ALLOW_ALL]),
    "a network policy for the internet": ("restrict-network-policy-peers", [admits(network("0.0.0.0/0"))]),
    "SYS_ADMIN": (
        "restrict-capabilities",
        [group(pod(security={"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}))],
    ),
    "hostPort": ("disallow-host-ports", [group(pod(ports=[{"containerPort": 8000, "hostPort": 8000}]))]),
    "seccomp Unconfined": ("restrict-seccomp", [group(pod(security={"seccompProfile": {"type": "Unconfined"}}))]),
    "privilege escalation": (
        "disallow-privilege-escalation",
        [group(pod(security={"allowPrivilegeEscalation": True}))],
    ),
    "a pod with a public address": (
        "disallow-public-pods",
        [group(pod(annotations={"network.alibabacloud.com/pod-with-eip": "true"}))],
    ),
    "the load balancer of another team": (
        "disallow-public-services",
        [service("LoadBalancer", {**PRIVATE, f"{LOAD_BALANCER}-id": "lb-public"})],
    ),
    "an Ingress for every path": ("restrict-route-paths", [ingress(paths=[{"path": "/", "pathType": "Prefix"}])]),
    "an Ingress without redirect": (
        "require-https-redirect",
        [ingress(class_name="nginx", annotations={"nginx.ingress.kubernetes.io/ssl-redirect": "false"})],
    ),
    "a TCPRoute": ("restrict-resource-types", [manifest("TCPRoute", spec={"rules": [{}]})]),
    "an empty key": (
        "require-api-key",
        [BALANCER, group(pod(env=[{"name": "VLLM_API_KEY", "value": ""}]))],
    ),
    "an empty key in a Secret": ("require-api-key", [BALANCER, by_secret(), secret(stringData={"key": ""})]),
    "an image of a branch": ("disallow-mutable-tags", [group(pod(image="docker.io/vllm/vllm-openai:main"))]),
    "an image of any registry": ("restrict-image-registries", [group(pod(image="evil.example/vllm:v1.0"))]),
    "ram:*": ("restrict-ram-policies", [ram_policy(Action=["ram:*"], Resource=["*"])]),
    "NotAction": (
        "restrict-ram-policies",
        [
            resource(
                "alicloud:ram/policy:Policy",
                "it",
                {
                    "policyDocument": json.dumps(
                        {
                            "Statement": [
                                {"Effect": "Allow", "NotAction": "oss:DeleteBucket", "Resource": "acs:oss:*:*:b"}
                            ]
                        }
                    )
                },
            )
        ],
    ),
    "oss:Put* on b*": ("restrict-ram-policies", [ram_policy(Action=["oss:Put*"], Resource=["acs:oss:*:*:b*"])]),
    "PutBucketPolicy": (
        "restrict-ram-policies",
        [ram_policy(Action=["oss:PutBucketPolicy"], Resource=["acs:oss:*:*:weights"])],
    ),
    "sts:AssumeRole on all roles": (
        "restrict-ram-policies",
        [ram_policy(Action=["sts:AssumeRole"], Resource=["acs:ram::*:role/*"])],
    ),
    "AliyunRAMFullAccess": ("restrict-ram-attachments", [attachment("AliyunRAMFullAccess", "System")]),
    "a role for everyone": ("restrict-ram-roles", [role(Principal={"RAM": ["*"]}, Condition={})]),
    "a TLS rule about another bucket": (
        "require-bucket-tls",
        [bucket_policy(Resource=["acs:oss:*:*:other", "acs:oss:*:*:other/*"])],
    ),
    "a grant to another account": (
        "restrict-bucket-policies",
        [
            about_bucket(
                "BucketPolicy",
                policy=json.dumps(
                    {
                        "Statement": [
                            TLS_ONLY,
                            {
                                "Effect": "Allow",
                                "Principal": ["1234567890123456"],
                                "Action": ["oss:GetObject"],
                                "Resource": ["acs:oss:*:*:weights/*"],
                            },
                        ]
                    }
                ),
            )
        ],
    ),
    "cluster-admin": (
        "restrict-role-bindings",
        [binding("ClusterRoleBinding", role=("ClusterRole", "cluster-admin"))],
    ),
    "a hostPath volume": (
        "disallow-host-path",
        [group(pod(spec={"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}))],
    ),
    "a hostPath PersistentVolume": (
        "disallow-host-path",
        [manifest("PersistentVolume", spec={"hostPath": {"path": "/"}})],
    ),
    "DEV_MODE": (
        "disallow-unsafe-engine-options",
        [group(pod(env=[{"name": "VLLM_SERVER_DEV_MODE", "value": "1"}]))],
    ),
    "insecure serialization": (
        "disallow-unsafe-engine-options",
        [group(pod(env=[{"name": "VLLM_ALLOW_INSECURE_SERIALIZATION", "value": "1"}]))],
    ),
}


def with_changes(stack: Sequence[Resource], changes: Sequence[Resource]) -> list[Resource]:
    """The stack with resources added, or put in the place of those with the same URN."""
    return list({one.urn: one for one in [*stack, *changes]}.values())


@pytest.mark.parametrize("probe", PROBES)
def test_a_mandatory_policy_finds_it(probe: str) -> None:
    rule, changes = PROBES[probe]
    assert rule in {name for name, _ in found(with_changes(SOUND, changes))}


def test_the_sound_stack_keeps_every_rule() -> None:
    assert list(found(SOUND)) == []
