"""The target of a verification, from the stack's outputs."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class TargetError(Exception):
    """The outputs are not those of a deployed stack."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One deployment, and the cluster it is in; without a kubeconfig, kubectl's own default."""

    model: str
    namespace: str
    group: str
    service: str
    port: int
    filtered: bool = True
    """Whether a request filter is in front of the engine, where there is a key."""

    keeps_incidents: bool = False
    """Whether a program keeps evidence of groups that ended."""

    records: str | None = None
    """ConfigMap in which the gate says what it has accepted and refused."""

    pool: str | None = None
    """InferencePool of the leaders, if the route leads to one."""

    kubeconfig: str | None = None
    context: str | None = None
    new_group: str | None = None
    """LeaderWorkerSet of a second revision, while there is one."""

    new_group_guard: str | None = None
    """ConfigMap that says why it gets no requests any more."""

    @classmethod
    def of_outputs(
        cls, outputs: Mapping[str, Any], *, kubeconfig: str | None = None, context: str | None = None
    ) -> "Target":
        """From ``pulumi stack output --json``. Raises TargetError."""
        update = outputs.get("update") or {}
        try:
            return cls(
                model=outputs["model"],
                namespace=outputs["namespace"],
                group=outputs["group"],
                service=outputs["serviceDnsName"].split(".")[0],
                port=int(outputs["servicePort"]),
                filtered=outputs.get("requestFilter", True),
                keeps_incidents="incidents" in outputs,
                records=outputs.get("knownGoodStore"),
                pool=outputs.get("inferencePool"),
                kubeconfig=kubeconfig,
                context=context,
                new_group=update.get("group"),
                new_group_guard=update.get("guard"),
            )
        except KeyError as error:
            raise TargetError(f"the stack has no output {error}: deploy it first, with pulumi up") from None

    def kubectl(self, command: str) -> str:
        """A command for the user to run."""
        words = ["kubectl"]
        if self.kubeconfig:
            words += ["--kubeconfig", self.kubeconfig]
        if self.context:
            words += ["--context", self.context]
        return f"{shlex.join([*words, '--namespace', self.namespace])} {command}"
