"""The embedded cluster on a machine without any network but the loopback interface."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local import tools
from tests.e2e.conftest import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

START_AND_STOP = """
from pathlib import Path
from local.cluster import Cluster
cluster = Cluster(Path("cluster"))
try:
    cluster.start()
    assert all(process.running for process in cluster.status())
finally:
    cluster.stop()
"""


def test_cluster_starts_without_a_default_route(tmp_path: Path) -> None:
    tools.build_all(tools.CLUSTER_TOOLS)
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("this user may not create network namespaces")
    script = f"ip link set lo up && test -z \"$(ip route)\" && exec {sys.executable} -c '{START_AND_STOP}'"
    done = subprocess.run(
        [*alone, "sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
