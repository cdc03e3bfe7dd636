"""500 hostile listings of both hubs: each ends with a text and an exit code of the table, in 256 MiB."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.chaos.conftest import EXIT_CODES, SEED
from tests.chaos.listings import LyingServer

pytestmark = pytest.mark.chaos

LISTINGS = 500
MEMORY_BYTES = 256 * 2**20


def test_hostile_listings() -> None:
    with LyingServer(SEED) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        command = [sys.executable, "-m", "tests.chaos.listing_driver", url, str(LISTINGS)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        server.shutdown()
        thread.join()
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == LISTINGS
    for result in results:
        assert result["code"] in EXIT_CODES, result
        assert "Traceback" not in result["log"], result
        assert bool(result["log"]) == (result["code"] != 0), result
        assert result["log"].replace("\n", "").isprintable(), result
    assert max(result["peak"] for result in results) <= MEMORY_BYTES
    assert len({result["code"] for result in results}) >= 3, "the mutations are of several kinds"
