"""Command line of ``compilecache``. Exit codes: 0 it is done, 1 it is not; either way the engine can start."""

import argparse
import http.client
import os
import sys
import threading
import time
from pathlib import Path

from deepseek_acs.modelmover.errors import UsageError
from deepseek_acs.modelmover.oss.client import Bucket
from deepseek_acs.modelmover.oss.credentials import from_environment
from deepseek_acs.modelmover.retry import Backoff

from .cache import Cache, Folders
from .key import key_of

RANK_VARIABLE = "COMPILE_CACHE_RANK"
LEADER_VARIABLE = "LWS_LEADER_ADDRESS"

POLL_SECONDS = 10
HEALTH_SECONDS = 8

ATTEMPTS = 4
"""Few: what cannot be restored soon is compiled."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        cache = _cache(options)
        if options.action == "restore":
            _end_after(options.seconds)
            cache.restore()
            return 0
        # Without an end: a start may take an hour, and this program ends with its pod.
        while not is_healthy(os.environ[LEADER_VARIABLE], options.port):
            time.sleep(POLL_SECONDS)
        cache.save()
    except Exception as error:
        # No error of the cache is one of the engine.
        kind = "" if str(error) else type(error).__name__
        say(f"{options.action}: {error}{kind}")
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    found = argparse.ArgumentParser(prog="compilecache", description=__doc__)
    found.add_argument("action", choices=("restore", "save"))
    found.add_argument("--place", required=True, help="oss://BUCKET/PREFIX")
    found.add_argument("--region", required=True)
    found.add_argument("--endpoint", required=True, help="URL of OSS")
    found.add_argument("--cache", type=Path, required=True, help="folder of the engine's caches")
    found.add_argument("--work", type=Path, required=True, help="folder for archives on their way")
    found.add_argument("--part", action="append", default=[], metavar="NAME=VALUE", help="of the key")
    found.add_argument("--seconds", type=int, default=180, help="after which a restore is given up")
    found.add_argument("--port", type=int, default=8000, help="of the leader's server")
    return found


def _cache(options: argparse.Namespace) -> Cache:
    name, _, prefix = options.place.removeprefix("oss://").partition("/")
    if not name or not prefix:
        raise UsageError(f"{options.place} is not oss://BUCKET/PREFIX")
    backoff = Backoff(attempts=ATTEMPTS)
    # Pods reach STS within their VPC, and perhaps in no other way.
    sts = f"https://sts-vpc.{options.region}.aliyuncs.com"
    credentials = from_environment(os.environ, sts_endpoint=sts, backoff=backoff)
    bucket = Bucket(name, endpoint=options.endpoint, region=options.region, credentials=credentials, backoff=backoff)
    parts = dict(part.partition("=")[::2] for part in options.part)
    key = key_of(parts, rank=os.environ[RANK_VARIABLE])
    return Cache(bucket, prefix, key, folders=Folders(options.cache, options.work), backoff=backoff, say=say)


def is_healthy(host: str, port: int) -> bool:
    """Whether the leader's server answers, which it does once all ranks are ready."""
    connection = http.client.HTTPConnection(host, port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_after(seconds: float) -> None:
    """Ends the program: a slow bucket must not hold the engine back. What was unpacked by then is not in place."""

    def end() -> None:
        say(f"restore: given up after {seconds} s; the engine compiles")
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def say(text: str) -> None:
    """One line of the log."""
    print(f"compilecache {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
