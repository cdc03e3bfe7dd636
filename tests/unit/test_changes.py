"""What the program makes of what the engine tells it about an update; the words are test_effect.py."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s
import pytest
from pulumi import ResourceHook, ResourceHookArgs
from pulumi.output import Unknown

from components.changes import VERSION, Changes
from components.crds import LeaderWorkerSet
from components.live_cluster import LookupFailedError
from components.ownership import Ownership
from deepseek_acs.planner.spec import of_revision
from tests.unit.conftest import Run, resolved
from tests.unit.test_updates import stack

LWS = "kubernetes:leaderworkerset.x-k8s.io/v1:LeaderWorkerSet"
KEY = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"key": "k", "name": "access-api-key-1a2b"}}}
SET = f"{LWS}::group"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
NOT_YET: Any = Unknown()  # type: ignore[no-untyped-call]
NEW_SET = f"{LWS}::group-v33"
FIRST: dict[str, Any] = {"name": "deepseek-r1", "replicas": 1.0, "requests": 100.0, "is_second": False}
SECOND: dict[str, Any] = {"name": "deepseek-r1-v33", "replicas": 1.0, "requests": 10.0, "is_second": True}
"""LeaderWorkerSets of the record, which has no whole numbers."""

SETTINGS: dict[str, Any] = {"inference": {"replicas": 2}}
CONFIRMED: dict[str, Any] = {"inference": {"rollout": {"restarts": {"allow": "confirmed"}}}}


class FakeOwnership:
    """Knows one cluster, which answers with the ``managed`` fields of every object."""

    def __init__(self, managed: Sequence[Mapping[str, Any]] | None) -> None:
        self.managed = managed

    async def cluster(self) -> "FakeOwnership":
        return self

    def metadata(self, _: str, __: str, *, namespace: str, name: str) -> Mapping[str, Any]:
        assert (namespace, name) == ("ns", "deepseek-r1")
        if self.managed is None:
            raise LookupFailedError("connection refused")
        return {"managedFields": self.managed}


def group(image: str = "v1", replicas: int = 2, variable: Mapping[str, Any] = KEY) -> dict[str, Any]:
    container = {"name": "vllm", "image": image, "env": [variable]}
    template = {"leaderTemplate": {"spec": {"containers": [container]}}}
    return {
        "metadata": {"namespace": "ns", "name": "deepseek-r1"},
        "spec": {"replicas": replicas, "leaderWorkerTemplate": template},
    }


def updated(old: Mapping[str, Any], new: Mapping[str, Any], kind: str = LWS, name: str = "group") -> ResourceHookArgs:
    return ResourceHookArgs(urn="u", id="i", name=name, type=kind, old_inputs=old, new_inputs=new)


def created(kind: str, name: str) -> ResourceHookArgs:
    return ResourceHookArgs(urn="u", id="", name=name, type=kind, new_inputs={})


def recorded(
    settings: Mapping[str, Any], *objects: str, sets: Mapping[str, Mapping[str, Any]] | None = None
) -> ResourceHookArgs:
    """The record of the last update, which this one changes: as the state has it, without nulls."""
    kept = {key: {name: value for name, value in one.items() if value is not None} for key, one in (sets or {}).items()}
    last = {
        "version": float(VERSION),
        "settings": json.dumps(settings),
        "sets": kept,
        "objects": list(objects),
        "kept": [],
    }
    return updated({"input": last}, {"input": {}}, "pulumi:index:Stash", "applied")


Say = Callable[..., str]


@pytest.fixture
def effect(deploy: Run, hooks: dict[str, ResourceHook], monkeypatch: pytest.MonkeyPatch) -> Say:
    """``effect(*called, changes={}, managed=[], preview=True)`` is all that is said after these calls of the engine,
    in a stack that has one ConfigMap, ``here``, and the LeaderWorkerSets of ``changes``."""

    def run(
        *called: ResourceHookArgs,
        changes: Mapping[str, Any] | None = None,
        managed: Sequence[Mapping[str, Any]] | None = (),
        preview: bool = True,
    ) -> str:
        said: list[str] = []
        monkeypatch.setattr("pulumi.log.info", lambda text, *_: said.append(text))
        monkeypatch.setattr("pulumi.log.warn", lambda text, *_: said.append(text))
        monkeypatch.setattr("pulumi.log.error", lambda text, *_: said.append(text))

        def program() -> None:
            spec = resolved(changes or {})
            found = Changes(spec, SETTINGS, cast(Ownership, FakeOwnership(managed)))
            k8s.core.v1.ConfigMap("here")
            for one in spec.revisions:
                LeaderWorkerSet(of_revision("group", one.revision), metadata={"name": one.name}, spec={})

            async def end() -> None:
                for args in called:
                    done = hooks["changes"](args)
                    assert done is not None
                    await done
                await found.verdict()

            pulumi.run(end)

        try:
            deploy(program, stack="dev", preview=preview)
        except pulumi.RunError as error:
            said.append(f"RunError: {error}")
        return "\n".join(said)

    return run


class TestRecord:
    def test_it_has_settings_and_objects(self, deploy: Run) -> None:
        def program() -> None:
            found = Changes(resolved({}), SETTINGS, cast(Ownership, FakeOwnership(())))
            k8s.core.v1.ConfigMap("here")
            LeaderWorkerSet("group", metadata={"name": "deepseek-r1"}, spec={})
            k8s.core.v1.Namespace("kept", opts=pulumi.ResourceOptions(retain_on_delete=True))
            pulumi.run(found.verdict)

        recorder = deploy(program)
        assert recorder.inputs("Stash")["input"] == {
            "version": 1,
            "settings": json.dumps(SETTINGS),
            "sets": {SET: {"name": "deepseek-r1", "replicas": 1, "requests": 100, "is_second": False}},
            "objects": [f"{CONFIG_MAP}::here", SET],
            "kept": ["kubernetes:core/v1:Namespace::kept"],
        }
        assert len(recorder.request("Stash").dependencies) == 3, "it is that of an update that succeeded"

    def test_no_secret_is_in_it(self, program: Run) -> None:
        recorder = program(stack="prod")
        record = str(recorder.raw_inputs("Stash"))
        assert "0123456789abcdef" * 4 not in record
        assert "4dabf18193072939515e22adb298388d" not in record, "Pulumi's mark of a secret"
        assert len(recorder.inputs("Stash")["input"]["objects"]) > 10


class TestEffect:
    def test_a_setting_restarts_groups(self, effect: Say) -> None:
        before = {"inference": {"replicas": 2.0, "engine": {"image": "v1"}}}
        said = effect(updated(group(), group("v2")), recorded(before))
        assert "change    inference.engine.image removed" in said
        assert "effect    restart" in said

    def test_the_program_does(self, effect: Say) -> None:
        """The record does not change, so no hook is called for it."""
        said = effect(updated(group(), group("v2")))
        assert "change    no setting: by the program" in said
        assert "effect    restart" in said

    def test_a_secret_whose_name_is_not_known_yet_does(self, effect: Say) -> None:
        """As in a preview of another API key."""
        unknown = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"key": "k", "name": NOT_YET}}}
        assert "effect    restart" in effect(updated(group(), group(variable=unknown)))

    def test_an_update_that_only_waits_again(self, effect: Say) -> None:
        """After one that timed out, the engine updates with the same inputs."""
        assert "effect    other objects: no pod of a group is restarted" in effect(updated(group(), group()))

    def test_another_number_scales(self, effect: Say) -> None:
        assert "scale     from 2 to 3 groups" in effect(updated(group(), group(replicas=3)))

    def test_what_is_created_though_it_was_there_is_replaced(self, effect: Say) -> None:
        said = effect(created(CONFIG_MAP, "here"), recorded({}, f"{CONFIG_MAP}::here"))
        assert "replaces  ConfigMap" in said
        assert "creates" not in effect(created(CONFIG_MAP, "here"), recorded({}, f"{CONFIG_MAP}::here"))

    def test_what_was_not_there_is_created(self, effect: Say) -> None:
        assert "creates   ConfigMap" in effect(created(CONFIG_MAP, "here"), recorded({}))

    def test_what_the_program_does_not_have_any_more_is_deleted(self, effect: Say) -> None:
        assert "deletes   Job" in effect(recorded({}, f"{CONFIG_MAP}::here", "kubernetes:batch/v1:Job::gone"))

    def test_a_stack_without_record(self, effect: Say) -> None:
        said = effect(updated(group(), group("v2")), created("pulumi:index:Stash", "applied"))
        assert "change    not known" in said
        assert "effect    restart" in said

    def test_a_record_of_another_version(self, effect: Say) -> None:
        newer = {"input": {"version": VERSION + 1.0, "other": {}}}
        said = effect(updated(group(), group("v2")), updated(newer, newer, "pulumi:index:Stash", "applied"))
        assert "change    not known" in said
        assert "effect    restart" in said

    def test_a_second_revision(self, effect: Say) -> None:
        said = effect(
            created(LWS, "group-v33"), recorded({}, SET, sets={SET: FIRST}), changes=stack(weight=10), managed=None
        )
        assert "effect    second revision" in said
        assert "revision  creates deepseek-r1-v33: 1 group" in said
        assert "shares    deepseek-r1 100 → 90 %, deepseek-r1-v33 0 → 10 %" in said

    def test_its_promotion(self, effect: Say) -> None:
        """The first LeaderWorkerSet is not among the objects of the program any more."""
        last = recorded({}, SET, NEW_SET, sets={SET: {**FIRST, "replicas": 2.0}, NEW_SET: SECOND})
        said = effect(last, changes=stack(promote=True), managed=None)
        assert "effect    promotion" in said
        assert "revision  deepseek-r1-v33 serves from now on; then deepseek-r1 is deleted (2 groups)" in said
        assert "deletes   LeaderWorkerSet" in said

    def test_its_end(self, effect: Say) -> None:
        last = recorded({}, SET, NEW_SET, sets={SET: FIRST, NEW_SET: SECOND})
        said = effect(last, changes=stack(), managed=None)
        assert "effect    going back" in said
        assert "revision  gives up deepseek-r1-v33 (1 group): deepseek-r1 serves, and then it is deleted" in said

    def test_an_update_says_nothing(self, effect: Say) -> None:
        """Its preview has."""
        assert effect(updated(group(), group("v2")), preview=False) == ""


class TestByHand:
    def managed(self, manager: str, fields: Mapping[str, Any], **more: str) -> dict[str, Any]:
        return {"manager": manager, "fieldsV1": {"f:spec": fields}, **more}

    def test_what_others_have_set(self, effect: Say) -> None:
        container: dict[str, Any] = {'k:{"name":"vllm"}': {".": {}, "f:image": {}, "f:tty": {}}}
        template = {"f:leaderWorkerTemplate": {"f:leaderTemplate": {"f:spec": {"f:containers": container}}}}
        said = effect(
            updated(group(), group("v2")),
            managed=[
                self.managed("pulumi-deepseek-dev", {"f:startupPolicy": {}}),
                self.managed("kubectl-scale", {"f:replicas": {}}, subresource="scale"),
                self.managed("lws", {"f:none": {}}, subresource="status"),
                self.managed("kubectl-apply", {"f:startupPolicy": {}}),
                self.managed("kubectl-edit", template),
            ],
        )
        lines = " ".join(said.split())
        place = "spec.leaderWorkerTemplate.leaderTemplate.spec.containers[vllm]"
        assert f"by hand sets back spec.replicas to 2 (set by kubectl-scale), {place}.image to v2 (set by" in lines
        assert f"by hand keeps {place}.tty (set by kubectl-edit)" in lines
        assert "startupPolicy" not in lines
        warned = f"set by hand: spec.replicas, {place}.image; to keep it, write it into the stack file"
        assert warned in said.splitlines()[0], "before the provider is asked, which may refuse"
        assert "none" not in lines

    def test_a_gate_moves_the_partition(self, effect: Say) -> None:
        gate = {"verification": {"gate": {"questions": [{"ask": "1 + 1?", "holds": ["2"]}]}}}
        partition: dict[str, Any] = {"f:rolloutStrategy": {"f:rollingUpdateConfiguration": {"f:partition": {}}}}
        for changes, is_said in (({}, True), (gate, False)):
            said = effect(
                updated(group(), group("v2")), changes=changes, managed=[self.managed("deepseek-gate", partition)]
            )
            assert ("partition" in said) is is_said

    def test_an_autoscaler_owns_its_number(self, effect: Say) -> None:
        windows = [{"start": "0 8 * * *", "end": "0 20 * * *", "replicas": 2}]
        scaling = {"kind": "schedule", "minReplicas": 1, "windows": windows}
        said = effect(
            updated(group(), group("v2")),
            changes={"inference": {"replicas": None, "scaling": scaling}},
            managed=[self.managed("keda", {"f:replicas": {}}, subresource="scale")],
        )
        assert "by hand" not in said
        assert "all groups that run" in said

    def test_no_answer(self, effect: Say) -> None:
        assert "by hand   not known" in effect(updated(group(), group("v2")), managed=None)


class TestPermission:
    def digest(self, said: str) -> str:
        return said.split("write confirm: ")[1][:8]

    def test_a_preview_fails_and_says_how_to_confirm(self, effect: Say) -> None:
        said = effect(updated(group(), group("v2")), changes=CONFIRMED)
        assert "Pulumi.dev.yaml: 1 problem, nothing was created or changed" in said
        assert "deployment.inference.rollout.restarts" in said
        assert said.endswith(
            "RunError: this update may not restart groups now, see the error above; nothing was changed"
        )
        confirm = {"inference": {"rollout": {"restarts": {"allow": "confirmed", "confirm": self.digest(said)}}}}
        assert "RunError" not in effect(updated(group(), group("v2")), changes=confirm)
        assert "RunError" in effect(updated(group(), group("v3")), changes=confirm)

    def test_an_update_without_preview_stops_before_the_groups(
        self, effect: Say, hooks: dict[str, ResourceHook]
    ) -> None:
        said = effect(updated(group(), group("v2")), changes=CONFIRMED, preview=False)
        assert "RunError: Pulumi.dev.yaml: 1 problem, no group was restarted" in said

    def test_the_digest_depends_on_no_order(self, effect: Say) -> None:
        """The engine sends maps, whose keys come in another order each time."""
        turned = json.loads(json.dumps(group("v2")), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
        texts = [effect(updated(group(), new), changes=CONFIRMED) for new in (group("v2"), turned)]
        assert len({self.digest(text) for text in texts}) == 1

    def test_the_digest_is_that_of_the_preview_when_a_secret_gets_its_name(self, effect: Say) -> None:
        names = [NOT_YET, "access-api-key-9f9f"]
        variables = [
            {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"key": "k", "name": name}}} for name in names
        ]
        texts = [effect(updated(group(), group(variable=variable)), changes=CONFIRMED) for variable in variables]
        assert len({self.digest(text) for text in texts}) == 1
