"""Which files are moved, and when a model is whole."""

import json

import pytest

from modelmover.errors import DataError
from modelmover.files import Filter, SourceFile, require_every_shard

DIGEST = f"sha256:{'0' * 64}"


def files(*paths: str) -> list[SourceFile]:
    return [SourceFile(path=path, size=len(path), digest=DIGEST) for path in paths]


def selected(chosen: Filter, *paths: str) -> list[str]:
    return sorted(file.path for file in chosen.select(files(*paths)))


SHARDS = tuple(f"model-{n:05}-of-00003.safetensors" for n in (1, 2, 3))
SERVING = (
    "LICENSE",
    "config.json",
    "configuration_deepseek.py",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    *SHARDS,
)


class TestFilter:
    def test_what_serving_needs_is_taken_and_nothing_else(self) -> None:
        others = (".gitattributes", ".git/config", ".git/lfs/objects/ab/cd/abcd", "README.md", "figures/benchmark.jpg")
        duplicates = ("pytorch_model.bin", "original/consolidated.00.pth", "consolidated.safetensors", "m.gguf")
        assert selected(Filter(), *SERVING, *others, *duplicates) == sorted(SERVING)

    def test_other_formats_are_taken_where_there_are_no_safetensors(self) -> None:
        assert selected(Filter(), "config.json", "pytorch_model.bin", "README.md") == [
            "config.json",
            "pytorch_model.bin",
        ]

    def test_own_patterns_take_the_place_of_the_defaults(self) -> None:
        paths = (*SHARDS, "README.md", "pytorch_model.bin", "config.json")
        assert selected(Filter(include=("*.bin", "*.json")), *paths) == ["config.json", "pytorch_model.bin"]
        assert selected(Filter(exclude=("*.safetensors",)), *paths) == ["README.md", "config.json", "pytorch_model.bin"]
        assert selected(Filter(include=("model*",), exclude=("*-00002-*",)), *paths) == [SHARDS[0], SHARDS[2]]

    def test_git_is_never_taken(self) -> None:
        paths = (".git/config", "sub/.git/config", ".gitattributes", "config.json")
        assert selected(Filter(include=("*",)), *paths) == ["config.json"]

    def test_largest_come_first(self) -> None:
        listed = [SourceFile(path=str(size), size=size, digest=DIGEST) for size in (1, 3, 2)]
        assert [file.size for file in Filter().select(listed)] == [3, 2, 1]


class TestListing:
    @pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a\nb", "a\\b"])
    def test_path_that_leads_elsewhere_is_refused(self, path: str) -> None:
        with pytest.raises(DataError, match="unusable path"):
            files(path)

    @pytest.mark.parametrize("digest", ["", "sha256:", "sha256:xyz", "md5:00", DIGEST.upper()])
    def test_file_without_a_usable_hash_is_refused(self, digest: str) -> None:
        listed = SourceFile(path="m", size=1, digest=digest)
        with pytest.raises(DataError, match="no usable hash of m"):
            Filter().select([listed])
        assert Filter(exclude=("m",)).select([listed]) == [], "nobody asked for it"


def index(*names: str) -> bytes:
    return json.dumps({"weight_map": {f"w{i}": name for i, name in enumerate(names)}}).encode()


class TestShards:
    def test_whole_model_is_whole(self) -> None:
        require_every_shard(files(*SERVING), index(*SHARDS))
        require_every_shard(files("config.json", "model.safetensors"), None)

    def test_names_tell_what_is_missing(self) -> None:
        with pytest.raises(DataError, match=r"not whole: model-00002-of-00003\.safetensors missing"):
            require_every_shard(files(SHARDS[0], SHARDS[2]), None)

    def test_widths_of_the_two_numbers_may_differ(self) -> None:
        with pytest.raises(DataError, match=r"not whole: model-00002-of-000002\.safetensors missing"):
            require_every_shard(files("model-00001-of-000002.safetensors"), None)

    def test_index_tells_what_is_missing(self) -> None:
        with pytest.raises(DataError, match=r"a, b, c and 1 more missing .* include and exclude"):
            require_every_shard(files("config.json"), index("a", "b", "c", "d"))

    @pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"weight_map": 1}'])
    def test_index_that_is_none(self, content: bytes) -> None:
        with pytest.raises(DataError, match="not an index of safetensors"):
            require_every_shard([], content)
