"""Credentials that one component gives to another. All values are secret outputs, except the ARN of the provider."""

from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, kw_only=True)
class AccessKey:
    """An AccessKey of Alibaba Cloud."""

    key_id: pulumi.Output[str]
    key_secret: pulumi.Output[str]


@dataclass(frozen=True, kw_only=True)
class AssumableRole:
    """A RAM role that a service account of the cluster assumes by OIDC."""

    role_arn: pulumi.Output[str]
    oidc_provider_arn: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate with its chain, and its private key, both PEM."""

    chain: pulumi.Output[str]
    key: pulumi.Output[str]
