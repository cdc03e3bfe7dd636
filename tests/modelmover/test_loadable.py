"""What no engine could load is refused before it is moved."""

import hashlib
import json
from pathlib import Path

import pytest

from deepseek_acs.modelmover.errors import DataError
from deepseek_acs.modelmover.files import SourceFile
from deepseek_acs.modelmover.loadable import (
    ANY_MODEL,
    Planned,
    require_configuration,
    require_content,
    require_format,
    require_size,
)
from deepseek_acs.modelmover.retry import Backoff
from deepseek_acs.modelmover.sources.folder import Folder

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12686388\n"


def files(*paths: str) -> list[SourceFile]:
    return [SourceFile(path=path, size=1, digest="") for path in paths]


def shard(data: bytes = b"1234", end: int = 4) -> bytes:
    header = json.dumps({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, end]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


def check(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    file = SourceFile(path=name, size=len(content), digest=f"sha256:{hashlib.sha256(content).hexdigest()}")
    require_content(Folder(str(folder)), file, Backoff(attempts=1, base_seconds=0))


@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "qwen.tiktoken"])
def test_a_model_has_a_configuration_and_a_tokenizer(tokenizer: str) -> None:
    require_configuration(files("config.json", tokenizer, "model.safetensors"))
    require_configuration(files("params.json", "tekken.json"))


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (("model.safetensors", "tokenizer.json"), r"there is no config\.json among the files to move, so that"),
        (("config.json", "model.safetensors"), r"there is no tokenizer \(tokenizer\.json"),
        (
            ("blobs/1", "snapshots/abc/config.json", "snapshots/abc/tokenizer.json"),
            "this is the cache of a download tool, whose model is in snapshots/abc; check",
        ),
    ],
)
def test_what_lacks_one_is_refused(paths: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        require_configuration(files(*paths))


def test_what_can_be_loaded_passes(tmp_path: Path) -> None:
    check(tmp_path, "model.safetensors", shard())
    check(tmp_path, "generation_config.json", b"{}")
    check(tmp_path, "empty.txt", b"")
    check(tmp_path, "notes.txt", b"version 2")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model"])
def test_a_pointer_of_git_lfs_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{name} is a pointer of Git LFS and not the file itself"):
        check(tmp_path, name, POINTER)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (shard(b"12"), r"has \d+ bytes, and \d+ by its own header; the source has a damaged file"),
        (shard(b"123456"), r"has \d+ bytes, and \d+ by its own header"),
        (b"123", "has 3 bytes, fewer than its header"),
        ((1000).to_bytes(8, "little") + b"{}", "has 10 bytes, fewer than its header"),
        ((2).to_bytes(8, "little") + b"[]", "has 10 bytes, and 10 by its own header"),
    ],
)
def test_a_shard_of_another_size_than_its_header_says_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        check(tmp_path, "model.safetensors", content)


GIB = 2**30


def sized(*found: tuple[str, float]) -> list[SourceFile]:
    return [SourceFile(path=path, size=round(gib * GIB), digest="") for path, gib in found]


@pytest.mark.parametrize(
    "found",
    [
        [("a.safetensors", 300.0), ("b.safetensors", 373.0)],
        [("a.safetensors", 600.0), ("original/a.safetensors", 600.0), ("consolidated.safetensors", 600.0)],
        [("config.json", 700.0)],
        [],
    ],
)
def test_as_much_as_is_planned_passes_and_less(found: list[tuple[str, float]]) -> None:
    require_size(sized(*found), Planned(max_gib=673.4))


def test_more_weights_than_planned_are_refused() -> None:
    expected = (
        r"the source has 1280\.00 GiB of weights, and the plan counts on 673\.40 GiB at most, so that they may not "
        r"fit on its GPUs; write the repository as model\.name"
    )
    with pytest.raises(DataError, match=expected):
        require_size(sized(("a.safetensors", 640.0), ("b.safetensors", 640.0)), Planned(max_gib=673.4))
    require_size(sized(("a.safetensors", 1280.0)), ANY_MODEL)


@pytest.mark.parametrize(
    "config",
    [
        b'{"quantization_config": {"quant_method": "fp8"}}',
        b'{"text_config": {"quantization_config": {"quant_method" : "Compressed-Tensors"}}}',
        b"{}",
    ],
)
def test_the_planned_format_passes(config: bytes) -> None:
    require_format(config, Planned(quantization=("compressed-tensors", "fp8")))


def test_another_format_is_refused() -> None:
    config = b'{"quantization_config": {"quant_method": "awq"}}'
    expected = "the source has weights in the format awq, and the plan counts on compressed-tensors or fp8; write the"
    with pytest.raises(DataError, match=expected):
        require_format(config, Planned(quantization=("compressed-tensors", "fp8")))
    require_format(config, ANY_MODEL)
