"""``make verify`` and ``make back``: their programs with what the stack knows, outputs, kubeconfig and API key."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class StackPrograms:
    """Programs about the deployed stack ``stack``."""

    root: Path
    stack: str
    pulumi: Path
    environment: EngineEnvironment
    needs: LocalNeeds

    def verify(self, options: Sequence[str], say: Callable[[str], None]) -> int:
        """Returns the verifier's exit code. Raises StackError if the stack has no outputs."""
        needs = self.needs
        if needs.embedded_cluster:
            say(RANDOM_MODEL if needs.images is not None and needs.images.vllm else NO_ENGINE)
        # One that is left over from before service.apiKey was switched off would be missed as not asked for.
        key = self._secret(API_KEY) if needs.api_key else ""
        # By the environment: others see the arguments of a process.
        return self._run("deepseek_acs.verifier", options, {KEY_VARIABLE: key} if key else {})

    def back(self, options: Sequence[str]) -> int:
        """Returns the exit code of the program that goes back. Raises StackError if the stack has no outputs."""
        return self._run("deepseek_acs.goback", options, {})

    def _run(self, program: str, options: Sequence[str], variables: dict[str, str]) -> int:
        outputs = self._asked("stack", "output", "--json")
        if outputs.returncode:
            raise StackError(f"pulumi has no outputs of the stack {self.stack}: {outputs.stderr.strip()}")
        with _kubeconfig(self.needs, self._secret) as kubeconfig:
            arguments = ["--outputs=-", f"--kubeconfig={kubeconfig}"]
            if self.needs.context:
                arguments.append(f"--context={self.needs.context}")
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-m", program, *arguments, *options],
                cwd=self.root,
                env={**os.environ, **variables},
                input=outputs.stdout,
                text=True,
                check=False,
            )
        return done.returncode

    def _asked(self, *words: str) -> subprocess.CompletedProcess[str]:
        call = [str(self.pulumi), *words, "--stack", self.stack]
        variables = self.environment.over(os.environ)
        return subprocess.run(call, cwd=self.root, env=variables, capture_output=True, text=True, check=False)  # noqa: S603

    def _secret(self, name: str) -> str:
        """Empty if it is not set."""
        found = self._asked("config", "get", f"{PROJECT}:{name}")
        return found.stdout.removesuffix("\n") if found.returncode == 0 else ""


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
