"""What is fetched and sent after an interruption: everything that is needed, and nothing twice."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deepseek_acs.modelmover.checksums import crc64, hasher
from deepseek_acs.modelmover.files import SourceFile
from deepseek_acs.modelmover.oss.client import Part
from deepseek_acs.modelmover.resume import UploadState, part_sizes, plan_resume

PART_SIZE = 128
DIGEST = f"sha256:{'0' * 64}"


@st.composite
def interrupted(draw: st.DrawFn) -> tuple[bytes, UploadState, list[Part]]:
    """A file, the state that was saved, and what the bucket has: at least what the state covers."""
    size = draw(st.integers(0, 7)) * PART_SIZE + draw(st.integers(1, PART_SIZE))
    data = random.Random(size).randbytes(size)
    sizes = part_sizes(len(data), PART_SIZE)
    contents = [data[i * PART_SIZE : (i + 1) * PART_SIZE] for i in range(len(sizes))]
    whole = len(data) // PART_SIZE
    hashed = draw(st.integers(0, whole))
    running = hasher("sha256", size=len(data))
    running.update(data[: hashed * PART_SIZE])
    state = UploadState(
        upload_id="u",
        digest=DIGEST,
        size=len(data),
        part_size=PART_SIZE,
        hashed_parts=hashed,
        hash_state=running.state() if hashed else None,
        crc64=crc64(data[: hashed * PART_SIZE]),
    )
    later = draw(st.sets(st.integers(hashed + 1, len(sizes)))) if hashed < len(sizes) else set()
    parts = [
        Part(number=n, size=len(contents[n - 1]), crc64=crc64(contents[n - 1]), etag=f"e{n}")
        for n in sorted({*range(1, hashed + 1), *later})
    ]
    return data, state, parts


@given(interrupted())
def test_every_part_is_acknowledged_or_sent_and_never_both(case: tuple[bytes, UploadState, list[Part]]) -> None:
    data, state, parts = case
    resume = plan_resume(state, parts)
    count = len(part_sizes(len(data), PART_SIZE))
    sent = {n for n in range(resume.first, count + 1) if n not in resume.acknowledged}
    assert sent | resume.acknowledged.keys() == set(range(1, count + 1))
    assert not sent & {part.number for part in parts}


@given(interrupted())
def test_hash_sees_every_byte_once(case: tuple[bytes, UploadState, list[Part]]) -> None:
    data, state, parts = case
    resume = plan_resume(state, parts)
    continued = hasher("sha256", size=len(data), state=resume.hash_state)
    continued.update(data[(resume.first - 1) * PART_SIZE :])
    whole = hasher("sha256", size=len(data))
    whole.update(data)
    assert continued.digest() == whole.digest()


@given(interrupted())
def test_saved_hash_spares_the_fetching(case: tuple[bytes, UploadState, list[Part]]) -> None:
    _, state, parts = case
    assert plan_resume(state, parts).first == state.hashed_parts + 1


@given(interrupted(), st.data())
def test_hash_that_covers_other_bytes_is_not_continued(
    case: tuple[bytes, UploadState, list[Part]], draws: st.DataObject
) -> None:
    _, state, parts = case
    assume(state.hashed_parts)
    index = draws.draw(st.integers(0, state.hashed_parts - 1))
    crc = parts[index].crc64
    assert crc is not None
    damaged = [*parts[:index], replace(parts[index], crc64=crc ^ 1), *parts[index + 1 :]]
    assert (plan_resume(state, damaged).first, plan_resume(state, damaged).hash_state) == (1, None)
    missing = [*parts[:index], *parts[index + 1 :]]
    assert plan_resume(state, missing).first == 1


def test_parts_of_another_size_or_without_a_checksum_are_sent_again() -> None:
    state = UploadState(upload_id="u", digest=DIGEST, size=300, part_size=PART_SIZE)
    parts = [
        Part(number=1, size=PART_SIZE, crc64=1, etag="a"),
        Part(number=2, size=PART_SIZE, crc64=None, etag="b"),
        Part(number=3, size=PART_SIZE, crc64=3, etag="c"),
        Part(number=4, size=PART_SIZE, crc64=4, etag="d"),
    ]
    assert plan_resume(state, parts).acknowledged.keys() == {1}


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_parts_add_up(size: int, part_size: int) -> None:
    sizes = part_sizes(size, part_size)
    assert sum(sizes) == size
    assert all(s == part_size for s in sizes[:-1])
    assert all(0 < s <= part_size for s in sizes)


class TestState:
    state = UploadState(
        upload_id="u",
        digest=DIGEST,
        size=300,
        part_size=PART_SIZE,
        hashed_parts=1,
        hash_state=f"{'a' * 64}/{PART_SIZE}",
        crc64=7,
    )

    def test_is_read_as_it_was_written(self) -> None:
        assert UploadState.from_json(self.state.to_json()) == self.state

    @pytest.mark.parametrize(
        "change",
        [
            {"size": "300"},
            {"hash_state": "nonsense"},
            {"hash_state": f"{'a' * 64}/7"},
            {"unknown": 1},
            {"hashed_parts": None},
        ],
    )
    def test_is_as_good_as_none_if_it_cannot_be_used(self, change: dict[str, object]) -> None:
        assert UploadState.from_json(json.dumps({**json.loads(self.state.to_json()), **change}).encode()) is None

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null"])
    def test_is_as_good_as_none_if_it_is_none(self, content: bytes) -> None:
        assert UploadState.from_json(content) is None

    def test_is_of_one_content_in_parts_of_one_size(self) -> None:
        file = SourceFile(path="m", size=300, digest=DIGEST)
        assert self.state.is_of(file, PART_SIZE)
        assert not self.state.is_of(file, PART_SIZE * 2)
        assert not self.state.is_of(replace(file, size=301), PART_SIZE)
        assert not self.state.is_of(replace(file, digest=f"sha256:{'1' * 64}"), PART_SIZE)
