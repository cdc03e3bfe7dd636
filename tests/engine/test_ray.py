"""Why the real engine has no variant with Ray. When this fails, an update may have brought one: docs/engine-on-cpu.md
says what else was in the way, and ``local/__main__.py`` refuses Ray."""

import subprocess
from pathlib import Path

ASK = (
    "from importlib.util import find_spec\n"
    "from vllm.platforms import current_platform as platform\n"
    "print(f'{find_spec(\"ray\")} {platform.device_name} {platform.ray_device_key!r}')"
)
"""vLLM refuses Ray on a platform whose ``ray_device_key`` is empty (vllm/v1/executor/ray_utils.py)."""


def test_vllm_refuses_ray_on_a_cpu(installed: Path) -> None:
    command = [str(installed / "bin" / "python"), "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "None cpu ''"
