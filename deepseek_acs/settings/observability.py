"""Metrics, alerts, dashboard and logs of the inference group."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deepseek_acs.settings.base import Settings, problem

LABEL_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""

TRACE_ENDPOINT = r"^https?://[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}(/[A-Za-z0-9._/-]*)?$"
"""With a port, and without user and password, which every process of the pod would show."""

LOGSTORE = r"^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$"
"""https://www.alibabacloud.com/help/en/sls/user-guide/manage-a-logstore"""

OWN_LABELS = frozenset(
    {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "app.kubernetes.io/part-of"}
)
"""Labels that the program sets on all objects of this section."""


def _check_labels(labels: Mapping[str, str]) -> None:
    for name, value in labels.items():
        if name in OWN_LABELS:
            raise problem(
                f"labels has {name}, which the program sets itself",
                fix=f"remove {name}, and let your Prometheus or Grafana select by another label",
            )
        if not re.fullmatch(LABEL_NAME, name) or not re.fullmatch(LABEL_VALUE, value):
            raise problem(
                f"labels has {name!r}, and its name or value is not a valid Kubernetes label",
                fix="use at most 63 letters, digits, -, _ and ., with a letter or digit at both ends",
            )


class AlertSettings(Settings):
    """Alerts, evaluated by your Prometheus. docs/observability.md lists them all."""

    waiting_requests: Annotated[int, Field(ge=1)] = 10
    """Waiting requests per group, averaged over five minutes, above which VllmQueueGrowing fires."""

    time_to_first_token_seconds: Annotated[float | None, Field(gt=0)] = None
    """Objective in seconds: 95 % of the requests get their first token within this time. By default there is no
    alert."""

    inter_token_seconds: Annotated[float | None, Field(gt=0)] = None
    """Objective in seconds: 95 % of the tokens follow the previous one within this time. By default there is no
    alert."""

    runbook: Annotated[str, Field(min_length=1)] = "docs/runbook.md"
    """URL of the runbook; each alert appends its name as the anchor. By default the path within this project; write the
    URL that your team uses."""


class DashboardSettings(Settings):
    """A Grafana dashboard in a ConfigMap, for the sidecar of Grafana's chart that loads dashboards."""

    labels: Annotated[dict[str, str], Field(min_length=1)] = {"grafana_dashboard": "1"}  # noqa: RUF012 - pydantic copies it
    """Labels by which the sidecar finds the ConfigMap; those of kube-prometheus-stack by default."""

    folder: Annotated[str | None, Field(min_length=1)] = None
    """Folder of the dashboard in Grafana, in the annotation grafana_folder, which the sidecar must be configured to
    read."""

    @model_validator(mode="after")
    def _labels_are_usable(self) -> Self:
        _check_labels(self.labels)
        return self


class LogSettings(Settings):
    """What the engine logs, and where Alibaba Cloud collects it."""

    quiet: bool = True
    """Do not log prompts (which 0.7 to 0.10.0 log by default) and, from 0.16 on, requests of probes and scrapers.
    Arguments in engine.extraArgs take precedence; an image whose name contains no version gets no such arguments."""

    nccl_debug: Literal["WARN", "INFO"] | None = "WARN"
    """NCCL_DEBUG. With WARN, NCCL logs the reason of a failure; with INFO, its choice of network as well, in hundreds
    of lines. A value in the RDMA settings of the series or in engine.env takes precedence."""

    sls_logstore: Annotated[str | None, Field(pattern=LOGSTORE, examples=["deepseek"])] = None
    """Logstore of Simple Log Service to which ACS sends the containers' output: 3 to 63 small letters, digits, - and _.
    Needs the logging component in the cluster. Does not work for pods of compute class gpu-hpn, which need a
    sidecar."""


class IncidentSettings(Settings):
    """A program that follows the logs of all pods of the groups, and writes a report when a group ends without a
    request: LeaderWorkerSet deletes the pods of a failed group, and their logs with them. Its pod takes a quarter of a
    vCPU and no GPU."""

    keep: Annotated[int, Field(ge=1, le=100)] = 20
    """Reports that are kept, in one ConfigMap of at most 0.9 MiB; the oldest makes room for a new one."""

    lines: Annotated[int, Field(ge=10, le=2000)] = 400
    """Last lines of the log of each container, without prompts and keys. A report that would be too large has fewer."""


class TraceSettings(Settings):
    """Traces by OpenTelemetry: vLLM sends a span for each request, with its times and numbers of tokens, and without
    its text. Needs vLLM 0.10.2, or one before 0.8."""

    endpoint: Annotated[str, Field(pattern=TRACE_ENDPOINT, examples=["http://otel-collector.observability:4317"])]
    """URL of the collector, which the leaders must be able to reach. With http/protobuf it includes the path, as in
    http://otel-collector.observability:4318/v1/traces."""

    protocol: Literal["grpc", "http/protobuf"] = "grpc"
    """Protocol of the collector at this port."""

    @model_validator(mode="after")
    def _path_fits(self) -> Self:
        has_path = "/" in self.endpoint.partition("://")[2]
        if self.protocol == "grpc" and has_path:
            raise problem("endpoint has a path, and gRPC has none", fix="remove it, or write protocol: http/protobuf")
        if self.protocol != "grpc" and not has_path:
            raise problem("endpoint has no path, and vLLM sends spans to exactly this URL", fix="append /v1/traces")
        return self


class ObservabilitySettings(Settings):
    """Metrics, alerts, dashboard and logs. Needs the API of prometheus-operator in the cluster (PodMonitor,
    PrometheusRule), which kube-prometheus-stack and Managed Service for Prometheus include."""

    labels: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Labels by which your Prometheus selects monitors and rules, for example release: kube-prometheus-stack."""

    scrape_seconds: Annotated[int, Field(ge=5, le=120)] = 15
    """Seconds between two scrapes of a leader."""

    alerts: AlertSettings | None = AlertSettings()
    """Alerts; null for none."""

    dashboard: DashboardSettings | None = DashboardSettings()
    """The dashboard; null for none."""

    logs: LogSettings = LogSettings()
    """Logs of the engine."""

    traces: TraceSettings | None = None
    """Traces of requests; by default none are sent."""

    incidents: IncidentSettings | None = None
    """Evidence of groups that ended, and the phases of their starts; by default none is kept."""

    @model_validator(mode="after")
    def _labels_are_usable(self) -> Self:
        _check_labels(self.labels)
        return self
