"""Policies about rights and data: buckets, RAM, and roles of the cluster."""

from collections.abc import Mapping
from typing import Any

from policy.resources import UNKNOWN, Resource
from tests.policy.stacks import (
    ACL,
    BLOCKED,
    IDENTITY,
    TLS_ONLY,
    Broken,
    Kept,
    about_bucket,
    attachment,
    bucket,
    bucket_policy,
    document,
    manifest,
    ram_policy,
    resource,
    role,
)

POLICY = "alicloud:ram/policy:Policy"
READER = resource(POLICY, "reader", {"policyName": "read", "policyDocument": UNKNOWN})


TLS_WITH_HOLES: tuple[Mapping[str, Any], ...] = (
    {"Action": ["oss:GetObject"]},
    {"Effect": "Allow"},
    {"Principal": ["1"]},
    {"Resource": ["acs:oss:*:*:other", "acs:oss:*:*:other/*"]},
    {"Resource": ["acs:oss:*:*:weights"]},
    {"Resource": []},
    {"Condition": {"Bool": {"acs:SecureTransport": ["true"]}}},
    {"Condition": {**TLS_ONLY["Condition"], "StringEquals": {"acs:SourceVpc": ["vpc-1"]}}},
    {"Condition": {"Bool": {"acs:SecureTransport": ["false"], "acs:MFAPresent": ["true"]}}},
)
"""Changes of a statement that denies plain HTTP, with which it denies less."""


def cluster_role(kind: str = "Role", **rule: Any) -> Resource:
    one = {"apiGroups": ["data.fluid.io"], "resources": ["dataloads"], "verbs": ["get"], **rule}
    return manifest(kind, rules=[one])


def binding(kind: str = "RoleBinding", *, role: tuple[str, str] = ("Role", "preload"), **subject: Any) -> Resource:
    given = {"kind": "ServiceAccount", "name": "preload", **subject}
    return manifest(kind, roleRef={"kind": role[0], "name": role[1]}, subjects=[given])


def trusted(**condition: Any) -> Resource:
    return role(Condition={"StringEquals": {**IDENTITY, **condition}})


BROKEN: Mapping[str, list[Broken]] = {
    "disallow-public-buckets": [
        Broken("acl", "is public-read", (bucket(), BLOCKED, about_bucket("BucketAcl", acl="public-read"))),
        Broken("acl", "is public-read-write", (bucket(acl="public-read-write"), BLOCKED)),
        Broken("", "public access to the bucket is not blocked", (bucket(), ACL)),
        Broken("", "not blocked", (bucket(), about_bucket("BucketPublicAccessBlock", blockPublicAccess=False))),
        Broken(
            "",
            "not blocked",
            (bucket(), about_bucket("BucketPublicAccessBlock", bucket="other", blockPublicAccess=True)),
        ),
        Broken("acl", "is public-read", (bucket(acl="public-read", read_only=True),)),
        Broken(
            "",
            "not blocked",
            (bucket(read_only=True), about_bucket("BucketPublicAccessBlock", blockPublicAccess=False)),
        ),
    ],
    "restrict-bucket-policies": [
        Broken(
            "policy",
            "it grants 1234567890123456 access",
            (bucket_policy(Effect="Allow", Principal=["1234567890123456"]),),
        ),
        Broken("policy", "it grants * access", (bucket_policy(Effect="Allow", Principal="*"),)),
        Broken(
            "policy",
            "everyone but those whom it names",
            (about_bucket("BucketPolicy", policy=document(NotPrincipal=["1"], Action=["oss:GetObject"])),),
        ),
        Broken("policy", "it grants * access", (bucket(policy=document(Principal=["*"]), read_only=True),)),
        Broken("policy", "not a JSON document", (about_bucket("BucketPolicy", policy="no JSON"),)),
        Broken(
            "policy",
            "it grants 2 access",
            (bucket_policy(Effect="Allow", Principal=["2"]),),
            {"allowedPrincipals": ["1"]},
        ),
    ],
    "require-bucket-encryption": [
        Broken("serverSideEncryptionRule", "unencrypted", (bucket(serverSideEncryptionRule=None),))
    ],
    "require-bucket-tls": [
        Broken("", "plain HTTP", (bucket(),)),
        Broken("", "plain HTTP", (bucket(), about_bucket("BucketPolicy", policy="no JSON"))),
        *(Broken("", "plain HTTP", (bucket(), bucket_policy(**changes))) for changes in TLS_WITH_HOLES),
        Broken("", "plain HTTP", (bucket(read_only=True, policy=document(**{**TLS_ONLY, "Principal": ["1"]})),)),
    ],
    "require-bucket-protection": [
        Broken("", "pulumi destroy deletes the bucket", (bucket(protected=False),)),
        Broken("forceDestroy", "with the weights in it", (bucket(forceDestroy=True),)),
    ],
    "restrict-ram-policies": [
        *(
            Broken("policyDocument", problem, (ram_policy(Action=action),))
            for action, problem in (
                ("*", "the action * means several operations"),
                (["oss:*"], "oss:* means several"),
                (["oss:Put*"], "oss:Put* means several"),
                (["oss:Get?bject"], "oss:Get?bject means several"),
                (["ram:*"], "ram:* means several"),
                (["oss:PutBucketPolicy"], "oss:PutBucketPolicy is not in the option"),
                (["sts:AssumeRole"], "sts:AssumeRole is not in the option"),
                (["OSS:GetObject"], "OSS:GetObject is not in the option"),
                ([7], "of unreadable form"),
                ([], "names no operation"),
            )
        ),
        *(
            Broken("policyDocument", problem, (ram_policy(Resource=given),))
            for given, problem in (
                ("*", "* is not a bucket"),
                (["acs:oss:*:*:*"], "acs:oss:*:*:* means several buckets"),
                (["acs:oss:*:*:b*"], "b* means several buckets"),
                (["acs:oss:*:*:b?/models/*"], "means several buckets"),
                (["acs:oss:*:*:weights/*"], "means all objects"),
                (["acs:oss:*:*:weights/"], "means all objects"),
                (["acs:*:*:*:weights"], "is not a bucket"),
                (["acs:ram::1:role/*"], "is not a bucket"),
                ([], "names no resource"),
            )
        ),
        Broken(
            "policyDocument",
            "NotAction allows every operation",
            (
                resource(
                    POLICY,
                    "it",
                    {"policyDocument": document(NotAction=["oss:DeleteBucket"], Resource=["acs:oss:*:*:b"])},
                ),
            ),
        ),
        Broken(
            "policyDocument",
            "NotResource means everything",
            (resource(POLICY, "it", {"policyDocument": document(Action=["oss:GetObject"], NotResource=["x"])}),),
        ),
        Broken("policyDocument", "not a JSON document", (resource(POLICY, "it", {"policyDocument": "no JSON"}),)),
        Broken(
            "policyDocument",
            "oss:* means several",
            (
                resource(
                    POLICY,
                    "it",
                    {"policyDocument": '{"Statement": {"Effect": "allow", "Action": "oss:*", "Resource": "*"}}'},
                ),
            ),
        ),
        Broken(
            "statements[0]",
            "oss:* means several",
            (resource(POLICY, "it", {"statements": [{"effect": "Allow", "actions": ["oss:*"], "resources": ["*"]}]}),),
        ),
        Broken("policyDocument", "is not in the option", (ram_policy(),), {"allowedActions": ["oss:PutObject"]}),
    ],
    "restrict-ram-attachments": [
        *(
            Broken("policyName", f"{name} is one of Alibaba Cloud's", (attachment(name, "System"),))
            for name in ("AliyunRAMFullAccess", "AliyunOSSFullAccess", "AdministratorAccess")
        ),
        Broken("policyName", "operators is not of this stack", (attachment("operators"), READER)),
        Broken("policyName", "not of this stack", (attachment("operators"),), {"allowedPolicies": ["others"]}),
    ],
    "restrict-ram-roles": [
        *(
            Broken("assumeRolePolicyDocument", problem, (role(Principal=principal),))
            for principal, problem in (
                ({"RAM": ["*"]}, "RAM * may assume"),
                ({"RAM": ["acs:ram::1234567890123456:root"]}, "RAM acs:ram::1234567890123456:root may assume"),
                ({"Service": ["ecs.aliyuncs.com"]}, "Service ecs.aliyuncs.com may assume"),
                ({"RAM": 7}, "an unreadable principal"),
                ("*", "everyone may assume"),
                ({}, "everyone may assume"),
            )
        ),
        *(
            Broken("assumeRolePolicyDocument", "without naming one service account", (one,))
            for one in (
                role(Condition={}),
                role(Condition={"StringLike": IDENTITY}),
                trusted(**{"oidc:sub": "system:serviceaccount:*:*"}),
                trusted(**{"oidc:sub": ["a", "b"]}),
                trusted(**{"oidc:iss": ""}),
            )
        ),
        Broken(
            "assumeRolePolicyDocument",
            "not a JSON document",
            (resource("alicloud:ram/role:Role", "it", {"assumeRolePolicyDocument": "no JSON"}),),
        ),
        Broken(
            "services",
            "ecs.aliyuncs.com may assume",
            (resource("alicloud:ram/role:Role", "it", {"services": ["ecs.aliyuncs.com"]}),),
        ),
    ],
    "restrict-roles": [
        Broken("", "in every namespace", (cluster_role("ClusterRole"),)),
        Broken("rules[0].apiGroups", "core, with Secrets", (cluster_role(apiGroups=[""]),)),
        *(
            Broken("rules[0].apiGroups", "the API group apps is not in the option", (one,))
            for one in (
                cluster_role(apiGroups=["apps"], resources=["statefulsets"], verbs=["get"]),
                cluster_role(apiGroups=["apps"], resources=["statefulsets"], verbs=["patch"], resourceNames=["x"]),
                cluster_role(apiGroups=["apps"], resources=["deployments"], verbs=["get"], resourceNames=["x"]),
            )
        ),
        *(
            Broken("rules[0].apiGroups", "core, with Secrets", (one,))
            for one in (
                cluster_role(apiGroups=[""], resources=["secrets"], verbs=["list"]),
                cluster_role(apiGroups=[""], resources=["pods", "secrets"], verbs=["list"]),
                cluster_role(apiGroups=[""], resources=["pods"], verbs=["list", "create"], resourceNames=["x"]),
                cluster_role(apiGroups=[""], resources=["configmaps"], verbs=["patch"]),
                cluster_role(apiGroups=[""], resources=["secrets"], verbs=["list", "watch"]),
                cluster_role(apiGroups=[""], resources=[], verbs=["list"]),
                cluster_role(apiGroups=[""], resources=["pods"], verbs=["get"]),
                cluster_role(apiGroups=[""], resources=["pods/log", "configmaps"], verbs=["get"]),
            )
        ),
        Broken("rules[0].apiGroups", "the API group * is not", (cluster_role(apiGroups=["*"]),)),
        *(
            Broken("rules[0].verbs", f"the verb {verb} is too wide", (cluster_role(verbs=[verb]),))
            for verb in ("*", "escalate", "bind", "impersonate", "deletecollection")
        ),
        Broken("rules[0].resources", "more than named objects", (cluster_role(resources=["*"]),)),
        Broken("rules[0].resources", "more than named objects", (cluster_role(resources=["*/status"]),)),
        Broken("rules[0].nonResourceURLs", "more than named objects", (cluster_role(nonResourceURLs=["/healthz"]),)),
    ],
    "restrict-role-bindings": [
        Broken("", "in every namespace", (binding("ClusterRoleBinding"),)),
        Broken(
            "roleRef", "the ClusterRole cluster-admin has rights", (binding(role=("ClusterRole", "cluster-admin")),)
        ),
        Broken(
            "roleRef",
            "the ClusterRole edit",
            (binding(role=("ClusterRole", "edit")),),
            {"allowedClusterRoles": ["view"]},
        ),
        Broken(
            "subjects[0]",
            "Group system:authenticated is not",
            (
                manifest(
                    "RoleBinding",
                    roleRef={"kind": "Role", "name": "preload"},
                    subjects=[{"kind": "Group", "name": "system:authenticated"}],
                ),
            ),
        ),
        Broken("subjects[0]", "ServiceAccount preload is not", (binding(namespace="default"),)),
    ],
}

KEPT: Mapping[str, list[Kept]] = {
    "disallow-public-buckets": [
        (bucket(), ACL, BLOCKED),
        (
            bucket(bucket=UNKNOWN),
            about_bucket("BucketPublicAccessBlock", bucket=UNKNOWN, referring=True, blockPublicAccess=True),
        ),
        (bucket(read_only=True, acl="private"),),
    ],
    "restrict-bucket-policies": [
        (bucket_policy(),),
        (about_bucket("BucketPolicy", policy=UNKNOWN),),
        (bucket(),),
    ],
    "require-bucket-encryption": [
        (bucket(),),
        (bucket(serverSideEncryptionRule=UNKNOWN),),
        (bucket(serverSideEncryptionRule=None), about_bucket("BucketServerSideEncryption", sseAlgorithm="KMS")),
    ],
    "require-bucket-tls": [
        (bucket(), bucket_policy()),
        (bucket(), bucket_policy(Resource=["*"], Action="oss:*", Principal="*")),
        (bucket(read_only=True, policy=document(**TLS_ONLY)),),
        (bucket(bucket=UNKNOWN), about_bucket("BucketPolicy", bucket=UNKNOWN, referring=True, policy=UNKNOWN)),
    ],
    "require-bucket-protection": [(bucket(),), (bucket(protected=False, read_only=True),)],
    "restrict-ram-policies": [
        (ram_policy(Resource=["acs:oss:*:*:weights", "acs:oss:*:*:weights/models/*"]),),
        (ram_policy(Action="oss:GetObject", Resource="acs:oss:*:*:weights/models/x"),),
        (resource(POLICY, "it", {"policyDocument": UNKNOWN}),),
        (ram_policy(Effect="Deny", Action="*", Resource="*"),),
        (resource(POLICY, "it", {"statements": [{"effect": "Allow", "actions": UNKNOWN, "resources": [UNKNOWN]}]}),),
    ],
    "restrict-ram-attachments": [
        (attachment("read"), READER),
        (attachment(UNKNOWN), READER),
        (attachment("made-up", references={"policyName": (READER.urn,)}), READER),
    ],
    "restrict-ram-roles": [(role(),), (role(Effect="Deny", Principal="*"),), (bucket(),)],
    "restrict-roles": [
        (cluster_role(),),
        (cluster_role(verbs=["get", "delete"], resourceNames=["x"]),),
        (cluster_role(apiGroups=[""], resources=["pods"], verbs=["list"]),),
        (cluster_role(apiGroups=[""], resources=["pods"], verbs=["list", "watch"]),),
        (cluster_role(apiGroups=[""], resources=["pods/log"], verbs=["get"]),),
        (cluster_role(apiGroups=[""], resources=["configmaps"], verbs=["get", "patch"], resourceNames=["x"]),),
        (cluster_role(apiGroups=["apps"], resources=["statefulsets"], verbs=["get"], resourceNames=["x"]),),
    ],
    "restrict-role-bindings": [(binding(),), (binding(namespace="models"),), (binding(namespace=UNKNOWN),)],
}
