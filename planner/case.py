"""What the user chose, and the same with everything looked up: the input of the rules and of the search."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from planner import catalogue, config_json
from planner.catalogue import Gpu, GpuSeries
from planner.engine import CURRENT, Engine, Serving, serving_changes, version_of
from planner.loading import LoadBudget, load_budget
from planner.memory import Memory, estimate
from planner.model import Model
from planner.weights import checkpoint_gib

VCPUS_PER_CARD = 8
MEMORY_GIB_PER_CARD = 64
SHARED_MEMORY_GIB_PER_CARD = 4
"""The guide's pod: 64 vCPUs, 512 GiB and 32 GiB of /dev/shm for 8 cards (https://www.alibabacloud.com/help/en/cs/
user-guide/using-acs-gpu-computing-power-to-build-a-distributed-deepseek-full-blood-version-reasoning-service)."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user chose, as far as it has consequences. None means: derive it, or there is none.

    Sizes in GiB, times in seconds, throughput in MiB/s per pod, ``memory_gib`` per pod, ``gpu_memory_gib`` per card.
    """

    model: str
    series: str
    throughput_mib_s: int
    weights_gib: float | None = None
    config_file: str | None = None
    """Path of the model's config.json, for a model that the catalogue does not have."""

    cards: int | None = None
    tensor: int | None = None
    pipeline: int | None = None
    gpu_memory_gib: float | None = None

    image: str | None = None
    backend: str = "ray"
    port: int = 8000
    max_model_len: int | None = None
    """None takes the model's own context length, as the engine does."""

    gpu_memory_utilization: float = 0.9
    cache_gib: float | None = None
    """What the engine has said is left for the cache of the tightest GPU, on the layout that is given."""

    enforce_eager: bool = False
    extra_args: tuple[str, ...] = ()

    name: str = "vllm"
    replicas: int = 1
    """With an autoscaler, the most."""

    least_replicas: int | None = None
    """With an autoscaler, the fewest."""

    scaling: str | None = None
    """What an autoscaler goes by."""

    max_surge: int = 0
    max_unavailable: int = 1
    partition: int = 0
    available_gpus: int | None = None
    network: str = "standard"
    cpu: int | None = None
    memory_gib: float | None = None
    shared_memory_gib: float | None = None

    startup_seconds: int | None = None
    drain_seconds: int | None = None
    request_seconds: int | None = None
    """Longest request, for the comparison with ``drain_seconds``. None: nothing is said about the life of a group."""

    evictable_groups: int | None = None
    """Groups that evictions may take at once; None without a limit."""

    @property
    def fewest_replicas(self) -> int:
        """The fewest groups, as long as there are any."""
        return self.replicas if self.least_replicas is None else max(1, self.least_replicas)


@dataclass(frozen=True, order=True)
class Layout:
    """How one replica is spread over GPUs and pods."""

    cards: int
    tensor: int
    pipeline: int

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline

    @property
    def pods(self) -> int:
        """Pods of one replica; meaningful if the GPUs fill whole pods."""
        return max(1, self.gpus // self.cards)

    def __str__(self) -> str:
        pods = "1 pod" if self.pods == 1 else f"{self.pods} pods"
        return f"tensor {self.tensor} × pipeline {self.pipeline} on {pods} of {self.cards}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Choices with a whole layout, and what the catalogues know about them."""

    choices: Choices
    layout: Layout
    model: Model | None
    config_error: str | None = None

    @cached_property
    def series(self) -> GpuSeries | None:
        """ACS's row of the series."""
        return catalogue.gpu_series().get(self.choices.series)

    @cached_property
    def gpu(self) -> Gpu | None:
        """The card; with the memory that the user gave, if any."""
        found, given = catalogue.gpu_of(self.choices.series), self.choices.gpu_memory_gib
        if given is None:
            return found
        return dataclasses.replace(found or Gpu(name=self.choices.series, memory_gib=given), memory_gib=given)

    @cached_property
    def engine(self) -> Engine:
        """The version that the image's name tells."""
        return Engine(version=version_of(self.choices.image) or CURRENT)

    @cached_property
    def max_model_len(self) -> int | None:
        """As given, or the model's own."""
        return self.choices.max_model_len or (self.model.context if self.model else None)

    @cached_property
    def serving(self) -> Serving | None:
        """The engine's arguments; None while the length is unknown."""
        if self.max_model_len is None:
            return None
        base = Serving(
            max_model_len=self.max_model_len,
            utilization=self.choices.gpu_memory_utilization,
            eager=self.choices.enforce_eager,
        )
        return dataclasses.replace(base, **serving_changes(self.choices.extra_args))  # type: ignore[arg-type]

    @cached_property
    def weights_gib(self) -> float | None:
        """Size of the model's files."""
        if self.choices.weights_gib is not None:
            return self.choices.weights_gib
        return checkpoint_gib(self.model) if self.model else None

    @cached_property
    def memory(self) -> Memory | None:
        """The estimate; None where model or GPU are not known well enough, or the layout leaves stages empty."""
        model, gpu, serving = self.model, self.gpu, self.serving
        if model is None or model.unpredicted or gpu is None or serving is None:
            return None
        if self.layout.pipeline > model.layers:
            return None
        return estimate(
            model,
            gpu,
            self.engine,
            serving,
            tensor=self.layout.tensor,
            pipeline=self.layout.pipeline,
            measured_cache_gib=self.choices.cache_gib,
        )

    @cached_property
    def budget(self) -> LoadBudget | None:
        """Time to load the model."""
        if self.weights_gib is None:
            return None
        return load_budget(
            weights_gib=self.weights_gib,
            throughput_mib_s=self.choices.throughput_mib_s,
            startup_seconds=self.choices.startup_seconds,
        )

    @property
    def cpu(self) -> int:
        """vCPUs per pod, as given or the guide's share per card on the next legal size."""
        if self.choices.cpu is not None:
            return self.choices.cpu
        wanted = VCPUS_PER_CARD * self.layout.cards
        legal = self.pods_of_acs
        return min((cpu for cpu in legal if cpu >= wanted), default=max(legal)) if legal else wanted

    @property
    def memory_gib(self) -> float:
        """Memory per pod, likewise."""
        if self.choices.memory_gib is not None:
            return self.choices.memory_gib
        wanted = MEMORY_GIB_PER_CARD * self.layout.cards
        legal = self.pods_of_acs.get(self.cpu, ())
        return min((size for size in legal if size >= wanted), default=max(legal)) if legal else wanted

    @property
    def pods_of_acs(self) -> dict[int, tuple[int, ...]]:
        """Legal memory sizes by vCPUs for this number of cards; empty if not published."""
        return dict(self.series.pods.get(self.layout.cards, {})) if self.series else {}

    @property
    def shared_memory_gib(self) -> float:
        """Size of /dev/shm, as given or the guide's share per card."""
        return self.choices.shared_memory_gib or SHARED_MEMORY_GIB_PER_CARD * self.layout.cards

    def with_layout(self, layout: Layout) -> "Case":
        """The same choices on another layout, for which nothing was measured."""
        if layout == self.layout:
            return self
        return dataclasses.replace(self, layout=layout, choices=dataclasses.replace(self.choices, cache_gib=None))


def load_model(choices: Choices) -> tuple[Model | None, str | None]:
    """The model of the choices, and why its config.json cannot be used."""
    if choices.config_file is None:
        return catalogue.model(choices.model), None
    try:
        return config_json.read(Path(choices.config_file).expanduser(), name=choices.model), None
    except config_json.ConfigError as error:
        return None, str(error)
