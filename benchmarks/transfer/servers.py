"""A model hub and an OSS server as processes of their own, and a model of incompressible files in memory."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import alibabacloud_oss_v2 as oss

RCLONE = str(Path(sys.executable).with_name("rclone"))
REPOSITORY = "benchmark/model"
BUCKET = "benchmark"
REGION = "cn-hangzhou"
KEY_ID, KEY_SECRET = "benchmark", "benchmark-secret"
FILE_BYTES = 2**30
CHUNK_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Their addresses, and the model's folder and large files."""

    hub: str
    oss: str
    s3: str
    folder: Path
    files: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the large files."""
        return len(self.files) * FILE_BYTES

    def client(self) -> Any:
        """The official SDK's client."""
        config = oss.config.load_default()
        config.region, config.endpoint = REGION, self.oss
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(KEY_ID, KEY_SECRET)
        return oss.Client(config)

    def file_url(self, name: str) -> str:
        """Where the hub serves a file, by way of its redirect."""
        return f"{self.hub}/api/v1/models/{REPOSITORY}/repo?Revision=master&FilePath={name}"


@contextmanager
def running(folder: Path, gib: int) -> Iterator[Servers]:
    """Both servers, with a model of ``gib`` GiB in ``folder``. The OSS server keeps sizes and checksums, no bytes: what
    is measured is the way there, and not the disk of this machine. rclone has no backend for OSS, and its S3 is not
    what the OSS server speaks; it gets a server of its own, which writes into memory."""
    model, s3_folder = folder / "hub" / REPOSITORY / "master", folder / "s3"
    files = _make_model(model, gib)
    (s3_folder / BUCKET).mkdir(parents=True)
    with (
        _process(sys.executable, "-m", "local.hubs", "--port=0", f"--data={folder / 'hub'}") as hub,
        _process(sys.executable, "-m", "local.oss", "--port=0") as oss_url,
        _rclone_server(s3_folder) as s3,
    ):
        key = json.dumps({"secret": KEY_SECRET, "policies": None}).encode()
        _ask(Request(f"{oss_url}/-/access-keys/{KEY_ID}", method="PUT", data=key))
        servers = Servers(hub=hub, oss=oss_url, s3=s3, folder=model, files=files)
        servers.client().put_bucket(oss.PutBucketRequest(bucket=BUCKET))
        # The hub hashes its files when it is first asked for them, as real ones did long ago.
        _ask(Request(f"{hub}/api/v1/models/{REPOSITORY}/repo/files?Revision=master&Recursive=True"))
        yield servers


def _make_model(folder: Path, gib: int) -> tuple[str, ...]:
    folder.mkdir(parents=True)
    names = tuple(f"model-{number:05}-of-{gib:05}.safetensors" for number in range(1, gib + 1))
    for name in names:
        with (folder / name).open("wb") as file:
            for _ in range(FILE_BYTES // CHUNK_BYTES):
                file.write(os.urandom(CHUNK_BYTES))
    (folder / "config.json").write_text("{}")
    return names


@contextmanager
def _process(*command: str) -> Iterator[str]:
    """The first line that the process prints."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


@contextmanager
def _rclone_server(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [RCLONE, "serve", "s3", f"--addr={address}", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while socket.socket().connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))):
                time.sleep(0.1)
            yield f"http://{address}"
        finally:
            process.terminate()


def _ask(request: Request) -> None:
    with urlopen(request) as response:
        response.read()
