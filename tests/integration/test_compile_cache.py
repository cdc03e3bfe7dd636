"""The cache of compiled code against the local OSS, with the rights that the pods have."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.compile_cache import RESTORE, SAVE, CompileCacheArgs
from components.inference_group import pod_template
from components.model_bucket import cache_policy
from components.zipapps import archive
from deepseek_acs.compilecache.__main__ import is_healthy
from deepseek_acs.compilecache.archive import Limits
from deepseek_acs.compilecache.cache import PART_BYTES, Cache, Folders, read_state
from deepseek_acs.compilecache.key import Key
from deepseek_acs.modelmover.errors import PermissionDeniedError
from local.faults import Fault
from local.oss.access import AccessKey
from local.oss.policy import Policy
from local.oss.server import OssServer
from local.pod_runner.container import relocated
from tests.integration.conftest import BUCKET, REGION, backoff, bucket_of
from tests.unit.conftest import group_args

pytestmark = pytest.mark.integration

PREFIX = ".compilecache/deepseek/r1"
KEY = Key({"image": "vllm:v0.33.0", "arguments": "1a2b", "layout": "2 pods", "rank": "0"})
OBJECT = f"{PREFIX}/{KEY.digest}.tar.gz"
OF_THE_POD = ("LTAI-pod", "not-the-account")
POD_KEY, POD_SECRET = OF_THE_POD
CONTENT = {"vllm/hash/rank_0_0/graph.py": b"x = 1\n" * 1000, "triton/hash/kernel.cubin": os.urandom(100_000)}


@pytest.fixture
def store(oss: OssServer) -> OssServer:
    """A bucket, and the key that the pods have."""
    policy = Policy.model_validate_json(cache_policy(BUCKET, PREFIX))
    oss.access_keys.put(POD_KEY, AccessKey(secret=POD_SECRET, policies=[policy]))
    return oss


@dataclass
class Pod:
    """One pod, with its two folders."""

    store: OssServer
    folder: Path
    key: Key = KEY
    limits: Limits = field(default_factory=Limits)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for place in (self.folders.cache, self.folders.work):
            place.mkdir(parents=True)

    @property
    def folders(self) -> Folders:
        return Folders(self.folder / "cache", self.folder / "work")

    @property
    def cache(self) -> Cache:
        bucket = bucket_of(self.store, key_id=POD_KEY, secret=POD_SECRET, attempts=2)
        return Cache(
            bucket,
            PREFIX,
            self.key,
            folders=self.folders,
            backoff=backoff(2),
            say=self.said.append,
            limits=self.limits,
        )

    def restore(self) -> str:
        """Its outcome."""
        return self.cache.restore().outcome

    def compile(self, more: bytes = b"") -> None:
        """What the engine does where nothing was restored."""
        for name, data in CONTENT.items():
            path = self.folders.compiled / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data + more)

    def compiled(self) -> dict[str, bytes]:
        """What the engine has."""
        root = self.folders.compiled
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def leftovers(self) -> set[str]:
        """What is there besides the engine's files and the state."""
        there = {path.name for place in (self.folders.cache, self.folders.work) for path in place.iterdir()}
        return there - {"files", "state.json"}


def saved(store: OssServer, folder: Path, key: Key = KEY) -> Pod:
    """A pod that has saved what it compiled."""
    pod = Pod(store, folder, key)
    assert pod.restore() == "miss"
    pod.compile()
    assert pod.cache.save()
    return pod


def stored(store: OssServer) -> dict[str, int]:
    return bucket_of(store).list_sizes(PREFIX)


def replace(store: OssServer, content: bytes) -> None:
    """Puts other bytes in the place of the archive, with the metadata that it had."""
    old = bucket_of(store)._send("HEAD", OBJECT).headers["x-oss-meta-sha256"]
    bucket_of(store).put(OBJECT, content, metadata={"sha256": old})


def test_the_next_pod_gets_what_the_first_has_compiled(store: OssServer, tmp_path: Path) -> None:
    first = saved(store, tmp_path / "a")
    second = Pod(store, tmp_path / "b")
    assert second.restore() == "hit"
    assert second.compiled() == first.compiled() == CONTENT
    assert not second.cache.save(), "the bucket has it"
    assert list(stored(store)) == [OBJECT]
    assert not first.leftovers() | second.leftovers()


@pytest.mark.parametrize("name", KEY.parts)
def test_another_image_argument_rank_or_layout_misses(name: str, store: OssServer, tmp_path: Path) -> None:
    saved(store, tmp_path / "a")
    other = Pod(store, tmp_path / "b", Key({**KEY.parts, name: "other"}))
    assert other.restore() == "miss"
    assert not other.folders.compiled.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_cut_archive_is_ignored_and_replaced(share: float, store: OssServer, tmp_path: Path) -> None:
    saved(store, tmp_path / "a")
    whole = bucket_of(store).get(OBJECT) or b""
    replace(store, whole[: int(len(whole) * share)])
    second = Pod(store, tmp_path / "b")
    assert second.restore() == "broken"
    assert "is ignored: its SHA-256 is not the one" in second.said[-1]
    assert not second.folders.compiled.exists()
    assert not second.leftovers()
    second.compile()
    assert second.cache.save()
    assert Pod(store, tmp_path / "c").restore() == "hit"


def test_an_archive_of_another_key_is_ignored(store: OssServer, tmp_path: Path) -> None:
    """With a right digest: it was copied there."""
    other = Key({**KEY.parts, "rank": "1"})
    saved(store, tmp_path / "a", other)
    headers = bucket_of(store)._send("HEAD", f"{PREFIX}/{other.digest}.tar.gz").headers
    content = bucket_of(store).get(f"{PREFIX}/{other.digest}.tar.gz") or b""
    bucket_of(store).put(OBJECT, content, metadata={"sha256": headers["x-oss-meta-sha256"]})
    pod = Pod(store, tmp_path / "b")
    assert pod.restore() == "broken"
    assert "is ignored: it is for another key" in pod.said[-1]


def test_an_archive_that_is_too_large_is_ignored(store: OssServer, tmp_path: Path) -> None:
    saved(store, tmp_path / "a")
    pod = Pod(store, tmp_path / "b", limits=Limits(archive=1000))
    assert pod.restore() == "broken"
    assert "is ignored: it is larger than 0 MiB" in pod.said[-1]


def test_two_groups_at_once(store: OssServer, tmp_path: Path) -> None:
    """Both compile and save at the same time; the others get all of one or all of the other."""
    pods = [Pod(store, tmp_path / str(number)) for number in range(2)]
    assert [pod.restore() for pod in pods] == ["miss", "miss"]
    for number, pod in enumerate(pods):
        pod.compile(more=bytes([number]))
    start, wrote = threading.Barrier(2), []

    def save(pod: Pod) -> None:
        start.wait()
        wrote.append(pod.cache.save())

    threads = [threading.Thread(target=save, args=[pod]) for pod in pods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wrote) == [False, True]
    third = Pod(store, tmp_path / "third")
    assert third.restore() == "hit"
    assert third.compiled() in [pod.compiled() for pod in pods]
    assert not list(bucket_of(store).list_uploads(PREFIX))


def test_a_second_writer_that_saw_nothing_does_not_replace_the_first(store: OssServer, tmp_path: Path) -> None:
    """Its look at the bucket came before the first one was done."""
    late = Pod(store, tmp_path / "late")
    assert late.restore() == "miss"
    late.compile(more=b"late")
    first = saved(store, tmp_path / "a")
    store.faults.add(Fault(action="answer", method="HEAD", status=404, code="NoSuchKey", times=1))
    assert not late.cache.save()
    assert late.said[-1] == "save: another group has saved the same key"
    third = Pod(store, tmp_path / "third")
    third.restore()
    assert third.compiled() == first.compiled()


def test_many_parts(store: OssServer, tmp_path: Path) -> None:
    pod = Pod(store, tmp_path / "a")
    pod.restore()
    (pod.folders.compiled / "vllm").mkdir(parents=True)
    (pod.folders.compiled / "vllm" / "large").write_bytes(os.urandom(PART_BYTES + 1000))
    assert pod.cache.save()
    assert stored(store)[OBJECT] > PART_BYTES
    second = Pod(store, tmp_path / "b")
    assert second.restore() == "hit"
    assert second.compiled() == pod.compiled()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(action="answer", status=503, code="ServiceUnavailable", times=None),
        Fault(action="answer", status=403, code="AccessDenied", times=None),
        Fault(action="reset-response", method="GET", offset=50, times=None),
        Fault(action="truncate-response", method="GET", offset=50, times=None),
    ],
    ids=lambda fault: f"{fault.action} {fault.status}",
)
def test_a_bucket_that_fails_does_not_stop_the_engine(fault: Fault, store: OssServer, tmp_path: Path) -> None:
    saved(store, tmp_path / "a")
    store.faults.add(fault)
    pod = Pod(store, tmp_path / "b")
    assert pod.restore() == "unknown"
    assert not pod.folders.compiled.exists()
    store.faults.clear()
    pod.compile(more=b"b")
    assert not pod.cache.save(), "what is there is left alone"


def test_a_flipped_bit_is_ignored(store: OssServer, tmp_path: Path) -> None:
    saved(store, tmp_path / "a")
    store.faults.add(Fault(action="flip-response", method="GET", offset=500))
    assert Pod(store, tmp_path / "b").restore() == "broken"


def test_a_failed_upload_leaves_nothing(store: OssServer, tmp_path: Path) -> None:
    pod = Pod(store, tmp_path / "a")
    pod.restore()
    pod.compile()
    store.faults.add(Fault(action="answer", method="PUT", status=403, code="AccessDenied", times=None))
    with pytest.raises(PermissionDeniedError):
        pod.cache.save()
    store.faults.clear()
    assert not stored(store)
    assert not list(bucket_of(store).list_uploads(PREFIX))
    assert not pod.leftovers()


def test_a_second_run_of_the_restore_changes_nothing(store: OssServer, tmp_path: Path) -> None:
    """The kubelet runs init containers again when it has made the pod's sandbox again."""
    saved(store, tmp_path / "a")
    pod = Pod(store, tmp_path / "b")
    assert pod.restore() == "hit"
    pod.compile(more=b"own")
    assert pod.restore() == "hit"
    assert pod.compiled()["triton/hash/kernel.cubin"].endswith(b"own")


def test_an_engine_that_compiles_nothing(store: OssServer, tmp_path: Path) -> None:
    pod = Pod(store, tmp_path / "a")
    pod.restore()
    assert not pod.cache.save()
    assert pod.said[-1] == "save: the engine has left no compiled files; is compilation switched off?"
    assert not stored(store)


def test_the_pods_key_reaches_nothing_else(store: OssServer) -> None:
    bucket_of(store).put("models/R1/config.json", b"{}")
    bucket = bucket_of(store, key_id=POD_KEY, secret=POD_SECRET, attempts=1)
    for forbidden in (
        lambda: bucket.get("models/R1/config.json"),
        lambda: bucket.put("models/R1/config.json", b""),
        lambda: bucket.delete("models/R1/config.json"),
        lambda: bucket.put(".compilecache/deepseek/other/x", b""),
        lambda: bucket.put(f"{PREFIX}-2/x", b""),
    ):
        with pytest.raises(PermissionDeniedError):
            forbidden()


@contextmanager
def leader(statuses: list[int]) -> Iterator[int]:
    """The port of a server that answers /health with these, and then with the last one."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[min(len(asked), len(statuses) - 1)] if self.path == "/health" else 404)
            asked.append(self.path)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def run(action: str, pod: Pod, program: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program as a pod runs it."""
    secrets = {"OSS_ACCESS_KEY_ID": POD_KEY, "OSS_ACCESS_KEY_SECRET": POD_SECRET}
    return subprocess.run(
        [
            sys.executable,
            str(program),
            action,
            f"--place=oss://{BUCKET}/{PREFIX}",
            f"--region={REGION}",
            f"--endpoint={pod.store.url}",
            f"--cache={pod.folders.cache}",
            f"--work={pod.folders.work}",
            "--part=image=vllm:v0.33.0",
            *options,
        ],
        env={**secrets, "COMPILE_CACHE_RANK": "0", "LWS_LEADER_ADDRESS": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "compilecache.pyz"
    path.write_bytes(archive("compilecache"))
    return path


def test_the_program(store: OssServer, program: Path, tmp_path: Path) -> None:
    first, second = Pod(store, tmp_path / "a"), Pod(store, tmp_path / "b")
    done = run("restore", first, program)
    assert (done.returncode, done.stderr) == (0, "")
    assert "compilecache restore: miss, the engine compiles" in done.stdout
    first.compile()
    with leader([200]) as port:
        done = run("save", first, program, f"--port={port}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "compilecache save: 2 files" in done.stdout
    done = run("restore", second, program)
    assert "compilecache restore: hit, 2 files" in done.stdout
    assert second.compiled() == CONTENT


def test_it_says_what_it_lacks_and_no_secret(store: OssServer, program: Path, tmp_path: Path) -> None:
    done = run("restore", Pod(store, tmp_path / "a"), program, OSS_ACCESS_KEY_SECRET="")
    assert done.returncode == 1
    assert done.stdout.startswith("compilecache restore: there are no credentials for OSS in the environment")
    wrong = Pod(store, tmp_path / "b")
    done = run("restore", wrong, program, OSS_ACCESS_KEY_SECRET="another-secret")
    assert (done.returncode, read_state(wrong.folders) is not None) == (0, True)
    assert "nothing restored: read oss://" in done.stdout
    assert "another-secret" not in done.stdout + done.stderr


def test_a_bucket_that_does_not_answer_is_given_up(store: OssServer, program: Path, tmp_path: Path) -> None:
    store.faults.add(Fault(action="hold", times=None))
    try:
        done = run("restore", Pod(store, tmp_path / "a"), program, "--seconds=1")
    finally:
        store.faults.clear()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("restore: given up after 1 s; the engine compiles\n")


def emitted(container: str, pod: Pod, program: Path, port: int = 1) -> list[str]:
    """The command of a container of the pod template, with the paths of this machine."""
    args = dataclasses.replace(
        group_args({"inference": {"engine": {"image": "vllm/vllm-openai:v0.33.0", "backend": "mp", "port": port}}}),
        compile_cache=CompileCacheArgs(
            place=f"oss://{BUCKET}/{PREFIX}", region=REGION, endpoint=pod.store.url, model="R1", series="GU8TF"
        ),
    )
    spec = pod_template("leader", args)["spec"]
    places = {
        "/opt/compilecache": program.parent,
        "/var/cache/compile": pod.folders.cache,
        "/var/lib/compilecache": pod.folders.work,
    }
    (found,) = [one for one in (*spec["initContainers"], *spec["containers"]) if one["name"] == container]
    return [relocated(word, places).replace("python3 ", f"{sys.executable} ") for word in found["command"]]


def environment() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "OSS_ACCESS_KEY_ID": POD_KEY,
        "OSS_ACCESS_KEY_SECRET": POD_SECRET,
        "COMPILE_CACHE_RANK": "0",
        "LWS_LEADER_ADDRESS": "127.0.0.1",
    }


def test_the_emitted_containers(store: OssServer, program: Path, tmp_path: Path) -> None:
    """The one that saves goes on until its pod ends."""
    first, second = Pod(store, tmp_path / "a"), Pod(store, tmp_path / "b")
    first.compile()
    with leader([200]) as port:
        command = emitted(SAVE, first, program, port)
        process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("compilecache save: 2 files")
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 128 + signal.SIGTERM
        finally:
            # In a container, the end of its first process ends the others.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        command = emitted(RESTORE, second, program, port)
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert second.compiled() == CONTENT


def test_only_a_healthy_leader_is_ready() -> None:
    with leader([503, 404, 200]) as port:
        assert [is_healthy("127.0.0.1", port) for _ in range(3)] == [False, False, True]
    assert not is_healthy("127.0.0.1", port)
    assert not is_healthy("no-such-host.invalid", port)


def test_an_image_without_python(store: OssServer, tmp_path: Path) -> None:
    pod = Pod(store, tmp_path / "a")
    command = [word.replace(sys.executable, "no-python") for word in emitted(RESTORE, pod, tmp_path / "none")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout == "compilecache restore: nothing restored; the engine compiles\n"


def test_the_state_is_plain(store: OssServer, tmp_path: Path) -> None:
    pod = saved(store, tmp_path / "a")
    assert json.loads(pod.folders.state.read_text())["outcome"] == "miss"
