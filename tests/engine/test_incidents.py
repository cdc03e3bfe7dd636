"""Each way in which a group of the real engine can end: cause and first pod are named, no prompt and no key is kept."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.stream import stream

from local import tools
from local.real_nodes.requirements import problem
from tests.e2e.conftest import make_project
from tests.e2e.ends import LEADER, WORKER, Ends
from tests.e2e.group_ends import GroupEnds, Template, leader_of

LACKING = problem((Path(__file__).parents[2], tools.cache_directory()))
pytestmark = [pytest.mark.faults, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

UP_SECONDS = 1200
END_SECONDS = 900
PROMPT = "the patient is called Ada Lovelace"
KEY = "VLLM_API_KEY"


@pytest.fixture(scope="module")
def ends(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    tools.build_all(tools.NODE_TOOLS)
    project = make_project(tmp_path_factory.mktemp("ends"), "local-vllm")
    project.variables["NODES"] = "real"
    engine = project.settings()["inference"]["engine"]
    # Prompts are logged, on purpose.
    engine["extraArgs"] = [*engine["extraArgs"], "--enable-log-requests"]
    engine["env"] = {**engine["env"], "VLLM_LOGGING_LEVEL": "DEBUG"}
    project.change(observability={"incidents": {}, "logs": {"quiet": False}}, inference={"engine": engine})
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

    def test_phases_of_the_start_are_measured(self, ends: Ends) -> None:
        first = ends.starts()[0]
        assert list(first["seconds"]) == ["schedule", "image", "engine", "read", "compile", "serve"]
        assert first["image"]

    def test_no_prompt_and_no_key_is_in_a_report(self, ends: Ends) -> None:
        program = (
            "import json,os,urllib.request as u\n"
            f"key=os.environ['{KEY}']\n"
            f"body=json.dumps({{'model':'ds','prompt':{PROMPT!r},'max_tokens':4}}).encode()\n"
            "head={'Authorization':f'Bearer {key}','Content-Type':'application/json'}\n"
            "u.urlopen(u.Request('http://127.0.0.1:8000/v1/completions',body,head)).read()\n"
            "open('/proc/1/fd/1','w').write(f'a library prints {key}\\n')\n"
            "print(json.dumps(key))"
        )
        core, namespace = ends.project.core, ends.project.namespace
        command = ["python3", "-c", program]
        said = stream(core.connect_get_namespaced_pod_exec, LEADER, namespace, command=command, stdout=True)
        key = json.loads(said.strip().splitlines()[-1].replace("'", '"'))
        log = core.read_namespaced_pod_log(LEADER, namespace)
        assert PROMPT in log
        assert key in log
        ends.process(WORKER).send_signal(signal.SIGKILL)
        report = ends.report(ends.next(requested=False))
        assert "a library prints [removed]" in report
        for text in [*ends.reports(), json.dumps(ends.listed()), ends.last()]:
            assert PROMPT not in text
            assert "Lovelace" not in text
            assert key not in text
