"""Runs the program, or a part of it, under Pulumi's mocks and records everything that it asked the engine for."""

import asyncio
import contextlib
import copy
import functools
import json
import runpy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_alicloud as alicloud
import pytest
import yaml
from google.protobuf import json_format, struct_pb2
from pulumi.runtime import mocks, settings
from pulumi.runtime.proto import resource_pb2, source_pb2
from pulumi.runtime.stack import run_in_stack

from components import measured_starts, wiring
from components.group_args import InferenceGroupArgs
from components.live_cluster import LiveCluster
from components.model_mount import ModelMount
from components.names import FIELD_MANAGER
from components.secrets import Secrets
from components.stack_config import checked
from deepseek_acs.planner.findings import Finding
from deepseek_acs.planner.resolve import resolve
from deepseek_acs.planner.rules.advisories import TABLE
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.settings.stack import StackSettings

ROOT = Path(__file__).parents[2]

SDK_MODULES = (alicloud.oss.Bucket, alicloud.ram.User, alicloud.slb.Acl)
"""Loads these modules before any test. The SDK loads a module when one of its attributes is first read, and that is not
safe while another thread or an import reads it too: now and then ``alicloud.slb`` had no ``Acl``."""

RRSA = {
    "kind": "rrsa",
    "oidcProviderArn": "acs:ram::1:oidc-provider/ack-rrsa-c1",
    "oidcIssuer": "https://oidc-ack-cn-hangzhou.oss-cn-hangzhou.aliyuncs.com/c1",
}
"""An identity without AccessKeys, of weights.identity."""
PROJECT = "deepseek"

SECRET_KEY = "4dabf18193072939515e22adb298388d"
"""Marks a secret on the wire (sdk/python/lib/pulumi/runtime/rpc.py of the SDK)."""

COMPUTED: Mapping[str, Mapping[str, Any]] = {
    "alicloud:ram/accessKey:AccessKey": {"secret": "made-by-the-cloud"},
    "alicloud:ram/role:Role": {"arn": "acs:ram::1:role/reader", "roleName": "reader"},
    "alicloud:ram/user:User": {"name": "reader"},
    "alicloud:ram/policy:Policy": {"policyName": "read"},
}
"""Outputs that the cloud would compute."""

ACCOUNT = "1000000000000000"
"""ID of the account of Alibaba Cloud."""


class Engine(mocks.Mocks):
    """What the program reads: the inputs, plus what the cloud would add."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        return args.resource_id, {**args.inputs, **COMPUTED.get(args.typ, {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        assert args.token == "alicloud:index/getAccount:getAccount", "the program calls no other function"
        return {"id": ACCOUNT}, []


class Recorder(mocks.MockMonitor):
    """Keeps the requests themselves, which show what mocks do not: dependencies, protection, timeouts."""

    def __init__(self) -> None:
        super().__init__(Engine())
        self.requests: dict[str, Any] = {}
        self.reads: dict[str, Any] = {}
        self.component_outputs: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the name of the RPC
        key = f"{request.type}::{request.name}"
        # set_mocks and run_in_stack both make a stack resource; only the second one is used.
        if request.type == "pulumi:pulumi:Stack":
            return super().RegisterResource(request)  # type: ignore[no-untyped-call]
        assert key not in self.requests, f"two resources are called {key}"
        self.requests[key] = request
        return self._created(request)

    def _created(self, request: Any) -> resource_pb2.RegisterResourceResponse:
        """The inputs, plus what the cloud and the provider would add. The mocks would parse the message and make
        another, for a third of the time."""
        urn = self.make_urn(request.parent, request.type, request.name)
        state = struct_pb2.Struct()
        state.CopyFrom(request.object)
        state.update(COMPUTED.get(request.type, {}))
        if request.type.startswith("kubernetes:"):
            metadata = state.get_or_create_struct("metadata")
            if "name" not in metadata:
                metadata["name"] = f"{request.name}-1a2b3c4d"
        # A bucket's ID is its name.
        named = "bucket" in state and request.type.endswith(":Bucket")
        identity = request.importId or (str(state["bucket"]) if named else f"{request.name}-id")
        return resource_pb2.RegisterResourceResponse(urn=urn, id=identity if request.custom else "", object=state)

    def ReadResource(self, request: Any) -> Any:  # noqa: N802
        self.reads[f"{request.type}::{request.name}"] = request
        return super().ReadResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        self.component_outputs[request.urn.rsplit("$", 1)[-1]] = json_format.MessageToDict(request.outputs)
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]

    def request(self, kind: str, name: str = "") -> Any:
        """The only request for a resource whose type ends with ``kind`` and whose name has ``name`` in it."""
        keys = [key for key in self.requests if key.split("::")[0].endswith(f":{kind}") and name in key.split("::")[1]]
        found = [self.requests[key] for key in keys]
        assert len(found) == 1, f"{len(found)} resources of kind {kind}: {sorted(self.requests)}"
        return found[0]

    def kinds(self) -> list[str]:
        return sorted(key.split("::")[0].rsplit(":", 1)[-1] for key in self.requests)

    def raw_inputs(self, kind: str, name: str = "") -> dict[str, Any]:
        """Inputs with secrets still marked."""
        found: dict[str, Any] = json_format.MessageToDict(self.request(kind, name).object)
        return found

    def inputs(self, kind: str, name: str = "") -> dict[str, Any]:
        """Inputs with secrets opened and whole numbers as such, and without the annotation that all objects have
        (tests/unit/test_ownership.py)."""
        found: dict[str, Any] = plain(self.raw_inputs(kind, name))
        metadata = found.get("metadata") or {}
        annotations = metadata.get("annotations", {})
        if annotations.pop(FIELD_MANAGER, None) and not annotations:
            del metadata["annotations"]
        return found

    def manifests(self) -> list[dict[str, Any]]:
        """Every Kubernetes object as it would be sent, without what only Pulumi reads."""
        found = []
        for key, request in self.requests.items():
            if key.startswith("kubernetes:") or key.startswith("pulumi:providers"):
                body = plain(json_format.MessageToDict(request.object))
                if "kind" in body and "apiVersion" in body:
                    found.append(body)
        return sorted(found, key=lambda body: (body["kind"], str(body["metadata"].get("name"))))

    def manifest(self, kind: str, name: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.inputs(kind, name)
        return found


def plain(value: Any) -> Any:
    """Opens secrets, and turns the floats of the wire format back into integers."""
    if isinstance(value, dict):
        return plain(value["value"]) if SECRET_KEY in value else {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_secret(value: Any) -> bool:
    return isinstance(value, dict) and SECRET_KEY in value


def resolved(changes: Mapping[str, Any], *, stack: str = "dev") -> ResolvedSpec:
    """The specification of a stack file of the project with nested ``changes``."""
    settings = StackSettings.model_validate(merged(stack_settings(stack), changes))
    return resolve(settings, folder=ROOT)


def group_args(changes: Mapping[str, Any], *, stack: str = "dev") -> InferenceGroupArgs:
    """Arguments of the inference group with another storage layer's claim."""
    # A real Output would stay pending outside the engine's event loop.
    mount = ModelMount(claim_name=cast(Any, "c"), model_path="/models/m", depends_on=cast(Any, None))
    return wiring.inference_group(resolved(changes, stack=stack), mount, None)


ACCEPTED = [
    *("CVE-2025-48956", "CVE-2025-29770", "GHSA-hf3c-wxg2-49q9", "CVE-2026-55574"),
    *("CVE-2026-34756", "CVE-2025-62426", "CVE-2025-61620"),
]
"""What clients can use of the guide's image: ``security.acceptedAdvisories`` of stacks of tests that let clients in."""


def errors(spec: ResolvedSpec) -> list[Finding]:
    """What stops a deployment."""
    return [finding for finding in checked(spec) if finding.severity == "error"]


def warnings(spec: ResolvedSpec) -> list[str]:
    """What a preview warns of, but for the vulnerabilities of its versions (tests/planner/test_advisories.py)."""
    said = [finding for finding in checked(spec) if finding.severity == "warning"]
    return [str(finding) for finding in said if finding.source != TABLE]


NO_SECRETS = Secrets(
    kubeconfig=None,
    access_key=None,
    hub_token=None,
    api_key=None,
    ray_token=None,
    certificate=None,
    prometheus_token=None,
)

REVIEWED = {"source": {"kind": "modelScope", "revision": "a" * 40}, "manifestSha256": "0af1" * 16}
"""Weights whose code is known, for stacks that let clients in to the guide's image."""

PINNED = {"source": {"kind": "bucket"}, "manifestSha256": "0af1" * 16}
"""Weights that are there and known by a digest, of which nothing is said."""

API_KEY = {"apiKey": "0123456789abcdef" * 4}
STACK_SECRETS: Mapping[str, Mapping[str, str]] = {"prod": API_KEY, "local-prod": API_KEY, "local-vllm": API_KEY}
"""Secrets without which a stack file of the project cannot be used as it is."""

Program = Callable[[], None]
Run = Callable[..., Recorder]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that run the program: each is worth a dozen tests of a component, and CI runs them on their
    own."""
    for item in items:
        if isinstance(item, pytest.Function) and "program" in item.fixturenames:
            item.add_marker("program")


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> dict[str, pulumi.ResourceHook]:
    """The program's hooks by name. Mocks have no server by which the engine could call them; tests do."""
    found: dict[str, pulumi.ResourceHook] = {}

    async def registered() -> None:
        pass

    def register(hook: pulumi.ResourceHook) -> asyncio.Future[None]:
        found[hook.name] = hook
        return asyncio.ensure_future(registered())

    monkeypatch.setattr("pulumi.resource_hooks.register_resource_hook", register)
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what the SDK does for each resource and mocks do not need, half of the time."""
    # It looks up every frame of pytest's deep stack.
    monkeypatch.setattr("pulumi.runtime.resource._get_stack_trace", lambda: source_pb2.StackTrace())
    original = pulumi.runtime.resource.create_urn

    def create_urn(*args: Any) -> pulumi.Output[str] | _NoUrn:
        # With project and stack it is the URN of an alias.
        return original(*args) if len(args) > 3 else _NoUrn()

    monkeypatch.setattr("pulumi.runtime.resource.create_urn", create_urn)


class _NoUrn:
    """The URN of a resource where no engine is, which takes eight Outputs to make."""

    async def future(self) -> None:
        pass


def _at_once(loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
    """The mocks answer at once; a thread for each of their calls would be a fifth of the time."""

    def run(executor: object, function: Callable[..., Any], *arguments: object) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = loop.create_future()
        try:
            done.set_result(function(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done

    return run


@pytest.fixture
def deploy(quick: None, hooks: dict[str, pulumi.ResourceHook]) -> Iterator[Run]:
    """``deploy(program, preview=False, stack="test", config={})`` runs a function under mocks."""

    def run(
        program: Program,
        *,
        stack: str = "test",
        preview: bool = False,
        config: Mapping[str, str] | None = None,
        secret_keys: list[str] | None = None,
    ) -> Recorder:
        loop = asyncio.new_event_loop()
        loop.run_in_executor = _at_once(loop)  # type: ignore[method-assign, assignment]
        # The garbage collection reports what is left of a run that failed in the middle of another test: if that test
        # parses Python, the traceback's own parser makes it fail ("AST constructor recursion depth mismatch").
        loop.set_exception_handler(lambda *_: None)
        asyncio.set_event_loop(loop)
        recorder = Recorder()
        mocks.set_mocks(recorder.mocks, project=PROJECT, stack=stack, preview=preview, monitor=recorder)
        # What a run that failed has left behind belongs to its own event loop.
        settings.SETTINGS.rpc_manager.clear()
        settings.SETTINGS.outputs.clear()
        # run_in_stack creates the stack resource again, on this test's event loop.
        settings.set_root_resource(None)  # type: ignore[arg-type]
        pulumi.runtime.set_all_config(dict(config or {}), secret_keys)
        try:
            loop.run_until_complete(run_in_stack(program))
        finally:
            loop.close()
        return recorder

    yield run
    asyncio.set_event_loop(None)


class NoCluster(LiveCluster):
    """No test of the program has one. The real class imports the client, which takes a second."""

    def config_map(self, namespace: str, name: str) -> None:
        return None


@pytest.fixture(scope="session", autouse=True)
def no_measured_starts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measured_starts, "LiveCluster", NoCluster)
        yield


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an (empty) kubeconfig where the dev stack expects it. One for all tests: a thousand folders take a
    second to be cleared away."""
    path = tmp_path_factory.mktemp("home")
    (path / ".kube").mkdir()
    (path / ".kube" / "config").write_text("")
    return path


@pytest.fixture
def kubeconfig(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kubeconfig of that home."""
    monkeypatch.setenv("HOME", str(home))
    return home / ".kube" / "config"


def stack_file(stack: str) -> dict[str, Any]:
    """The ``deployment`` object of a stack file of the project."""
    return copy.deepcopy(_deployment(stack))


def stack_settings(stack: str) -> dict[str, Any]:
    """The same, and of dev without ``security``: tests change one setting of it, which its network policies are not to
    mix with."""
    settings = stack_file(stack)
    if stack == "dev":
        del settings["security"]
    return settings


@functools.cache
def _deployment(stack: str) -> dict[str, Any]:
    content = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())
    deployment = content["config"][f"{PROJECT}:deployment"]
    assert isinstance(deployment, dict)
    return deployment


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with nested ``changes``; None removes a key."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and "kind" not in value:
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


@pytest.fixture(scope="session")
def recorded() -> dict[str, Recorder]:
    """What whole programs asked for, by their inputs: many tests look at the same run."""
    return {}


@pytest.fixture
def program(deploy: Run, kubeconfig: Path, recorded: dict[str, Recorder]) -> Run:
    """``program(changes, stack="dev", preview=False, secrets={}, again=False, until="")`` runs the program with a
    changed stack file, to its end or ``until`` it calls what has this name; a run with the same inputs is done once,
    but with ``again``."""

    def run(
        changes: Mapping[str, Any] | None = None,
        *,
        stack: str = "dev",
        preview: bool = False,
        secrets: Mapping[str, str] | None = None,
        again: bool = False,
        until: str = "",
    ) -> Recorder:
        secrets = STACK_SECRETS.get(stack, {}) if secrets is None else secrets
        key = json.dumps([changes, stack, preview, secrets, until], default=dict)
        if again:
            return fresh(changes, stack, preview, secrets, until)
        if key not in recorded:
            recorded[key] = fresh(changes, stack, preview, secrets, until)
        return recorded[key]

    def fresh(
        changes: Mapping[str, Any] | None,
        stack: str,
        preview: bool,
        secrets: Mapping[str, str],
        until: str,
    ) -> Recorder:
        deployment = merged(stack_settings(stack), changes or {})
        config = {f"{PROJECT}:deployment": json.dumps(deployment)}
        config |= {f"{PROJECT}:{key}": value for key, value in secrets.items()}

        def main() -> None:
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(_Reached):
                if until:
                    patch.setattr(until, _reached)
                runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")

        return deploy(
            main,
            stack=stack,
            preview=preview,
            config=config,
            secret_keys=[f"{PROJECT}:{key}" for key in secrets],
        )

    return run


class _Reached(Exception):  # noqa: N818 - no error
    pass


def _reached(*_: object, **__: object) -> None:
    raise _Reached


@pytest.fixture
def up(program: Run) -> Run:
    """The whole program; modules whose tests need less of it have their own."""
    return program
