"""Arguments of an inference group: plain values that ``wiring`` takes from the specification."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pulumi

from .compile_cache import CompileCacheArgs
from .preflight import PreflightArgs
from .request_filter import RequestFilterArgs


@dataclass(frozen=True, kw_only=True)
class InferenceGroupArgs:
    """A LeaderWorkerSet of vLLM. Sizes are those of one pod, in vCPUs and GiB; times are in seconds."""

    namespace: pulumi.Input[str]
    name: str
    """Name of the LeaderWorkerSet."""

    replicas: int = 1
    """Initial number of groups; with ``autoscaled``, an autoscaler sets it later."""

    autoscaled: bool = False
    take_over: bool = False
    """Take the number of groups back from a former autoscaler."""

    max_unavailable: int = 1
    max_surge: int = 0
    partition: int = 0
    gated: bool = False
    """Whether a Job lets updates go on, and waits for the groups. Pulumi would wait for old groups that are broken, and
    held."""

    restart_after_start: bool = False
    """Restart a group because of a terminated container only after all its pods have started."""

    has_requests_of_route: bool = False
    """Whether a route sends requests to these groups in addition to others'. They would load the model again under
    these requests, so another pod template is refused."""

    pods: int = 1
    """Pods of a group."""

    tensor: int
    pipeline: int
    gpu_resource: str
    gpus: int
    cpu: int
    memory_gib: float
    shared_memory_gib: float

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    has_common_labels: bool = False
    """Label the pods with ``app.kubernetes.io/...``, which logs and metrics select."""

    environment: Mapping[str, str] = field(default_factory=dict)
    default_environment: Mapping[str, str] = field(default_factory=dict)
    """Additional variables, unless ``environment`` has them."""

    secret_environment: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Variables whose values are in Secrets: name and key of the Secret, by variable."""

    image: str
    backend: Literal["ray", "mp"] = "ray"
    ray_script: str = "/vllm-workspace/ray_init.sh"
    port: int = 8000
    served_name: str
    max_model_len: int | None = None
    """None: the engine decides."""

    gpu_memory_utilization: float
    enforce_eager: bool = False
    trust_remote_code: bool = False
    arguments: tuple[str, ...] = ()
    """Additional arguments of ``vllm serve``."""

    claim_name: pulumi.Input[str]
    """PersistentVolumeClaim with the model's files."""

    model_path: str
    """Where the pods mount it."""

    startup_seconds: int
    """Time until the first answer of a container (arithmetic: ``deepseek_acs/planner/loading.py``)."""

    create_seconds: int
    update_seconds: int
    check_command: str | None = None
    """A command that says which pods are not ready, and why; shown while the group is waited for."""

    request_seconds: int | None = None
    """Longest request, which a terminating pod finishes. None: pods do not drain."""

    grace_seconds: int = 0
    drains_itself: bool = False
    """Whether the engine itself finishes its requests after SIGTERM."""

    lost_node_seconds: int | None = None
    """Seconds that a pod stays on a lost node; None: as the cluster does."""

    stall_seconds: int | None = None
    """Seconds that an engine with requests may make no progress; None: only ``/health`` is checked."""

    canary: bool = False

    preflight: PreflightArgs | None = None
    """Checks before the engine starts; None: there are none."""

    compile_cache: CompileCacheArgs | None = None
    """Where compiled code is kept; None: each start compiles."""

    request_filter: RequestFilterArgs | None = None
    """The filter in front of the engine, which asks for the keys of ``api_key_secret``."""

    api_key_secret: pulumi.Input[str] | None = None
    """Secret with the clients' key."""

    ray_token_secret: pulumi.Input[str] | None = None
    """Secret with the token by which the members' Ray processes know each other."""

    service_account: pulumi.Input[str] | None = None
    hardened: bool = False
    """No privilege escalation, no capabilities, and the runtime's seccomp profile."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    read_only_root: bool = False
    """By default the number of ``run_as_user``."""

    uses_rdma: bool = False
