"""Listings: longer than a page, without the hash of a file, and from somewhere else."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from deepseek_acs.modelmover.errors import DataError
from deepseek_acs.modelmover.files import Filter
from deepseek_acs.modelmover.oss.client import Part
from deepseek_acs.modelmover.sources import Source
from deepseek_acs.modelmover.sources.huggingface import HuggingFace
from deepseek_acs.modelmover.sources.modelscope import ModelScope
from local.http_service import Request, Response, Service
from local.hubs.modelhub import ModelHub
from tests.integration.conftest import REPOSITORY, World

pytestmark = pytest.mark.integration

NAMES = [f"many/a b+ü%/{n}" for n in range(5)]
HUBS = pytest.mark.parametrize("source", [ModelScope, HuggingFace])


class TestPagesOfOss:
    @pytest.fixture(autouse=True)
    def short_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deepseek_acs.modelmover.oss.client.PAGE", "2")

    def test_objects(self, world: World) -> None:
        for size, name in enumerate(NAMES):
            world.bucket.put(name, bytes(size))
        world.bucket.put("other", b"")
        assert world.bucket.list_sizes("many/") == {name: size for size, name in enumerate(NAMES)}

    def test_parts(self, world: World) -> None:
        upload_id = world.bucket.initiate(NAMES[0], metadata={})
        (upload,) = world.bucket.list_uploads("")
        assert (upload.key, upload.id) == (NAMES[0], upload_id)
        # At least 100 KiB each, but for the last.
        sent: list[Part] = [world.bucket.upload_part(upload, n, memoryview(bytes([n]) * 102400)) for n in range(1, 6)]
        assert world.bucket.list_parts(upload) == sent

    def test_uploads(self, world: World) -> None:
        begun = {(name, world.bucket.initiate(name, metadata={})) for name in [*NAMES, *NAMES]}
        found = [(upload.key, upload.id) for upload in world.bucket.list_uploads("many/")]
        assert len(found) == 10
        assert set(found) == begun


class TestPagesOfHubs:
    @pytest.fixture(autouse=True)
    def deep_folder(self, world: World) -> None:
        for name in (f"deep/{folder}/{n}.json" for folder in "ab" for n in range(10)):
            path = world.hub_file(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def test_modelscope(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = world.modelscope().list_files()
        limit(monkeypatch, 20)
        world.hub.forget_requests()
        assert sorted(world.modelscope().list_files(), key=str) == sorted(whole, key=str)
        roots = [request.query.get("Root") for request in world.hub.requests]
        assert {"deep", "deep/a", "deep/b"} <= set(roots), "a listing that is cut is not taken for a whole one"

    def test_modelscope_with_a_folder_that_it_never_lists_as_a_whole(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit(monkeypatch, 10)
        with pytest.raises(DataError, match="does not list all of a folder with 10 entries or more"):
            world.modelscope().list_files()

    def test_huggingface(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = world.huggingface().list_files()
        monkeypatch.setattr("local.hubs.huggingface.PAGE_ENTRIES", 7)
        world.hub.forget_requests()
        assert world.huggingface().list_files() == whole
        assert len([request for request in world.hub.requests if "cursor" in request.query]) >= 5


def limit(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    for module in ("deepseek_acs.modelmover.sources.modelscope", "local.hubs.modelscope"):
        monkeypatch.setattr(f"{module}.LISTING_LIMIT", entries)


def no_sha256(entry: dict[str, Any]) -> None:
    del entry["Sha256"]


def empty_sha256(entry: dict[str, Any]) -> None:
    entry["Sha256"] = None


def no_oid(entry: dict[str, Any]) -> None:
    entry.pop("oid")
    entry.get("lfs", {}).pop("oid", None)


@pytest.mark.parametrize("path", ["config.json", "model-00001-of-000003.safetensors"])
@pytest.mark.parametrize(
    ("source", "change"), [(ModelScope, no_sha256), (ModelScope, empty_sha256), (HuggingFace, no_oid)]
)
def test_hash_is_needed_of_what_is_moved_alone(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    source: type[ModelScope | HuggingFace],
    change: Callable[[dict[str, Any]], None],
    path: str,
) -> None:
    module = importlib.import_module(f"local.hubs.{source.__name__.lower()}")
    entry = module._entry

    def changed(listed: str, *arguments: Any) -> dict[str, Any]:
        found: dict[str, Any] = entry(listed, *arguments)
        if listed == path:
            change(found)
        return found

    monkeypatch.setattr(module, "_entry", changed)
    files = source(REPOSITORY, endpoint=world.hub.url).list_files()
    with pytest.raises(DataError, match=f"the listing has no usable hash of {path}"):
        Filter().select(files)
    assert path not in {file.path for file in Filter(exclude=(path,)).select(files)}


@HUBS
def test_listing_that_is_none_is_reported(world: World, source: type[ModelScope | HuggingFace]) -> None:
    class Other(Service):
        def handle(self, request: Request) -> Response:
            return Response.json({"Success": True, "sha": "0" * 40, "Data": {"Files": [{"Type": "blob"}]}})

    with Other() as server, pytest.raises(DataError, match=f"{server.url} does not answer like "):
        source(REPOSITORY, endpoint=server.url).list_files()


class Moved(ModelHub):
    """Redirects requests for the repository by its former name; to ``place`` if there is one."""

    place = ""

    def handle(self, request: Request) -> Response:
        if "former/name" not in request.path:
            return super().handle(request)
        location = f"{self.place}{request.target.replace('former/name', REPOSITORY)}"
        return Response(status=307, headers={"Location": location})


@HUBS
def test_repository_that_was_renamed_is_found(world: World, source: type[ModelScope | HuggingFace]) -> None:
    with Moved(world.hub_root) as server:
        listed: Source = source("former/name", endpoint=server.url)
        assert listed.list_files() == source(REPOSITORY, endpoint=server.url).list_files()


@HUBS
def test_hub_that_sends_its_clients_elsewhere_is_not_followed(
    world: World, source: type[ModelScope | HuggingFace]
) -> None:
    """The token is for the hub that was named."""
    with Moved(world.hub_root) as server:
        server.place = world.hub.url
        with pytest.raises(DataError, match=rf"sends its clients on to {world.hub.url}/\S+; use that as the endpoint"):
            source("former/name", endpoint=server.url, token="hub-token").list_files()
    assert not world.hub.requests
