"""SIGKILL at chosen requests, before they reach the server or before their answer reaches the program."""

import os
import random
import signal
import subprocess

import pytest

from tests.chaos.conftest import Chaos
from tests.chaos.proxy import FaultProxy

pytestmark = pytest.mark.chaos

KILLS = 40


@pytest.fixture
def requests(chaos: Chaos) -> tuple[int, int]:
    """How many requests an undisturbed run makes to the hub and to OSS."""
    code, log = chaos.run()
    assert code == 0, log
    found = len(chaos.hub.seen), len(chaos.oss.seen)
    empty(chaos)
    return found


def empty(chaos: Chaos) -> None:
    for key in chaos.world.bucket.list_sizes(""):
        chaos.world.bucket.delete(key)


def kill_at(proxy: FaultProxy, process: "subprocess.Popen[str]", place: int, *, before: bool) -> None:
    def watch(number: int, is_before: bool) -> None:
        if number == place and is_before == before:
            os.kill(process.pid, signal.SIGKILL)

    proxy.watch = watch


def test_killed_forty_times(chaos: Chaos, requests: tuple[int, int], choice: random.Random) -> None:
    """Each model is killed once or twice, then a plain run ends it. The places are those of a seeded choice."""
    killed = 0
    while killed < KILLS:
        places: list[str] = []
        for _ in range(choice.choice((1, 1, 1, 2))):
            at_oss = choice.random() < 0.75
            proxy, count = (chaos.oss, requests[1]) if at_oss else (chaos.hub, requests[0])
            place, before = choice.randint(1, count), choice.random() < 0.5
            places.append(f"{'oss' if at_oss else 'hub'} {place} {'before' if before else 'after'}")
            chaos.heal()
            process = chaos.start()
            kill_at(proxy, process, place, before=before)
            _, log = process.communicate()
            # Where a continued run needs fewer requests, it has ended before its place.
            assert process.returncode in (-signal.SIGKILL, 0), f"{places}: {log}"
            killed += process.returncode == -signal.SIGKILL
            chaos.assert_no_false_manifest()
        chaos.heal()
        code, log = chaos.run()
        assert code == 0, f"{places}: {log}"
        chaos.assert_whole()
        empty(chaos)
