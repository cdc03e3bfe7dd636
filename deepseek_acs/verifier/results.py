"""Steps, their results, and the layer that is at fault."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Literal, TypeVar

Value = TypeVar("Value")


class Layer(StrEnum):
    """The layers at which a fault can be, from the bottom up: a layer works only if those before it do."""

    API = "API server"
    STORAGE = "storage"
    PODS = "pods"
    GROUP = "group"
    SERVICE = "Service"
    DNS = "DNS"
    FORWARD = "port-forward"
    ENGINE = "engine"
    KEY = "API key"
    MODEL = "model"
    COMPLETION = "completion"


EXIT_CODES = {layer: 10 + place for place, layer in enumerate(Layer)}
"""Exit code for a fault in each layer. 0: all answered; 2: the command was wrong."""


class FaultError(Exception):
    """A check failed.

    :param layer: what is at fault, which may differ from what was checked. :param fix: what to do next, with the
    command to run."""

    def __init__(self, layer: Layer, problem: str, *, fix: str) -> None:
        super().__init__(problem)
        self.layer = layer
        self.problem = problem
        self.fix = fix


class SkippedError(Exception):
    """A check is not possible here; the text says why."""


@dataclass(frozen=True)
class Found(Generic[Value]):
    """The result of a passed check, for users and for the next checks."""

    text: str
    value: Value


@dataclass(frozen=True, kw_only=True)
class Result:
    """One step. ``layer`` is the layer at fault if it failed; ``pod`` is empty if it is not about a single pod."""

    layer: Layer
    state: Literal["passed", "failed", "skipped"]
    seconds: float
    text: str
    fix: str = ""
    pod: str = ""


@dataclass
class Report:
    """The steps so far. ``clock`` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    results: list[Result] = field(default_factory=list)

    def step(self, layer: Layer, check: Callable[[], Found[Value]], *, pod: str = "") -> Value | None:
        """Runs a check; None if it failed or was skipped."""
        started = self.clock()

        def add(state: Literal["passed", "failed", "skipped"], text: str, at: Layer = layer, fix: str = "") -> None:
            seconds = self.clock() - started
            self.results.append(Result(layer=at, state=state, seconds=seconds, text=text, fix=fix, pod=pod))

        try:
            found = check()
        except FaultError as fault:
            add("failed", fault.problem, fault.layer, fault.fix)
        except SkippedError as skipped:
            add("skipped", str(skipped))
        else:
            add("passed", found.text)
            return found.value
        return None

    def skip(self, layer: Layer, why: str) -> None:
        """A skipped step."""
        self.results.append(Result(layer=layer, state="skipped", seconds=0, text=why))

    @property
    def fault(self) -> Result | None:
        """The failed step of the lowest layer: those above fail because of it."""
        failed = [result for result in self.results if result.state == "failed"]
        return min(failed, key=lambda result: EXIT_CODES[result.layer], default=None)

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, else that of the layer at fault."""
        return EXIT_CODES[self.fault.layer] if self.fault else 0
