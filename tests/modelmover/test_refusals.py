"""What the mover does not take, in words: sources, destinations and listings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from deepseek_acs.modelmover import __main__ as program
from deepseek_acs.modelmover.errors import DataError, UsageError
from deepseek_acs.modelmover.files import INDEX, MAX_INDEX_BYTES, Filter, SourceFile
from deepseek_acs.modelmover.mover import make_plan
from deepseek_acs.modelmover.retry import Backoff
from deepseek_acs.modelmover.sources import hub, parse_source
from deepseek_acs.modelmover.sources.modelscope import ModelScope

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize("destination", ["bucket/prefix", "oss://bucket", "oss://bucket/", "oss://Bucket/prefix"])
def test_destination_that_is_not_a_prefix(
    destination: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "_stop_on_signals", lambda stop: [])
    assert program.main(["copy", "/model", destination, "--region", "cn-hangzhou"]) == UsageError.exit_code
    said = capsys.readouterr().err
    assert f"the destination '{destination}' is not of the form oss://BUCKET/PREFIX" in said


@pytest.mark.parametrize("source", ["s3://bucket/model", "hf://owner", "modelscope://owner/name@"])
def test_source_that_is_not_a_repository(source: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_source(source)
    assert str(caught.value) == (
        f"the source '{source}' is not modelscope://OWNER/NAME[@REVISION], hf://OWNER/NAME[@REVISION] or the path of "
        "a folder"
    )


def test_listing_that_repeats_a_path() -> None:
    files = [SourceFile(path="config.json", size=1, digest=DIGEST) for _ in range(2)]
    with pytest.raises(DataError, match=r"^hf://a/b: the listing has config\.json twice$"):
        hub.unique(files, "hf://a/b")


def test_listing_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_FILES", 3)

    def endless() -> Iterator[SourceFile]:
        for number in range(1000):
            assert number <= 3, "it reads on"
            yield SourceFile(path=str(number), size=1, digest=DIGEST)

    with pytest.raises(DataError, match=r"^hf://a/b: the listing has more than 3 files$"):
        hub.unique(endless(), "hf://a/b")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"Success": False, "Message": "no access"}, "^ModelScope refuses to list a/b: no access$"),
        ({"Success": False}, "^ModelScope refuses to list a/b: no reason given$"),
    ],
)
def test_repository_that_modelscope_does_not_list(
    answer: Mapping[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.Hub, "get_json", lambda self, path: (answer, {}))
    with pytest.raises(DataError, match=said):
        ModelScope("a/b").list_files()


@dataclass
class Listed:
    """A source of which only the listing is asked for."""

    files: list[SourceFile]
    url: str = "hf://a/b"

    def list_files(self) -> list[SourceFile]:
        return self.files


def test_index_that_is_too_large_to_be_one() -> None:
    size = MAX_INDEX_BYTES + 1
    index = SourceFile(path=INDEX, size=size, digest=DIGEST)
    shard = SourceFile(path="model-00001-of-00002.safetensors", size=1, digest=DIGEST)
    with pytest.raises(DataError, match=f"has {size} bytes; more than {MAX_INDEX_BYTES} are not read"):
        make_plan(Listed([index, shard]), Filter(), Backoff())  # type: ignore[arg-type]
