"""Results, verdict, and the lines that people read."""

import json
import socket

import pytest

from deepseek_acs.verifier import __main__ as program
from deepseek_acs.verifier.inside import DNS_SECONDS, PAUSE_SECONDS, Patience, verify_inside
from deepseek_acs.verifier.output import WIDTH, as_json, line, verdict
from deepseek_acs.verifier.results import EXIT_CODES, FaultError, Found, Layer, Report, Result, SkippedError


def failing(layer: Layer, problem: str = "broken") -> Found[int]:
    raise FaultError(layer, problem, fix="kubectl describe pod x")


def report() -> Report:
    times = iter(range(100))
    return Report(clock=lambda: next(times))


class TestReport:
    def test_lowest_layer_is_at_fault_whatever_failed_first(self) -> None:
        found = report()
        assert found.step(Layer.GROUP, lambda: failing(Layer.GROUP)) is None
        assert found.step(Layer.STORAGE, lambda: failing(Layer.STORAGE, "unbound")) is None
        assert found.step(Layer.SERVICE, lambda: failing(Layer.SERVICE)) is None
        assert found.fault is not None
        assert found.fault.layer is Layer.STORAGE
        assert found.exit_code == EXIT_CODES[Layer.STORAGE] == 11
        assert verdict(found) == "At fault: storage: unbound"

    def test_all_well(self) -> None:
        found = report()
        assert found.step(Layer.ENGINE, lambda: Found("fine", 3)) == 3
        found.skip(Layer.DNS, "not from here")
        assert (found.fault, found.exit_code, verdict(found)) == (None, 0, "The endpoint answers.")

    def test_skipped_check_has_no_value_and_no_fault(self) -> None:
        def check() -> Found[int]:
            raise SkippedError("no claim")

        found = report()
        assert found.step(Layer.STORAGE, check) is None
        assert found.exit_code == 0

    def test_json(self) -> None:
        found = report()
        found.step(Layer.ENGINE, lambda: failing(Layer.KEY), pod="r1-0")
        value = json.loads(as_json(found))
        assert (value["atFault"], value["exitCode"]) == ("API key", 18)
        assert value["steps"] == [
            {
                "layer": "API key",
                "state": "failed",
                "seconds": 1,
                "text": "broken",
                "fix": "kubectl describe pod x",
                "pod": "r1-0",
            }
        ]

    def test_documented_exit_codes_are_the_real_ones(self) -> None:
        text = " ".join((program.__doc__ or "").split())
        for layer, code in EXIT_CODES.items():
            assert f"{code} {layer}" in text


class TestLine:
    def test_fits_a_terminal(self) -> None:
        result = Result(
            layer=Layer.COMPLETION, state="failed", seconds=12.3, text="word " * 40, fix="do this " * 20, pod="r1-0"
        )
        lines = line(result).splitlines()
        assert max(map(len, lines)) <= WIDTH
        assert lines[0].startswith("FAIL completion    r1-0: word")
        assert lines[0].endswith("12.30 s")
        assert any(text.strip().startswith("next: do this") for text in lines)

    def test_commands_stay_whole(self) -> None:
        command = f"kubectl --kubeconfig {'x' * 90} describe pod r1-0"
        lines = line(Result(layer=Layer.API, state="failed", seconds=0, text="", fix=command)).splitlines()
        assert lines[-1] == f"     next: {command}"


class TestPatience:
    def test_waits_for_what_comes(self) -> None:
        waits: list[float] = []
        answers = iter([False, False, True])

        def check() -> Found[int]:
            return Found("there", 1) if next(answers) else failing(Layer.DNS)

        patience = Patience(seconds=60, sleep=waits.append, clock=lambda: sum(waits))
        assert patience.until(check).value == 1
        assert waits == [PAUSE_SECONDS, PAUSE_SECONDS]

    def test_ends(self) -> None:
        waits: list[float] = []
        patience = Patience(seconds=5, sleep=waits.append, clock=lambda: sum(waits))
        with pytest.raises(FaultError):
            patience.until(lambda: failing(Layer.DNS))
        assert sum(waits) == 6

    def test_name_is_not_waited_for_as_long_as_a_leader(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def resolver(*arguments: object, **options: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr("socket.getaddrinfo", resolver)
        waits: list[float] = []
        patience = Patience(seconds=4000, sleep=waits.append, clock=lambda: sum(waits))
        report = Report()
        verify_inside(report, "http://leaders.invalid:80", "ds", key=None, timeout_seconds=1, patience=patience)
        assert report.exit_code == EXIT_CODES[Layer.DNS]
        assert sum(waits) == DNS_SECONDS


class TestCommand:
    def test_url_needs_a_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            program.main(["--url=http://127.0.0.1:1"])
        assert ended.value.code == 2
        assert "--url needs --model" in capsys.readouterr().err

    def test_outputs_that_cannot_be_read(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            program.main(["--outputs=/nonexistent"])
        assert ended.value.code == 2
        assert "cannot read the stack's outputs from /nonexistent" in capsys.readouterr().err

    def test_name_that_does_not_resolve(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def resolver(*arguments: object, **options: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr("socket.getaddrinfo", resolver)
        code = program.main(["--url=http://leaders.invalid:80", "--model=ds", "--patience=0"])
        assert code == EXIT_CODES[Layer.DNS]
        assert "At fault: DNS: leaders.invalid does not resolve: Name or service not known" in capsys.readouterr().out
