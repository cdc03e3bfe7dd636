"""What asks the endpoint once it is up."""

from typing import Annotated

from pydantic import Field

from deepseek_acs.settings.base import IMAGE, Quantity, Settings, mebibytes


class BenchmarkSettings(Settings):
    """A Job that measures the endpoint with vLLM's own client, vllm bench serve. It has no GPU, and pulumi up does not
    wait for it; the output benchmarkCommand shows its result."""

    image: Annotated[str | None, Field(pattern=IMAGE)] = None
    """Image with vLLM 0.10.1 or newer; by default the engine's."""

    input_tokens: Annotated[int, Field(ge=1)] = 1024
    """Random tokens of each prompt."""

    output_tokens: Annotated[int, Field(ge=1)] = 128
    """Tokens of each answer."""

    prompts: Annotated[int, Field(ge=1, le=100_000)] = 100
    """How many requests are sent."""

    request_rate: Annotated[float | None, Field(gt=0)] = None
    """Requests per second, on average, as if clients came at random. Left out, all are sent at once."""

    max_concurrency: Annotated[int | None, Field(ge=1)] = None
    """Requests under way at once at most. Left out, as many as come."""

    run: Annotated[int, Field(ge=1)] = 1
    """Raise it to measure once more. A change of the pod template starts a new benchmark by itself."""

    cpu: Annotated[int, Field(ge=1, le=64)] = 8
    """vCPUs of the client."""

    memory: Quantity = "16Gi"
    """Memory of the client."""

    @property
    def memory_gib(self) -> float:
        """Memory of the client in GiB."""
        return mebibytes(self.memory) / 1024


class VerificationSettings(Settings):
    """Jobs that run after the group and the Service, and again when the pods of the group are recreated. None of them
    is made while replicas is 0."""

    smoke: bool = False
    """Ask for a completion from within the cluster, by the Service's name. pulumi up ends well only if it is answered;
    if not, its output names the layer at fault."""

    benchmark: BenchmarkSettings | None = None
    """Measure the endpoint."""
