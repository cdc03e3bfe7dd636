"""The emulator of the OSS volume plugin, as a kubelet calls it: real mounts of a folder in the emulated OSS."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from components.model_bucket import read_policy
from local.oss.access import AccessKey
from local.oss.policy import Policy
from local.oss.server import OssServer
from local.processes import Process
from local.tools import tool
from tests.integration.conftest import BUCKET, KEY_ID, KEY_SECRET, PREFIX, REGION, bucket_of
from tests.local.csi import CLASSES, WRITER_ONE, Node

SECRET = {"akId": "LTAI-reader", "akSecret": "hidden-secret"}
CONTENT = os.urandom(3 * 2**20 + 17)
TEXT = b'{"model_type": "deepseek_v3"}'
FILES = {"config.json": TEXT, "model.safetensors": CONTENT, "figures/benchmark.jpg": b"no picture\n"}
SECONDS = 30
"""Time for a process to be ready, or gone."""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="mounting needs root and /dev/fuse"
)


@pytest.fixture(scope="module")
def oss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OssServer]:
    with OssServer(data=tmp_path_factory.mktemp("oss"), region=REGION) as server:
        server.access_keys.put(KEY_ID, AccessKey(secret=KEY_SECRET, policies=None))
        reader = Policy.model_validate_json(read_policy(BUCKET, PREFIX))
        server.access_keys.put(SECRET["akId"], AccessKey(secret=SECRET["akSecret"], policies=[reader]))
        bucket = bucket_of(server)
        bucket._send("PUT", "").read()
        for name, content in FILES.items():
            bucket.put(f"{PREFIX}/{name}", content)
        yield server


@dataclass
class Driver:
    """The plugin on one node."""

    process: Process
    node: Node
    kubelet: Path

    def places(self) -> list[str]:
        """Where something is mounted."""
        places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        return [place for place in places if place.startswith(str(self.kubelet))]

    def mounts(self) -> list[psutil.Process]:
        """Processes that serve mounts of this node, those of a killed driver included."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            arguments = process.info["cmdline"] or []
            if arguments[1:2] == ["mount"] and arguments[2].startswith(str(self.kubelet)):
                found.append(process)
        return found


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def program() -> Path:
    return tool("ossplugin")


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short name: that of a socket may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="csi.") as name:
        yield Path(name)


@pytest.fixture
def driver(program: Path, folder: Path) -> Iterator[Driver]:
    yield from running(program, folder, "ossplugin.csi.alibabacloud.com")


def running(program: Path, folder: Path, name: str) -> Iterator[Driver]:
    kubelet = folder / "kubelet"
    command = [str(program), f"--kubelet-dir={kubelet}", "--node=node-1", f"--region={REGION}", f"--driver={name}"]
    process = Process(name="ossplugin", command=command, folder=folder)
    socket = kubelet / "plugins" / name / "csi.sock"
    driver = Driver(process, Node(socket), kubelet)
    process.start()
    assert driver.node.name() == "node-1"
    yield driver
    process.stop()
    for mount in driver.mounts():
        mount.kill()
    for place in driver.places():
        subprocess.run(["umount", "--lazy", place], check=True)
    eventually(lambda: not driver.mounts())
    assert "hidden-secret" not in process.log.read_text()


@pytest.fixture
def fluid(program: Path, folder: Path) -> Iterator[Driver]:
    """By the name of Fluid's driver."""
    yield from running(program, folder, "fuse.csi.fluid.io")


@pytest.fixture
def target(driver: Driver) -> Path:
    parent = driver.kubelet / "pods" / "uid" / "volumes" / "kubernetes.io~csi" / "llm-model"
    parent.mkdir(parents=True)
    return parent / "mount"


@pytest.fixture
def attributes(oss: OssServer) -> dict[str, str]:
    """As components/oss_volume.py writes them."""
    return {"bucket": BUCKET, "url": oss.url, "path": f"/{PREFIX}/", "otherOpts": "-o umask=022 -o allow_other"}


def refusal(call: Callable[[], None]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    error: Any = refused.value
    return error.code(), error.details()


def test_a_pod_reads_the_folder(driver: Driver, target: Path, attributes: dict[str, str]) -> None:
    driver.node.publish(target, attributes, SECRET)
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == set(FILES)
    assert {name: (target / name).read_bytes() for name in FILES} == FILES
    assert (target / "model.safetensors").stat().st_mode & 0o777 == 0o755, "umask=022"
    with (target / "model.safetensors").open("rb") as file:
        assert os.pread(file.fileno(), 100, 2**20 - 50) == CONTENT[2**20 - 50 : 2**20 + 50]
    assert not (target / "absent").exists()


def test_it_is_read_only(driver: Driver, target: Path, attributes: dict[str, str]) -> None:
    driver.node.publish(target, attributes, SECRET)
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").touch()
    with pytest.raises(OSError, match="Read-only"):
        (target / "config.json").unlink()


def test_other_users_read_it_with_allow_other_only(driver: Driver, target: Path, attributes: dict[str, str]) -> None:
    for options, code in (("-o allow_other -o umask=022", 0), ("-o umask=022", 1)):
        driver.node.publish(target, attributes | {"otherOpts": options}, SECRET)
        # The folders above belong to root alone.
        done = subprocess.run(["cat", "config.json"], cwd=target, user=65534, capture_output=True)
        assert done.returncode == code, options
        driver.node.unpublish(target)


def test_twice_is_once(driver: Driver, target: Path, attributes: dict[str, str]) -> None:
    for _ in range(2):
        driver.node.publish(target, attributes, SECRET)
    assert len(driver.mounts()) == 1
    for _ in range(2):
        driver.node.unpublish(target)
        assert not target.exists()
    eventually(lambda: not driver.mounts())


def test_a_folder_without_objects_is_empty_as_with_ossfs(
    driver: Driver, target: Path, attributes: dict[str, str]
) -> None:
    driver.node.publish(target, attributes | {"path": "/models/absent/"}, SECRET)
    assert list(target.iterdir()) == []


AUTH = "OSS authorization error: ossfs: "
EXITED = "ossfs exited: exit status 1, with stderr: "
CHECK = f"{EXITED}ossfs: Failed to check bucket"
REFUSALS = {
    "no Secret": ({}, {}, "INVALID_ARGUMENT", f"{AUTH}missing access key in node publish secret"),
    "half a key": ({}, {"akSecret": ""}, "INVALID_ARGUMENT", f"{AUTH}missing access key in node publish secret"),
    "RRSA": ({"authType": "rrsa"}, SECRET, "INVALID_ARGUMENT", f"{AUTH}authType rrsa needs RAM's STS"),
    "no bucket": ({"bucket": ""}, SECRET, "INVALID_ARGUMENT", "OSS parameters error: Url/Bucket empty"),
    "no endpoint": ({"url": ""}, SECRET, "INVALID_ARGUMENT", "OSS parameters error: Url/Bucket empty"),
    "bucket's own domain": (
        {"url": "https://models-0.oss-cn-hangzhou.aliyuncs.com"},
        SECRET,
        "INVALID_ARGUMENT",
        "OSS url error: url is invalid, https://models-0.oss-cn-hangzhou.aliyuncs.com is a bucket domain name",
    ),
    "relative path": ({"path": "models"}, SECRET, "INVALID_ARGUMENT", "OSS path error: start with models, should"),
    "other program": ({"fuseType": "ossfs2"}, SECRET, "INVALID_ARGUMENT", "OSS parameters error: Unsupported fuseType"),
    "options without -o": (
        {"otherOpts": "allow_other"},
        SECRET,
        "INVALID_ARGUMENT",
        'invalid otherOpts: "allow_other"',
    ),
    "unknown option": (
        {"otherOpts": "-o allow_others"},
        SECRET,
        "INTERNAL",
        f"{EXITED}fuse: unknown option `allow_others'",
    ),
    "option without value": ({"otherOpts": "-o umask"}, SECRET, "INTERNAL", f"{EXITED}fuse: unknown option `umask'"),
    "unknown key": (
        {},
        {**SECRET, "akId": "LTAI-nobody"},
        "INTERNAL",
        f"{CHECK} and directory for mount point : Invalid Credentials(host=URL, message=The OSS Access Key Id",
    ),
    "wrong key": (
        {},
        {**SECRET, "akSecret": "wrong"},
        "INTERNAL",
        f"{CHECK} and directory for mount point : Invalid Credentials(host=URL, message=The request signature",
    ),
    "bucket of others": (
        {"bucket": "absent-0"},
        SECRET,
        "INTERNAL",
        f"{CHECK} : Bucket not found(host=URL, message=The specified bucket does not exist.)",
    ),
    "no server": (
        {"url": "http://127.0.0.1:1"},
        SECRET,
        "INTERNAL",
        f"{CHECK} and directory for mount point : Unable to connect(host=http://127.0.0.1:1, message=)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_have_the_texts_of_the_plugin(
    case: str, oss: OssServer, driver: Driver, target: Path, attributes: dict[str, str]
) -> None:
    changes, secrets, code, text = REFUSALS[case]
    found = refusal(lambda: driver.node.publish(target, attributes | changes, secrets))
    assert found[0] == grpc.StatusCode[code]
    assert found[1].startswith(text.replace("URL", oss.url))
    assert "hidden-secret" not in found[1]
    eventually(lambda: not driver.mounts())
    driver.node.publish(target, attributes, SECRET)
    assert (target / "config.json").read_bytes() == TEXT, "the next try heals"


def test_it_mounts_read_only_alone(driver: Driver, target: Path, attributes: dict[str, str]) -> None:
    code, text = refusal(lambda: driver.node.publish(target, attributes, SECRET, mode=WRITER_ONE))
    assert (code, text) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "this emulator mounts read-only: the access mode has to be ReadOnlyMany",
    )


def test_objects_that_the_policy_does_not_cover(
    oss: OssServer, driver: Driver, target: Path, attributes: dict[str, str]
) -> None:
    elsewhere = Policy.model_validate_json(read_policy(BUCKET, "models/other"))
    oss.access_keys.put("LTAI-other", AccessKey(secret="other-secret", policies=[elsewhere]))
    driver.node.publish(target, attributes, {"akId": "LTAI-other", "akSecret": "other-secret"})
    with pytest.raises(PermissionError):
        (target / "config.json").read_bytes()


def test_a_killed_driver_leaves_the_mounts(driver: Driver, target: Path, attributes: dict[str, str]) -> None:
    driver.node.publish(target, attributes, SECRET)
    running = driver.process.running()
    assert running is not None
    running.kill()
    running.wait(SECONDS)
    assert (target / "model.safetensors").read_bytes() == CONTENT
    driver.process.start()
    driver.node.publish(target, attributes, SECRET)
    assert len(driver.mounts()) == 1
    driver.node.unpublish(target)
    assert not target.exists()
    eventually(lambda: not driver.mounts())


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_dead_mount_is_replaced_and_unmounted(
    fault: signal.Signals, driver: Driver, target: Path, attributes: dict[str, str]
) -> None:
    driver.node.publish(target, attributes, SECRET)
    driver.mounts()[0].send_signal(fault)
    driver.node.publish(target, attributes, SECRET)
    assert (target / "config.json").read_bytes() == TEXT
    assert len(driver.places()) == 1
    for mount in driver.mounts():
        mount.send_signal(fault)
    driver.node.unpublish(target)
    assert driver.places() == []
    assert not target.exists()


def test_fluids_driver_reads_the_secret_of_a_dataset(fluid: Driver, attributes: dict[str, str]) -> None:
    target = fluid.kubelet / "mount"
    assert refusal(lambda: fluid.node.publish(target, attributes, SECRET)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "OSS authorization error: ossfs: missing access key in node publish secret",
    )
    secret = {"fs.oss.accessKeyId": SECRET["akId"], "fs.oss.accessKeySecret": SECRET["akSecret"]}
    fluid.node.publish(target, attributes, secret)
    assert (target / "config.json").read_bytes() == TEXT
    fluid.node.unpublish(target)


def test_no_other_driver_is_played(program: Path) -> None:
    done = subprocess.run([program, "--node=n", "--driver=disk.csi"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.partition("error: ")[2]) == (1, 'there is no driver "disk.csi" here\n')


def test_the_kubelet_finds_it(driver: Driver) -> None:
    registry = driver.kubelet / "plugins_registry" / "ossplugin.csi.alibabacloud.com-reg.sock"
    found = Node(registry).call("/pluginregistration.Registration/GetInfo", CLASSES["Nothing"](), "Plugin")
    assert (found.type, found.name) == ("CSIPlugin", "ossplugin.csi.alibabacloud.com")
    assert Path(found.endpoint).is_socket()
    assert list(found.supported_versions) == ["1.0.0"]


def test_the_sanity_check_of_the_csi_project(driver: Driver, tmp_path: Path) -> None:
    socket = driver.kubelet / "plugins" / "ossplugin.csi.alibabacloud.com" / "csi.sock"
    done = subprocess.run(
        [
            str(tool("csi-sanity")),
            f"--csi.endpoint=unix://{socket}",
            f"--csi.mountdir={tmp_path / 'mount'}",
            f"--csi.stagingdir={tmp_path / 'staging'}",
            "--ginkgo.no-color",
            "--ginkgo.focus=Identity Service|Node Service",
            # The one that needs a controller, which creates volumes.
            "--ginkgo.skip=should remove target path",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "10 Passed | 0 Failed" in done.stdout
