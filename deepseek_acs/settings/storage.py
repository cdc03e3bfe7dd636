"""The layer over the bucket that the pods mount."""

from typing import Annotated, Literal

from pydantic import Field

from deepseek_acs.settings.base import MOUNT_OPTION, Quantity, Settings, gibibytes, mebibytes


class OssVolumeSettings(Settings):
    """A static OSS volume: the bucket's folder as a read-only file system in each pod, by the CSI plugin."""

    kind: Literal["csi"] = "csi"

    mount_options: tuple[Annotated[str, Field(pattern=MOUNT_OPTION)], ...] = ("umask=022", "allow_other")
    """Options of ossfs, each without the leading -o."""

    throughput_mi_bps: Annotated[int, Field(alias="throughputMiBps", ge=10, le=100_000)] = 300
    """What one pod reads from the volume, in MiB/s, sustained. It decides how long the startup probe waits; measure it
    once with your bucket, and put a low figure here."""


class FluidCacheSettings(Settings):
    """A distributed cache in memory between bucket and pods: Fluid with JindoRuntime, filled before the pods start."""

    kind: Literal["fluid"]

    workers: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Pods that hold the cache. By default as many as the model needs with some to spare: 7 for DeepSeek-R1."""

    cpu: Annotated[int, Field(ge=1, le=64)] = 16
    """vCPUs of one worker; its network bandwidth follows from them (16: 6 Gbit/s). More than 16 need a ticket."""

    memory: Annotated[str, Field(pattern=r"^([2-9]|[1-9][0-9]+)Gi$", examples=["128Gi"])] = "128Gi"
    """Memory of one worker; nine tenths of it hold blocks of the model. More than 128Gi needs a ticket."""

    throughput_mi_bps: Annotated[int, Field(alias="throughputMiBps", ge=10, le=100_000)] = 600
    """What one GPU pod reads from the cache, in MiB/s, sustained. It decides how long the startup probe waits and how
    many workers the bandwidth needs; Alibaba Cloud measured half the load time of a plain volume. Put a low figure
    here."""

    preload_mi_bps: Annotated[int, Field(alias="preloadMiBps", ge=10, le=100_000)] = 500
    """What all workers together read from OSS while the cache is filled, in MiB/s. It decides when the preload is given
    up; the guide's 20 minutes for DeepSeek-R1 are 547 MiB/s."""

    sidecar: Literal["acs", "eci", "none"] = "acs"
    """Value of the pod label alibabacloud.com/fluid-sidecar-target, by which ack-fluid puts the cache's client into the
    GPU pods. none: no label, for a cluster that mounts without one. Which one an ACS cluster needs is not
    documented; try with one pod."""

    sidecar_cpu: Annotated[int, Field(ge=1, le=32)] = 4
    """vCPUs of that client, taken from those of the pod: ACS bills the sum, rounded up."""

    sidecar_memory: Quantity = "8Gi"
    """Memory of that client, taken from that of the pod."""

    @property
    def memory_gib(self) -> int:
        """Memory of one worker in GiB."""
        return gibibytes(self.memory)

    @property
    def sidecar_memory_mib(self) -> int:
        """Memory of the cache's client in MiB."""
        return mebibytes(self.sidecar_memory)
