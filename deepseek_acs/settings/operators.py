"""The controllers in the cluster."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import Settings, problem

LWS_CHART_MIN = (0, 8, 0)
"""From this version on the chart has its custom resource definition in ``crds/``, which Helm never deletes
(https://lws.sigs.k8s.io/docs/installation/)."""


class ExpectOperator(Settings):
    """The operator is in the cluster already, from the ACS App Marketplace for example; that it is there is checked."""

    kind: Literal["expect"] = "expect"


class InstallLws(Settings):
    """Install the LeaderWorkerSet controller by its Helm chart, and keep it with the stack."""

    kind: Literal["install"]

    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] = "0.9.0"
    """Version of the chart, 0.8.0 or newer."""

    repository: Annotated[str, Field(pattern=r"^oci://\S+[^/\s]$")] = "oci://registry.k8s.io/lws/charts"
    """OCI repository of the chart, for a mirror: registry.k8s.io is hard to reach from mainland China."""

    image: Annotated[str | None, Field(pattern=r"^[^\s:@]+(:[0-9]+/[^\s:@]+)?$")] = None
    """Image of the controller without its tag, for a mirror."""

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """Version of the chart, which is the controller's."""
        return tuple(map(int, self.version.split(".")))

    @model_validator(mode="after")
    def _keeps_the_definition(self) -> Self:
        if self.version_numbers < LWS_CHART_MIN:
            raise problem(
                f"chart {self.version} has the LeaderWorkerSet definition among its templates, so the upgrade to "
                "0.8.0 deletes the definition and every group with it (https://github.com/kubernetes-sigs/lws/issues/880)",
                fix="write 0.8.0 or newer; an older controller that is in the cluster already can stay: kind: expect",
            )
        return self


class InstallFluid(Settings):
    """Install ack-fluid by its Helm chart, and keep it with the stack. Open-source Fluid must not be there."""

    kind: Literal["install"]

    chart: Annotated[str, Field(pattern=r"^https://\S+\.tgz$")] = (
        "https://aliacs-app-catalog.oss-cn-hangzhou.aliyuncs.com/charts-incubator/ack-fluid-1.0.13.tgz"
    )
    """Address of the chart's archive; the version is part of it, and storage.sidecar: acs needs 1.0.11 or newer."""

    image_tag: Annotated[str, Field(pattern=r"^v[0-9]\S*$")] = "v1.0.13-fc3296a6"
    """Tag of the controllers' images, which belongs to the chart."""

    @property
    def chart_version(self) -> tuple[int, ...] | None:
        """Version of the chart by the name of its archive; None if a mirror calls it otherwise."""
        found = re.search(r"-v?([0-9]+)\.([0-9]+)\.([0-9]+)[^/]*\.tgz$", self.chart)
        return tuple(map(int, found.groups())) if found else None


class OperatorsSettings(Settings):
    """The two controllers that the deployment needs in the cluster."""

    lws: Annotated[ExpectOperator | InstallLws, Field(discriminator="kind")] = ExpectOperator()
    """The LeaderWorkerSet controller."""

    fluid: Annotated[ExpectOperator | InstallFluid, Field(discriminator="kind")] = ExpectOperator()
    """ack-fluid; expected only where storage is of kind fluid."""
