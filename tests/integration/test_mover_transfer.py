"""Moving a model from a hub into a bucket: all of it, only it, proven, and only once."""

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.modelmover.claim import Claim
from deepseek_acs.modelmover.errors import DataError, NotFoundError, UnavailableError, UnfinishedError
from deepseek_acs.modelmover.files import Filter, SourceFile
from deepseek_acs.modelmover.layout import claim_key, manifest_key, model_key, state_key
from deepseek_acs.modelmover.loadable import POINTER_BYTES
from deepseek_acs.modelmover.manifest import Entry, Manifest
from deepseek_acs.modelmover.mover import copy, verify
from deepseek_acs.modelmover.oss.client import Bucket, ObjectInfo, Part, Upload
from deepseek_acs.modelmover.resume import UploadState
from deepseek_acs.modelmover.retry import Backoff
from deepseek_acs.modelmover.sources.folder import Folder
from deepseek_acs.modelmover.transfer import Transfer
from local.faults import Fault
from tests.integration.conftest import (
    BUCKET,
    OPTIONS,
    PART_SIZE,
    PREFIX,
    REPOSITORY,
    SERVING,
    SMALL,
    SourceOf,
    World,
    backoff,
    bucket_of,
)

pytestmark = pytest.mark.integration

SHARD = "model-00002-of-000003.safetensors"

SOURCES: dict[str, SourceOf] = {
    "modelscope": lambda world: world.modelscope(),
    "huggingface": lambda world: world.huggingface(),
    "folder": lambda world: Folder(str(world.model)),
}


class TestCopy:
    @pytest.mark.parametrize("source", SOURCES)
    def test_moves_what_serving_needs_and_nothing_else(self, world: World, source: str) -> None:
        result = world.copy(SOURCES[source](world))
        world.assert_moved(result.manifest)
        assert result.sent == result.manifest.size == world.sent_bytes()

    def test_manifest_names_the_commit_and_proves_every_file(self, world: World) -> None:
        result = world.copy(world.huggingface())
        stored = json.loads(world.bucket.get(manifest_key(PREFIX)) or b"")
        scheme, _, commit = stored["source"].partition("@")
        assert scheme == f"hf://{REPOSITORY}"
        assert len(commit) == 40
        shard = (world.model / SHARD).read_bytes()
        assert stored["files"][SHARD]["digest"] == f"sha256:{hashlib.sha256(shard).hexdigest()}"
        assert result.manifest.files[SHARD].size == len(shard)

    def test_hash_is_attached_to_every_object(self, world: World) -> None:
        world.copy()
        for path in SERVING:
            headers = world.bucket._send("HEAD", model_key(PREFIX, path)).headers
            assert headers["x-oss-meta-sha256"] == hashlib.sha256((world.model / path).read_bytes()).hexdigest()

    def test_no_file_is_visible_before_its_upload_is_completed(self, world: World) -> None:
        world.copy()
        first_seen: dict[str, str] = {}
        for request in world.oss.requests:
            if request.path.startswith(f"/{BUCKET}/{PREFIX}/model-") and request.method in ("PUT", "POST"):
                first_seen[request.path] = request.method if "partNumber" not in request.query else "part"
        assert first_seen
        assert set(first_seen.values()) == {"POST"}, "the last request about a shard completes it"

    def test_manifest_is_written_last(self, world: World) -> None:
        world.copy()
        writes = [r.path for r in world.oss.requests if r.method in ("PUT", "POST")]
        assert writes[-1] == f"/{BUCKET}/{manifest_key(PREFIX)}"

    def test_credentials_of_the_hub_go_to_the_hub_alone(self, world: World) -> None:
        for source in (world.modelscope(), world.huggingface()):
            source.token = "hub-token"
            world.copy(source)
        assert not world.hub.leaks

    @pytest.mark.parametrize("order", [("modelscope", "huggingface"), ("huggingface", "modelscope")])
    def test_same_files_of_another_hub_are_the_same(self, world: World, order: tuple[str, str]) -> None:
        """Although the two list different hashes of small files."""
        first, second = order
        world.copy(SOURCES[first](world))
        result = world.copy(SOURCES[second](world))
        assert result.sent == 0
        world.assert_moved(result.manifest)

    def test_other_small_file_of_another_hub_is_noticed(self, world: World) -> None:
        world.copy()
        path = world.hub_file("LICENSE")
        path.write_bytes(path.read_bytes()[::-1])
        with pytest.raises(DataError, match="in which LICENSE differs"):
            world.copy(world.huggingface())

    def test_addresses_are_asked_for_once_per_file(self, world: World) -> None:
        world.copy()
        asked = [r.query["FilePath"] for r in world.hub.requests if r.path.endswith("/repo")]
        # The hub serves small files itself, and those that could be pointers of Git LFS are looked at first.
        small = [path for path in SERVING if world.hub_file(path).stat().st_size <= POINTER_BYTES]
        assert sorted(asked) == sorted([*SERVING, "model.safetensors.index.json", *small])

    def test_files_come_by_the_internal_address_of_the_own_region(self, world: World) -> None:
        source = world.modelscope()
        source.region = "cn-hangzhou"
        world.copy(source)
        paths = {r.path.split("/")[1] for r in world.hub.requests if r.path.startswith("/cdn")}
        assert paths == {"cdn-internal"}

    def test_public_address_is_the_way_out_when_the_internal_one_fails(self, world: World) -> None:
        source = world.modelscope()
        source.region = "cn-hangzhou"
        world.hub.faults.add(Fault(action="answer", status=403, path="^/cdn-internal/", times=None))
        world.assert_moved(world.copy(source).manifest)

    def test_internal_address_that_cannot_be_reached_is_left(self, world: World) -> None:
        source = world.modelscope()
        source.region = "cn-hangzhou"
        world.hub.faults.add(Fault(action="reset-request", path="^/cdn-internal/", times=None))
        world.assert_moved(world.copy(source).manifest)

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(action="answer", status=503, path="^/cdn-internal/", times=None),
            Fault(action="reset-response", path="^/cdn-internal/", times=None),
            Fault(action="truncate-response", path="^/cdn-internal/", times=None),
        ],
        ids=["busy for good", "reset before a byte", "ended before a byte"],
    )
    def test_internal_address_without_a_byte_is_left(self, world: World, fault: Fault) -> None:
        source = world.modelscope()
        source.region = "cn-hangzhou"
        world.hub.faults.add(fault)
        world.assert_moved(world.copy(source, attempts=20).manifest)

    @pytest.mark.parametrize("path", ["^/cdn-internal/", "/repo[?]"])
    @pytest.mark.parametrize("status", [429, 503])
    def test_who_is_busy_does_not_send_a_file_the_public_way(self, world: World, path: str, status: int) -> None:
        source = world.modelscope()
        source.region = "cn-hangzhou"
        world.hub.faults.add(Fault(action="answer", status=status, path=path, times=4))
        world.assert_moved(world.copy(source).manifest)
        assert world.hub.faults.used_up()
        assert {r.path.split("/")[1] for r in world.hub.requests if r.path.startswith("/cdn")} == {"cdn-internal"}


class TestSecondRun:
    @pytest.mark.parametrize("source", SOURCES)
    def test_sends_and_fetches_nothing_and_writes_nothing(self, world: World, source: str) -> None:
        world.copy(SOURCES[source](world))
        world.oss.forget_requests()
        world.hub.forget_requests()
        result = world.copy(SOURCES[source](world))
        assert result.sent == world.sent_bytes() == world.fetched_bytes() == 0
        assert {r.method for r in world.oss.requests} == {"GET", "HEAD"}

    def test_moves_only_what_is_missing(self, world: World) -> None:
        world.copy()
        world.bucket.delete(model_key(PREFIX, SHARD))
        result = world.copy()
        assert result.sent == (world.model / SHARD).stat().st_size
        world.assert_moved(result.manifest)

    def test_object_that_was_overwritten_is_moved_again(self, world: World) -> None:
        world.copy()
        size = (world.model / SHARD).stat().st_size
        world.bucket.put(model_key(PREFIX, SHARD), bytes(size))
        result = world.copy()
        assert result.sent == size
        world.assert_moved(result.manifest)

    def test_object_of_another_writer_is_read_instead_of_moved(self, world: World) -> None:
        for path in SERVING:
            world.bucket.put(model_key(PREFIX, path), (world.model / path).read_bytes())
        result = world.copy()
        assert result.sent == 0
        world.assert_moved(result.manifest)

    def test_damaged_manifest_is_rewritten(self, world: World) -> None:
        world.copy()
        world.bucket.put(manifest_key(PREFIX), b"{")
        result = world.copy()
        assert result.sent == 0
        world.assert_moved(result.manifest)

    def test_other_content_is_never_put_in_place_of_proven_one(self, world: World) -> None:
        first = world.copy()
        path = world.hub_file("config.json")
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(DataError, match=r"in which config\.json differs .* choose another prefix"):
            world.copy()
        world.assert_moved(first.manifest)

    def test_objects_that_are_not_of_the_model_are_kept_and_reported(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.bucket.put(f"{PREFIX}/.git/config", b"x")
        world.copy()
        assert f"1 objects (0.00 MiB) that are not of the model, such as {PREFIX}/.git/config" in caplog.text
        assert world.bucket.get(f"{PREFIX}/.git/config") == b"x"


class TestOtherWriters:
    """What another program does to the prefix is noticed, and healed by this or the next run."""

    def overwrite(self, world: World, path: str = SHARD) -> None:
        """The object with other bytes of the same size and the metadata of the right ones, as a repair by hand does."""
        content = (world.model / path).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        world.bucket.put(model_key(PREFIX, path), content[::-1], metadata={"sha256": digest})

    @pytest.mark.parametrize("before", [True, False], ids=["after a copy", "before the first"])
    def test_metadata_prove_nothing(self, world: World, before: bool) -> None:
        if before:
            world.copy()
        self.overwrite(world)
        world.assert_moved(world.copy().manifest)

    def test_bytes_that_rot_are_moved_again_by_a_full_copy(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.copy()
        head = world.bucket.head(model_key(PREFIX, SHARD))
        self.overwrite(world)
        true_head = Bucket.head

        def unchanged(bucket: Bucket, key: str) -> ObjectInfo | None:
            return head if key.endswith(SHARD) else true_head(bucket, key)

        with monkeypatch.context() as patch:
            patch.setattr(Bucket, "head", unchanged)
            with pytest.raises(DataError, match=r"has the hash .*\. Run copy --full again"):
                verify(world.bucket, PREFIX, full=True, backoff=backoff())
            assert world.copy().sent == 0
            world.copy(full=True)
        world.assert_moved(world.copy().manifest)
        verify(world.bucket, PREFIX, full=True, backoff=backoff())

    @pytest.mark.parametrize("path", ["config.json", SHARD])
    @pytest.mark.parametrize("what", ["delete", "overwrite"])
    def test_object_that_was_there_before_and_changes_during_the_run_is_not_certified(
        self, world: World, monkeypatch: pytest.MonkeyPatch, path: str, what: str
    ) -> None:
        world.copy()
        world.bucket.delete(model_key(PREFIX, "tokenizer.json"))
        run = Transfer.run

        def disturbed(transfer: Transfer, files: Sequence[SourceFile]) -> dict[str, Entry]:
            if what == "delete":
                world.bucket.delete(model_key(PREFIX, path))
            else:
                self.overwrite(world, path)
            return run(transfer, files)

        with monkeypatch.context() as patch:
            patch.setattr(Transfer, "run", disturbed)
            with pytest.raises(UnfinishedError, match=rf"{path} .*another program writes below the prefix"):
                world.copy()
        world.assert_moved(world.copy().manifest)

    def test_manifest_is_deleted_if_an_object_changes_while_it_is_written(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put = Bucket.put

        def disturbed(bucket: Bucket, key: str, *arguments: Any, **options: Any) -> int:
            if key == manifest_key(PREFIX):
                bucket.delete(model_key(PREFIX, SHARD))
            return put(bucket, key, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Bucket, "put", disturbed)
            with pytest.raises(UnfinishedError, match=rf"{SHARD} is missing"):
                world.copy()
        assert world.bucket.get(manifest_key(PREFIX)) is None
        world.assert_moved(world.copy().manifest)

    def test_object_that_appears_during_the_run_is_not_replaced(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        complete = Bucket.complete

        def overtaken(bucket: Bucket, upload: Upload, parts: list[Part]) -> None:
            if upload.key.endswith(SHARD):
                self.overwrite(world)
            complete(bucket, upload, parts)

        with monkeypatch.context() as patch:
            patch.setattr(Bucket, "complete", overtaken)
            with pytest.raises(UnfinishedError, match=rf"{SHARD}: another object was put under its name"):
                world.copy()
        assert world.content(SHARD) == (world.model / SHARD).read_bytes()[::-1]
        world.assert_moved(world.copy().manifest)

    def test_upload_that_another_run_of_the_same_model_completed_is_found(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        complete = Bucket.complete

        def overtaken(bucket: Bucket, upload: Upload, parts: list[Part]) -> None:
            if upload.key.endswith(SHARD):
                bucket.put(upload.key, (world.model / SHARD).read_bytes())
            complete(bucket, upload, parts)

        monkeypatch.setattr(Bucket, "complete", overtaken)
        world.assert_moved(world.copy().manifest)

    def test_another_model_is_refused_while_one_is_moved(self, world: World) -> None:
        with (
            Claim(world.bucket, PREFIX, "modelscope://other/model@0"),
            pytest.raises(DataError, match=r"is being filled from modelscope://other/model@0 by another run, whose"),
        ):
            world.copy()
        assert world.sent_bytes() == 0
        world.assert_moved(world.copy().manifest)

    def test_claim_of_a_run_that_was_killed_ends(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.bucket.put(claim_key(PREFIX), b'{"source": "modelscope://other/model@0"}')
        monkeypatch.setattr("deepseek_acs.modelmover.claim.LEASE_SECONDS", 0)
        world.assert_moved(world.copy().manifest)

    def test_claim_that_cannot_be_read_is_replaced(self, world: World) -> None:
        world.bucket.put(claim_key(PREFIX), b"[")
        world.assert_moved(world.copy().manifest)

    def test_claim_is_renewed(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deepseek_acs.modelmover.claim.RENEW_SECONDS", 0.001)
        with Claim(world.bucket, PREFIX, "a"):
            while sum(r.method == "PUT" and "claim" in r.path for r in world.oss.requests) < 3:
                pass
        assert world.bucket.get(claim_key(PREFIX)) is None

    def test_claim_that_was_lost_is_noticed_and_left_alone(self, world: World) -> None:
        with Claim(world.bucket, PREFIX, "a") as claim:
            claim.require()
            world.bucket.put(claim_key(PREFIX), b'{"source": "b"}')
            with pytest.raises(UnfinishedError, match=r"was taken over by a run that moves b; this one had"):
                claim.require()
        assert world.bucket.get(claim_key(PREFIX)) == b'{"source": "b"}'

    def test_run_that_was_overtaken_before_its_claim_looks_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        enter = Claim.__enter__

        def late(claim: Claim) -> Claim:
            monkeypatch.undo()
            world.copy()
            return enter(claim)

        monkeypatch.setattr(Claim, "__enter__", late)
        result = world.copy()
        assert result.sent == 0
        world.assert_moved(result.manifest)

    def test_manifest_of_another_run_is_not_replaced(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        other = Manifest(source="other", files={})
        run = Transfer.run

        def overtaken(transfer: Transfer, files: Sequence[SourceFile]) -> dict[str, Entry]:
            found = run(transfer, files)
            world.bucket.put(manifest_key(PREFIX), other.to_json())
            return found

        monkeypatch.setattr(Transfer, "run", overtaken)
        with pytest.raises(UnfinishedError, match=r"manifest\.json was written by another run, for other; run again"):
            world.copy()
        assert world.bucket.get(manifest_key(PREFIX)) == other.to_json()


class TestLeftovers:
    def killed(self, world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        """A run that ends without any further request when it comes to ``place``, as by SIGKILL."""
        put = Bucket.put

        def dead(*arguments: Any, **options: Any) -> None:
            raise Killed

        def maybe(bucket: Bucket, key: str, *arguments: Any, **options: Any) -> int:
            if key.endswith(place):
                for name in ("put", "delete", "abort", "complete", "upload_part"):
                    monkeypatch.setattr(Bucket, name, dead)
                dead()
            return put(bucket, key, *arguments, **options)

        monkeypatch.setattr(Bucket, "put", maybe)
        with pytest.raises(Killed):
            world.copy()
        monkeypatch.undo()

    def test_what_a_killed_run_had_proven_is_neither_read_nor_moved_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.killed(world, monkeypatch, "/manifest.json")
        assert [key for key in world.bucket.list_sizes(".modelmover/") if "/uploads/" in key]
        world.oss.forget_requests()
        result = world.copy()
        assert result.sent == 0
        assert not [
            r for r in world.oss.requests if r.method == "GET" and f"{PREFIX}/model-" in r.path and r.bytes_out > 10**6
        ]
        world.assert_moved(result.manifest)

    def test_strays_are_cleaned_even_if_nothing_is_missing(self, world: World) -> None:
        world.copy()
        world.bucket.initiate(model_key(PREFIX, SHARD), metadata={})
        world.bucket.put(state_key(PREFIX, SHARD), b"{}")
        world.assert_moved(world.copy().manifest)


class Killed(BaseException):
    """Not an error that the program knows."""


class TestInterruption:
    def test_stopped_run_saves_how_far_it_came_and_the_next_continues(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deepseek_acs.modelmover.transfer.SAVE_EVERY_BYTES", 2**40)
        wait = Backoff(attempts=2, base_seconds=0)
        # The second half of each shard is refused, until the run gives up.
        world.oss.faults.add(Fault(action="answer", status=503, method="PUT", path=r"partNumber=[4-9]", times=None))
        with pytest.raises(UnfinishedError, match="gave up after 2 attempts"):
            copy(
                world.modelscope(),
                bucket_of(world.oss, attempts=2),
                PREFIX,
                chosen=SMALL,
                options=OPTIONS,
                backoff=wait,
            )
        states = [key for key in world.bucket.list_sizes(".modelmover/") if "/uploads/" in key]
        assert states
        saved = [UploadState.from_json(world.bucket.get(key) or b"") for key in states]
        assert any(state is not None and state.hashed_parts for state in saved)
        world.oss.faults.clear()
        acknowledged = world.acknowledged_parts()
        world.oss.forget_requests()
        world.hub.forget_requests()
        result = world.copy()
        world.assert_moved(result.manifest)
        assert not acknowledged & world.acknowledged_parts(), "no part is sent twice"
        spared = sum(state.hashed_parts * PART_SIZE for state in saved if state is not None)
        shards = sum((world.model / path).stat().st_size for path in SERVING if path.startswith("model-"))
        assert world.fetched_bytes() <= shards - spared, "what the saved hash covers is not fetched"

    @pytest.mark.parametrize("path", ["config.json", SHARD])
    def test_bytes_that_are_damaged_on_their_way_are_never_visible_and_never_certified(
        self, world: World, path: str
    ) -> None:
        """However often they are, and whatever the next run finds."""
        world.oss.faults.add(Fault(action="flip-request", method="PUT", path=path, offset=3, times=None))
        with pytest.raises((UnfinishedError, UnavailableError)):
            world.copy(attempts=2)
        assert world.content(path) is None
        world.oss.faults.clear()
        world.assert_moved(world.copy().manifest)

    def test_object_of_another_mover_is_neither_deleted_nor_certified(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        theirs = bytes((world.model / SHARD).stat().st_size)
        complete = Bucket.complete

        def overtaken(bucket: Bucket, upload: Upload, parts: list[Part]) -> None:
            if upload.key.endswith(SHARD):
                bucket.put(upload.key, theirs)
                bucket.abort(upload)
            complete(bucket, upload, parts)

        monkeypatch.setattr(Bucket, "complete", overtaken)
        with pytest.raises(UnfinishedError, match=rf"{SHARD}: its upload was lost 3 times"):
            world.copy()
        assert world.content(SHARD) == theirs
        assert world.bucket.get(manifest_key(PREFIX)) is None

    def test_object_that_is_replaced_during_the_run_is_not_certified(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = Transfer.run

        def overwritten(transfer: Transfer, files: Sequence[SourceFile]) -> dict[str, Entry]:
            found = run(transfer, files)
            world.bucket.put(model_key(PREFIX, SHARD), b"theirs")
            return found

        monkeypatch.setattr(Transfer, "run", overwritten)
        with pytest.raises(UnfinishedError, match=rf"{SHARD} has 6 bytes .* another program writes below the prefix"):
            world.copy()
        assert world.bucket.get(manifest_key(PREFIX)) is None

    def test_python_that_cannot_continue_the_hash_sends_nothing_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.oss.faults.add(Fault(action="answer", status=503, method="PUT", path=r"partNumber=[4-9]", times=None))
        with pytest.raises(UnfinishedError):
            world.copy(attempts=2)
        world.oss.faults.clear()
        acknowledged = world.acknowledged_parts()
        world.oss.forget_requests()
        for module in ("checksums", "resume"):
            monkeypatch.setattr(f"deepseek_acs.modelmover.{module}.can_resume", lambda: False)
        world.assert_moved(world.copy().manifest)
        assert not acknowledged & world.acknowledged_parts()

    def test_upload_without_a_state_is_aborted(self, world: World) -> None:
        stray = world.bucket.initiate(model_key(PREFIX, SHARD), metadata={})
        world.bucket.upload_part(Upload(key=model_key(PREFIX, SHARD), id=stray), 1, memoryview(bytearray(PART_SIZE)))
        world.assert_moved(world.copy().manifest)

    def test_uploads_of_others_are_left_alone(self, world: World) -> None:
        world.bucket.initiate(f"{PREFIX}/theirs.bin", metadata={})
        world.copy()
        assert [upload.key for upload in world.bucket.list_uploads("")] == [f"{PREFIX}/theirs.bin"]

    def test_state_of_other_content_is_not_continued(self, world: World) -> None:
        upload_id = world.bucket.initiate(model_key(PREFIX, SHARD), metadata={})
        upload = Upload(key=model_key(PREFIX, SHARD), id=upload_id)
        world.bucket.upload_part(upload, 1, memoryview(bytearray(PART_SIZE)))
        state = UploadState(upload_id=upload_id, digest=f"sha256:{'0' * 64}", size=3 * PART_SIZE, part_size=PART_SIZE)
        world.bucket.put(state_key(PREFIX, SHARD), state.to_json())
        world.assert_moved(world.copy().manifest)
        assert world.bucket.list_parts(upload) is None, "it was aborted"

    def test_part_with_other_bytes_is_sent_again(self, world: World) -> None:
        size = (world.model / SHARD).stat().st_size
        digest = hashlib.sha256((world.model / SHARD).read_bytes()).hexdigest()
        upload_id = world.bucket.initiate(model_key(PREFIX, SHARD), metadata={"sha256": digest})
        upload = Upload(key=model_key(PREFIX, SHARD), id=upload_id)
        world.bucket.upload_part(upload, 2, memoryview(bytearray(PART_SIZE)))
        state = UploadState(upload_id=upload_id, digest=f"sha256:{digest}", size=size, part_size=PART_SIZE)
        world.bucket.put(state_key(PREFIX, SHARD), state.to_json())
        world.assert_moved(world.copy().manifest)

    def test_end_of_the_run_is_waited_for_by_no_thread(self, world: World) -> None:
        before = threading.active_count()
        world.hub.faults.add(Fault(action="answer", status=503, path="^/cdn/", times=None))
        with pytest.raises((UnfinishedError, UnavailableError)):
            world.copy(attempts=2)
        names = [t.name for t in threading.enumerate() if t.name.startswith(("send", "read", "progress"))]
        assert not names, f"{threading.active_count()} threads, {before} before"


class TestPinned:
    """By the digest of the manifest, which is known before."""

    def test_what_is_pinned_is_accepted(self, world: World) -> None:
        digest = world.copy().manifest.sha256
        assert digest == hashlib.sha256(world.bucket.get(manifest_key(PREFIX)) or b"").hexdigest()
        assert world.copy(pinned=digest).sent == 0
        assert verify(world.bucket, PREFIX, full=False, backoff=backoff(), pinned=digest).sha256 == digest

    def test_another_model_is_moved_but_never_certified(self, world: World) -> None:
        with pytest.raises(DataError, match=r"has the SHA-256 [0-9a-f]{64}, and 0{64} is pinned.*find out who"):
            world.copy(pinned="0" * 64)
        assert world.bucket.get(manifest_key(PREFIX)) is None
        world.copy()
        with pytest.raises(DataError, match="is pinned"):
            world.copy(pinned="0" * 64)

    def test_who_may_write_weights_and_manifest_is_found_out(self, world: World) -> None:
        """Size, CRC-64 and hash are then those of the manifest; its own digest is in the stack file."""
        digest = world.copy().manifest.sha256
        world.bucket.put(model_key(PREFIX, "config.json"), b"{}")
        head = world.bucket.head(model_key(PREFIX, "config.json"))
        assert head is not None
        document = json.loads(world.bucket.get(manifest_key(PREFIX)) or b"")
        forged = {"size": 2, "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}", "crc64": head.crc64}
        document["files"]["config.json"] = forged
        world.bucket.put(manifest_key(PREFIX), json.dumps(document).encode())
        verify(world.bucket, PREFIX, full=True, backoff=backoff())
        with pytest.raises(DataError, match=f"and {digest} is pinned"):
            verify(world.bucket, PREFIX, full=False, backoff=backoff(), pinned=digest)


class TestVerify:
    def test_moved_model_is_verified_without_reading_it(self, world: World) -> None:
        world.copy()
        world.oss.forget_requests()
        assert verify(world.bucket, PREFIX, full=False, backoff=backoff()).files.keys() == SERVING
        assert sum(r.bytes_out for r in world.oss.requests if "model-" in r.path and r.method == "GET") == 0

    def test_full_check_reads_every_byte(self, world: World) -> None:
        manifest = world.copy().manifest
        world.oss.forget_requests()
        verify(world.bucket, PREFIX, full=True, backoff=backoff())
        read = sum(r.bytes_out for r in world.oss.requests if r.method == "GET" and f"/{PREFIX}/" in r.path)
        assert read >= manifest.size

    def test_missing_manifest_is_reported_with_the_way_to_get_one(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"has no manifest.*run copy"):
            verify(world.bucket, PREFIX, full=False, backoff=backoff())

    def test_every_difference_is_named(self, world: World) -> None:
        world.copy()
        world.bucket.delete(model_key(PREFIX, SHARD))
        world.bucket.put(model_key(PREFIX, "config.json"), b"{}")
        with pytest.raises(DataError, match=rf"config\.json has 2 bytes .*; {SHARD} is missing\. Run copy again"):
            verify(world.bucket, PREFIX, full=False, backoff=backoff())

    def test_full_check_finds_what_the_checksum_cannot(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """A manifest that was made for other bytes."""
        world.copy()
        document = json.loads(world.bucket.get(manifest_key(PREFIX)) or b"")
        document["files"]["config.json"]["digest"] = f"sha256:{'0' * 64}"
        world.bucket.put(manifest_key(PREFIX), json.dumps(document).encode())
        verify(world.bucket, PREFIX, full=False, backoff=backoff())
        with pytest.raises(DataError, match=r"config\.json has the hash sha256:"):
            verify(world.bucket, PREFIX, full=True, backoff=backoff())

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"{", "the manifest is damaged"), (b'{"format": 2}', "has format 2, this program reads format 1")],
    )
    def test_unusable_manifest_is_reported(self, world: World, content: bytes, message: str) -> None:
        world.bucket.put(manifest_key(PREFIX), content)
        with pytest.raises(DataError, match=message):
            verify(world.bucket, PREFIX, full=False, backoff=backoff())


class TestFolder:
    def test_missing_folder_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="there is no folder"):
            Folder(str(tmp_path / "nothing")).list_files()

    def test_link_that_leads_nowhere_is_reported(self, tmp_path: Path) -> None:
        """The caches of download tools are full of links."""
        (tmp_path / ".cache").mkdir()
        (tmp_path / ".cache" / "ignored").symlink_to("nothing")
        (tmp_path / "model.safetensors").symlink_to("../blobs/none")
        with pytest.raises(DataError, match=r"/model\.safetensors is a link that leads nowhere \(No such file"):
            Folder(str(tmp_path)).list_files()
        (tmp_path / "model.safetensors").unlink()
        assert Folder(str(tmp_path)).list_files() == []

    def test_git_is_not_even_read(self, tmp_path: Path) -> None:
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "x").write_bytes(b"x")
        (tmp_path / "empty").write_bytes(b"")
        digest = hashlib.sha256(b"").hexdigest()
        assert Folder(str(tmp_path)).list_files() == [SourceFile(path="empty", size=0, digest=f"sha256:{digest}")]

    def test_file_that_changes_while_it_is_moved_is_noticed(self, world: World, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "config.json").write_bytes(b"{}")
        (folder / "tokenizer.json").write_bytes(b"{}")
        source = Folder(str(folder))
        listed = source.list_files()
        (folder / "config.json").write_bytes(b"[]")
        source.list_files = lambda: listed  # type: ignore[method-assign]
        with pytest.raises(DataError, match=r"config\.json: the hash is .* nothing was put under its name"):
            world.copy(source, chosen=Filter(include=("*.json",)))
        assert world.content("config.json") is None
