"""The number of groups: fixed in the stack file, by calendar, or by load."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import Settings, problem
from deepseek_acs.settings.cron import Schedule, check_period, check_timezone

METRIC_NAME = r"^[A-Za-z_:][A-Za-z0-9_:./-]*$"

Replicas = Annotated[int, Field(ge=0, le=1000)]
OneOrMore = Annotated[int, Field(ge=1, le=1000)]


class ManualScaling(Settings):
    """Fixed number of groups: inference.replicas."""

    kind: Literal["manual"] = "manual"

    take_over: bool = False
    """For a stack whose group had an autoscaler: for the Kubernetes API the autoscaler still owns the number of
    replicas, and it refuses another number without this setting. Set hold first: docs/scaling.md."""


class Window(Settings):
    """A period with more groups."""

    start: Schedule
    """Start, as five fields of cron. Add the time to load the model: it passes before the first answer."""

    end: Schedule
    """End, as five fields of cron."""

    replicas: OneOrMore
    """Groups in this period. Where windows overlap, the largest number applies. For times without groups, write
    minReplicas: 0 and windows for all other times."""

    @model_validator(mode="after")
    def _times_are_cron(self) -> Self:
        check_period(self.start, self.end)
        return self


class ScheduleScaling(Settings):
    """By calendar; needs KEDA in the cluster."""

    kind: Literal["schedule"]

    timezone: Annotated[str, Field(examples=["Asia/Shanghai"])] = "Asia/Shanghai"
    """Time zone of the windows, by its IANA name."""

    min_replicas: Replicas
    """Groups outside all windows. 0 frees all GPUs at these times."""

    windows: tuple[Window, ...]
    """Times with more groups."""

    hold: Replicas | None = None
    """Fixes the number of groups temporarily, regardless of the calendar."""

    @property
    def most(self) -> int:
        """Maximum number of groups."""
        return max(self.min_replicas, self.hold or 0, *(window.replicas for window in self.windows))

    @model_validator(mode="after")
    def _windows_add_groups(self) -> Self:
        if not self.windows:
            raise problem("windows is empty", fix="write at least one window, or scaling.kind: manual")
        check_timezone(self.timezone)
        for window in self.windows:
            if window.replicas <= self.min_replicas:
                raise problem(
                    f"a window has {window.replicas} replicas, which is not more than minReplicas {self.min_replicas}",
                    fix="write more replicas, or a smaller minReplicas",
                )
        return self


class PrometheusSettings(Settings):
    """The Prometheus that scrapes the leaders."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$", examples=["http://prometheus.monitoring:9090"])]
    """URL of its HTTP API, as KEDA's pods reach it. For Alibaba Cloud's Prometheus, the internal URL from the settings
    page of the instance."""

    authorization: bool = False
    """Send the secret deepseek:prometheusToken as the complete value of the header Authorization: the token of a V1
    instance of Alibaba Cloud, "Basic ..." for the AccessKey of a V2 instance, or "Bearer ..."."""


class QueueScaling(Settings):
    """By waiting requests and KV cache usage; needs KEDA in the cluster, and a Prometheus."""

    kind: Literal["queue"]

    min_replicas: Replicas = 1
    """Minimum number of groups. 0 needs activationQuery."""

    max_replicas: OneOrMore
    """Maximum number of groups."""

    prometheus: PrometheusSettings
    """The Prometheus with the metrics."""

    waiting_requests: OneOrMore = 10
    """Waiting requests per group above which another group is started."""

    cache_usage: Annotated[float, Field(gt=0, le=1)] = 0.8
    """KV cache usage, averaged over the groups, above which another group is started; 1 is full."""

    activation_query: Annotated[str | None, Field(min_length=1)] = None
    """For minReplicas 0: PromQL that is above 0 while there are requests, for example from a gateway's metrics. With no
    group running there is no engine that could count waiting requests."""

    hold: Replicas | None = None
    """Fixes the number of groups temporarily, regardless of the load. 0 frees all GPUs."""

    @property
    def most(self) -> int:
        """Maximum number of groups."""
        return max(self.max_replicas, self.hold or 0)

    @model_validator(mode="after")
    def _can_wake_up(self) -> Self:
        _check_bounds(self.min_replicas, self.max_replicas)
        if self.min_replicas == 0 and self.activation_query is None:
            raise problem(
                "minReplicas is 0, and with no group running there is no engine with metrics: scaling would never "
                "start again",
                fix="set activationQuery to a query on the metrics of a gateway before the Service, or minReplicas: 1",
            )
        if self.min_replicas > 0 and self.activation_query is not None:
            raise problem(
                f"activationQuery starts the first group, and minReplicas {self.min_replicas} keeps one at all times",
                fix="remove activationQuery, or set minReplicas: 0",
            )
        return self


class HpaScaling(Settings):
    """By the same two metrics, with the HorizontalPodAutoscaler; needs a metrics adapter in the cluster, such as
    ack-alibaba-cloud-metrics-adapter, that serves them as custom metrics of the pods."""

    kind: Literal["hpa"]

    min_replicas: OneOrMore = 1
    """Minimum number of groups."""

    max_replicas: OneOrMore
    """Maximum number of groups."""

    waiting_requests: OneOrMore = 10
    """Waiting requests per group above which another group is started."""

    cache_usage: Annotated[float, Field(gt=0, le=1)] = 0.8
    """KV cache usage, averaged over the groups, above which another group is started; 1 is full."""

    waiting_metric: Annotated[str, Field(pattern=METRIC_NAME)] = "vllm:num_requests_waiting"
    """Name under which the adapter serves the number of waiting requests."""

    cache_metric: Annotated[str | None, Field(pattern=METRIC_NAME)] = None
    """Name under which the adapter serves the KV cache usage. By default the engine's name for it, which depends on its
    version."""

    hold: OneOrMore | None = None
    """Fixes the number of groups temporarily, regardless of the load."""

    @property
    def most(self) -> int:
        """Maximum number of groups."""
        return max(self.max_replicas, self.hold or 0)

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        _check_bounds(self.min_replicas, self.max_replicas)
        return self


Autoscaler = ScheduleScaling | QueueScaling | HpaScaling


def _check_bounds(least: int, most: int) -> None:
    if least > most:
        raise problem(
            f"minReplicas {least} is more than maxReplicas {most}", fix=f"write maxReplicas: {least} or a larger number"
        )
