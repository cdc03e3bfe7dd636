"""Checksums against implementations of others."""

import hashlib

import crcmod
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_acs.modelmover import checksums
from deepseek_acs.modelmover.checksums import combine, crc64, hasher
from deepseek_acs.modelmover.errors import UnsuitablePythonError

SDK_CRC64 = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, xorOut=0xFFFFFFFFFFFFFFFF, rev=True)
"""As the official SDKs of OSS compute it."""


def test_check_value_of_the_catalogue() -> None:
    """https://reveng.sourceforge.io/crc-catalogue/all.htm#crc.cat.crc-64-xz"""
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA


@given(st.binary(max_size=2000))
def test_crc_is_that_of_the_sdk_for_any_kind_of_buffer(data: bytes) -> None:
    for kind in (bytes, bytearray, memoryview):
        assert crc64(kind(data)) == SDK_CRC64(data)
    assert crc64(memoryview(bytearray(data))) == SDK_CRC64(data)


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_combination_is_the_crc_of_the_whole(pieces: list[bytes]) -> None:
    crc = 0
    for piece in pieces:
        crc = combine(crc, crc64(piece), len(piece))
    assert crc == crc64(b"".join(pieces))


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_combination_does_not_depend_on_the_grouping(a: bytes, b: bytes, c: bytes) -> None:
    left = combine(combine(crc64(a), crc64(b), len(b)), crc64(c), len(c))
    right = combine(crc64(a), combine(crc64(b), crc64(c), len(c)), len(b) + len(c))
    assert left == right


def test_combination_over_a_length_that_no_test_could_read() -> None:
    """A tebibyte of zeros, by doubling."""
    crc, length = crc64(b"\0"), 1
    while length < 2**40:
        crc, length = combine(crc, crc, length), length * 2
    assert combine(crc64(b"x"), crc, length) == combine(
        combine(crc64(b"x"), crc64(b"\0"), 1), zeros(2**40 - 1), 2**40 - 1
    )


def zeros(length: int) -> int:
    crc, total, power = 0, 0, crc64(b"\0")
    for bit in range(length.bit_length()):
        if length >> bit & 1:
            crc = combine(crc, power, 1 << bit)
            total += 1 << bit
        power = combine(power, power, 1 << bit)
    assert total == length
    return crc


@given(st.binary(max_size=1000), st.integers(0, 15))
def test_sha256_is_continued_from_its_state(data: bytes, blocks: int) -> None:
    cut = min(blocks * checksums.SHA256_BLOCK, len(data) // 64 * 64)
    first = hasher("sha256", size=len(data))
    first.update(data[:cut])
    state = first.state()
    assert state is not None
    second = hasher("sha256", size=len(data), state=state)
    second.update(memoryview(bytearray(data[cut:])))
    assert second.digest() == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert second.digest() == second.digest(), "asking does not change it"


def test_state_is_given_at_whole_blocks_only() -> None:
    running = hasher("sha256", size=65)
    running.update(b"x" * 63)
    assert running.state() is None
    running.update(b"x")
    assert running.state() is not None


def test_state_counts_beyond_four_gibibytes() -> None:
    words = "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19"
    length = 5 * 2**30
    assert hasher("sha256", size=length, state=f"{words}/{length}").state() == f"{words}/{length}"


def test_small_files_have_the_name_that_git_gives_them() -> None:
    """``echo hello | git hash-object --stdin``"""
    running = hasher("git-sha1", size=6)
    running.update(b"hello\n")
    assert running.digest() == "git-sha1:ce013625030ba8dba906f756967f9e9ca394464a"
    assert running.state() is None


def test_without_the_libraries_functions_hashlib_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "can_resume", lambda: False)
    running = hasher("sha256", size=3)
    running.update(b"abc")
    assert running.digest() == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    assert running.state() is None


def test_python_without_liblzma_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: str) -> None:
        raise OSError

    monkeypatch.setattr(checksums, "_library_with", nothing)
    checksums._lzma_crc64.cache_clear()
    try:
        with pytest.raises(UnsuitablePythonError, match=r"no shared liblzma.*use the Python of a Linux distribution"):
            crc64(b"x")
    finally:
        checksums._lzma_crc64.cache_clear()


def test_unknown_algorithm_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="md5"):
        hasher("md5", size=0)
