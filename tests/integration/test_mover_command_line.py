"""The program as a pod runs it: a process of its own, killed at any point, told to stop, told nonsense."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.model_bucket import mover_policy
from components.zipapps import archive
from deepseek_acs.modelmover.errors import CONTINUE_EXIT_CODES
from local.faults import Fault
from local.oss.access import AccessKey
from tests.integration.conftest import (
    BUCKET,
    KEY_ID,
    KEY_SECRET,
    PREFIX,
    REGION,
    REPOSITORY,
    World,
)

pytestmark = pytest.mark.integration

KILLS = 20


class Mover:
    """Starts the zip file with the interpreter alone, as in a pod."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.program = folder / "modelmover.pyz"
        self.program.write_bytes(archive("modelmover"))
        self.environment = {
            "PATH": os.environ["PATH"],
            "OSS_ACCESS_KEY_ID": KEY_ID,
            "OSS_ACCESS_KEY_SECRET": KEY_SECRET,
        }

    def start(self, command: str, *arguments: str, **limits: int) -> subprocess.Popen[str]:
        """``limits`` are names and values of resource.setrlimit."""
        oss = [f"oss://{BUCKET}/{PREFIX}", f"--region={REGION}", f"--endpoint={self.world.oss.url}"]
        hub = [f"modelscope://{REPOSITORY}", f"--hub-endpoint={self.world.hub.url}", "--code"]

        def limit() -> None:
            for name, value in limits.items():
                resource.setrlimit(getattr(resource, name), (value, value))

        options = {
            "copy": [*hub, *oss, "--part-size=1", "--streams=2", "--uploads=2"],
            "verify": oss,
            "plan": hub,
        }[command]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(self.program), "--attempts=3", command, *options, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=limit,
        )

    def run(self, command: str, *arguments: str, **limits: int) -> tuple[int, str]:
        process = self.start(command, *arguments, **limits)
        output, _ = process.communicate()
        return process.returncode, output

    def wait_for_parts(self, count: int, process: subprocess.Popen[str]) -> None:
        """Until this number of parts more is on its way, or the process has exited."""
        before = len(self.parts())
        while len(self.parts()) < before + count and process.poll() is None:
            pass

    def parts(self) -> list[tuple[str, str, int | None]]:
        return [(r.path, r.query["partNumber"], r.status) for r in self.world.oss.requests if "partNumber" in r.query]


@pytest.fixture
def mover(world: World, tmp_path: Path) -> Mover:
    return Mover(world, tmp_path)


def test_moves_verifies_and_says_what_it_did(mover: Mover) -> None:
    code, output = mover.run("copy")
    assert code == 0, output
    assert re.search(
        rf"oss://{BUCKET}/{PREFIX} is whole: 11 files, [\d.]+ MiB, of which [\d.]+ MiB were sent now", output
    )
    code, output = mover.run("copy")
    assert code == 0, output
    assert "of which 0.00 MiB were sent now" in output
    code, output = mover.run("verify", "--full")
    assert code == 0, output
    assert "all 11 files" in output


def test_what_the_job_prints_pins_the_weights(mover: Mover) -> None:
    _, output = mover.run("copy")
    (digest,) = re.findall(r"INFO weights\.manifestSha256: ([0-9a-f]{64})$", output, re.MULTILINE)
    for command in ("copy", "verify"):
        code, output = mover.run(command, f"--manifest-sha256={digest}")
        assert (code, digest in output) == (0, True), output
        code, output = mover.run(command, f"--manifest-sha256={'0' * 64}")
        assert (code, "is pinned" in output) == (65, True), output
        code, output = mover.run(command, "--manifest-sha256=latest")
        assert (code, "write its 64 hexadecimal digits" in output) == (2, True), output


def test_another_model_than_the_planned_one_is_not_moved(mover: Mover, world: World) -> None:
    code, output = mover.run("copy", "--max-weights-gib=0.001")
    assert code == 65
    assert re.search(r"the source has [\d.]+ MiB of weights, and the plan counts on 1\.02 MiB at most", output)
    config = world.hub_file("config.json")
    config.write_text(config.read_text().replace("{", '{"quantization_config": {"quant_method": "awq"}, ', 1))
    code, output = mover.run("copy", "--quantization=fp8")
    assert code == 65
    assert "the source has weights in the format awq, and the plan counts on fp8" in output
    assert not mover.parts()
    code, output = mover.run("copy", "--quantization=awq", "--max-weights-gib=nan")
    assert code == 2
    assert "argument --max-weights-gib: must be a number above 0" in output


def test_plan_lists_files_for_people_and_programs(mover: Mover) -> None:
    _, output = mover.run("plan")
    assert "model-00001-of-000003.safetensors" in output
    assert re.search(r"bytes in 11 files of modelscope://deepseek-local/tiny@[0-9a-f]{40}", output)
    assert "README.md" not in output
    _, output = mover.run("plan", "--json")
    assert '"path": "config.json"' in output


def test_killed_twenty_times_it_sends_no_acknowledged_part_again(mover: Mover, world: World) -> None:
    """SIGKILL after a random number of further parts; the seed is shown where it fails."""
    data = os.urandom(50 * 2**20)
    header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (len(data), len(data))
    content = len(header).to_bytes(8, "little") + header + data
    world.hub_file("large.safetensors").write_bytes(content)
    seed = random.randrange(2**32)
    choice = random.Random(seed)
    for _ in range(KILLS):
        process = mover.start("copy")
        mover.wait_for_parts(choice.randrange(4), process)
        process.kill()
        assert process.wait() == -signal.SIGKILL, f"seed {seed}: it had ended"
    assert world.content("large.safetensors") is None, f"seed {seed}"
    code, output = mover.run("copy")
    assert code == 0, output
    accepted = [(path, number) for path, number, status in mover.parts() if status == 200]
    assert len(accepted) > KILLS
    assert len(accepted) == len(set(accepted)), f"seed {seed}"
    assert world.content("large.safetensors") == content
    code, output = mover.run("verify", "--full")
    assert code == 0, output


def test_told_to_stop_it_saves_its_state_and_ends_as_signalled(mover: Mover, world: World) -> None:
    world.hub.faults.add(Fault(action="slow-response", path="^/cdn/", bytes_per_second=2 * 2**20, times=None))
    process = mover.start("copy")
    mover.wait_for_parts(2, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "the next run continues from here" in output
    assert "Traceback" not in output
    assert process.returncode in CONTINUE_EXIT_CODES
    world.hub.faults.clear()
    code, output = mover.run("copy")
    assert code == 0, output
    world.assert_moved(world.copy().manifest)


def test_least_rights_of_the_program_are_enough(mover: Mover, world: World) -> None:
    """With the RAM policy that the Pulumi program makes, on a server that enforces it."""
    for writes, command in ((True, "copy"), (False, "verify")):
        policy = mover_policy(BUCKET, PREFIX, writes=writes)
        key = AccessKey.model_validate_json(f'{{"secret": "other", "policies": [{policy}]}}')
        world.oss.access_keys.put("LTAI-least", key)
        mover.environment |= {"OSS_ACCESS_KEY_ID": "LTAI-least", "OSS_ACCESS_KEY_SECRET": "other"}
        code, output = mover.run(command)
        assert code == 0, output
    code, output = mover.run("copy", "--exclude=nothing")
    assert code == 77, "with the rights of verify nothing can be written"
    assert "AccessDenied" in output


@pytest.mark.parametrize(("end", "code"), [("2026-01-31", 77), ("9999-12-31", 0)])
def test_rights_end_on_a_day(mover: Mover, world: World, end: str, code: int) -> None:
    policy = mover_policy(BUCKET, PREFIX, writes=True, end=end)
    key = AccessKey.model_validate_json(f'{{"secret": "other", "policies": [{policy}]}}')
    world.oss.access_keys.put("LTAI-ends", key)
    mover.environment |= {"OSS_ACCESS_KEY_ID": "LTAI-ends", "OSS_ACCESS_KEY_SECRET": "other"}
    assert mover.run("copy")[0] == code
    assert mover.run("verify")[0] == code


def test_secrets_are_never_printed(mover: Mover, world: World) -> None:
    world.private[REPOSITORY] = "hub-token"
    mover.environment |= {"MODELSCOPE_API_TOKEN": "hub-token"}
    world.oss.faults.add(Fault(action="answer", path="partNumber=", status=403, code="AccessDenied", times=None))
    code, output = mover.run("copy")
    assert code == 77
    for secret in (KEY_SECRET, "hub-token", "Signature="):
        assert secret not in output


@pytest.mark.parametrize(
    ("command", "arguments", "code", "message"),
    [
        ("copy", ["--include=*.nothing"], 65, "is selected; check include and exclude"),
        ("verify", [], 66, "has no manifest"),
        ("copy", ["--streams=0"], 2, "must be at least 1"),
        ("copy", ["--endpoint=127.0.0.1"], 2, "is not a URL; write it with https://"),
        ("copy", ["--endpoint=http://127.0.0.1:none"], 2, "has no usable host and port; write https://HOST or"),
        ("copy", ["--hub-endpoint=https://"], 2, "has no usable host and port; write https://HOST or"),
        ("verify", ["--sts-endpoint=https://[::1"], 2, "has no usable host and port; write https://HOST or"),
        ("copy", ["--hub-endpoint=https://a..b"], 2, "has no usable host and port; write https://HOST or"),
        ("copy", ["--hub-region=x\r\ny"], 2, "is not a region; write it like cn-hangzhou"),
        ("copy", ["--endpoint=http://oss.example.com"], 2, "is plain HTTP, and what is signed would be readable"),
        ("copy", ["--hub-endpoint=http://127.0.0.1:1"], 69, "the connection was refused"),
    ],
)
def test_exit_code_says_whether_another_attempt_helps(
    mover: Mover, command: str, arguments: list[str], code: int, message: str
) -> None:
    found, output = mover.run(command, *arguments)
    assert (found, message in output) == (code, True), output
    assert "Traceback" not in output
    assert code not in CONTINUE_EXIT_CODES


def test_run_that_moved_a_part_before_it_failed_is_to_be_continued(mover: Mover, world: World) -> None:
    world.oss.faults.add(Fault(action="answer", path="partNumber=", status=503, after=3, times=None))
    code, output = mover.run("copy")
    assert code == 75, output
    assert code in CONTINUE_EXIT_CODES


@pytest.mark.parametrize(
    "limits",
    [{"RLIMIT_AS": 300 * 2**20}, {"RLIMIT_NOFILE": 12}],
    ids=["memory", "descriptors"],
)
def test_machine_without_room_is_reported_with_what_helps(mover: Mover, limits: dict[str, int]) -> None:
    code, output = mover.run("copy", "--part-size=16", "--streams=16", "--uploads=16", **limits)
    assert (code, "--part-size 1 --streams 2 --uploads 2" in output) == (71, True), output
    assert "Traceback" not in output


def test_small_options_do_with_little_memory(mover: Mover) -> None:
    code, output = mover.run("copy", RLIMIT_AS=300 * 2**20)
    assert code == 0, output


def test_output_that_is_not_read_does_not_change_the_exit_code(mover: Mover) -> None:
    process = mover.start("copy")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait() == 0


def test_missing_credentials_are_reported(mover: Mover) -> None:
    mover.environment.pop("OSS_ACCESS_KEY_ID")
    code, output = mover.run("copy")
    assert code == 77
    assert "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET" in output
