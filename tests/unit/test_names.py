"""Names: legal where they go, different where they must be, and those that docs/names.md tells."""

import functools
import json
import re
from collections.abc import Callable
from typing import Any

import pulumi
import pytest
from google.protobuf import json_format

from components import stack_config, wiring
from components.model_bucket import ModelBucket
from components.names import bucket_name
from tests.unit.conftest import NO_SECRETS, ROOT, RRSA, Recorder, Run, merged, plain, resolved, stack_settings
from tests.unit.test_access import ON as ACCESS
from tests.unit.test_access import SECRETS
from tests.unit.test_scaling import HPA
from tests.unit.test_scaling import QUEUE as QUEUE_WITH_TOKEN
from tests.unit.test_verification import BOTH

BucketName = Callable[..., str]

CLOUD_NAMES = {
    "oss/bucket:Bucket": "bucket",
    "ram/policy:Policy": "policyName",
    "ram/user:User": "name",
    "ram/role:Role": "roleName",
    "slb/acl:Acl": "name",
}
"""Resources of the cloud that have a name of their own, and the argument that is it."""


class TestBucket:
    @pytest.fixture
    def name(self, monkeypatch: pytest.MonkeyPatch) -> BucketName:
        monkeypatch.setattr("pulumi.get_project", lambda: "deepseek")
        monkeypatch.setattr("pulumi.get_stack", lambda: "dev")
        return functools.partial(bucket_name, "models")

    def test_another_account_or_region_has_another(self, name: BucketName) -> None:
        names = {
            name(account=account, region=region)
            for account in ("1000000000000000", "1000000000000001")
            for region in ("cn-hangzhou", "cn-beijing")
        }
        assert len(names) == 4

    def test_it_stays_the_same(self, name: BucketName) -> None:
        """Another one would be another bucket, and the weights would have to be moved again."""
        assert name(account="1000000000000000", region="cn-hangzhou") == "deepseek-dev-models-dd7231d0"


class TestRules:
    @pytest.fixture
    def said(self, deploy: Run, kubeconfig: object) -> Callable[[str, dict[str, Any]], str]:
        """What is said to a stack of this name with these changes; empty where it may be called so."""

        def load() -> None:
            stack_config.load()

        def run(stack: str, changes: dict[str, Any]) -> str:
            deployment = json.dumps(merged(stack_settings("dev"), changes))
            try:
                deploy(load, stack=stack, config={"deepseek:deployment": deployment})
            except pulumi.RunError as error:
                return " ".join(str(error).split())
            return ""

        return run

    @pytest.mark.parametrize(
        ("stack", "changes", "kind", "room"),
        [
            ("Dev", {}, "OSS bucket", 38),
            ("d" * 39, {}, "OSS bucket", 38),
            ("my_stack", {}, "RAM policy", 96),
            ("my.stack", {}, "RAM policy", 96),
            ("d" * 42, {}, "RAM user", 41),
            ("my_stack", {"weights": {"identity": RRSA}}, "RAM role", 41),
            (
                "d" * 57,
                {"service": {"kind": "internalLoadBalancer", "allowedCidrs": ["10.0.0.0/8"]}},
                "access control list",
                56,
            ),
        ],
    )
    def test_name_that_a_service_refuses_is_said_before_anything_is_created(
        self, said: Callable[..., str], stack: str, changes: dict[str, Any], kind: str, room: int
    ) -> None:
        text = said(stack, changes)
        assert "nothing was created or changed" in text
        (finding,) = [part for part in text.split(f"stack {stack} problem: ") if part.startswith(f"its {kind} would")]
        assert f"at most {room} characters" in finding

    def test_longest_names(self, said: Callable[..., str]) -> None:
        assert said("d" * 38, {}) == ""

    def test_bucket_with_a_name_of_its_own_does_not_depend_on_the_stack(self, said: Callable[..., str]) -> None:
        named = {"weights": {"bucket": {"kind": "create", "name": "my-models"}}}
        assert said("d" * 41, named) == ""
        assert "OSS bucket" not in said("My_stack", named)


def test_renamed_stack_keeps_its_bucket_under_the_name_that_it_has(deploy: Run) -> None:
    """Another logical name, or another name of the bucket, would be another bucket without weights."""
    changes = {"weights": {"bucket": {"kind": "create", "name": "deepseek-dev-models-dd7231d0"}}}
    spec = resolved(changes)

    def bucket() -> None:
        ModelBucket("models", wiring.model_bucket(spec, NO_SECRETS))

    before, after = deploy(bucket, stack="dev"), deploy(bucket, stack="renamed")
    assert before.requests.keys() == after.requests.keys()
    assert before.inputs("oss/bucket:Bucket") == after.inputs("oss/bucket:Bucket")
    assert before.inputs("User", "mover") != after.inputs("User", "mover")


STACKS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("dev", {"weights": {"identity": RRSA}, "inference": {"engine": {"compileCache": "bucket"}}}, {}),
    ("dev", {"observability": {"incidents": {}}, "inference": {"engine": {"compileCache": "bucket"}}}, {}),
    (
        "dev",
        {**ACCESS, "inference": {"replicas": None, "scaling": HPA, "engine": {"rayToken": True}}, **BOTH},
        {**SECRETS, "rayToken": SECRETS["apiKey"]},
    ),
    ("dev", {"inference": {"gang": {}, "preflight": {}, "gpu": {"computeClass": "gpu-hpn"}}}, {}),
    (
        "dev",
        {"inference": {"replicas": None, "scaling": QUEUE_WITH_TOKEN, "guard": {}}},
        {"prometheusToken": "Bearer token"},
    ),
    (
        "prod",
        {"verification": {"gate": {"questions": [{"ask": "1 + 1?", "holds": ["2"]}]}}},
        {"apiKey": SECRETS["apiKey"]},
    ),
    ("prod", {"operators": {"lws": {"kind": "install"}, "fluid": {"kind": "install"}}}, {"apiKey": SECRETS["apiKey"]}),
    (
        "prod",
        {
            "service": {
                "route": {
                    "kind": "inferencePool",
                    "name": "g",
                    "namespace": "g",
                    "sectionName": "https",
                    "host": "llm.example.com",
                }
            },
        },
        {"apiKey": SECRETS["apiKey"]},
    ),
    (
        "prod",
        {
            "service": {"route": {"kind": "gateway", "name": "g", "sectionName": "https", "host": "llm.example.com"}},
            "update": {"revision": "v99", "engine": {"image": "vllm:v0.33.0", "backend": "mp"}, "limits": {}},
        },
        {"apiKey": SECRETS["apiKey"]},
    ),
]
"""Together they have every resource of the program."""


def test_documentation_has_the_name_of_every_resource(program: Run) -> None:
    text = (ROOT / "docs" / "names.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", text, re.MULTILINE))
    made = set()
    for stack, changes, secrets in STACKS:
        made |= _names(program(changes, stack=stack, secrets=secrets), stack)
    assert sorted(made - told) == [], "not in docs/names.md"
    assert sorted(told - made) == [], "in docs/names.md, and nowhere in the program"


def _names(recorder: Recorder, stack: str) -> set[tuple[str, str]]:
    """Kind and name of every resource that has a name, with the settings' names for what comes from them."""
    settings = stack_settings(stack)
    found = set()
    for key, request in recorder.requests.items():
        kind, logical = key.split("::")
        inputs = plain(json_format.MessageToDict(request.object))
        if kind.startswith("alicloud:"):
            argument = CLOUD_NAMES.get(kind.removeprefix("alicloud:"))
            if argument is None:
                continue
            service = kind.split(":")[1].split("/")[0]
            found.add((f"{service}.{kind.rpartition(':')[2]}", _pattern(inputs[argument], {stack: "<stack>"})))
        elif kind.startswith("kubernetes:"):
            name = inputs["name"] if kind.endswith(":Release") else inputs["metadata"].get("name")
            own = {
                settings["cluster"]["namespace"]: "<cluster.namespace>",
                settings["inference"]["name"]: "<inference.name>",
                settings["service"].get("name", "ds-leader"): "<service.name>",
                "v99": "<revision>",
            }
            pattern = _pattern(name, own) if name else f"{_pattern(logical, {})}-<random>"
            if not kind.endswith(":LeaderWorkerSet"):
                # One row tells it of all that a group has.
                pattern = pattern.replace("<inference.name>-<revision>", "<inference.name>")
            found.add((kind.rpartition(":")[2], pattern))
    return found


def _pattern(name: str, own: dict[str, str]) -> str:
    # The longest first: one may be the beginning of another.
    for value in sorted(own, key=len, reverse=True):
        name = re.sub(rf"(^|-){re.escape(value)}(-|$)", rf"\1{own[value]}\2", name)
    return re.sub(r"-[0-9a-f]{8}\b", "-<hash>", name)


def test_keeping_the_bucket_makes_no_other_volume(program: Run) -> None:
    """Another volume means another pod template, and a load of the model in every group."""
    claims = [
        program({"weights": {"bucket": {"kind": "create", "retain": retain}}}, until="components.wiring.cost_guard")
        .request("PersistentVolumeClaim")
        .name
        for retain in (True, False)
    ]
    assert claims[0] == claims[1]
