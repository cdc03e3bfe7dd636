"""The controllers in the cluster."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import Settings, problem

LWS_CHART_MIN = (0, 8, 0)
"""First version of the chart with its custom resource definition in ``crds/``, which Helm never deletes
(https://lws.sigs.k8s.io/docs/installation/)."""


class ExpectOperator(Settings):
    """The operator is already in the cluster, for example from the ACS App Marketplace; the program checks that."""

    kind: Literal["expect"] = "expect"


class InstallLws(Settings):
    """Install the LeaderWorkerSet controller with its Helm chart; destroying the stack uninstalls it."""

    kind: Literal["install"]

    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] = "0.9.0"
    """Version of the chart, 0.8.0 or newer."""

    repository: Annotated[str, Field(pattern=r"^oci://\S+[^/\s]$")] = "oci://registry.k8s.io/lws/charts"
    """OCI repository of the chart, for a mirror: registry.k8s.io is hard to reach from mainland China."""

    image: Annotated[str | None, Field(pattern=r"^[^\s:@]+(:[0-9]+/[^\s:@]+)?$")] = None
    """Image of the controller without its tag, for a mirror."""

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """Version of the chart, which is also the controller's version."""
        return tuple(map(int, self.version.split(".")))

    @model_validator(mode="after")
    def _keeps_the_definition(self) -> Self:
        if self.version_numbers < LWS_CHART_MIN:
            raise problem(
                f"chart {self.version} has the LeaderWorkerSet definition among its templates, so the upgrade to "
                "0.8.0 deletes the definition and every group with it (https://github.com/kubernetes-sigs/lws/issues/880)",
                fix="write 0.8.0 or newer; an older controller in the cluster can stay, with kind: expect",
            )
        return self


class InstallFluid(Settings):
    """Install ack-fluid with its Helm chart; destroying the stack uninstalls it. Open-source Fluid must not be
    installed."""

    kind: Literal["install"]

    chart: Annotated[str, Field(pattern=r"^https://\S+\.tgz$")] = (
        "https://aliacs-app-catalog.oss-cn-hangzhou.aliyuncs.com/charts-incubator/ack-fluid-1.0.13.tgz"
    )
    """URL of the chart's archive, which contains the version; storage.sidecar: acs needs 1.0.11 or newer."""

    image_tag: Annotated[str, Field(pattern=r"^v[0-9]\S*$")] = "v1.0.13-fc3296a6"
    """Tag of the controllers' images; it must match the chart."""

    @property
    def chart_version(self) -> tuple[int, ...] | None:
        """Version of the chart from the name of its archive; None if a mirror uses another name."""
        found = re.search(r"-v?([0-9]+)\.([0-9]+)\.([0-9]+)[^/]*\.tgz$", self.chart)
        return tuple(map(int, found.groups())) if found else None


class OperatorsSettings(Settings):
    """The two controllers that the deployment needs in the cluster."""

    lws: Annotated[ExpectOperator | InstallLws, Field(discriminator="kind")] = ExpectOperator()
    """The LeaderWorkerSet controller."""

    fluid: Annotated[ExpectOperator | InstallFluid, Field(discriminator="kind")] = ExpectOperator()
    """ack-fluid; expected only where storage is of kind fluid."""
