"""The emitted manifests: golden files that a reviewer can read, and their fidelity to the guide's."""

import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.secrets import SECRET_FORMS
from tests.unit.conftest import ROOT, Recorder, Run, stack_file
from tools.generate import CONFIGURATION, SCHEMA, configuration, schema

GOLDEN = Path(__file__).parents[1] / "golden"
GUIDE = Path(__file__).parents[1] / "guide"
DEPARTURES = ROOT / "docs" / "departures.md"

GUIDE_SETTINGS = {
    "cluster": {"namespace": "default", "createNamespace": False},
    "weights": {
        "bucket": {"kind": "existing", "name": "<your-bucket-name>".strip("<>")},
        "identity": {"kind": "accessKey"},
    },
    "inference": {"name": "deepseek-r1-671b-fp8-distrubution"},
}
"""The dev stack with the guide's names; everything else of it is the guide's already."""

BY_CACHE_AND_RDMA = {
    **GUIDE_SETTINGS,
    "storage": {"kind": "fluid", "workers": 16},
    "inference": {"name": "deepseek-r1-671b-fp8-distrubution", "network": "rdma"},
}
"""The same with the guide's cache and RDMA."""

DEV = {"security": stack_file("dev")["security"]}
MP = {"inference": {"engine": {"backend": "mp", "image": "vllm/vllm-openai:v0.33.0", "enforceEager": False}}}

OPTIONS_OFF: dict[str, Any] = {
    "service": {"apiKey": None, "route": None},
    "security": {"networkPolicy": None, "pods": None},
    "observability": None,
    "verification": None,
    "inference": {"scaling": None, "lifecycle": None},
}
"""The prod stack without what goes beyond the guide's second variant."""


def serving(recorder: Recorder) -> list[dict[str, Any]]:
    """The objects that the guide has, too; it moves the weights by hand."""
    return [m for m in recorder.manifests() if "app.kubernetes.io/name" not in m["metadata"].get("labels", {})]


@pytest.mark.parametrize(
    ("name", "stack", "changes"),
    [
        ("ray", "dev", DEV),
        ("mp", "dev", {**DEV, **MP}),
        ("prod", "prod", {}),
        ("prod-options-off", "prod", OPTIONS_OFF),
    ],
)
def test_golden(name: str, stack: str, changes: dict[str, Any], up: Run, request: pytest.FixtureRequest) -> None:
    """``make golden`` rewrites them."""
    path = GOLDEN / f"{name}.yaml"
    emitted = yaml.safe_dump_all(serving(up(changes, stack=stack)), sort_keys=True, width=120)
    if request.config.getoption("--update-golden"):
        path.write_text(emitted, encoding="utf-8")
    assert emitted == path.read_text(encoding="utf-8"), "read the difference; if it is meant: make golden"


def test_schema_and_reference_are_current() -> None:
    assert schema() == SCHEMA.read_text(encoding="utf-8"), "run make schema"
    assert configuration() == CONFIGURATION.read_text(encoding="utf-8"), "run make schema"


def test_schema_has_every_secret_and_only_encrypted_ones() -> None:
    keys = json.loads(schema())["properties"]["config"]["properties"]
    assert keys.keys() - {"deepseek:deployment"} == {f"deepseek:{key}" for key in SECRET_FORMS}
    assert keys["deepseek:apiKey"]["required"] == ["secure"]


def test_every_stack_file_names_the_schema() -> None:
    for path in ROOT.glob("Pulumi.*.yaml"):
        assert path.read_text().startswith("# yaml-language-server: $schema=./stack.schema.json\n"), path.name


def test_manifests_are_the_guides_but_for_the_documented_departures(up: Run) -> None:
    """Each difference has a row in docs/departures.md, and each row a difference."""
    variants = {
        ("csi-volume", "lws-standard", "service"): GUIDE_SETTINGS,
        ("fluid-cache", "lws-rdma", "service"): BY_CACHE_AND_RDMA,
    }
    assert {path.stem for path in GUIDE.glob("*.yaml")} == {name for names in variants for name in names}
    secrets = {"ossAccessKeyId": "a", "ossAccessKeySecret": "b"}
    differences = set()
    for names, settings in variants.items():
        ours = {m["kind"]: m for m in serving(up(settings, secrets=secrets))}
        texts = [(GUIDE / f"{name}.yaml").read_text() for name in names]
        theirs = {m["kind"]: m for text in texts for m in yaml.safe_load_all(text)}
        assert theirs.keys() <= ours.keys()
        for kind in ours:
            found = _differences(dict(_leaves("", theirs.get(kind, {}))), dict(_leaves("", ours[kind])))
            differences |= {f"{kind}: {path}" for path in found}
    rows = re.findall(r"^\| `([^`]+)` \|", DEPARTURES.read_text(encoding="utf-8"), re.MULTILINE)
    unexplained = sorted(d for d in differences if not any(fnmatch.fnmatchcase(d, row) for row in rows))
    assert not unexplained, "not in docs/departures.md"
    idle = [row for row in rows if not any(fnmatch.fnmatchcase(d, row) for d in differences)]
    assert not idle, "rows of docs/departures.md without a difference"


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> set[str]:
    return {path for path in theirs.keys() | ours.keys() if theirs.get(path) != ours.get(path)}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Values by path; items of a list are known by their name where they have one."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}".lstrip("."), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, dict) and "image" not in item else index
            yield from _leaves(f"{path}<{name}>", item)
    else:
        yield path, value
