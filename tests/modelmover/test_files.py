"""Which files are moved, and when a model is whole."""

import json
from typing import Any

import pytest

from deepseek_acs.modelmover.errors import DataError
from deepseek_acs.modelmover.files import MAX_FILE_BYTES, Filter, SourceFile, require_every_shard

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
        left_overs = ("._____temp/model-00001-of-000003.safetensors", "config.json.incomplete", f"{SHARDS[0]}.aria2")
        others = (
            *left_overs,
            ".gitattributes",
            ".git/config",
            ".git/lfs/objects/ab/cd/abcd",
            "README.md",
            "figures/benchmark.jpg",
        )
        duplicates = ("pytorch_model.bin", "original/consolidated.00.pth", "consolidated.safetensors", "m.gguf")
        found = selected(Filter(), *SERVING, *others, *duplicates, "pytorch_model.bin.index.json")
        assert found == sorted(set(SERVING) - {"configuration_deepseek.py"})
        assert selected(Filter(code=True), *SERVING, *others, *duplicates) == sorted(SERVING)

    @pytest.mark.parametrize("weights", ["x.safetensors", "sub/model.safetensors", "consolidated.safetensors"])
    def test_safetensors_of_any_name_are_the_weights(self, weights: str) -> None:
        assert selected(Filter(pickles=True), weights, "pytorch_model.bin") == [weights]

    @pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.PT", "a/b.pkl", "m.joblib", "x.ckpt", "y.pth"])
    def test_pickles_are_taken_only_if_they_are_allowed(self, pickle: str) -> None:
        with pytest.raises(DataError, match=r"no safetensors, but \S+, which may be a pickle .* --allow-pickle"):
            selected(Filter(), "config.json", pickle)
        assert selected(Filter(pickles=True), "config.json", pickle) == sorted(["config.json", pickle])
        with pytest.raises(DataError, match=r"may be a pickle.* exclude it, or allow such files by --allow-pickle"):
            selected(Filter(include=("*",)), *SHARDS, pickle)
        assert selected(Filter(include=("*",), pickles=True), *SHARDS, pickle) == sorted([*SHARDS, pickle])

    def test_model_without_weights_is_refused(self) -> None:
        with pytest.raises(DataError, match=r"none of the 2 files is in the safetensors format; .* by --include"):
            selected(Filter(), "config.json", "m.gguf")

    def test_own_patterns_take_the_place_of_the_defaults(self) -> None:
        paths = (*SHARDS, "README.md", "modeling.py", "config.json")
        assert selected(Filter(include=("*.md", "*.json")), *paths) == ["README.md", "config.json"]
        assert selected(Filter(include=("*.py",)), *paths) == ["modeling.py"]
        assert selected(Filter(exclude=("*-00002-*",)), *paths) == ["config.json", SHARDS[0], SHARDS[2]]
        assert selected(Filter(include=("model-*",), exclude=("*-00002-*",)), *paths) == [SHARDS[0], SHARDS[2]]

    def test_git_libraries_and_scripts_are_never_taken(self) -> None:
        paths = (".git/config", "sub/.git/config", ".gitattributes", "config.json")
        scripts = ("setup.sh", "x.so", "lib/x.SO", "a.so.1", "b.dll", "c.exe", "d.pyc")
        assert selected(Filter(include=("*",)), *paths, *scripts) == ["config.json"]

    def test_largest_come_first(self) -> None:
        listed = [SourceFile(path=f"{size}.safetensors", size=size, digest=DIGEST) for size in (1, 3, 2)]
        assert [file.size for file in Filter().select(listed)] == [3, 2, 1]


class TestListing:
    @pytest.mark.parametrize(
        "path",
        ["", "/etc/passwd", "../x", "a/../../x", "a\nb", "a\\b", "./x", "a//b", ".git//c", "a/", "\ud800", "x" * 1024],
    )
    def test_path_that_leads_elsewhere_is_refused(self, path: str) -> None:
        with pytest.raises(DataError, match="unusable path"):
            files(path)

    @pytest.mark.parametrize("path", [None, 1, ["a"]])
    def test_path_of_another_type_is_refused(self, path: Any) -> None:
        with pytest.raises(DataError, match="unusable path"):
            SourceFile(path=path, size=1, digest=DIGEST)

    @pytest.mark.parametrize("size", [-1, "7", None, True, 1.5, float("nan"), MAX_FILE_BYTES + 1])
    def test_impossible_size_is_refused(self, size: Any) -> None:
        with pytest.raises(DataError, match="gives m the impossible size"):
            SourceFile(path="m", size=size, digest=DIGEST)

    @pytest.mark.parametrize("digest", ["", "sha256:", "sha256:xyz", "md5:00", DIGEST.upper()])
    def test_file_without_a_usable_hash_is_refused(self, digest: str) -> None:
        listed = SourceFile(path="m", size=1, digest=digest)
        with pytest.raises(DataError, match="no usable hash of m"):
            Filter(include=("m",)).select([listed])
        assert Filter(include=("x",)).select([listed]) == [], "it was not asked for"


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

    def test_count_that_no_memory_holds_is_accepted(self) -> None:
        with pytest.raises(DataError, match=r"00002-of-9+\.safetensors, .* and 99999999995 more missing"):
            require_every_shard(files("model-00001-of-99999999999.safetensors"), None)

    def test_index_is_read_as_json_reads_it(self) -> None:
        text = b'{"weight_map" : {\n "a\\"}":"\\u006d.safetensors" , "b": "m.safetensors"\n}, "metadata": {"x": 1}}'
        assert set(json.loads(text)["weight_map"].values()) == {"m.safetensors"}
        require_every_shard(files("m.safetensors"), text)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{}",
            b"[]",
            b'{"weight_map": 1}',
            b'{"weight_map": {"a": 1}}',
            b'{"weight_map": {"a": "\\x"}}',
            b"\xff",
        ],
    )
    def test_index_that_is_none(self, content: bytes) -> None:
        with pytest.raises(DataError, match="not an index of safetensors"):
            require_every_shard([], content)
