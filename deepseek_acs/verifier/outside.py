"""Verification from outside the cluster: its objects, then each ready leader through a port-forward."""

from functools import partial

from deepseek_acs.chatclient import Client

from .checks import Expected, check_engine
from .cluster import ApiServer, version
from .forward import ForwardedConnection
from .objects import Objects
from .pods import Pod
from .results import Found, Layer, Report
from .target import Target


def verify_outside(report: Report, target: Target, *, key: str | None, timeout_seconds: float) -> None:
    """All layers from the bottom up. Each replica is tested, so one that does not answer is found even if others do."""

    def server() -> Found[ApiServer]:
        made = ApiServer(target)
        return Found(version(made).text, made)

    api = report.step(Layer.API, server)
    if api is None:
        return
    objects = Objects(cluster=api, target=target)
    if report.step(Layer.GROUP, objects.group) is None and report.results[-1].layer is Layer.API:
        return
    if target.new_group is not None:
        report.step(Layer.GROUP, objects.new_group)
    if target.records is not None:
        report.step(Layer.GROUP, objects.gate)
    if target.keeps_incidents:
        report.step(Layer.GROUP, objects.incidents)
    report.step(Layer.PODS, objects.pods)
    report.step(Layer.STORAGE, objects.storage)
    entry = report.step(Layer.SERVICE, partial(_entry, objects))
    if target.pool is not None:
        report.step(Layer.SERVICE, objects.pool)
    report.skip(Layer.DNS, "only a pod can test it: deployment.verification.smoke does")
    if entry is None:
        return
    port, leaders = entry
    for pod in leaders:
        name = pod["metadata"]["name"]
        connect = partial(ForwardedConnection, api, target, name, port, silence_seconds=timeout_seconds)
        if report.step(Layer.FORWARD, partial(_forward, connect, port), pod=name) is None:
            continue
        logs = target.kubectl(f"logs {name} --tail=100")
        expected = Expected(model=target.model, logs=logs, filtered=target.filtered, timeout_seconds=timeout_seconds)
        check_engine(report, Client(connect=connect, key=key), expected, pod=name)


def _entry(objects: Objects) -> Found[tuple[int, list[Pod]]]:
    """The port of the leaders behind the Service, and the leaders that can be tested, even if others have failed."""
    found = objects.service()
    return Found(found.text, (found.value, objects.ready_leaders()))


def _forward(connect: "partial[ForwardedConnection]", port: int) -> Found[bool]:
    connection = connect()
    connection.connect()
    connection.close()
    return Found(f"port {port} is forwarded, as with kubectl port-forward", True)
