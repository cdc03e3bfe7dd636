"""What the engine logs: arguments and environment variables of the group's pods."""

from collections.abc import Sequence
from dataclasses import dataclass

from deepseek_acs.planner.vllm import split_arguments
from deepseek_acs.planner.vllm_releases.release import Version, changed_in, has_argument
from deepseek_acs.settings.observability import LogSettings

SLS_PREFIX = "aliyun_logs_"
"""``aliyun_logs_LOGSTORE=stdout`` sends standard output and error of the container to a logstore, on ACS pods
(https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview), not verified on GPU pods."""


@dataclass(frozen=True, kw_only=True)
class QuietArgument:
    """An argument of ``vllm serve`` that silences the log. From the change ``until`` on it is not needed any more."""

    flag: str
    value: str = ""
    until: str | None = None

    def is_useful(self, version: Version) -> bool:
        """Whether ``version`` has it, and needs it."""
        return has_argument(version, self.flag) and (self.until is None or version < changed_in(self.until))


QUIET_ARGUMENTS = (
    QuietArgument(flag="--disable-log-requests", until="requests_unlogged"),
    QuietArgument(flag="--disable-access-log-for-endpoints", value="/health,/metrics,/ping"),
)


def log_arguments(logs: LogSettings, *, version: Version | None, extra_args: Sequence[str]) -> list[str]:
    """Arguments that silence an engine of this ``version``, except those that ``extra_args`` sets either way. Without a
    version there are none: an engine does not start with an unknown argument."""
    given = split_arguments(extra_args)
    if not logs.quiet or version is None:
        return []
    return [
        f"{quiet.flag}={quiet.value}" if quiet.value else quiet.flag
        for quiet in QUIET_ARGUMENTS
        if quiet.is_useful(version) and quiet.flag not in given
    ]


def log_environment(logs: LogSettings) -> dict[str, str]:
    """Environment variables of the containers."""
    environment: dict[str, str] = {"NCCL_DEBUG": logs.nccl_debug} if logs.nccl_debug else {}
    if logs.sls_logstore:
        environment[f"{SLS_PREFIX}{logs.sls_logstore}"] = "stdout"
    return environment
