"""The region of Alibaba Cloud, and the cluster."""

from typing import Annotated

from pydantic import AfterValidator, Field

from deepseek_acs.planner.urls import is_unencrypted
from deepseek_acs.settings.base import DnsLabel, Endpoint, Settings, problem


def _private(url: str) -> str:
    if is_unencrypted(url):
        raise problem(
            "all calls go there over plain HTTP, and the answers contain the AccessKeys that RAM creates",
            fix="write https://, or an address of this machine such as http://127.0.0.1:19000",
        )
    return url


class CloudSettings(Settings):
    """The Alibaba Cloud region."""

    region: Annotated[str, Field(pattern=r"^[a-z]+(-[a-z0-9]+)+$", examples=["cn-hangzhou"])]
    """Region of the cluster and of the bucket, for example cn-hangzhou. They must be the same: pods read the bucket by
    its internal endpoint."""

    endpoint: Annotated[Endpoint, AfterValidator(_private)] | None = None
    """URL of an emulated cloud. All Alibaba Cloud calls go there instead of the real endpoints; used by the local
    stack. Leave it out for the real cloud."""

    vpc_id: Annotated[str | None, Field(pattern=r"^vpc-[a-z0-9]+$", examples=["vpc-bp1aevy8sofi8mh1q8x5y"])] = None
    """VPC of the cluster. With it, the rights that the stack creates hold only for requests from there: a key that was
    stolen is of no use elsewhere. Pods must reach OSS by its internal endpoint, as they do by default."""


class ClusterSettings(Settings):
    """The Kubernetes cluster: an ACS cluster, or any other that runs the LeaderWorkerSet controller."""

    kubeconfig_file: str | None = None
    """Path of a kubeconfig, relative to the project or starting with ~. Without it, the secret deepseek:kubeconfig is
    used, which holds the contents."""

    context: str | None = None
    """Context of the kubeconfig; its current one by default."""

    namespace: DnsLabel = "default"
    """Namespace of all namespaced objects that the stack creates."""

    create_namespace: bool = False
    """Create the namespace instead of expecting it. It must not exist yet. It is kept when the stack is destroyed,
    because others may use it."""
