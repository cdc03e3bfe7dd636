"""CRC-64 as OSS computes it, and SHA-256 whose state can be saved; both at memory speed and without Python's lock.

OSS documents CRC-64/XZ
(https://help.aliyun.com/en/oss/user-guide/check-data-transmission-integrity-by-using-crc-64), which liblzma has, and
CPython's own ``lzma`` module is linked against that. CPython's ``hashlib`` is linked against libcrypto, whose low-level
SHA-256 keeps its state in a structure of known layout.
"""

import contextlib
import ctypes
import hashlib
import struct
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Protocol

from .errors import UnsuitablePythonError

Data = bytes | bytearray | memoryview

CRC64_POLYNOMIAL = 0xC96C5795D7870F42
"""ECMA-182, reflected."""

SHA256_BLOCK = 64
"""Bytes; at a multiple of these the state is eight words and a length, whatever the library."""


def _address(data: Data) -> ctypes.Array[ctypes.c_char] | bytes:
    """``data`` as ctypes passes it on without a copy."""
    if isinstance(data, bytes):
        return data
    view = memoryview(data)
    return view.tobytes() if view.readonly else (ctypes.c_char * view.nbytes).from_buffer(view)


@cache
def _lzma_crc64() -> Callable[[ctypes.Array[ctypes.c_char] | bytes, int, int], int]:
    try:
        function = _library_with("lzma_crc64", "_lzma", "liblzma.so.5").lzma_crc64
    except OSError:
        raise UnsuitablePythonError(
            "there is no shared liblzma, which computes the CRC-64 of OSS; use the Python of a Linux distribution, or "
            "an image that is made from one"
        ) from None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64]
    function.restype = ctypes.c_uint64
    found: Callable[[ctypes.Array[ctypes.c_char] | bytes, int, int], int] = function
    return found


def crc64(data: Data, value: int = 0) -> int:
    """CRC-64/XZ of ``data``, continuing from ``value``."""
    return _lzma_crc64()(_address(data), len(data), value)


def combine(first: int, second: int, second_length: int) -> int:
    """CRC-64 of two byte strings together, from the CRC of each and the length of the second in bytes."""
    return _multiply(_power(second_length), first) ^ second


@cache
def _power(length: int) -> int:
    """x^(8 × length) modulo the polynomial: the factor for a CRC when ``length`` bytes are appended."""
    result, square, exponent = 1 << 63, 1 << 62, length * 8
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        exponent >>= 1
    return result


def _multiply(left: int, right: int) -> int:
    """Product of two polynomials modulo the CRC's; the highest bit is the coefficient of x^0."""
    product, bit = 0, 1 << 63
    while left:
        if left & bit:
            product ^= right
            left ^= bit
        bit >>= 1
        right = right >> 1 ^ (CRC64_POLYNOMIAL if right & 1 else 0)
    return product


class Hasher(Protocol):
    """A running hash of a file."""

    def update(self, data: Data) -> None:
        """Appends ``data``."""

    def digest(self) -> str:
        """``algorithm:hexadecimal`` of all that was appended."""

    def state(self) -> str | None:
        """What ``hasher`` continues from, in this or another process; None if that is not possible here and now."""


class _Sha256Context(ctypes.Structure):
    """``SHA256_CTX`` of libcrypto (https://github.com/openssl/openssl/blob/master/include/openssl/sha.h)."""

    _fields_ = (
        ("h", ctypes.c_uint32 * 8),
        ("bits_low", ctypes.c_uint32),
        ("bits_high", ctypes.c_uint32),
        ("data", ctypes.c_uint32 * 16),
        ("num", ctypes.c_uint),
        ("md_len", ctypes.c_uint),
    )


class _ResumableSha256:
    def __init__(self, state: str | None = None) -> None:
        self._context = _Sha256Context()
        self._library = _libcrypto()
        self._library.SHA256_Init(ctypes.byref(self._context))
        if state is not None:
            words, length = state.split("/")
            self._context.h[:] = struct.unpack(">8I", bytes.fromhex(words))
            bits = int(length) * 8
            self._context.bits_low, self._context.bits_high = bits & 0xFFFFFFFF, bits >> 32

    def update(self, data: Data) -> None:
        self._library.SHA256_Update(ctypes.byref(self._context), _address(data), ctypes.c_size_t(len(data)))

    def digest(self) -> str:
        context = _Sha256Context.from_buffer_copy(self._context)
        result = (ctypes.c_char * 32)()
        self._library.SHA256_Final(result, ctypes.byref(context))
        return f"sha256:{result.raw.hex()}"

    def state(self) -> str | None:
        length = (self._context.bits_high << 32 | self._context.bits_low) // 8
        if length % SHA256_BLOCK:
            return None
        return f"{struct.pack('>8I', *self._context.h).hex()}/{length}"


class _PlainHasher:
    """hashlib's, for algorithms and Pythons without a state to save."""

    def __init__(self, algorithm: str, header: bytes = b"") -> None:
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm.rpartition("-")[2], header, usedforsecurity=False)

    def update(self, data: Data) -> None:
        self._hash.update(data)

    def digest(self) -> str:
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def state(self) -> str | None:
        return None


def hasher(algorithm: str, *, size: int, state: str | None = None) -> Hasher:
    """A hash of a file of ``size`` bytes: ``sha256``, or ``git-sha1``, the name of the file's blob in git. ``state`` is
    that of an earlier one, for ``sha256`` only; ``can_resume`` says whether this Python can continue from it."""
    if algorithm == "git-sha1":
        return _PlainHasher(algorithm, b"blob %d\0" % size)
    if algorithm != "sha256":
        raise ValueError(f"unknown algorithm {algorithm}")
    if can_resume():
        return _ResumableSha256(state)
    if state is not None:
        raise ValueError("this Python cannot continue a SHA-256")
    return _PlainHasher(algorithm)


@cache
def can_resume() -> bool:
    """Whether the state of a SHA-256 can be saved and continued by this Python, tried on a known answer."""
    message = bytes(range(256)) * 2
    try:
        first = _ResumableSha256()
        first.update(message[:SHA256_BLOCK])
        second = _ResumableSha256(first.state())
        second.update(message[SHA256_BLOCK:])
        return second.digest() == f"sha256:{hashlib.sha256(message).hexdigest()}"
    except OSError:
        return False


@cache
def _libcrypto() -> ctypes.CDLL:
    return _library_with("SHA256_Update", "_hashlib", "libcrypto.so.3")


def _library_with(symbol: str, module: str, name: str) -> ctypes.CDLL:
    """The library that has ``symbol``: the one that a module of CPython is linked against, or the one called ``name``.
    Raises OSError."""
    with contextlib.suppress(ImportError, AttributeError, TypeError, OSError):
        # The handle of a module also finds the symbols of its libraries, wherever they are.
        library = ctypes.CDLL(import_module(module).__file__)
        if hasattr(library, symbol):
            return library
    library = ctypes.CDLL(name)
    if not hasattr(library, symbol):
        raise OSError(f"{name} has no {symbol}")
    return library
