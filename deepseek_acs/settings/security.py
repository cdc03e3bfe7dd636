"""Who may reach the pods, and what the pods may do."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import Cidr, DnsLabel, NotEmpty, ObjectName, Settings, problem

LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""

SecurityGroup = Annotated[str, Field(pattern=r"^sg-[a-z0-9]+$", examples=["sg-bp1fg655nh68xyz9i"])]


AdvisoryId = Annotated[
    str, Field(pattern=r"^(CVE-[0-9]{4}-[0-9]{4,}|GHSA(-[0-9a-z]{4}){3})$", examples=["CVE-2025-48956"])
]


class NetworkClient(Settings):
    """A client of the leaders: pods of a namespace, or a network. What scrapes /metrics is a client as well, and so is
    the proxy behind service.route: the namespace of its pods, or the networks of an ALB's vSwitches."""

    namespace: DnsLabel | None = None
    """Namespace of the pods."""

    pod_labels: dict[str, Annotated[str, Field(pattern=LABEL_VALUE)]] = {}  # noqa: RUF012 - pydantic copies it
    """Labels that the pods must have; by default all pods of the namespace are admitted."""

    cidr: Cidr | None = None
    """An IPv4 network outside the cluster."""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.namespace is None) == (self.cidr is None):
            raise problem("a client is either a namespace or a cidr", fix="write exactly one of the two")
        if self.pod_labels and self.cidr:
            raise problem("podLabels select pods of a namespace, but this client is a cidr", fix="remove podLabels")
        return self


class EgressSettings(Settings):
    """What the pods may not reach: the cloud's metadata service, which hands out the credentials of roles, and what is
    listed here."""

    closed_cidrs: tuple[Cidr, ...] = ()
    """More networks that the pods of the group may not reach: the addresses of the API server
    (kubectl get endpointslices kubernetes), and networks of yours."""


class NetworkPolicySettings(Settings):
    """Network policies: clients reach the leaders' HTTP port, members of the group reach each other, pods of the
    namespace reach the cache, and no one reaches the Jobs. The cluster must enforce network policies:
    docs/access.md."""

    clients: Annotated[tuple[NetworkClient, ...], NotEmpty]
    """Who may send requests to the leaders."""

    egress: EgressSettings | None = EgressSettings()
    """What the pods may not reach; null to limit nothing that goes out."""


class PodSecuritySettings(Settings):
    """Pods of the group with a service account of their own, no privilege escalation, no capabilities, and the
    runtime's seccomp profile; a namespace that the stack creates enforces the Pod Security Standard that all of that
    allows."""

    run_as_user: Annotated[int | None, Field(ge=1, le=2_147_483_647)] = None
    """User ID of the engine, for an image that runs without root; its home is then an empty folder. The images of vLLM
    and of the guide run as root by default."""

    run_as_group: Annotated[int | None, Field(ge=1, le=2_147_483_647)] = None
    """Group ID of the engine, and of its home. By default the same number as runAsUser: without one it would be root's
    group."""

    read_only_root: bool = False
    """Whether the engine's root file system is read-only. It gets empty folders for /tmp and for its home; an image
    that writes elsewhere does not start (docs/access.md#pods)."""

    image_pull_secrets: tuple[ObjectName, ...] = ()
    """Secrets of type kubernetes.io/dockerconfigjson for the engine's image. Those of the namespace's default service
    account do not count."""

    @model_validator(mode="after")
    def _group_has_a_user(self) -> Self:
        if self.run_as_group is not None and self.run_as_user is None:
            raise problem("runAsGroup is set, and the engine runs as root without runAsUser", fix="set runAsUser, too")
        return self


class SecuritySettings(Settings):
    """Who may reach the pods, and what the pods may do."""

    network_policy: NetworkPolicySettings | None = None
    """Network policies for the pods of the group."""

    security_groups: tuple[SecurityGroup, ...] = ()
    """IDs of security groups for the pods of the group, instead of the cluster's. They must allow members of a group to
    reach each other on all ports, and clients to reach the engine's port."""

    pods: PodSecuritySettings | None = PodSecuritySettings()
    """Hardening of the pods, on by default as far as it needs no choice; null switches it off."""

    accepted_advisories: tuple[AdvisoryId, ...] = ()
    """IDs of published vulnerabilities that the preview does not report, for example CVE-2025-48956. Remove an ID when
    the vulnerability is fixed."""
