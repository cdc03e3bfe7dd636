"""``make verify``: the verifier with what the stack knows, outputs, kubeconfig and API key."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from local.pulumi_environment import EngineEnvironment
from local.stack import PROJECT, LocalNeeds, StackError

API_KEY = "apiKey"
KUBECONFIG = "kubeconfig"
KEY_VARIABLE = "VLLM_API_KEY"

NO_ENGINE = (
    "What answers is a small server of the embedded cluster (local/openai), not an engine: cluster, Service, "
    "port-forward, API and key are verified here, no model is. Its times say nothing."
)


RANDOM_MODEL = (
    "What answers is a real vLLM on the CPU with a small random model: its tokens make no sense, and its times are "
    "those of this machine."
)


def verify(
    root: Path,
    stack: str,
    options: Sequence[str],
    pulumi: Path,
    environment: EngineEnvironment,
    needs: LocalNeeds,
    say: Callable[[str], None],
) -> int:
    """Returns the verifier's exit code. Raises StackError if the stack has no outputs."""
    variables = environment.over(os.environ)

    def asked(*words: str) -> subprocess.CompletedProcess[str]:
        call = [str(pulumi), *words, "--stack", stack]
        return subprocess.run(call, cwd=root, env=variables, capture_output=True, text=True, check=False)  # noqa: S603

    def secret(name: str) -> str:
        """Empty if it is not set."""
        found = asked("config", "get", f"{PROJECT}:{name}")
        return found.stdout.removesuffix("\n") if found.returncode == 0 else ""

    outputs = asked("stack", "output", "--json")
    if outputs.returncode:
        raise StackError(f"pulumi has no outputs of the stack {stack}: {outputs.stderr.strip()}")
    if needs.embedded_cluster:
        say(RANDOM_MODEL if needs.images is not None and needs.images.vllm else NO_ENGINE)
    # One that is left over from before service.apiKey was switched off would be missed as not asked for.
    key = secret(API_KEY) if needs.api_key else ""
    with _kubeconfig(needs, secret) as kubeconfig:
        arguments = ["--outputs=-", f"--kubeconfig={kubeconfig}"]
        if needs.context:
            arguments.append(f"--context={needs.context}")
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "deepseek_acs.verifier", *arguments, *options],
            cwd=root,
            # By the environment: others see the arguments of a process.
            env={**os.environ, **({KEY_VARIABLE: key} if key else {})},
            input=outputs.stdout,
            text=True,
            check=False,
        )
    return done.returncode


@contextlib.contextmanager
def _kubeconfig(needs: LocalNeeds, secret: Callable[[str], str]) -> Iterator[str]:
    """The path of the stack's kubeconfig; that of a secret one is a file that only this user reads, for as long as it
    is needed."""
    if needs.kubeconfig:
        yield needs.kubeconfig
        return
    with tempfile.NamedTemporaryFile("w", suffix=".kubeconfig") as file:
        file.write(secret(KUBECONFIG))
        file.flush()
        yield file.name
