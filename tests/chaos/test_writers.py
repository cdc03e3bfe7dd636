"""Two writers on one prefix: runs of one model help each other, those of two models exclude each other, and what other
programs do is noticed."""

import random
import threading
from collections.abc import Callable

import pytest

from deepseek_acs.modelmover.layout import manifest_key, model_key
from tests.chaos.conftest import EXIT_CODES, Chaos
from tests.chaos.proxy import FaultProxy
from tests.integration.conftest import PREFIX, REPOSITORY

pytestmark = pytest.mark.chaos

TURNS = 6


def race(chaos: Chaos, choice: random.Random, second: str) -> tuple[tuple[int, str], tuple[int, str]]:
    """Two runs at once, the second of which waits at one of its requests until the first has come to one of its own, or
    has ended."""
    first_waits_for, held = choice.randint(1, 60), choice.randint(1, 40)
    with FaultProxy(chaos.world.oss.url) as other_proxy:
        chaos.heal()
        first = chaos.start()
        other_proxy.hold = lambda number: (
            number == held and len(chaos.oss.seen) < first_waits_for and first.poll() is None
        )
        other = chaos.start(through=other_proxy, repository=second)
        results: dict[str, tuple[int, str]] = {}

        def end(name: str, process: "Callable[[], tuple[str, str]]", code: Callable[[], int | None]) -> None:
            _, log = process()
            results[name] = code() or 0, log

        threads = [
            threading.Thread(target=end, args=(name, process.communicate, process.poll))
            for name, process in (("first", first), ("second", other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return results["first"], results["second"]


@pytest.mark.parametrize("turn", range(TURNS))
def test_two_runs_of_one_model(chaos: Chaos, choice: random.Random, turn: int) -> None:
    for code, log in race(chaos, choice, REPOSITORY):
        assert code in EXIT_CODES, log
        assert "Traceback" not in log
    chaos.assert_no_false_manifest()
    chaos.heal()
    code, log = chaos.run()
    assert code == 0, log
    chaos.assert_whole()


@pytest.mark.parametrize("turn", range(TURNS))
def test_runs_of_two_models(chaos: Chaos, choice: random.Random, other: str, turn: int) -> None:
    results = race(chaos, choice, other)
    assert sorted(code for code, _ in results) == [0, 65], results
    assert not any("Traceback" in log for _, log in results)
    chaos.assert_no_false_manifest()
    winner = REPOSITORY if results[0][0] == 0 else other
    chaos.heal()
    code, log = chaos.run(repository=winner)
    assert code == 0, log
    chaos.assert_whole(winner)
    code, log = chaos.run(repository=other if winner == REPOSITORY else REPOSITORY)
    assert code == 65, log
    chaos.assert_whole(winner)


@pytest.mark.parametrize("turn", range(TURNS * 2))
def test_another_program_at_work(chaos: Chaos, choice: random.Random, turn: int) -> None:
    """It overwrites or deletes an object of a run that repairs the model; the object keeps its size and metadata."""
    code, log = chaos.run()
    assert code == 0, log
    paths = [path for path in chaos.manifest().files if path.startswith("model-0") or path == "config.json"]  # type: ignore[union-attr]
    chaos.world.bucket.delete(model_key(PREFIX, "tokenizer.json"))
    chaos.world.bucket.delete(model_key(PREFIX, paths[-1]))
    victim, deletes = choice.choice(paths), choice.random() < 0.5
    place = choice.randint(1, 40)

    def disturb(number: int, before: bool) -> None:
        if number != place or not before:
            return
        if deletes:
            chaos.world.bucket.delete(model_key(PREFIX, victim))
        else:
            chaos.world.bucket.put(model_key(PREFIX, victim), chaos.source_of(victim)[::-1])

    chaos.heal()
    chaos.oss.watch = disturb
    code, log = chaos.run()
    assert code in (0, 69, 75), log
    before = [(method, target.split("/", 2)[-1]) for method, target in chaos.oss.seen[:place]]
    if code == 0 and ("PUT", manifest_key(PREFIX)) not in before:
        # Later, it may come after the last look at the object.
        chaos.assert_no_false_manifest()
    chaos.heal()
    code, log = chaos.run()
    assert code == 0, log
    chaos.assert_whole()
