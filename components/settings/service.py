"""The way in."""

from typing import Literal

from components.settings.base import DnsLabel, Port, Settings


class ServiceSettings(Settings):
    """How clients in the cluster or the VPC reach the leaders."""

    name: DnsLabel = "ds-leader"
    """Name of the Service."""

    kind: Literal["clusterIP", "internalLoadBalancer"] = "clusterIP"
    """clusterIP: within the cluster. internalLoadBalancer: an address in the VPC, never a public one."""

    port: Port = 8000
    """Port of the Service."""
