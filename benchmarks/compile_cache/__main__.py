"""``python -m benchmarks.compile_cache``: a start that compiles, and one with what the first has compiled.

The engine is a real vLLM on the CPU, one process, with PyTorch's Inductor and the C++ compiler of this machine. Both
starts run the program of the pods: ``restore`` before the engine, from an emulated OSS, and ``save`` after the first
one. What is printed are ratios: of the times from the restore's begin to the first answer of ``/health``; of the
processor's time, which depends less on what else the machine does; and of the engine's own step that compiles, as its
log says. Both engines must give the same tokens; they have other names, addresses and ports, as pods have.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.model_bucket import cache_policy
from components.zipapps import archive
from deepseek_acs.modelmover.oss.client import Bucket
from deepseek_acs.modelmover.oss.credentials import Credentials
from deepseek_acs.modelmover.retry import Backoff
from deepseek_acs.planner.compiled import VARIABLES
from local.engine.installation import engine
from local.hubs.small_model import make_small_model
from local.oss.access import AccessKey
from local.oss.policy import Policy
from local.oss.server import OssServer
from local.ports import held_port

BUCKET, PREFIX, REGION = "models", ".compilecache/benchmark/r1", "cn-hangzhou"
OWNER, POD = ("LTAI-owner", "secret-of-the-owner"), ("LTAI-pod", "secret-of-the-pod")

ARGUMENTS = ("--served-model-name=ds", "--max-model-len=512", "--max-num-seqs=4", "--host=127.0.0.1")
STEP = re.compile(r"init engine \(profile.*?\) took ([0-9.]+) s")
"""In the log: profiling, and with it compilation, and warm-up."""

PROMPT = {"model": "ds", "prompt": "Hello", "max_tokens": 16, "temperature": 0}


@dataclass(frozen=True, kw_only=True)
class Start:
    """Seconds until the engine answers, of the clock and of the processor, and of the step that compiles; the text of
    its first answer."""

    wall: float
    cpu: float
    step: float
    restored: str
    saved: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a pod has."""

    engine: Path
    model: Path
    folder: Path
    store: OssServer

    def start(self, number: int, *, seconds: float) -> Start:
        """One pod from its begin to its end, in the same place as the one before."""
        pod = self.folder / "pod"
        shutil.rmtree(pod, ignore_errors=True)
        for name in ("cache", "work", "home"):
            (pod / name).mkdir(parents=True)
        with held_port() as port, contextlib.ExitStack() as stack:
            begin = time.monotonic()
            restored = self._helper("restore", pod, port)
            process = stack.enter_context(self._served(pod, port, number))
            _wait(port, process, begin + seconds, pod / "log")
            wall, cpu = time.monotonic() - begin, _cpu_seconds(process)
            text = _completion(port)
            saved = self._helper("save", pod, port)
        found = STEP.search((pod / "log").read_text(errors="replace"))
        if found is None:
            raise RuntimeError("the engine's log does not say how long it took to profile and compile")
        return Start(wall=wall, cpu=cpu, step=float(found[1]), restored=restored, saved=saved, text=text)

    def _helper(self, action: str, pod: Path, port: int) -> str:
        """The last line that the program says."""
        program = self.folder / "compilecache.pyz"
        program.write_bytes(archive("compilecache"))
        done = subprocess.run(
            [
                str(self.engine / "bin" / "python3"),
                str(program),
                action,
                f"--place=oss://{BUCKET}/{PREFIX}",
                f"--region={REGION}",
                f"--endpoint={self.store.url}",
                f"--cache={pod / 'cache'}",
                f"--work={pod / 'work'}",
                f"--part=arguments={' '.join(ARGUMENTS)}",
                f"--port={port}",
            ],
            env={
                "OSS_ACCESS_KEY_ID": POD[0],
                "OSS_ACCESS_KEY_SECRET": POD[1],
                "COMPILE_CACHE_RANK": "0",
                "LWS_LEADER_ADDRESS": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[-1]

    @contextmanager
    def _served(self, pod: Path, port: int, number: int) -> Iterator[psutil.Popen]:
        environment = {
            "PATH": f"{self.engine / 'bin'}:/usr/bin:/bin",
            "HOME": str(pod / "home"),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_HOST_IP": f"127.0.0.{number}",
            "HOSTNAME": f"r1-{number}",
            **{name: str(pod / "cache" / "files" / folder) for name, folder in VARIABLES.items()},
        }
        with (pod / "log").open("wb") as log:
            process = psutil.Popen(
                ["vllm", "serve", str(self.model), f"--port={port}", *ARGUMENTS],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=pod,
            )
            try:
                yield process
            finally:
                for one in [*process.children(recursive=True), process]:
                    one.kill()
                process.wait()


def _wait(port: int, process: psutil.Popen, deadline: float, log: Path) -> None:
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text(errors="replace")[-3000:])
        time.sleep(0.5)


def _completion(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/completions", json.dumps(PROMPT), {"Content-Type": "application/json"})
    return str(json.loads(connection.getresponse().read())["choices"][0]["text"])


def _cpu_seconds(process: psutil.Popen) -> float:
    """Of all processes that run, and of those that they have waited for, compilers among them."""
    return sum(sum(one.cpu_times()[:4]) for one in [process, *process.children(recursive=True)])


@contextmanager
def _store(folder: Path) -> Iterator[OssServer]:
    """An empty bucket, with the right that pods have."""
    with OssServer(data=folder / "oss", region=REGION) as server:
        server.access_keys.put(OWNER[0], AccessKey(secret=OWNER[1], policies=None))
        policy = Policy.model_validate_json(cache_policy(BUCKET, PREFIX))
        server.access_keys.put(POD[0], AccessKey(secret=POD[1], policies=[policy]))
        owner = Credentials(key_id=OWNER[0], key_secret=OWNER[1])
        bucket = Bucket(BUCKET, endpoint=server.url, region=REGION, credentials=lambda: owner, backoff=Backoff())
        bucket._send("PUT", "").read()
        yield server


def _measure(turns: int, seconds: float) -> None:
    first, restored = list[Start](), list[Start]()
    for turn in range(turns):
        with tempfile.TemporaryDirectory() as folder, _store(Path(folder)) as store:
            model = make_small_model(Path(folder) / "model")
            machine = Machine(engine=engine(print), model=model, folder=Path(folder), store=store)
            if turn == 0:
                # Reads the engine's files, so that the first start is not the only one to read them from the disk.
                subprocess.run([str(machine.engine / "bin" / "python3"), "-c", "import vllm"], check=True)
            for number, starts in enumerate((first, restored), start=1):
                starts.append(machine.start(number, seconds=seconds))
                found = starts[-1]
                times = f"{found.wall:6.0f} s, {found.cpu:6.0f} CPU-s, step {found.step:.0f} s"
                print(f"{times}: {found.restored}; {found.saved}", flush=True)
            if first[-1].text != restored[-1].text:
                raise RuntimeError("the restored engine answers otherwise")
    if not all(" hit," in one.restored for one in restored):
        raise RuntimeError("nothing was restored")
    for name in ("wall", "cpu", "step"):
        before, after = (statistics.median(getattr(one, name) for one in found) for found in (first, restored))
        print(f"first compile / restored start, {name}: {before:.0f} s / {after:.0f} s = {before / after:.2f}")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_cache", description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=900, help="after which a start is given up")
    given = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    _measure(given.turns, given.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
