"""Each way in which a group can end, with real pods and the small server: cause and first pod are named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local import tools
from local.real_nodes.requirements import problem
from tests.e2e.conftest import make_project
from tests.e2e.ends import Ends
from tests.e2e.group_ends import GroupEnds, Template, leader_of

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

END_SECONDS = 420
"""The health check of a stopped process takes three minutes."""


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    tools.build_all(tools.NODE_TOOLS)
    project = make_project(tmp_path_factory.mktemp("ends"), "local")
    project.variables["NODES"] = "real"
    project.change(observability={"incidents": {}})
    try:
        output = project.run("up")
        assert "reads pods, logs, events; writes its ConfigMap" in output
        found = Ends(project, END_SECONDS)
        found.ready()
        yield found
    finally:
        project.stop()


class TestSmallServer(GroupEnds):
    def give_too_little_memory(self, template: Template) -> None:
        container = leader_of(template)
        container["command"] = ["python3", "-c", "bytearray(2**30)"]
        for kind in ("limits", "requests"):
            container["resources"][kind]["memory"] = "128Mi"

    def give_a_wrong_argument(self, template: Template) -> None:
        container = leader_of(template)
        container["command"] = [word.replace("vllm serve", "vllm serv") for word in container["command"]]

    def test_starts_are_measured(self, ends: Ends) -> None:
        """The small server does not log as vLLM does, so the engine's phases are a part of the last one."""
        ends.until(lambda: bool(ends.starts()), "no start is listed")
        start = ends.starts()[0]
        assert list(start["seconds"]) == ["schedule", "image", "serve"]
        assert start["group"] == "0"
        assert start["image"]
