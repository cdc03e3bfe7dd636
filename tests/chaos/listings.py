"""A hub that lies: each repository ``fuzz/N`` is a good listing with a few seeded mutations."""

import hashlib
import json
import random
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
INDEX = "model.safetensors.index.json"
HUGE = 99_999_999_999

Json = Any
Mutation = Callable[[random.Random, list[dict[str, Json]]], None]

STRANGE: list[Json] = [
    *(None, True, -1, 0, 1.5, 2**70, 10**400, float("nan"), float("inf"), "", "7", [], {}, [[]], {"a": {}}),
    *("\x1b[2J\x1b]0;x\x07", "\ud800", "x" * 5000, "../../etc/passwd", "/etc/passwd", "a\nb", "a//b", "./a", "٣"),
]


def good(size: int) -> list[dict[str, Json]]:
    """Files as both hubs list them; the fields of one are strange to the other."""
    names = ["config.json", "tokenizer.json", INDEX, *(f"model-{n:05}-of-00003.safetensors" for n in (1, 2, 3))]
    digest = "0" * 64
    return [
        {
            **{"Path": name, "Size": size, "Sha256": digest, "Type": "blob", "Revision": COMMIT},
            **{"path": name, "size": size, "type": "file", "oid": digest[:40], "lfs": {"oid": digest, "size": size}},
        }
        for name in names
    ]


def some_entry(choice: random.Random, files: list[dict[str, Json]]) -> dict[str, Json]:
    entries = [entry for entry in files if isinstance(entry, dict)]
    return choice.choice(entries) if entries else {}


def strange_value(choice: random.Random, files: list[dict[str, Json]]) -> None:
    entry, field = some_entry(choice, files), choice.choice(["path", "size", "type", "lfs", "oid", "sha", "revision"])
    value = choice.choice(STRANGE)
    entry.update({field: value, field.capitalize(): value})
    if field in ("path", "size", "oid"):
        entry["Sha256" if field == "oid" else field.capitalize()] = value
        if isinstance(entry.get("lfs"), dict) and field != "path":
            entry["lfs"][field] = value


def missing_field(choice: random.Random, files: list[dict[str, Json]]) -> None:
    entry = some_entry(choice, files)
    for field in choice.sample(sorted(entry), k=min(4, len(entry))):
        del entry[field]


def strange_entry(choice: random.Random, files: list[dict[str, Json]]) -> None:
    files.insert(0, choice.choice(STRANGE))


def rename(entry: dict[str, Json], path: str) -> None:
    entry["Path"] = entry["path"] = path


def countless_shards(choice: random.Random, files: list[dict[str, Json]]) -> None:
    rename(some_entry(choice, files), f"model-00001-of-{choice.choice([HUGE, 10**300, '0' * 900 + '2'])}.safetensors")


def same_path(choice: random.Random, files: list[dict[str, Json]]) -> None:
    files.append(dict(some_entry(choice, files)))


def many_files(choice: random.Random, files: list[dict[str, Json]]) -> None:
    entry = some_entry(choice, files)
    files += [{**entry, "Path": f"{n}-of-{HUGE}.json", "path": f"{n}-of-{HUGE}.json"} for n in range(6000)]


def only_folders(choice: random.Random, files: list[dict[str, Json]]) -> None:
    files += [
        {"Path": f"d{n}", "path": f"d{n}", "Type": "tree", "type": "directory", "Revision": COMMIT} for n in range(2900)
    ]


def large_index(choice: random.Random, files: list[dict[str, Json]]) -> None:
    size = choice.choice([10**7, 10**8, 10**12])
    for entry in files:
        if isinstance(entry, dict) and entry.get("path") == INDEX:
            entry.update(Size=size, size=size, lfs={"oid": "0" * 64, "size": size})


MUTATIONS: list[Mutation] = [
    *(strange_value,) * 6,
    *(missing_field,) * 2,
    *(strange_entry, countless_shards, same_path, many_files, only_folders, large_index),
]

BODIES: list[bytes] = [
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b"[" * 900 + b"]" * 900,
    b"[" + b"{}," * 1_300_000 + b"{}]",
    b"[" + b'{"":0},' * 590_000 + b"{}]",
    b"[" + b"{}," * 3_000_000 + b"{}]",
    b"null",
    b"",
    b"\xff\xfe",
    b"1" * 10_000,
    b"<html>",
]

GOOD_INDEX = json.dumps({"weight_map": {f"w{n}": f"model-{n:05}-of-00003.safetensors" for n in (1, 2, 3)}}).encode()

INDEXES: list[bytes] = [
    b"{}",
    b"[" * 100_000,
    json.dumps({"weight_map": {"a": 7}}).encode(),
    json.dumps({"weight_map": {f"w{n}": f"s{n}" for n in range(200_000)}}).encode(),
    json.dumps({"weight_map": {"a": {"b": "c"}}}).encode(),
    json.dumps({"weight_map": {"a": "model-00001-of-00003.safetensors", "b": "\ud800"}}).encode(),
    json.dumps(
        {"weight_map": {f"layer.{n}": f"model-0000{n % 3 + 1}-of-00003.safetensors" for n in range(99_999)}}
    ).encode(),
]


class LyingServer(ThreadingHTTPServer):
    """Clients that hang up are no news."""

    daemon_threads = True

    def __init__(self, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), LyingHub)
        self.seed = seed

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class LyingHub(BaseHTTPRequestHandler):
    """Both APIs. What a repository says depends on its number alone."""

    protocol_version = "HTTP/1.1"
    server: LyingServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        number = next((part for part in parts.path.split("/") if part.isdigit()), "0")
        choice = random.Random(f"{self.server.seed} {number}")
        kind = choice.random()
        index = choice.choice(INDEXES) if choice.random() < 0.4 else GOOD_INDEX
        if parts.path.endswith("/repo") or "/resolve/" in parts.path:
            wanted = parse_qs(parts.query).get("FilePath", [parts.path])[0]
            self._answer(index if wanted.endswith(INDEX) else b"{}")
        elif kind < 0.2:
            self._answer(choice.choice(BODIES))
        elif kind < 0.25:
            self._answer(b"{}", length=choice.choice(["abc", "-1", "9" * 30, "1e3"]))
        elif kind < 0.3:
            self._answer(
                b"", status=302, location=choice.choice([self.path, "http://[x", "file:///x", "http://127.0.0.1:0/"])
            )
        else:
            self._list(parts.path, choice, index, endless=kind > 0.97)

    def _list(self, path: str, choice: random.Random, index: bytes, *, endless: bool) -> None:
        files = good(100)
        for entry in files:
            if entry["path"] == INDEX:
                digest = hashlib.sha256(index).hexdigest()
                entry.update(Size=len(index), size=len(index), Sha256=digest, lfs={"oid": digest, "size": len(index)})
        for _ in range(choice.choice((0, 1, 1, 2, 3))):
            choice.choice(MUTATIONS)(choice, files)
        commit = choice.choice(STRANGE) if choice.random() < 0.1 else COMMIT
        if "/api/v1/" in path:
            answer: Json = {"Success": True, "Data": {"Files": files, "LatestCommitter": {"Id": commit}}}
            if choice.random() < 0.1:
                answer = choice.choice(
                    [{"Success": False, "Message": STRANGE[15]}, {"Success": True, "Data": None}, files]
                )
        elif "/tree/" in path:
            answer = files
        else:
            answer = {"sha": commit}
        link = f'<http://x{path}?page=1>; rel="next"' if endless else None
        self._answer(json.dumps(answer).encode(), link=link)

    def _answer(
        self,
        body: bytes,
        *,
        status: int = 200,
        length: str | None = None,
        location: str | None = None,
        link: str | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", length or str(len(body)))
        for name, value in (("Location", location), ("Link", link)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if length:
            self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """Not read by the program."""
