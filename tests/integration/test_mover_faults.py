"""Every fault of the network, of the hub and of OSS is survived or reported, and none puts wrong bytes under a name."""

import pytest

from deepseek_acs.modelmover.errors import (
    DataError,
    MoveError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    UnfinishedError,
    UsageError,
)
from deepseek_acs.modelmover.files import Filter
from deepseek_acs.modelmover.mover import copy
from deepseek_acs.modelmover.retry import REFUSALS
from deepseek_acs.modelmover.sources.huggingface import HuggingFace
from deepseek_acs.modelmover.sources.modelscope import ModelScope
from deepseek_acs.modelmover.transfer import Options
from local.faults import Fault
from tests.integration.conftest import (
    OPTIONS,
    PART_SIZE,
    PREFIX,
    REPOSITORY,
    SERVING,
    SMALL,
    World,
    backoff,
    bucket_of,
)

pytestmark = pytest.mark.integration

SHARD = "model-00002-of-000003.safetensors"
CDN = "^/cdn/"
PARTS = "partNumber="
OFFSET = PART_SIZE + 1000

SURVIVED_AT_THE_HUB = {
    "bit flip": Fault(action="flip-response", path=CDN, offset=OFFSET),
    "bit flip in a small file": Fault(action="flip-response", path="FilePath=config.json", offset=5),
    "truncation": Fault(action="truncate-response", path=CDN, offset=OFFSET, times=2),
    "reset in the middle": Fault(action="reset-response", path=CDN, offset=OFFSET, times=2),
    "reset before the answer": Fault(action="reset-request", path=CDN, times=3),
    "burst of 403": Fault(action="answer", path=CDN, status=403, times=3),
    "burst of 403 from the API": Fault(action="answer", path="/repo/files", status=403, times=3),
    "burst of 404 from the content server": Fault(action="answer", path=CDN, status=404, times=2),
    "burst of 429": Fault(action="answer", path="/repo[?]", status=429, retry_after=0, times=4),
    "burst of 503": Fault(action="answer", path="", status=503, times=5),
}

SURVIVED_AT_OSS = {
    "bit flip of a part": Fault(action="flip-request", path=PARTS, offset=77, times=3),
    "bit flip of a small file": Fault(action="flip-request", method="PUT", path="config.json$", offset=3),
    "reset within a part": Fault(action="reset-request", path=PARTS, offset=1000, times=3),
    "lost answer to a part": Fault(action="lose-answer", path=PARTS, times=3),
    "lost answer to the begin": Fault(action="lose-answer", method="POST", path="[?]uploads"),
    "lost answer to the end": Fault(action="lose-answer", method="POST", path="uploadId="),
    "lost answer to an abort": Fault(action="lose-answer", method="DELETE", path=""),
    "burst of 403 as for a new key": Fault(action="answer", status=403, code="InvalidAccessKeyId", times=4),
    "burst of 429": Fault(action="answer", path=PARTS, status=429, code="TooManyRequests", retry_after=0, times=4),
    "burst of 503": Fault(action="answer", path=PARTS, status=503, code="UploadTrafficRateLimitExceeded", times=4),
    "burst of 500": Fault(action="answer", status=500, code="InternalError", times=4),
    "listing that breaks off": Fault(action="truncate-response", path="list-type=2", offset=50),
}


@pytest.mark.parametrize("name", SURVIVED_AT_THE_HUB)
def test_faults_of_the_hub_are_survived(world: World, name: str) -> None:
    world.hub.faults.add(SURVIVED_AT_THE_HUB[name])
    world.assert_moved(world.copy().manifest)
    assert world.hub.faults.used_up()


@pytest.mark.parametrize("name", SURVIVED_AT_OSS)
def test_faults_of_oss_are_survived(world: World, name: str) -> None:
    world.oss.faults.add(SURVIVED_AT_OSS[name])
    world.assert_moved(world.copy().manifest)
    assert world.oss.faults.used_up()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(action="wrong-content-range", path=CDN, offset=-1, times=2),
        Fault(action="stale-size", path=CDN, offset=10, times=2),
        Fault(action="ignore-range", path=CDN, times=2),
    ],
    ids=lambda fault: fault.action,
)
def test_answers_to_a_range_that_are_none_are_survived(world: World, fault: Fault) -> None:
    """A range is asked for only after a stream has broken."""
    world.hub.faults.add(Fault(action="reset-response", path=CDN, offset=OFFSET, times=2), fault)
    world.assert_moved(world.copy().manifest)
    assert world.hub.faults.used_up()


def test_addresses_that_expire_are_asked_for_again(world: World) -> None:
    source = world.modelscope()
    world.copy(source)
    for path in SERVING:
        world.bucket.delete(f"{PREFIX}/{path}")
    world.hub.expire_links()
    world.assert_moved(world.copy(source).manifest)


def test_slow_source_is_survived(world: World) -> None:
    world.hub.faults.add(Fault(action="slow-response", path=CDN, bytes_per_second=20 * 2**20, times=None))
    world.assert_moved(world.copy().manifest)


def test_stream_that_trickles_is_reopened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepseek_acs.modelmover.reader.SLOW_SECONDS", 0)
    monkeypatch.setattr("deepseek_acs.modelmover.reader.SLOW_BYTES_PER_SECOND", 2**60)
    world.assert_moved(world.copy().manifest)
    assert [r for r in world.hub.requests if r.status == 206], "continued by another request"


def test_file_that_is_damaged_at_the_source_is_never_visible(world: World) -> None:
    world.hub.freeze_listing()
    path = world.hub_file(SHARD)
    content = bytearray(path.read_bytes())
    content[OFFSET] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{SHARD}: the hash is sha256:.* nothing was put under its name"):
        world.copy()
    assert world.content(SHARD) is None
    assert world.bucket.get(f".modelmover/{PREFIX}/manifest.json") is None
    assert not [upload for upload in world.bucket.list_uploads("") if upload.key.endswith(SHARD)]


def test_file_that_is_shorter_than_listed_is_never_visible(world: World) -> None:
    world.hub.freeze_listing()
    path = world.hub_file(SHARD)
    path.write_bytes(path.read_bytes()[:-1])
    # Unavailable if no other file had sent a byte yet.
    with pytest.raises((UnfinishedError, UnavailableError), match=r"bytes are listed, the answer has"):
        world.copy(attempts=3)
    assert world.content(SHARD) is None


def test_repository_without_a_shard_is_refused_before_anything_is_moved(world: World) -> None:
    world.hub_file(SHARD).unlink()
    with pytest.raises(DataError, match=rf"the model is not whole: {SHARD} missing"):
        world.copy()
    assert world.sent_bytes() == 0


@pytest.mark.parametrize("source", [ModelScope, HuggingFace])
def test_missing_repository_or_revision(world: World, source: type[ModelScope | HuggingFace]) -> None:
    with pytest.raises((NotFoundError, PermissionDeniedError), match="no such repository"):
        world.copy(source("nobody/nothing", endpoint=world.hub.url))
    with pytest.raises(NotFoundError, match=r"no (such repository, )?revision"):
        world.copy(source(REPOSITORY, "v9", endpoint=world.hub.url))


@pytest.mark.parametrize("source", [ModelScope, HuggingFace])
def test_private_repository(world: World, source: type[ModelScope | HuggingFace]) -> None:
    world.private[REPOSITORY] = "right-token"
    world.assert_moved(world.copy(source(REPOSITORY, endpoint=world.hub.url, token="right-token")).manifest)
    with pytest.raises(MoveError) as caught:
        world.copy(source(REPOSITORY, endpoint=world.hub.url, token="wrong-token"), attempts=2)
    assert caught.value.exit_code == PermissionDeniedError.exit_code
    assert "token" in str(caught.value)
    assert "wrong-token" not in str(caught.value)


def test_wrong_secret_is_reported_at_once(world: World) -> None:
    with pytest.raises(
        PermissionDeniedError, match=r"SignatureDoesNotMatch.*the AccessKey's secret is not that of"
    ) as e:
        world.copy(bucket=bucket_of(world.oss, secret="wrong-secret"))
    assert "wrong-secret" not in str(e.value)
    assert len([r for r in world.oss.requests if r.status == 403]) == 1


def test_unknown_key_and_refused_action_are_reported_after_some_attempts(world: World) -> None:
    with pytest.raises(PermissionDeniedError, match="InvalidAccessKeyId"):
        world.copy(bucket=bucket_of(world.oss, key_id="LTAI-unknown", attempts=3))
    world.oss.faults.add(Fault(action="answer", method="PUT", status=403, code="AccessDenied", times=None))
    with pytest.raises(PermissionDeniedError, match=r"oss://models-0/.*AccessDenied \(request "):
        world.copy(attempts=3)


@pytest.mark.parametrize(
    ("code", "status", "error", "message"),
    [
        ("NoSuchBucket", 404, NotFoundError, "there is no bucket models-0"),
        ("QuotaExceeded", 403, NoSpaceError, "raise the quota, or settle the account's bill"),
        ("UserDisable", 403, NoSpaceError, "raise the quota, or settle the account's bill"),
        ("RequestTimeTooSkewed", 403, PermissionDeniedError, "the clock of this machine is wrong"),
        ("InvalidObjectName", 400, DataError, "OSS answers InvalidObjectName"),
    ],
)
def test_what_hardly_heals_ends_the_run_after_a_few_attempts(
    world: World, code: str, status: int, error: type[MoveError], message: str
) -> None:
    world.oss.faults.add(Fault(action="answer", method="PUT", status=status, code=code, times=None))
    with pytest.raises(error, match=message):
        world.copy(attempts=100)
    refused = [r for r in world.oss.requests if r.status == status and r.method == "PUT"]
    assert len(refused) <= REFUSALS


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("NoSuchBucket", 404),
        ("RequestTimeTooSkewed", 403),
        ("SignatureDoesNotMatch", 403),
        ("RequestTimeout", 400),
        ("InvalidArgument", 400),
    ],
)
def test_refusal_in_the_middle_of_a_run_is_survived(world: World, code: str, status: int) -> None:
    world.oss.faults.add(Fault(action="answer", status=status, code=code, after=5, times=2))
    world.assert_moved(world.copy().manifest)
    assert world.oss.faults.used_up()


@pytest.mark.parametrize("status", [400, 401, 404])
def test_refusal_of_the_hub_in_the_middle_of_a_run_is_survived(world: World, status: int) -> None:
    world.hub.faults.add(Fault(action="answer", path="/repo[?]", status=status, after=2, times=2))
    world.assert_moved(world.copy().manifest)
    assert world.hub.faults.used_up()


def test_repository_that_is_gone_in_the_middle_of_a_run_is_reported(world: World) -> None:
    world.hub.faults.add(Fault(action="answer", path="/repo[?]", status=404, after=2, times=None))
    with pytest.raises(NotFoundError, match=r"\(status 404\); it answered before, so the repository may have changed"):
        world.copy()


def test_hub_that_stays_down_ends_the_run_for_now(world: World) -> None:
    world.hub.faults.add(Fault(action="answer", status=503, times=None))
    with pytest.raises(UnavailableError, match=r"list the files of the source: gave up after 3 attempts.*status 503"):
        world.copy(attempts=3)


def test_upload_that_is_lost_is_restarted(world: World) -> None:
    world.oss.faults.add(Fault(action="answer", path=PARTS, status=404, code="NoSuchUpload", after=3))
    world.assert_moved(world.copy().manifest)
    assert world.oss.faults.used_up()


def test_upload_that_is_lost_again_and_again_is_reported(world: World) -> None:
    world.oss.faults.add(Fault(action="answer", path=PARTS, status=404, code="NoSuchUpload", after=3, times=None))
    with pytest.raises(UnfinishedError, match=r"its upload was lost 3 times: OSS answers NoSuchUpload"):
        world.copy()
    world.oss.faults.clear()
    world.assert_moved(world.copy().manifest)


def test_file_with_too_many_parts_is_refused_with_the_part_size_to_use(world: World) -> None:
    with pytest.raises(UsageError, match=r"more than 10000 parts of 16; use --part-size 1 or more"):
        copy(
            world.modelscope(),
            world.bucket,
            PREFIX,
            chosen=SMALL,
            options=Options(part_size=16),
            backoff=backoff(),
        )


def test_filter_that_selects_nothing_is_reported(world: World) -> None:
    with pytest.raises(DataError, match=r"none of its \d+ files is selected; check include and exclude"):
        copy(
            world.modelscope(),
            world.bucket,
            PREFIX,
            chosen=Filter(include=("*.nothing",)),
            options=OPTIONS,
            backoff=backoff(),
        )
