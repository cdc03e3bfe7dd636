"""Every fault of the network, of a hub and of OSS, once or for ever: right bytes, a text, an exit code of the table,
and a plain rerun that heals what can heal."""

from dataclasses import dataclass

import pytest

from tests.chaos.conftest import EXIT_CODES, Chaos
from tests.chaos.faults import (
    ERROR,
    HTML,
    answers,
    changes,
    chunked_page,
    cuts,
    flips_answer,
    flips_request,
    having,
    loops,
    loses_answer,
    refuses,
    replaces,
    resets,
    trickles,
)
from tests.chaos.proxy import Action, Answer, Rule

pytestmark = pytest.mark.chaos

LISTING, API, CDN = "/repo/files", "/repo[?]", "^/cdn"
SHARD = "model-00002-of-000003"
PART, INITIATE, COMPLETE = "partNumber=", "[?]uploads$", "[?]uploadId="
MANIFEST, STATE, CLAIM = "manifest.json", "/uploads/", "claim.json"
LIST, UPLOADS = "list-type=2", "uploads"


@dataclass(frozen=True)
class Case:
    """``codes`` are those that the first run may end with, and ``said`` is in its log."""

    action: Action
    path: str = ""
    method: str = ""
    after: int = 0
    times: int | None = 1
    codes: tuple[int, ...] = (0,)
    said: str = ""

    @property
    def rule(self) -> Rule:
        return Rule(self.action, path=self.path, method=self.method, after=self.after, times=self.times)


def json_with(old: bytes, new: bytes) -> Action:
    return changes(
        lambda answer: Answer(
            status=answer.status, headers=answer.headers, body=answer.body.replace(old, new, 1)
        ).having(content_length=str(len(answer.body.replace(old, new, 1))))
    )


HUB = {
    "bit flip in a shard": Case(flips_answer(100_000), CDN),
    "bit flip in config.json": Case(flips_answer(7), "config.json"),
    "bit flip in the index, once": Case(flips_answer(50), "index.json"),
    "bit flip in every body of a shard": Case(
        flips_answer(100_000), f"^/cdn.*{SHARD}", times=None, codes=(65,), said="nothing was put under its name"
    ),
    "bit flip in every index": Case(flips_answer(50), "index.json", times=None, codes=(65,), said="the hash is"),
    "reset": Case(resets, CDN, times=4),
    "reset within a body": Case(cuts(0.5, reset=True), CDN, times=8),
    "body too short": Case(cuts(0.7), CDN, times=8),
    "listing too short": Case(cuts(0.7), LISTING, times=2),
    "bytes behind the body": Case(
        changes(lambda answer: Answer(status=answer.status, headers=answer.headers, body=answer.body + b"x" * 999)),
        CDN,
        times=3,
    ),
    "503 at the start": Case(answers(503), times=3),
    "503 in the middle": Case(answers(503), after=5, times=4),
    "429 for 5 s": Case(answers(429, retry_after="5"), API, times=3),
    "429 for an hour": Case(answers(429, retry_after="3600"), API, times=3),
    "429 until a date": Case(answers(429, retry_after="Wed, 21 Oct 2099 07:28:00 GMT"), API, times=3),
    "429 without a usable time": Case(answers(429, retry_after="soon"), API, times=3),
    "trickle": Case(trickles(), CDN, times=2),
    "trickle of the head": Case(trickles(head=True), CDN, times=2),
    "trickle of the listing": Case(trickles(), LISTING),
    "no ETag": Case(having(etag=None), CDN, times=None),
    "no length": Case(changes(lambda answer: answer.having(content_length=None), then_close=True), CDN, times=None),
    "wrong ETag and CRC": Case(having(etag='"0"', x_oss_hash_crc64ecma="1"), CDN, times=None),
    "length that is not a number": Case(having(content_length="abc"), CDN, times=2),
    "length that is never a number": Case(having(content_length="abc"), CDN, times=None, codes=(69, 75), said="length"),
    "listing with such a length": Case(having(content_length="abc"), LISTING, times=2),
    "encoded body": Case(having(content_encoding="gzip"), CDN, times=2),
    "HTML for a file": Case(answers(200, HTML), CDN, times=3),
    "chunked HTML for a file": Case(chunked_page, CDN),
    "HTML for the listing": Case(answers(200, HTML), LISTING),
    "HTML for each file": Case(answers(200, HTML), CDN, times=None, codes=(69, 75), said="bytes are listed"),
    "HTML for each listing": Case(answers(200, HTML), LISTING, times=None, codes=(69,), said="is not JSON"),
    "redirect loop at the content server, once": Case(answers(302), CDN),
    "redirect loop of files": Case(loops, API, times=None, codes=(65,), said="redirected more than 5 times"),
    "redirect loop of the listing": Case(loops, LISTING, times=None, codes=(65,), said="redirected more than 5 times"),
    "redirect to a port that is none": Case(having(location="http://127.0.0.1:x/cdn"), API, times=2),
    "redirect to a host that is none": Case(having(location="http://a..b/cdn"), API, times=2),
    "redirect to a bracket": Case(having(location="http://[::1/cdn"), API, times=2),
    "redirect to a file": Case(
        having(location="file:///etc/passwd"), API, times=None, codes=(69, 75), said="an unusable address"
    ),
    "one 404": Case(answers(404), API, after=2),
    "one 401": Case(answers(401), API, after=2),
    "one 400": Case(answers(400), API, after=2),
    "commit that is gone": Case(answers(404), API, after=2, times=None, codes=(66,), said="may have changed since"),
    "404 of the content server": Case(answers(404), CDN, times=2),
    "403 of the content server": Case(answers(403), CDN, times=2),
    "size that is null": Case(
        json_with(b'"Size": ', b'"Size": null, "x": '), LISTING, times=None, codes=(65,), said="impossible size"
    ),
    "size that is text": Case(
        json_with(b'"Size": ', b'"Size": "7", "x": '), LISTING, times=None, codes=(65,), said="impossible size"
    ),
    "size that is negative": Case(
        json_with(b'"Size": ', b'"Size": -7, "x": '), LISTING, times=None, codes=(65,), said="impossible size"
    ),
    "type that is unknown": Case(
        json_with(b'"Type": "blob"', b'"Type": "link"'), LISTING, times=None, codes=(65,), said="unknown type 'link'"
    ),
}

OSS = {
    "bit flip in parts": Case(flips_request(999), PART, times=3),
    "bit flip in a small file": Case(flips_request(9), "config.json", "PUT"),
    "bit flip in the manifest": Case(flips_request(99), MANIFEST, "PUT"),
    "bit flip in a state": Case(flips_request(9), STATE, "PUT"),
    "bit flip in the claim": Case(flips_request(9), CLAIM, "PUT"),
    "bit flip in the answer to the manifest": Case(flips_answer(9), MANIFEST, "GET"),
    "resets of requests of all kinds": Case(resets, times=4),
    "resets in the middle": Case(resets, PART, after=2, times=4),
    "answers lost": Case(loses_answer, times=4),
    "answers to parts lost": Case(loses_answer, PART, times=8),
    "answer to a small file lost": Case(loses_answer, "config.json", "PUT", times=2),
    "answer to the claim lost": Case(loses_answer, CLAIM, "PUT"),
    "answer to the manifest lost": Case(loses_answer, MANIFEST, "PUT", times=2),
    "answers to Complete lost": Case(loses_answer, COMPLETE, "POST", times=3),
    "answers reset": Case(cuts(0.5, reset=True), LIST, times=2),
    "answers too short": Case(cuts(0.5), LIST, times=2),
    "bytes behind answers": Case(
        changes(lambda answer: Answer(status=answer.status, headers=answer.headers, body=answer.body + b"x" * 99)),
        LIST,
    ),
    "500 at the start": Case(answers(500), times=4),
    "503 in the middle": Case(answers(503), PART, after=3, times=4),
    "429 for 5 s": Case(answers(429, retry_after="5"), PART, times=3),
    "503 for 8 s": Case(answers(503, retry_after="8"), PART),
    "trickle of a listing": Case(trickles(), LIST),
    "part without CRC": Case(having(x_oss_hash_crc64ecma=None), PART),
    "part with another CRC": Case(having(x_oss_hash_crc64ecma="1"), PART),
    "part whose CRC is not a number": Case(having(x_oss_hash_crc64ecma="abc"), PART),
    "parts without CRC for ever": Case(
        having(x_oss_hash_crc64ecma=None), PART, times=None, codes=(69, 75), said="OSS has None"
    ),
    "part without ETag": Case(having(etag=None), PART),
    "part with another ETag": Case(having(etag='"0"'), PART),
    "HEAD without length": Case(having(content_length=None), "model-", "HEAD", times=2),
    "HEAD whose length is not a number": Case(having(content_length="abc"), "model-", "HEAD", times=2),
    "HEAD without CRC": Case(having(x_oss_hash_crc64ecma=None), "model-", "HEAD"),
    "HEAD 404": Case(answers(404), "model-", "HEAD"),
    "HEAD 404 in the last look": Case(answers(404), "model-", "HEAD", after=4),
    "list without sizes": Case(json_with(b"<Size>", b"<Siz>"), LIST),
    "Complete refused with InvalidPart": Case(refuses(400, "InvalidPart"), COMPLETE, "POST"),
    "Complete never with CRC": Case(having(x_oss_hash_crc64ecma=None), COMPLETE, "POST", times=None),
    "Complete with another CRC": Case(having(x_oss_hash_crc64ecma="1"), COMPLETE, "POST"),
    "Complete not done, 200 with an error": Case(answers(200, ERROR), COMPLETE, "POST"),
    "Complete not done, 200 with HTML": Case(answers(200, HTML), COMPLETE, "POST", times=2),
    "Complete never done, 200 with an error": Case(
        answers(200, ERROR),
        COMPLETE,
        "POST",
        times=None,
        codes=(75,),
        said="expected was CompleteMultipartUploadResult",
    ),
    "Complete done, 200 with an error": Case(replaces(200, ERROR), COMPLETE, "POST"),
    "Complete done, 500": Case(replaces(500), COMPLETE, "POST"),
    "NoSuchUpload for the first part": Case(refuses(404, "NoSuchUpload"), PART),
    "NoSuchUpload in the middle": Case(refuses(404, "NoSuchUpload"), PART, after=3),
    "HTML for an initiate": Case(answers(200, HTML), INITIATE, "POST"),
    "HTML for a listing": Case(answers(200, HTML), LIST),
    "HTML for the uploads": Case(answers(200, HTML), "[?].*uploads", "GET"),
    "HTML for the manifest": Case(answers(200, HTML), MANIFEST, "GET"),
    "HTML for a part": Case(answers(200, HTML), PART),
    "HTML for the written manifest": Case(answers(200, HTML), MANIFEST, "PUT"),
    "HTML for the claim": Case(answers(200, HTML), CLAIM, "PUT"),
    "redirect of a part": Case(answers(307, location="http://127.0.0.1:1/"), PART),
    "400 RequestTimeout": Case(refuses(400, "RequestTimeout"), PART, times=3),
    "400 without a body": Case(answers(400), PART),
    "one RequestTimeTooSkewed": Case(refuses(403, "RequestTimeTooSkewed"), PART, after=2),
    "one SignatureDoesNotMatch": Case(refuses(403, "SignatureDoesNotMatch"), PART, after=2),
    "one NoSuchBucket": Case(refuses(404, "NoSuchBucket"), PART, after=2),
    "AccessDenied twice": Case(refuses(403, "AccessDenied"), times=2),
    "InvalidAccessKeyId": Case(refuses(403, "InvalidAccessKeyId")),
    "wrong clock": Case(
        refuses(403, "RequestTimeTooSkewed"), times=None, codes=(77,), said="the clock of this machine"
    ),
    "no space": Case(refuses(403, "QuotaExceeded"), PART, times=None, codes=(73,), said="raise the quota"),
    "never there": Case(resets, times=None, codes=(69,), said="gave up after"),
    "gone after six parts": Case(answers(503), PART, after=6, times=None, codes=(75,), said="gave up after"),
    "gone before the manifest": Case(answers(503), MANIFEST, "PUT", times=None, codes=(69, 75), said="gave up after"),
    "states that cannot be deleted": Case(answers(503), STATE, "DELETE", times=2),
}


@pytest.mark.parametrize("name", HUB)
def test_fault_of_the_hub(chaos: Chaos, name: str) -> None:
    chaos.hub.reset(HUB[name].rule)
    evaluate(chaos, HUB[name], chaos.hub.rules[0])


@pytest.mark.parametrize("name", OSS)
def test_fault_of_oss(chaos: Chaos, name: str) -> None:
    chaos.oss.reset(OSS[name].rule)
    evaluate(chaos, OSS[name], chaos.oss.rules[0])


def evaluate(chaos: Chaos, case: Case, rule: Rule) -> None:
    code, log = chaos.run()
    assert rule.happened, "the fault did not take place"
    assert code in case.codes, log
    assert code in EXIT_CODES
    assert case.said in log
    assert "Traceback" not in log
    chaos.assert_no_false_manifest()
    chaos.heal()
    code, log = chaos.run()
    assert code == 0, log
    chaos.assert_whole()


RESUMED = {
    "no parts": Case(json_with(b"<Part>", b"<Other>"), "uploadId=", "GET"),
    "parts too short": Case(cuts(0.5), "uploadId=", "GET"),
    "state that is damaged": Case(json_with(b"part_size", b"part_sise"), STATE, "GET", times=2),
    "state that is HTML": Case(answers(200, HTML), STATE, "GET"),
    "upload that is gone": Case(refuses(404, "NoSuchUpload"), "uploadId=", "GET"),
}


@pytest.mark.parametrize("name", RESUMED)
def test_fault_where_a_run_is_continued(chaos: Chaos, name: str) -> None:
    chaos.oss.reset(Rule(answers(503), path=PART, after=6, times=None))
    assert chaos.run()[0] == 75
    chaos.oss.reset(RESUMED[name].rule)
    evaluate(chaos, RESUMED[name], chaos.oss.rules[0])
