"""The model hubs, proven with the hubs' own client libraries. What those would hide, a plain client asks for."""

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, RepoFile, RepoFolder, errors
from modelscope_hub import HubApi
from modelscope_hub.errors import NotExistError, PermissionDeniedError
from safetensors import deserialize

from deepseek_acs.modelmover.checksums import crc64
from local.faults import Fault
from local.hubs.modelhub import ModelHub
from local.hubs.small_model import make_small_model

pytestmark = pytest.mark.integration

REPOSITORY = "deepseek-local/tiny"
FILES = f"/api/v1/models/{REPOSITORY}/repo/files"
SHARD = "model-00001-of-000002.safetensors"
TOKEN = "hub-token"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "HF_TOKEN", "MODELSCOPE_API_TOKEN", "MODELSCOPE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories with the small model; not to be changed."""
    root = tmp_path_factory.mktemp("repositories")
    make_small_model(root / REPOSITORY / "master", experts=3, shards=2)
    return root


@pytest.fixture(scope="module")
def model(root: Path) -> Path:
    return root / REPOSITORY / "master"


@pytest.fixture
def hub(root: Path) -> Iterator[ModelHub]:
    with ModelHub(root) as hub:
        yield hub


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose listing has more than 3,000 entries."""
    root = tmp_path_factory.mktemp("wide")
    for folder, count in (("one", 1500), ("two", 1501)):
        path = root / REPOSITORY / "master" / folder
        path.mkdir(parents=True)
        for number in range(count):
            (path / f"{number}.txt").touch()
    return root


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """The one file, whose change is long past, of a repository of its own in ``tmp_path``."""
    file = tmp_path / REPOSITORY / "master" / "file.safetensors"
    file.parent.mkdir(parents=True)
    write(file, b"before", time=1)
    return file


def write(file: Path, content: bytes, *, time: int) -> None:
    file.write_bytes(content)
    os.utime(file, (time, time))


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def get(url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET") -> Answer:
    """Asks as a client that follows and repairs nothing."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
    finally:
        connection.close()


def modelscope_link(hub: ModelHub, path: str = SHARD, region: str | None = None) -> str:
    headers = {"x-aliyun-region-id": region} if region else {}
    answer = get(f"{hub.url}/api/v1/models/{REPOSITORY}/repo?Revision=master&FilePath={path}", headers)
    assert answer.status == 302
    return answer.headers["location"]


def huggingface_link(hub: ModelHub, path: str = SHARD) -> str:
    answer = get(f"{hub.url}/{REPOSITORY}/resolve/main/{path}")
    assert answer.status == 302
    return answer.headers["location"]


LINKS: list[Callable[[ModelHub], str]] = [modelscope_link, huggingface_link]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_oid(content: bytes) -> str:
    """Git's name of a blob."""
    git = ["git", "hash-object", "--stdin"]
    return subprocess.run(git, input=content, capture_output=True, check=True).stdout.decode().strip()


def tensors_of(shard: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name, and ``dtype``, ``shape`` and ``data``."""
    return deserialize(shard.read_bytes())  # type: ignore[no-untyped-call, no-any-return]


def contents(folder: Path) -> dict[str, bytes]:
    """All files by path, without the book-keeping of clients."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path): (folder / path).read_bytes() for path in paths if path.parts[0] != ".cache"}


class TestSmallModel:
    def test_shards_open_and_match_the_index(self, model: Path) -> None:
        index = json.loads((model / "model.safetensors.index.json").read_bytes())
        total, places = 0, {}
        for shard in model.glob("*.safetensors"):
            for name, tensor in tensors_of(shard):
                places[name] = shard.name
                total += len(tensor["data"])
        assert places == index["weight_map"]
        assert total == index["metadata"]["total_size"]
        assert set(places.values()) == {f"model-0000{n}-of-000002.safetensors" for n in (1, 2)}

    def test_tensors_are_those_of_the_architecture(self, model: Path) -> None:
        config = json.loads((model / "config.json").read_bytes())
        tensors = {
            name: (tensor["dtype"], tuple(tensor["shape"]))
            for shard in model.glob("*.safetensors")
            for name, tensor in tensors_of(shard)
        }
        hidden, latent = config["hidden_size"], config["kv_lora_rank"] + config["qk_rope_head_dim"]
        assert config["architectures"] == ["DeepseekV3ForCausalLM"]
        assert latent == 576, "MLA kernels take no other size"
        assert tensors["model.embed_tokens.weight"] == ("BF16", (config["vocab_size"], hidden))
        assert tensors["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"] == ("BF16", (latent, hidden))
        assert tensors["model.layers.1.mlp.gate.weight"] == ("BF16", (config["n_routed_experts"], hidden))

    def test_tokenizer_fits_the_model(self, model: Path) -> None:
        vocabulary = json.loads((model / "tokenizer.json").read_bytes())["model"]["vocab"]
        assert sorted(vocabulary.values()) == list(range(259)), "all bytes and three special tokens"
        assert len(vocabulary) <= json.loads((model / "config.json").read_bytes())["vocab_size"]

    def test_same_arguments_give_the_same_bytes(self, model: Path, tmp_path: Path) -> None:
        assert contents(make_small_model(tmp_path / "same", experts=3, shards=2)) == contents(model)
        assert len(list(make_small_model(tmp_path / "other", experts=2, shards=3).glob("model-*-of-000003.*"))) == 3

    def test_one_that_exists_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text("mine")
        make_small_model(tmp_path)
        assert (tmp_path / "README.md").read_text() == "mine"
        assert not (tmp_path / "config.json").exists()

    def test_failure_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError("no space left")

        monkeypatch.setattr("local.hubs.small_model._safetensors", full)
        with pytest.raises(OSError, match="no space left"):
            make_small_model(tmp_path / "model")
        assert not list(tmp_path.iterdir())


class TestOfficialClients:
    @pytest.fixture(params=["public", "private"])
    def token(self, request: pytest.FixtureRequest) -> str | None:
        return TOKEN if request.param == "private" else None

    @pytest.fixture
    def hub(self, root: Path, token: str | None) -> Iterator[ModelHub]:
        with ModelHub(root, private={REPOSITORY: token} if token else {}) as hub:
            yield hub

    def test_modelscope_downloads_the_same_bytes(
        self, hub: ModelHub, token: str | None, model: Path, tmp_path: Path
    ) -> None:
        api = HubApi(endpoint=hub.url, token=token)
        api.download_repo(REPOSITORY, "model", local_dir=tmp_path / "local")
        assert contents(tmp_path / "local") == contents(model)
        assert not hub.leaks

    def test_modelscope_lists_sizes_and_hashes(self, hub: ModelHub, token: str | None, model: Path) -> None:
        listed = HubApi(endpoint=hub.url, token=token).list_repo_files(REPOSITORY, "model")
        assert {file.path: (file.size, file.sha256) for file in listed if file.type == "blob"} == {
            path: (len(content), sha256(content)) for path, content in contents(model).items()
        }
        assert [file.path for file in listed if file.type == "tree"] == ["figures"]

    def test_huggingface_downloads_the_same_bytes(
        self, hub: ModelHub, token: str | None, model: Path, tmp_path: Path
    ) -> None:
        api = HfApi(endpoint=hub.url, token=token or False)
        api.snapshot_download(REPOSITORY, cache_dir=tmp_path / "cache", local_dir=tmp_path / "local")
        assert contents(tmp_path / "local") == contents(model)
        assert not hub.leaks

    def test_huggingface_lists_sizes_and_hashes(self, hub: ModelHub, token: str | None, model: Path) -> None:
        api = HfApi(endpoint=hub.url, token=token or False)
        info = api.model_info(REPOSITORY)
        assert info.private is (token is not None)
        tree = {entry.path: entry for entry in api.list_repo_tree(REPOSITORY, recursive=True, revision=info.sha)}
        assert isinstance(tree.pop("figures"), RepoFolder)
        found = contents(model)
        assert tree.keys() == found.keys()
        for path, content in found.items():
            entry = tree[path]
            assert isinstance(entry, RepoFile)
            assert entry.size == len(content)
            if path.endswith((".safetensors", ".bin")):
                assert entry.lfs
                assert (entry.lfs.sha256, entry.lfs.size) == (sha256(content), len(content))
            else:
                assert (entry.lfs, entry.blob_id) == (None, git_oid(content))


class TestClientsAreRefused:
    @pytest.fixture
    def hub(self, root: Path) -> Iterator[ModelHub]:
        with ModelHub(root, private={REPOSITORY: TOKEN}) as hub:
            yield hub

    def test_modelscope(self, hub: ModelHub) -> None:
        with pytest.raises(NotExistError):
            HubApi(endpoint=hub.url).list_repo_files(REPOSITORY, "model")
        with pytest.raises(PermissionDeniedError):
            HubApi(endpoint=hub.url, token="wrong").list_repo_files(REPOSITORY, "model")
        with pytest.raises(NotExistError):
            HubApi(endpoint=hub.url, token=TOKEN).list_repo_files("nobody/nothing", "model")

    @pytest.mark.parametrize("header", [{"Cookie": f"m_session_id={TOKEN}"}, {"Authorization": f"Bearer {TOKEN}"}])
    def test_modelscope_takes_either_form_of_the_token(self, hub: ModelHub, header: dict[str, str]) -> None:
        assert get(f"{hub.url}{FILES}", header).status == 200

    def test_huggingface(self, hub: ModelHub, tmp_path: Path) -> None:
        anonymous, owner = HfApi(endpoint=hub.url, token=False), HfApi(endpoint=hub.url, token=TOKEN)
        with pytest.raises(errors.RepositoryNotFoundError):
            anonymous.model_info(REPOSITORY)
        with pytest.raises(errors.HfHubHTTPError, match="401") as caught:
            HfApi(endpoint=hub.url, token="wrong").model_info(REPOSITORY)
        assert not isinstance(caught.value, errors.RepositoryNotFoundError)
        with pytest.raises(errors.RepositoryNotFoundError):
            owner.model_info("nobody/nothing")
        with pytest.raises(errors.RevisionNotFoundError):
            owner.model_info(REPOSITORY, revision="nothing")
        with pytest.raises(errors.RemoteEntryNotFoundError):
            owner.hf_hub_download(REPOSITORY, "nothing.json", cache_dir=tmp_path)
        with pytest.raises(errors.RemoteEntryNotFoundError):
            list(owner.list_repo_tree(REPOSITORY, "nothing"))


class TestLongListings:
    def test_modelscope_cuts_without_a_word(self, wide: Path) -> None:
        with ModelHub(wide) as hub:
            data = get(f"{hub.url}{FILES}?Recursive=True").json["Data"]
            assert len(data["Files"]) == 3000
            assert data.keys() == {"Files", "IsVisual", "LatestCommitter"}
            found = HubApi(endpoint=hub.url).list_repo_files(REPOSITORY, "model")
        assert sum(file.type == "blob" for file in found) == 3001, "its client asks for each folder then"

    def test_huggingface_goes_on_to_further_pages(self, wide: Path) -> None:
        with ModelHub(wide) as hub:
            first = get(f"{hub.url}/api/models/{REPOSITORY}/tree/main?recursive=true")
            assert len(first.json) == 1000
            following = re.fullmatch(r'<(http://[^>]+)>; rel="next"', first.headers["link"])
            assert following
            assert get(following[1]).json[0] not in first.json
            hub.forget_requests()
            tree = list(HfApi(endpoint=hub.url, token=False).list_repo_tree(REPOSITORY, recursive=True))
            assert len({entry.path for entry in tree}) == len(tree) == 3003
            assert len(hub.requests) == 4


class TestModelScope:
    def test_one_level_is_listed_unless_the_parameter_is_exact(self, hub: ModelHub) -> None:
        for query in ("", "?recursive=True", "?Recursive=true"):
            paths = [entry["Path"] for entry in get(f"{hub.url}{FILES}{query}").json["Data"]["Files"]]
            assert "figures" in paths
            assert "figures/benchmark.jpg" not in paths
        paths = [entry["Path"] for entry in get(f"{hub.url}{FILES}?Recursive=True").json["Data"]["Files"]]
        assert "figures/benchmark.jpg" in paths

    def test_one_folder_is_listed(self, hub: ModelHub) -> None:
        (entry,) = get(f"{hub.url}{FILES}?Root=figures").json["Data"]["Files"]
        assert (entry["Path"], entry["Name"]) == ("figures/benchmark.jpg", "benchmark.jpg")
        assert get(f"{hub.url}{FILES}?Root=nothing").status == 404

    def test_unknown_revision_raises_nothing(self, hub: ModelHub) -> None:
        answer = get(f"{hub.url}{FILES}?Revision=main&Recursive=True")
        assert answer.status == 200
        assert answer.json["Success"] is True
        assert answer.json["Data"] == {"Files": None, "IsVisual": 0, "LatestCommitter": None}

    def test_branch_can_be_pinned_to_its_commit(self, hub: ModelHub) -> None:
        branch = get(f"{hub.url}{FILES}?Revision=master&Recursive=True").json["Data"]
        revisions = {entry["Revision"] for entry in branch["Files"]}
        assert branch["LatestCommitter"]["Id"] == ""
        (commit,) = (name for name in revisions if name.startswith(branch["LatestCommitter"]["ShortId"]))
        assert len(revisions) == 2, "some files are of an older commit"
        assert get(f"{hub.url}{FILES}?Revision={commit}&Recursive=True").json["Data"] == branch
        repo = f"{hub.url}/api/v1/models/{REPOSITORY}/repo"
        assert get(f"{repo}?Revision={commit}&FilePath=LICENSE").status == 200
        older = (revisions - {commit}).pop()
        assert get(f"{repo}?Revision={older}&FilePath=LICENSE").status == 404

    def test_branches(self, hub: ModelHub) -> None:
        revisions = HubApi(endpoint=hub.url).list_repo_revisions(REPOSITORY, "model")
        assert [revision["Revision"] for revision in revisions] == ["master"]

    def test_small_file_is_served_directly_and_whole(self, hub: ModelHub, model: Path) -> None:
        url = f"{hub.url}/api/v1/models/{REPOSITORY}/repo?Revision=master&FilePath=figures%2Fbenchmark.jpg"
        answer = get(url, {"Range": "bytes=5-9"})
        content = (model / "figures/benchmark.jpg").read_bytes()
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["x-linked-etag"] == f'"{sha256(content)}"'
        assert "accept-ranges" not in answer.headers

    @pytest.mark.parametrize("path", ["nothing", "../../tiny/master/LICENSE", "figures", ""])
    def test_only_listed_files_are_served(self, hub: ModelHub, path: str) -> None:
        answer = get(f"{hub.url}/api/v1/models/{REPOSITORY}/repo?Revision=master&FilePath={path}")
        assert (answer.status, answer.json["Success"], answer.json["Code"]) == (404, False, 10990101007)

    def test_region_decides_about_the_internal_address(self, hub: ModelHub) -> None:
        def kind(region: str | None) -> str:
            return urlsplit(modelscope_link(hub, region=region)).path.split("/")[1]

        assert kind(None) == "cdn"
        assert kind("cn-shanghai") == "cdn"
        assert kind("cn-hangzhou") == "cdn-internal"
        assert get(modelscope_link(hub, region="cn-hangzhou")).status == 200

    def test_client_finds_its_region(self, hub: ModelHub) -> None:
        data = get(f"{hub.url}/api/v1/repos/internalAccelerationInfo").json["Data"]
        assert get(data["InternalRegionQueryAddress"]).body == b"cn-hangzhou"

    def test_hub_without_a_region(self, root: Path) -> None:
        with ModelHub(root, region=None) as hub:
            assert get(f"{hub.url}/api/v1/repos/internalAccelerationInfo").json["Data"] == {}
            assert "/cdn/" in modelscope_link(hub, region="cn-hangzhou")

    @pytest.mark.parametrize(("region", "host"), [("cn-hangzhou", "cdn-internal"), ("cn-beijing", "cdn")])
    def test_official_client_goes_where_its_region_is(
        self, hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: str, host: str
    ) -> None:
        monkeypatch.setenv("MODELSCOPE_DOWNLOAD_INTRA_CLOUD_REGION", region)
        HubApi(endpoint=hub.url).download_file(REPOSITORY, "model", "pytorch_model.bin", local_dir=tmp_path / "local")
        assert [r.path.split("/")[1] for r in hub.requests if r.path.startswith("/cdn")] == [host]


class TestHuggingFace:
    def test_large_file_is_redirected(self, hub: ModelHub, model: Path) -> None:
        for method in ("GET", "HEAD"):
            answer = get(f"{hub.url}/{REPOSITORY}/resolve/main/{SHARD}", method=method)
            content = (model / SHARD).read_bytes()
            assert (answer.status, answer.body) == (302, b"")
            assert answer.headers["x-linked-etag"] == f'"{sha256(content)}"'
            assert answer.headers["x-linked-size"] == str(len(content))
            assert re.fullmatch("[0-9a-f]{40}", answer.headers["x-repo-commit"])

    def test_small_file_is_on_the_same_host_and_whole(self, hub: ModelHub, model: Path) -> None:
        answer = get(f"{hub.url}/{REPOSITORY}/resolve/main/config.json")
        assert answer.status == 307
        assert answer.headers["location"].startswith("/api/resolve-cache/models/")
        commit = answer.headers["x-repo-commit"]
        answer = get(f"{hub.url}{answer.headers['location']}", {"Range": "bytes=5-9"})
        content = (model / "config.json").read_bytes()
        assert (answer.status, answer.body, answer.headers["x-repo-commit"]) == (200, content, commit)
        assert answer.headers["etag"] == f'"{git_oid(content)}"'

    def test_rate_limit(self, hub: ModelHub) -> None:
        hub.faults.add(Fault(action="answer", status=429, code="TooManyRequests", retry_after=7, path="/resolve/"))
        url = f"{hub.url}/{REPOSITORY}/resolve/main/{SHARD}"
        answer = get(url)
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert answer.headers["x-error-code"] == "TooManyRequests"
        assert get(url).status == 302

    def test_entity_tag_of_the_content_server_is_not_the_hash(self, hub: ModelHub, model: Path) -> None:
        headers = get(huggingface_link(hub)).headers
        assert re.fullmatch('"[0-9a-f]{64}"', headers["etag"])
        assert sha256((model / SHARD).read_bytes()) not in headers["etag"]
        assert "x-linked-etag" not in headers

    @pytest.mark.parametrize("path", ["/nothing", "/api/nothing", "/api/models/one-word"])
    def test_other_paths(self, hub: ModelHub, path: str) -> None:
        assert get(f"{hub.url}{path}").status == 404


class TestContentServer:
    @pytest.mark.parametrize("link", LINKS)
    def test_is_another_host(self, hub: ModelHub, link: Callable[[ModelHub], str]) -> None:
        assert urlsplit(hub.url).hostname == "127.0.0.1"
        assert urlsplit(link(hub)).hostname == "localhost"
        answer = get(f"{hub.url}/{REPOSITORY}/resolve/main/{SHARD}", {"Host": "localhost:1"})
        assert answer.headers["location"].startswith("http://127.0.0.1:1/")

    @pytest.mark.parametrize("link", LINKS)
    def test_ranges(self, hub: ModelHub, model: Path, link: Callable[[ModelHub], str]) -> None:
        url, content = link(hub), (model / SHARD).read_bytes()
        assert get(url).body == content
        answer = get(url, {"Range": "bytes=1000-1999"})
        assert (answer.status, answer.body) == (206, content[1000:2000])
        assert answer.headers["content-range"] == f"bytes 1000-1999/{len(content)}"
        assert get(url, {"Range": f"bytes={len(content)}-"}).status == 416
        assert get(url, method="HEAD").headers["content-length"] == str(len(content))

    def test_checksum_is_that_of_the_whole_object(self, hub: ModelHub, model: Path, root: Path) -> None:
        answer = get(modelscope_link(hub), {"Range": "bytes=0-9"})
        assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64((model / SHARD).read_bytes()))
        assert answer.headers["x-linked-etag"] == f'"{sha256((model / SHARD).read_bytes())}"'
        with ModelHub(root, cdn_crc64=False) as hub:
            assert "x-oss-hash-crc64ecma" not in get(modelscope_link(hub)).headers

    @pytest.mark.parametrize("link", LINKS)
    def test_address_expires(self, root: Path, link: Callable[[ModelHub], str]) -> None:
        with ModelHub(root, link_seconds=0) as hub:
            answer = get(link(hub))
        assert answer.status == 403
        assert b"<Code>AccessDenied</Code><Message>Request has expired.</Message>" in answer.body

    def test_addresses_are_made_to_expire(self, hub: ModelHub) -> None:
        former = modelscope_link(hub)
        assert get(former).status == 200
        hub.expire_links()
        assert get(former).status == 403
        assert get(modelscope_link(hub)).status == 200

    @pytest.mark.parametrize(
        ("pattern", "other"),
        [
            (r"Expires=\d+", "Expires=9999999999"),
            (r"Expires=\d+", "Expires=never"),
            (r"Signature=..", "Signature=zz"),
            (r"model-00001", "model-00002"),
            (r"\?.*", ""),
        ],
    )
    def test_address_that_was_changed_is_refused(self, hub: ModelHub, pattern: str, other: str) -> None:
        url = re.sub(pattern, other, modelscope_link(hub))
        assert get(url).status == 403

    @pytest.mark.parametrize("link", LINKS)
    @pytest.mark.parametrize("header", [{"Authorization": "Bearer x"}, {"Cookie": "m_session_id=x"}])
    def test_credentials_of_the_hub_are_refused_and_noted(
        self, hub: ModelHub, header: dict[str, str], link: Callable[[ModelHub], str]
    ) -> None:
        url = link(hub)
        assert not hub.leaks
        assert get(url, header).status == 400
        assert hub.leaks == [urlsplit(url).path]

    def test_faults_are_in_the_format_of_whom_is_asked(self, hub: ModelHub) -> None:
        url = modelscope_link(hub)
        hub.faults.add(Fault(action="answer", status=503, times=None))
        assert get(url).body.startswith(b"<Error><Code>ServiceUnavailable</Code>")
        answer = get(f"{hub.url}{FILES}")
        assert (answer.status, answer.json["Code"], answer.json["Success"]) == (503, 503, False)
        assert get(f"{hub.url}/api/models/{REPOSITORY}").headers["x-error-code"] == "ServiceUnavailable"

    def test_signature_is_not_logged(self, hub: ModelHub) -> None:
        get(modelscope_link(hub))
        assert hub.requests[-1].query["Signature"] == "***"


def listed(hub: ModelHub) -> tuple[str, str]:
    """Commit and SHA-256 of the one file."""
    data = get(f"{hub.url}{FILES}?Revision=master").json["Data"]
    return data["Files"][0]["Revision"], data["Files"][0]["Sha256"]


class TestHashes:
    def test_are_kept_next_to_the_branch(self, tmp_path: Path, text: Path) -> None:
        with ModelHub(tmp_path) as hub:
            assert listed(hub)[1] == sha256(b"before")
        kept = text.parent.with_name("master.hashes.json")
        kept.write_text(kept.read_text().replace(sha256(b"before"), "0" * 64))
        with ModelHub(tmp_path) as hub:
            assert listed(hub)[1] == "0" * 64, "they are not computed again"
            write(text, b"AFTER!", time=2)
            assert listed(hub)[1] == sha256(b"AFTER!")

    def test_change_within_the_resolution_of_the_clock_is_seen(self, tmp_path: Path, text: Path) -> None:
        with ModelHub(tmp_path) as hub:
            text.write_bytes(b"one")
            time = text.stat().st_mtime_ns
            assert listed(hub)[1] == sha256(b"one")
            text.write_bytes(b"two")
            os.utime(text, ns=(time, time))
            assert listed(hub)[1] == sha256(b"two")

    def test_changed_branch_is_another_commit_and_the_former_is_forgotten(self, tmp_path: Path, text: Path) -> None:
        with ModelHub(tmp_path) as hub:
            former, _ = listed(hub)
            write(text, b"after", time=2)
            assert listed(hub)[0] != former
            assert get(f"{hub.url}{FILES}?Revision={former}").json["Data"]["Files"] is None
            assert get(f"{hub.url}/api/models/{REPOSITORY}/revision/{former}").status == 404

    def test_frozen_listing_does_not_see_that_a_file_is_damaged(self, tmp_path: Path, text: Path) -> None:
        with ModelHub(tmp_path) as hub:
            before = listed(hub)
            hub.freeze_listing()
            write(text, b"beford", time=2)
            assert listed(hub) == before
            answer = get(modelscope_link(hub, text.name))
            assert answer.body == b"beford"
            assert answer.headers["x-linked-etag"] == f'"{sha256(b"before")}"'
            assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64(b"beford")), "of what the store has"

    def test_stale_size_is_listed_on_demand(self, tmp_path: Path, text: Path) -> None:
        with ModelHub(tmp_path) as hub:
            hub.faults.add(
                Fault(action="stale-size", offset=1, path="/files"), Fault(action="stale-size", offset=1, path="/tree")
            )
            assert get(f"{hub.url}{FILES}").json["Data"]["Files"][0]["Size"] == 7
            tree = get(f"{hub.url}/api/models/{REPOSITORY}/tree/main").json
            assert (tree[0]["size"], tree[0]["lfs"]["size"]) == (7, 7)

    def test_branches_are_apart(self, tmp_path: Path, text: Path) -> None:
        other = tmp_path / REPOSITORY / "v2" / "file.safetensors"
        other.parent.mkdir()
        other.write_bytes(b"other")
        with ModelHub(tmp_path) as hub:
            for revision, content in (("main", b"before"), ("v2", b"other")):
                link = get(f"{hub.url}/{REPOSITORY}/resolve/{revision}/{text.name}").headers["location"]
                assert get(link).body == content


class TestProcess:
    def test_serves_the_small_model_until_it_is_terminated(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "local.hubs", "--data", str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert get(f"{url}/-/health").status == 200
            files = get(f"{url}/api/v1/models/deepseek-local/DeepSeek-R1-tiny/repo/files").json["Data"]["Files"]
            assert "config.json" in {file["Path"] for file in files}
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0

    def test_port_in_use(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from local.hubs.__main__ import main

        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            monkeypatch.setattr(sys, "argv", ["local.hubs", "--port", str(port), "--data", str(tmp_path)])
            assert main() == 1
        assert capsys.readouterr().err == f"error: cannot serve at 127.0.0.1:{port}: Address already in use\n"
