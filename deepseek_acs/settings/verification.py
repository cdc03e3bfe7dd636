"""Jobs that verify the endpoint after a deployment."""

from typing import Annotated

from pydantic import Field

from deepseek_acs.settings.base import IMAGE, Quantity, Settings, mebibytes
from deepseek_acs.settings.gate import GateSettings


class BenchmarkSettings(Settings):
    """A Job that measures the endpoint with vLLM's own client, vllm bench serve. It uses no GPU, and pulumi up does not
    wait for it. The output benchmarkCommand shows its result."""

    image: Annotated[str | None, Field(pattern=IMAGE)] = None
    """Image with vLLM 0.10.1 or newer; by default the engine's."""

    input_tokens: Annotated[int, Field(ge=1)] = 1024
    """Random tokens per prompt."""

    output_tokens: Annotated[int, Field(ge=1)] = 128
    """Tokens per answer."""

    prompts: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Number of requests."""

    request_rate: Annotated[float | None, Field(gt=0)] = None
    """Average number of requests per second, at random intervals. By default all are sent at once."""

    max_concurrency: Annotated[int | None, Field(ge=1)] = None
    """Maximum number of concurrent requests. By default unlimited."""

    run: Annotated[int, Field(ge=1)] = 1
    """Raise it to measure again. A change of the pod template starts a new benchmark as well."""

    cpu: Annotated[int, Field(ge=1, le=64)] = 8
    """vCPUs of the client."""

    memory: Quantity = "16Gi"
    """Memory of the client."""

    @property
    def memory_gib(self) -> float:
        """Memory of the client in GiB."""
        return mebibytes(self.memory) / 1024


class VerificationSettings(Settings):
    """Jobs that run after the group and the Service, and again when the pods of the group are recreated. They are not
    created while replicas is 0."""

    smoke: bool = False
    """Request a completion from within the cluster, through the Service. pulumi up succeeds only if it is answered;
    otherwise its output names the layer at fault."""

    benchmark: BenchmarkSettings | None = None
    """Measure the endpoint."""

    gate: GateSettings | None = None
    """Ask the first new group of an update before the others are updated. By default an update does not stop."""
