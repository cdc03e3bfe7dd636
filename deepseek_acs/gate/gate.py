"""Where the update stands, and the next step: each step begins with what the API server has."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from deepseek_acs.apiserver import ApiError, DeniedError
from deepseek_acs.apiserver.watching import LABELS, LWS_API, Clock, event, is_ready

from .judgement import Limits, Measured, wrong
from .record import REFUSED, WAITING, Record, Refusal, accepted, put_back, with_accepted

PERIOD_SECONDS = 5
ATTEMPTS = 5
"""To put a template back before the group is asked again."""

CONTROLLER = "deepseek-gate"
FIELD_MANAGER = f"fieldManager={CONTROLLER}"
REVISION = f"{LABELS}/template-revision-hash"
GROUP_INDEX = f"{LABELS}/group-index"


class RefusedError(Exception):
    """The update does not go on; the text says why, and what to do."""


class Api(Protocol):
    """Of the API server, as ``deepseek_acs.apiserver.ApiServer``."""

    def get(self, path: str) -> dict[str, Any] | None:
        """The object."""

    def patch(self, path: str, body: object) -> bool:
        """Merges into the object."""

    def create(self, path: str, body: object) -> None:
        """Creates it."""


class Exam(Protocol):
    """As ``exam.Examiner``."""

    @property
    def exam(self) -> str:
        """Digest of what is asked."""

    def examine(self, host: str, known: Record | None) -> Measured:
        """Asks the leader at an address."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The update of the LeaderWorkerSet ``group`` to the template ``digest``. ``store`` is the ConfigMap with the
    records. With ``baseline``, another LeaderWorkerSet, the group is new: its groups all started at once, are compared
    with the record of that one, and are not put back. ``ready_seconds`` is the time that the first new group has."""

    namespace: str
    group: str
    store: str
    digest: str
    container: str
    returns: bool
    ready_seconds: float
    baseline: str | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """The LeaderWorkerSet, its leaders' revision, and what the ConfigMap has."""

    group: Mapping[str, Any]
    revision: str
    data: Mapping[str, str]

    @property
    def template(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.group["spec"]["leaderWorkerTemplate"]
        return found

    @property
    def replicas(self) -> int:
        return int(self.group["spec"].get("replicas", 1))

    @property
    def partition(self) -> int:
        rolling = (self.group["spec"].get("rolloutStrategy") or {}).get("rollingUpdateConfiguration") or {}
        return int(rolling.get("partition") or 0)

    @property
    def is_observed(self) -> bool | None:
        """Whether the status is of the current spec; None from controllers before 0.9, which do not say."""
        seen = (self.group.get("status") or {}).get("observedGeneration")
        return None if seen is None else bool(seen == self.group["metadata"]["generation"])

    def runs(self, known: Record | None) -> bool:
        """Whether the template is that of ``known``: the same text, or one that means the same to LeaderWorkerSet."""
        if known is None:
            return False
        return known.template == self.template or (bool(self.is_observed) and known.revision == self.revision)


class Gate:
    """One update."""

    def __init__(self, api: Api, subject: Subject, limits: Limits, exam: Exam, clock: Clock) -> None:
        self._api, self._subject, self._limits, self._exam, self._clock = api, subject, limits, exam, clock
        namespace = f"namespaces/{subject.namespace}"
        self._group = f"/apis/{LWS_API}/{namespace}/leaderworkersets/{subject.group}"
        self._leaders = f"/apis/apps/v1/{namespace}/statefulsets/{subject.group}"
        selector = quote(f"{LABELS}/name={subject.group},{LABELS}/worker-index=0")
        self._pods = f"/api/v1/{namespace}/pods?labelSelector={selector}"
        self._store = f"/api/v1/{namespace}/configmaps/{subject.store}"
        self._events = f"/apis/events.k8s.io/v1/{namespace}/events"

    def run(self) -> str:
        """What was accepted. Raises RefusedError, and DeniedError if rights are missing."""
        said = ""
        while True:
            try:
                step = self._step()
            except DeniedError:
                raise
            except ApiError as error:
                step = f"trying again: {error}"
            if step is None:
                return said
            if step != said:
                said = step
                print(said, flush=True)
            self._clock.sleep(PERIOD_SECONDS)

    def _step(self) -> str | None:
        """Does what is next, and says what it waits for; None if there is nothing left. Raises RefusedError."""
        state, subject = self._state(), self._subject
        known = accepted(state.data, subject.group)
        if state.runs(known):
            refused = Refusal.of(state.data.get(REFUSED))
            if refused and refused.action == "returned" and refused.template_digest == subject.digest:
                raise RefusedError(f"{refused.why}; {self._advice('returned')}")
            if known is not None and known.exam == self._exam.exam:
                return self._others(state, known)
        if state.replicas == 0:
            raise RefusedError(
                f"{subject.group} is scaled to 0, so there is no group to ask. The update is held until pulumi up "
                "finds one"
            )
        index = state.replicas - 1
        if subject.baseline is None and state.partition > index:
            self._move(state, index)
            return f"group {index} of {subject.group} is updated first"
        leader = self._ready(state, known, index)
        if leader is None:
            return self._wait(state, known, index)
        return self._ask(state, known, leader)

    def _ask(self, state: State, known: Record | None, leader: Mapping[str, Any]) -> str:
        subject = self._subject
        compared = known if subject.baseline is None else accepted(state.data, subject.baseline)
        print(f"asking {leader['metadata']['name']}", flush=True)
        measured = self._exam.examine(_host(leader), compared)
        now = self._state()
        if now.template != state.template:
            return "the template was changed while its group was asked: asking again"
        if why := wrong(self._limits, measured, compared, exam=self._exam.exam):
            self._refuse(now, known, why)
        record = Record(
            template_digest=subject.digest,
            image_digest=_image(leader, subject.container),
            revision=leader["metadata"]["labels"][REVISION],
            exam=self._exam.exam,
            asked=measured.asked,
            passed=measured.passed,
            first_token_seconds=measured.speed.first_token_seconds if measured.speed else None,
            tokens_per_second=measured.speed.tokens_per_second if measured.speed else None,
            accepted_at=self._now(),
            template=state.template,
        )
        # Before the others are updated: after a kill the next pod only has to let them.
        self._write(with_accepted(now.data, subject.group, record))
        self._tell(now, "Normal", "GatePassed", f"template {subject.digest}: {summary(record)}")
        return f"accepted: {summary(record)}"

    def _others(self, state: State, known: Record) -> str | None:
        """Lets all groups be updated, and waits for them. None when they are."""
        subject, status = self._subject, state.group.get("status") or {}
        if state.partition and subject.baseline is None:
            self._move(state, 0)
        elif (
            status.get("updatedReplicas", 0) >= state.replicas
            and status.get("readyReplicas", 0) >= state.replicas
            and (state.revision == known.revision if state.is_observed is None else state.is_observed)
        ):
            if REFUSED in state.data or WAITING in state.data:
                self._write({REFUSED: None, WAITING: None})
            return None
        return f"template {known.template_digest} is accepted: {summary(known)}; waiting for all groups"

    def _ready(self, state: State, known: Record | None, index: int) -> Mapping[str, Any] | None:
        """The leader of the group ``index``, if it is ready and has the template."""
        if state.is_observed is False:
            return None
        if known is not None and state.revision == known.revision and not state.runs(known):
            # The controller has not seen the template yet.
            return None
        for pod in (self._api.get(self._pods) or {}).get("items") or []:
            labels, metadata = pod["metadata"].get("labels") or {}, pod["metadata"]
            is_new = labels.get(GROUP_INDEX) == str(index) and labels.get(REVISION) == state.revision
            if is_new and "deletionTimestamp" not in metadata and is_ready(pod):
                return dict(pod)
        return None

    def _wait(self, state: State, known: Record | None, index: int) -> str:
        digest, now = self._subject.digest, self._clock.now()
        since_digest, _, since = state.data.get(WAITING, "").partition(" ")
        if since_digest != digest:
            self._write({WAITING: f"{digest} {now:.0f}"})
        elif now - float(since) > self._subject.ready_seconds:
            minutes = self._subject.ready_seconds / 60
            self._refuse(state, known, f"the first new group was not ready within {minutes:.0f} min")
        return f"waiting for group {index} of {self._subject.group}"

    def _refuse(self, state: State, known: Record | None, why: str) -> None:
        """Holds the update or puts the accepted template back. Raises RefusedError."""
        subject = self._subject
        # With other questions the accepted template itself may be refused: there is nothing to go back to.
        goes_back = subject.returns and known is not None and not state.runs(known)
        action = "returned" if goes_back else "held"
        refusal = Refusal(template_digest=subject.digest, action=action, why=why, refused_at=self._now())
        # Before the template is put back: after a kill it would be missed.
        self._write({REFUSED: refusal.text(), WAITING: None})
        if goes_back and known is not None:
            self._put_back(state, known)
            why = f"{why}; template {known.template_digest} is put back"
        reason = "GateReturned" if goes_back else "GateHeld"
        self._tell(state, "Warning", reason, f"template {subject.digest}: {why}")
        raise RefusedError(f"{why}; {self._advice(action)}")

    def _put_back(self, state: State, known: Record) -> None:
        """Every change of the status makes another version of the object, and to ask again takes minutes."""
        for _ in range(ATTEMPTS):
            try:
                self._api.patch(f"{self._group}?{FIELD_MANAGER}", put_back(state.group, known.template))
                return
            except DeniedError:
                raise
            except ApiError as error:
                print(f"trying again: {error}", flush=True)
            self._clock.sleep(PERIOD_SECONDS)
            now = self._state()
            if now.template != state.template:
                break
            state = now
        raise ApiError(f"the template of {self._subject.group} could not be put back")

    def _advice(self, action: str) -> str:
        if self._subject.baseline is not None:
            return "the requests stay where they are. Write other settings into deployment.update, or remove it"
        if action == "returned":
            return (
                "the groups run the accepted template again. Write its settings, or better ones, into the stack file; "
                "pulumi up --refresh tries these once more"
            )
        return (
            "no further group is updated, and nothing that the others use is deleted. Write other settings and run "
            "pulumi up, or make back"
        )

    def _state(self) -> State:
        """Raises ApiError."""
        group, leaders, store = (self._api.get(path) for path in (self._group, self._leaders, self._store))
        if group is None or store is None:
            missing = f"LeaderWorkerSet {self._subject.group}" if group is None else f"ConfigMap {self._subject.store}"
            raise ApiError(f"there is no {missing}; pulumi up --refresh creates it")
        revision = ((leaders or {}).get("metadata") or {}).get("labels", {}).get(REVISION, "")
        return State(group=group, revision=revision, data=store.get("data") or {})

    def _move(self, state: State, partition: int) -> None:
        body = {
            "metadata": {"resourceVersion": state.group["metadata"]["resourceVersion"]},
            "spec": {"rolloutStrategy": {"rollingUpdateConfiguration": {"partition": partition}}},
        }
        self._api.patch(f"{self._group}?{FIELD_MANAGER}", body)

    def _write(self, data: Mapping[str, str | None]) -> None:
        self._api.patch(f"{self._store}?{FIELD_MANAGER}", {"data": dict(data)})

    def _tell(self, state: State, kind: str, reason: str, note: str) -> None:
        about = {**state.group, "apiVersion": LWS_API, "kind": "LeaderWorkerSet"}
        now = self._clock.now()
        happened = event(about, kind=kind, reason=reason, action="Gate", note=note, controller=CONTROLLER, now=now)
        try:
            self._api.create(self._events, happened)
        except ApiError as error:
            print(f"no event: {error}", flush=True)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def summary(record: Record) -> str:
    """One line."""
    first = "" if record.first_token_seconds is None else f", first token after {record.first_token_seconds:.2f} s"
    rate = "" if record.tokens_per_second is None else f", {record.tokens_per_second:.1f} tokens/s"
    return f"{record.passed} of {record.asked} questions{first}{rate}"


def _host(pod: Mapping[str, Any]) -> str:
    return str(pod["status"]["podIP"])


def _image(pod: Mapping[str, Any], container: str) -> str:
    """The image that runs, with its digest as the runtime says it."""
    found = pod["status"].get("containerStatuses") or []
    return next((str(one.get("imageID", "")) for one in found if one["name"] == container), "")
