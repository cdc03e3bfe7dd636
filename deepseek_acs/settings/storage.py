"""The layer over the bucket that the pods mount."""

from typing import Annotated, Literal

from pydantic import Field

from deepseek_acs.settings.base import MOUNT_OPTION, Quantity, Settings, gibibytes, mebibytes


class OssVolumeSettings(Settings):
    """A static OSS volume: the CSI plugin mounts the bucket's folder read-only in each pod."""

    kind: Literal["csi"] = "csi"

    mount_options: tuple[Annotated[str, Field(pattern=MOUNT_OPTION)], ...] = ("umask=022", "allow_other")
    """Options of ossfs, each without the leading -o."""

    throughput_mi_bps: Annotated[int, Field(alias="throughputMiBps", ge=10, le=100_000)] = 300
    """Sustained read rate of one pod from the volume, in MiB/s. The startup probe's timeout follows from it. Measure it
    once with your bucket, and write a low figure."""


class FluidCacheSettings(Settings):
    """A distributed in-memory cache between bucket and pods: Fluid with JindoRuntime, filled before the pods start."""

    kind: Literal["fluid"]

    workers: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Pods that hold the cache. By default as many as the model needs plus a reserve: 7 for DeepSeek-R1."""

    cpu: Annotated[int, Field(ge=1, le=64)] = 16
    """vCPUs of one worker, which determine its network bandwidth (16: 6 Gbit/s). More than 16 need a ticket."""

    memory: Annotated[str, Field(pattern=r"^([2-9]|[1-9][0-9]+)Gi$", examples=["128Gi"])] = "128Gi"
    """Memory of one worker; 90 % of it hold blocks of the model. More than 128Gi needs a ticket."""

    throughput_mi_bps: Annotated[int, Field(alias="throughputMiBps", ge=10, le=100_000)] = 600
    """Sustained read rate of one GPU pod from the cache, in MiB/s. The startup probe's timeout and the number of
    workers follow from it. Alibaba Cloud measured half the load time of a plain volume. Write a low figure."""

    preload_mi_bps: Annotated[int, Field(alias="preloadMiBps", ge=10, le=100_000)] = 500
    """Read rate of all workers together from OSS while the cache is filled, in MiB/s. The timeout of the preload
    follows from it. The guide's 20 minutes for DeepSeek-R1 are 547 MiB/s."""

    sidecar: Literal["acs", "eci", "none"] = "acs"
    """Value of the pod label alibabacloud.com/fluid-sidecar-target, which makes ack-fluid add the cache's client to the
    GPU pods. none: no label, for a cluster that mounts without a sidecar. Which value an ACS cluster needs is not
    documented; test with one pod."""

    sidecar_cpu: Annotated[int, Field(ge=1, le=32)] = 4
    """vCPUs of that client. They reduce the engine's share of the pod: ACS bills the sum, rounded up."""

    sidecar_memory: Quantity = "8Gi"
    """Memory of that client. It reduces the engine's share of the pod."""

    @property
    def memory_gib(self) -> int:
        """Memory of one worker in GiB."""
        return gibibytes(self.memory)

    @property
    def sidecar_memory_mib(self) -> int:
        """Memory of the cache's client in MiB."""
        return mebibytes(self.sidecar_memory)
