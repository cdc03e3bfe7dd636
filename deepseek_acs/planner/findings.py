"""What a check has to say: the field, what is wrong, and what to write instead.

Checks name fields in the planner's own terms (``Field``). Each front end spells them as its users write them: the stack
file as ``deployment.inference.parallelism.tensor``, the command line as ``--tensor``.
"""

import dataclasses
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

TERMINAL_WIDTH = 96
"""Columns of the text; the CLI indents it by two and terminals of 100 columns are the narrow ones."""

Severity = Literal["error", "warning"]


class Field(StrEnum):
    """A field of the specification, as texts of checks mention it: ``f"change {Field.GPUS_PER_POD}"``."""

    REGION = "<cloud.region>"
    MODEL = "<model>"
    WEIGHTS_GIB = "<model.weights_gib>"
    CONFIG_FILE = "<model.config_file>"
    IDENTITY = "<weights.identity>"
    UPLOAD = "<weights.upload>"
    RIGHTS_END = "<weights.upload.rights_end>"
    WEIGHTS_SOURCE = "<weights.files>"
    REVISION = "<weights.revision>"
    SOURCE = "<weights.source>"
    MANIFEST = "<weights.manifest>"
    ALLOW_PICKLE = "<weights.allow_pickle>"
    STORAGE = "<storage>"
    STORAGE_KIND = "<storage.kind>"
    MOUNT_OPTIONS = "<storage.mount_options>"
    THROUGHPUT = "<storage.throughput>"
    PRELOAD = "<storage.preload>"
    CACHE_WORKERS = "<storage.workers>"
    SIDECAR = "<storage.sidecar>"
    SIDECAR_CPU = "<storage.sidecar_cpu>"
    SIDECAR_MEMORY = "<storage.sidecar_memory>"
    GROUP = "<group>"
    GROUP_NAME = "<group.name>"
    REPLICAS = "<group.replicas>"
    SCALING = "<group.scaling>"
    LEAST_REPLICAS = "<group.least_replicas>"
    SERIES = "<gpu.series>"
    GPUS_PER_POD = "<gpu.perPod>"
    GPU_MEMORY_GIB = "<gpu.memory_gib>"
    AVAILABLE = "<gpu.available>"
    COMPUTE_CLASS = "<gpu.compute_class>"
    DRIVER = "<gpu.driver>"
    RESOURCE = "<gpu.resource>"
    POD = "<pod>"
    EXTRA_EPHEMERAL = "<pod.extra_ephemeral>"
    LAYOUT = "<layout>"
    TENSOR = "<layout.tensor>"
    PIPELINE = "<layout.pipeline>"
    QOS = "<qos>"
    NETWORK = "<network>"
    ZONE = "<zone>"
    IMAGE = "<engine.image>"
    ENGINE_VERSION = "<engine.version>"
    REASONING_PARSER = "<engine.reasoning_parser>"
    TOOL_CALLING = "<engine.tool_calling>"
    PREFIX_CACHING = "<engine.prefix_caching>"
    CHUNKED_PREFILL = "<engine.chunked_prefill>"
    SPECULATIVE_TOKENS = "<engine.speculative_tokens>"
    KV_OFFLOAD = "<engine.kv_offload_gib>"
    TRACES = "<observability.traces>"
    BACKEND = "<engine.backend>"
    RAY_SCRIPT = "<engine.ray_script>"
    RAY_TOKEN = "<engine.ray_token>"  # noqa: S105 - a field
    PORT = "<engine.port>"
    MAX_MODEL_LEN = "<engine.max_model_len>"
    STARTUP = "<engine.startup>"
    UTILIZATION = "<engine.gpu_memory_utilization>"
    MEASURED_KV_CACHE = "<engine.measured_cache>"
    ENFORCE_EAGER = "<engine.enforce_eager>"
    COMPILE_CACHE = "<engine.compile_cache>"
    TRUST_REMOTE_CODE = "<engine.trust_remote_code>"
    ENV = "<engine.env>"
    SECRET_ENV = "<engine.secret_env>"  # noqa: S105 - a field
    EXTRA_ARGS = "<engine.extra_args>"
    SERVED_NAME = "<model.served_name>"
    ROLLOUT = "<rollout>"
    MAX_UNAVAILABLE = "<rollout.max_unavailable>"
    PARTITION = "<rollout.partition>"
    RESTARTS = "<rollout.restarts>"
    LIFECYCLE = "<lifecycle>"
    REQUEST = "<lifecycle.request>"
    GRACE = "<lifecycle.grace>"
    DISRUPTION_BUDGET = "<lifecycle.disruption_budget>"
    GROUP_RESTART = "<lifecycle.group_restart>"
    UPDATE = "<update>"
    UPDATE_WEIGHT = "<update.weight>"
    UPDATE_REPLICAS = "<update.replicas>"
    UPDATE_LIMITS = "<update.limits>"
    PROMETHEUS = "<group.scaling.prometheus>"
    PREFLIGHT = "<group.preflight>"
    GANG = "<group.gang>"
    GUARD = "<group.guard>"
    GUARD_BACK_OFF = "<group.guard.back_off>"
    GUARD_PENDING = "<group.guard.pending>"
    GUARD_UNREADY = "<group.guard.unready>"
    SERVICE_KIND = "<service.kind>"
    SERVICE_NAME = "<service.name>"
    API_KEY = "<service.api_key>"
    REQUEST_FILTER = "<service.request_filter>"
    ALLOWED_CIDRS = "<service.allowed_cidrs>"
    ROUTE = "<service.route>"
    ROUTE_REQUEST = "<service.route.request>"
    PICKER = "<service.route.picker>"
    PICKER_IMAGE = "<service.route.picker.image>"
    PICKER_PREFIX = "<service.route.picker.prefix>"
    EGRESS = "<security.network_policy.egress>"
    NETWORK_POLICY = "<security.network_policy>"
    SECURITY_GROUPS = "<security.security_groups>"
    POD_SECURITY = "<security.pods>"
    ACCEPTED_ADVISORIES = "<security.accepted_advisories>"
    LWS_VERSION = "<operators.lws.version>"
    FLUID_CHART = "<operators.fluid.chart>"
    CURRENCY = "<prices.currency>"
    GPU_HOUR = "<prices.gpu_hour>"
    VCPU_HOUR = "<prices.vcpu_hour>"
    MEMORY_GIB_HOUR = "<prices.memory_gib_hour>"
    TOKENS_PER_SECOND = "<prices.tokens_per_second>"
    OBSERVABILITY = "<observability>"
    FIRST_TOKEN = "<observability.first_token>"  # noqa: S105 - a field
    INTER_TOKEN = "<observability.inter_token>"  # noqa: S105 - a field
    LOGSTORE = "<observability.logstore>"
    VERIFICATION = "<verification>"
    BENCHMARK = "<verification.benchmark>"
    BENCHMARK_IMAGE = "<verification.benchmark.image>"
    GATE = "<verification.gate>"
    LONG_PROMPT = "<verification.gate.long_prompt>"


_FIELDS = re.compile("|".join(Field))

Spelling = Mapping[Field, str]
"""How a front end writes the fields. A field that it does not have keeps the planner's name."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem. ``path`` is a field, or a path as a front end spells it; no text may hold a secret. ``source`` says
    where the rule is stated. A warning does not stop a deployment."""

    path: str
    problem: str
    fix: str
    severity: Severity = "error"
    source: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.fix}"


class PlanError(Exception):
    """A deployment that cannot work; ``findings`` says all of why."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(f"{f.path}: {f.problem}" for f in findings))
        self.findings = list(findings)


def spelled(finding: Finding, spelling: Spelling) -> Finding:
    """The finding with its fields as a front end writes them."""

    def spell(text: str) -> str:
        return _FIELDS.sub(lambda found: spelling.get(Field(found[0]), found[0][1:-1]), text)

    return dataclasses.replace(
        finding, path=spell(finding.path), problem=spell(finding.problem), fix=spell(finding.fix)
    )


def report(findings: Sequence[Finding], *, where: str, outcome: str = "nothing was created or changed") -> str:
    """All findings as one text for a terminal; ``where`` names the file they are about."""
    count = "1 problem" if len(findings) == 1 else f"{len(findings)} problems"
    blocks = [f"  {f.path}\n{wrapped('    problem: ', f.problem)}\n{wrapped('    fix:     ', f.fix)}" for f in findings]
    return "\n\n".join([f"{where}: {count}, {outcome}", *blocks])


def wrapped(label: str, text: str) -> str:
    """A text for a terminal, after its label and below it."""
    # Commands and addresses are to be copied, so they stay whole.
    return textwrap.fill(
        text,
        width=TERMINAL_WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
