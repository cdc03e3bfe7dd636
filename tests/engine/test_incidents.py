"""Each way in which a group of the real engine can end: cause and first pod are named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local import tools
from local.real_nodes import bring_up
from local.real_nodes.requirements import problem
from tests.e2e.conftest import make_project
from tests.e2e.ends import Ends
from tests.e2e.group_ends import GroupEnds, Template, leader_of

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = [pytest.mark.faults, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

UP_SECONDS = 1200
END_SECONDS = 900


@pytest.fixture(scope="module")
def ends(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    tools.build_all(bring_up.TOOLS)
    project = make_project(tmp_path_factory.mktemp("ends"), "local-vllm")
    project.variables["NODES"] = "real"
    project.change(observability={"incidents": {}})
    try:
        process = project.start("up")
        output, _ = process.communicate(timeout=UP_SECONDS)
        assert process.returncode == 0, output
        found = Ends(project, END_SECONDS)
        found.ready()
        yield found
    finally:
        project.stop()


class TestRealEngine(GroupEnds):
    def give_too_little_memory(self, template: Template) -> None:
        for kind in ("limits", "requests"):
            leader_of(template)["resources"][kind]["memory"] = "512Mi"

    def give_a_wrong_argument(self, template: Template) -> None:
        leader_of(template)["command"].append("--no-such-argument")
