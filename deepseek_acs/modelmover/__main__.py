"""``modelmover plan|copy|verify``, or ``python3 modelmover.pyz …``: the command line.

Exit codes (``errors.py``): 0 done; 75 some was moved, and a further run continues; 2, 65, 66, 69, 70, 71,
73, 77 another run would fail in the same way; 143 ended by SIGTERM, 130 by Ctrl-C, with what was unfinished saved.
"""

import argparse
import contextlib
import ctypes
import io
import logging
import math
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from types import FrameType

from . import __version__
from .errors import (
    InternalError,
    MoveError,
    StoppedError,
    TransientError,
    UsageError,
    exhausted,
    is_exhaustion,
)
from .files import Filter
from .http import split_url
from .loadable import Planned
from .mover import Plan, copy, make_plan, verify
from .oss.client import Bucket
from .oss.credentials import from_environment, secret_of
from .progress import size
from .retry import Backoff
from .sources import Source, huggingface, modelscope, parse_source
from .sources.folder import Folder
from .sources.huggingface import HuggingFace
from .sources.modelscope import ModelScope
from .transfer import MEBIBYTE, Options

DESTINATION = re.compile(r"oss://(?P<bucket>[a-z0-9-]+)/(?P<prefix>[^/].*?)/*")

TOKEN_VARIABLES = {"modelscope": "MODELSCOPE_API_TOKEN", "hf": "HF_TOKEN"}
"""Variables of the hubs' own clients."""

STOP_SECONDS = 20
"""Less than the 30 s after which Kubernetes kills a pod by default."""

LINE_CHARACTERS = 4000

M_ARENA_MAX = -8
"""From malloc.h."""

REGION = re.compile(r"[a-z][a-z0-9-]{1,40}")

log = logging.getLogger("modelmover")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command, and gives the exit code, which does not depend on whether anybody reads the output."""
    code = _main(arguments)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Python would try once more, and exit with 120.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _main(arguments: Sequence[str] | None) -> int:
    parsed = _parser().parse_args(arguments)
    _log_to_stderr()
    _limit_arenas()
    backoff = Backoff(attempts=parsed.attempts)
    received = _stop_on_signals(backoff.stop)
    try:
        _run(parsed, os.environ, backoff)
    except StoppedError:
        log.warning("stopped; the next run continues from here")
        return 128 + (received[0] if received else signal.SIGTERM)
    except Exception as error:
        known = _known(error)
        log.error("%s", known)
        return known.exit_code
    return 0


def _known(error: Exception) -> MoveError:
    """``error`` as one that has a text and an exit code."""
    if isinstance(error, MoveError):
        return error
    if is_exhaustion(error):
        return exhausted(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return InternalError(
        f"this program failed in a way that it does not know: {type(error).__name__} in {place.name}, line "
        f"{place.lineno} of {os.path.basename(place.filename)}; please report it. Another run continues"
    )


class _Printable(logging.Formatter):
    """Lines without what a terminal would obey: some of their text comes from servers."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)[:LINE_CHARACTERS]
        return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Who does not read the log loses it, and nothing else.
    logging.raiseExceptions = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _limit_arenas() -> None:
    """The C library reserves 64 MiB of addresses for each thread, of which this program uses next to nothing
    (https://man7.org/linux/man-pages/man3/mallopt.3.html)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _stop_on_signals(stop: threading.Event) -> list[int]:
    """Ends the run in order at SIGTERM and Ctrl-C, and after STOP_SECONDS whatever it waits for; a second one ends it
    at once."""
    received: list[int] = []

    def end(number: int) -> None:
        stop.set()
        time.sleep(STOP_SECONDS)
        # Something did not end in time, such as an answer that does not come: as after a kill, nothing is lost.
        os._exit(128 + number)

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        # In a thread: this one may hold the event's lock just now.
        threading.Thread(target=end, args=(number,), daemon=True).start()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return received


def _run(parsed: argparse.Namespace, environ: Mapping[str, str], backoff: Backoff) -> None:
    if parsed.command == "plan":
        found = make_plan(_source(parsed, environ), _filter(parsed), backoff, planned=_planned(parsed))
        _print_plan(found, as_json=parsed.json)
        return
    bucket, prefix = _bucket(parsed, environ, backoff)
    if parsed.command == "verify":
        manifest = verify(bucket, prefix, full=parsed.full, backoff=backoff, pinned=parsed.manifest_sha256)
        log.info("%s: all %d files, %s, are there", manifest.source, len(manifest.files), size(manifest.size))
        log.info("weights.manifestSha256: %s", manifest.sha256)
        return
    options = Options(streams=parsed.streams, uploads=parsed.uploads, part_size=parsed.part_size * MEBIBYTE)
    result = copy(
        _source(parsed, environ),
        bucket,
        prefix,
        chosen=_filter(parsed),
        options=options,
        backoff=backoff,
        planned=_planned(parsed),
        full=parsed.full,
        pinned=parsed.manifest_sha256,
    )
    log.info(
        "oss://%s/%s is whole: %d files, %s, of which %s were sent now",
        bucket.name,
        prefix,
        len(result.manifest.files),
        size(result.manifest.size),
        size(result.sent),
    )
    log.info("weights.manifestSha256: %s", result.manifest.sha256)


def _filter(parsed: argparse.Namespace) -> Filter:
    return Filter(
        include=tuple(parsed.include),
        exclude=tuple(parsed.exclude),
        code=parsed.code,
        pickles=parsed.allow_pickle,
    )


def _planned(parsed: argparse.Namespace) -> Planned:
    return Planned(max_gib=parsed.max_weights_gib, quantization=parsed.quantization)


def _source(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Source:
    scheme, name, revision = parse_source(parsed.source)
    if scheme == "folder":
        return Folder(name)
    token = secret_of(environ, TOKEN_VARIABLES[scheme])
    if scheme == "hf":
        endpoint = parsed.hub_endpoint or huggingface.ENDPOINT
        return HuggingFace(name, revision or huggingface.DEFAULT_REVISION, endpoint=endpoint, token=token)
    return ModelScope(
        name,
        revision or modelscope.DEFAULT_REVISION,
        endpoint=parsed.hub_endpoint or modelscope.ENDPOINT,
        token=token,
        region=parsed.hub_region,
    )


def _bucket(parsed: argparse.Namespace, environ: Mapping[str, str], backoff: Backoff) -> tuple[Bucket, str]:
    match = DESTINATION.fullmatch(parsed.destination)
    if match is None:
        raise UsageError(f"the destination {parsed.destination!r} is not of the form oss://BUCKET/PREFIX")
    endpoint = parsed.endpoint or f"https://oss-{parsed.region}.aliyuncs.com"
    credentials = from_environment(
        environ, sts_endpoint=parsed.sts_endpoint or _sts(endpoint, parsed.region), backoff=backoff
    )
    bucket = Bucket(match["bucket"], endpoint=endpoint, region=parsed.region, credentials=credentials, backoff=backoff)
    return bucket, match["prefix"]


def _sts(endpoint: str, region: str) -> str:
    # Who reaches OSS from within reaches STS from within, too, and may have no other way.
    return (
        f"https://sts-vpc.{region}.aliyuncs.com" if "-internal." in endpoint else f"https://sts.{region}.aliyuncs.com"
    )


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        print(plan.to_json())
        return
    for file in sorted(plan.files, key=lambda file: file.path):
        print(f"{file.size:>16,}  {file.path}")
    print(f"{plan.size:>16,}  bytes in {len(plan.files)} files of {plan.source} ({size(plan.size)})")
    skipped = sum(file.size for file in plan.left_out)
    print(f"{skipped:>16,}  bytes in {len(plan.left_out)} files left out")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modelmover", description="Move a model's files from a hub or a folder into an OSS bucket."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--attempts", type=_at_least_one, default=Backoff.attempts, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="list what would be moved")
    copying = commands.add_parser("copy", help="move what is missing, verify it, and write the manifest")
    verifying = commands.add_parser("verify", help="compare the bucket with its manifest")
    for command in (plan, copying):
        _add_source(command)
    for command in (copying, verifying):
        _add_destination(command)
    plan.add_argument("--json", action="store_true", help="print JSON")
    for command in (copying, verifying):
        command.add_argument(
            "--manifest-sha256", type=_sha256, metavar="HEX", help="the only manifest that is accepted, by its SHA-256"
        )
    verifying.add_argument("--full", action="store_true", help="read all bytes and compare their hashes, too")
    copying.add_argument("--full", action="store_true", help="read what is there, and move it again if it is wrong")
    copying.add_argument(
        "--streams", type=_at_least_one, default=Options.streams, help="files read at once (%(default)s)"
    )
    copying.add_argument(
        "--uploads", type=_at_least_one, default=Options.uploads, help="parts sent at once (%(default)s)"
    )
    copying.add_argument(
        "--part-size",
        type=_at_least_one,
        default=Options.part_size // MEBIBYTE,
        metavar="MIB",
        help="size of a part in MiB (%(default)s); memory is about 1.3 × (streams + uploads) × this",
    )
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "source",
        help="modelscope://OWNER/NAME[@REVISION], hf://OWNER/NAME[@REVISION], or a folder; tokens are read from "
        "MODELSCOPE_API_TOKEN and HF_TOKEN",
    )
    command.add_argument(
        "--hub-endpoint", type=_url, metavar="URL", help="another address of the hub, such as a mirror's"
    )
    command.add_argument(
        "--hub-region",
        metavar="REGION",
        type=_region,
        help="Alibaba Cloud region of this machine, for ModelScope's internal addresses",
    )
    command.add_argument(
        "--code", action="store_true", help="take the repository's Python files, too, for --trust-remote-code"
    )
    command.add_argument(
        "--allow-pickle", action="store_true", help="take formats that may run code where they are loaded, such as .bin"
    )
    command.add_argument(
        "--max-weights-gib", type=_positive, metavar="GIB", help="refuse a source with more GiB of safetensors"
    )
    command.add_argument(
        "--quantization",
        action="append",
        default=[],
        metavar="METHOD",
        help="refuse a source whose config.json says another quant_method; may be repeated",
    )
    command.add_argument(
        "--include", action="append", default=[], metavar="PATTERN", help="move only files that match one of these"
    )
    command.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="leave out files that match one of these"
    )


def _add_destination(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "destination",
        help="oss://BUCKET/PREFIX; credentials are read from OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and "
        "OSS_SESSION_TOKEN, or from the variables of RRSA",
    )
    command.add_argument("--region", required=True, type=_region, help="the bucket's region, such as cn-hangzhou")
    command.add_argument("--endpoint", type=_url, metavar="URL", help="of OSS; the region's public one by default")
    command.add_argument("--sts-endpoint", type=_url, metavar="URL", help="of STS, for RRSA; the region's by default")


def _url(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL; write it with https://")
    try:
        (split_url(text).hostname or "").encode("idna")
        usable = True
    except (TransientError, UnicodeError):
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(
            f"{text!r} has no usable host and port; write https://HOST or https://HOST:PORT"
        )
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a SHA-256; write its 64 hexadecimal digits")
    return text


def _region(text: str) -> str:
    if not REGION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a region; write it like cn-hangzhou")
    return text


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("must be a number above 0")
    return number


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
