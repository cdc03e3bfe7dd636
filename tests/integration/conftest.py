"""Servers that play the hubs and OSS, and the mover between them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deepseek_acs.modelmover.checksums import crc64
from deepseek_acs.modelmover.files import Filter
from deepseek_acs.modelmover.manifest import Manifest
from deepseek_acs.modelmover.mover import Result, copy
from deepseek_acs.modelmover.oss.client import Bucket
from deepseek_acs.modelmover.oss.credentials import Credentials
from deepseek_acs.modelmover.retry import Backoff
from deepseek_acs.modelmover.sources import Source
from deepseek_acs.modelmover.sources.huggingface import HuggingFace
from deepseek_acs.modelmover.sources.modelscope import ModelScope
from deepseek_acs.modelmover.transfer import Options
from local.hubs.modelhub import ModelHub
from local.hubs.small_model import make_small_model
from local.oss.access import AccessKey
from local.oss.server import OssServer

BUCKET = "models-0"
PREFIX = "models/tiny"
REPOSITORY = "deepseek-local/tiny"
KEY_ID, KEY_SECRET = "LTAI-test", "hidden-secret"
REGION = "cn-hangzhou"

PART_SIZE = 512 * 2**10
OPTIONS = Options(streams=3, uploads=3, part_size=PART_SIZE)
SMALL = Filter(code=True)

SERVING = {
    "LICENSE",
    "config.json",
    "configuration_deepseek.py",
    "generation_config.json",
    "model.safetensors.index.json",
    "modeling_deepseek.py",
    "tokenizer.json",
    "tokenizer_config.json",
    *(f"model-{n:05}-of-000003.safetensors" for n in (1, 2, 3)),
}
"""Files of the small model that are moved by default."""


def backoff(attempts: int = 6) -> Backoff:
    """Without waits: nothing here needs time to pass."""
    return Backoff(attempts=attempts, base_seconds=0)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 10 MiB in three shards; not to be changed."""
    return make_small_model(tmp_path_factory.mktemp("hub") / "small", experts=3, shards=3)


@pytest.fixture
def private() -> dict[str, str]:
    """Tokens of private repositories, for a test to fill."""
    return {}


@pytest.fixture
def hub(model: Path, tmp_path: Path, private: dict[str, str]) -> Iterator[ModelHub]:
    """A hub with the small model; a test may change its copy."""
    folder = tmp_path / "hub" / REPOSITORY / "master"
    folder.mkdir(parents=True)
    for path in model.rglob("*"):
        target = folder / path.relative_to(model)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(path.read_bytes())
    with ModelHub(tmp_path / "hub", private=private) as server:
        yield server


@pytest.fixture
def oss(tmp_path: Path) -> Iterator[OssServer]:
    """An empty bucket and the account's own key."""
    with OssServer(data=tmp_path / "oss", region=REGION) as server:
        server.access_keys.put(KEY_ID, AccessKey(secret=KEY_SECRET, policies=None))
        bucket_of(server)._send("PUT", "").read()
        yield server


def bucket_of(oss: OssServer, *, key_id: str = KEY_ID, secret: str = KEY_SECRET, attempts: int = 6) -> Bucket:
    credentials = Credentials(key_id=key_id, key_secret=secret)
    return Bucket(BUCKET, endpoint=oss.url, region=REGION, credentials=lambda: credentials, backoff=backoff(attempts))


@dataclass
class World:
    """Both servers, and what a test does with them."""

    hub: ModelHub
    oss: OssServer
    model: Path
    hub_root: Path
    private: dict[str, str]

    @property
    def bucket(self) -> Bucket:
        return bucket_of(self.oss)

    def modelscope(self) -> ModelScope:
        return ModelScope(REPOSITORY, endpoint=self.hub.url)

    def huggingface(self) -> HuggingFace:
        return HuggingFace(REPOSITORY, endpoint=self.hub.url)

    def copy(
        self,
        source: Source | None = None,
        *,
        bucket: Bucket | None = None,
        attempts: int = 6,
        chosen: Filter = SMALL,
        full: bool = False,
        pinned: str | None = None,
    ) -> Result:
        return copy(
            source or self.modelscope(),
            bucket or bucket_of(self.oss, attempts=attempts),
            PREFIX,
            chosen=chosen,
            options=OPTIONS,
            backoff=backoff(attempts),
            full=full,
            pinned=pinned,
        )

    def content(self, path: str) -> bytes | None:
        """What stands under the final name of ``path``."""
        return self.bucket.get(f"{PREFIX}/{path}")

    def assert_moved(self, manifest: Manifest) -> None:
        """Everything is in the bucket as it is at the source, and nothing else is."""
        assert manifest.files.keys() == SERVING
        for path, entry in manifest.files.items():
            expected = (self.model / path).read_bytes()
            assert self.content(path) == expected, path
            assert (entry.size, entry.crc64) == (len(expected), crc64(expected))
        assert set(self.bucket.list_sizes("")) == {
            *(f"{PREFIX}/{path}" for path in SERVING),
            f".modelmover/{PREFIX}/manifest.json",
        }
        assert not list(self.bucket.list_uploads(""))

    def hub_file(self, path: str) -> Path:
        """The hub's own copy of a file, to be changed."""
        return self.hub_root / REPOSITORY / "master" / path

    def acknowledged_parts(self) -> set[tuple[str, str]]:
        """Object and number of each part that the bucket has accepted."""
        return {
            (r.path, r.query["partNumber"])
            for r in self.oss.requests
            if r.method == "PUT" and "partNumber" in r.query and r.status == 200
        }

    def sent_bytes(self) -> int:
        """Bytes of bodies under the prefix that the bucket has received."""
        return sum(r.bytes_in for r in self.oss.requests if r.method == "PUT" and f"/{BUCKET}/{PREFIX}" in r.path)

    def fetched_bytes(self) -> int:
        """Bytes of files that the hub has sent."""
        return sum(r.bytes_out for r in self.hub.requests if "/cdn" in r.path)


@pytest.fixture
def world(hub: ModelHub, oss: OssServer, model: Path, tmp_path: Path, private: dict[str, str]) -> World:
    return World(hub, oss, model, tmp_path / "hub", private)


SourceOf = Callable[[World], Source]
