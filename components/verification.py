"""Jobs that verify the endpoint after a deployment: one that must succeed, and one that measures.

Their names contain a hash of the templates of the group's pods, including the API key's Secret: ``pulumi up`` verifies
again only after the pods were recreated."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from .acs_pods import GENERAL_PURPOSE
from .group_access import API_KEY_VARIABLE
from .network_policy import VERIFICATION
from .python_job import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    job_name,
    program_config_map,
    program_container,
    program_job,
    program_volume,
    secret_variable,
)

PACKAGE = "verifier"
LABELS = {"app.kubernetes.io/name": PACKAGE, **VERIFICATION}
BENCHMARK_LABELS = {"app.kubernetes.io/name": "vllm-bench", **VERIFICATION}

SILENCE_SECONDS = 180
"""Longest time without output of the engine: its first request may compile kernels."""

SMOKE_SECONDS = 900
"""Timeout of the Job: time for DNS and Service, and four requests with the longest silence each."""

BENCHMARK_SECONDS = 6 * 3600

SCRATCH = "/tmp"  # noqa: S108 - in the pod
RESULT = f"{SCRATCH}/result.json"


@dataclass(frozen=True, kw_only=True)
class BenchmarkArgs:
    """``vllm bench serve``: see ``deepseek_acs/settings/verification.py``. Another ``run`` measures again."""

    image: str
    input_tokens: int = 1024
    output_tokens: int = 128
    prompts: int = 100
    request_rate: float | None = None
    max_concurrency: int | None = None
    run: int = 1
    cpu: int = 8
    memory: str = "16Gi"
    trust_remote_code: bool = False


@dataclass(frozen=True, kw_only=True)
class VerificationArgs:
    """``subject`` changes when there is something new to verify. ``url`` is the Service's, without a path, ``image`` an
    image with Python for the smoke test and ``service_account`` one that may pull the benchmark's image,
    ``api_key_secret`` the Secret with the clients' key, if there is one. The benchmark reads the tokenizer from the
    model's claim. ``loading_seconds`` is the time that an autoscaler may need to start the first group; 0 if the group
    is awaited before."""

    namespace: pulumi.Input[str]
    model: str
    url: pulumi.Input[str]
    subject: pulumi.Input[str]
    smoke: bool = False
    benchmark: BenchmarkArgs | None = None
    image: str
    claim_name: pulumi.Input[str]
    model_path: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of pods that mount the claim."""

    api_key_secret: pulumi.Input[str] | None = None
    filtered: bool = True
    """Whether a request filter is in front of the engine, where there is a key."""

    service_account: pulumi.Input[str] | None = None
    loading_seconds: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Annotations of the pods."""


class Verification(pulumi.ComponentResource):
    """The Jobs that the settings enable."""

    benchmark_job: pulumi.Output[str] | None

    def __init__(self, name: str, args: VerificationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("deepseek:verification:Verification", name, None, opts)
        smoke = self._smoke(name, args) if args.smoke else None
        benchmark = self._benchmark(name, args, args.benchmark, smoke) if args.benchmark else None
        self.benchmark_job = benchmark.metadata["name"] if benchmark else None
        self.register_outputs({"benchmarkJob": self.benchmark_job})

    def _smoke(self, name: str, args: VerificationArgs) -> k8s.batch.v1.Job:
        seconds = SMOKE_SECONDS + args.loading_seconds
        zipped = program_config_map(PACKAGE, namespace=args.namespace, labels=LABELS, parent=self)
        container = program_container(
            PACKAGE,
            image=args.image,
            arguments=[
                pulumi.Output.format("--url={0}", args.url),
                f"--model={args.model}",
                f"--timeout={SILENCE_SECONDS}",
                *([f"--patience={args.loading_seconds}"] if args.loading_seconds else []),
                *([] if args.filtered else ["--no-filter"]),
            ],
            env=_key_variable(API_KEY_VARIABLE, args),
            size={"cpu": "1", "memory": "2Gi"},
        )
        spec = _pod(container, program_volume(zipped))
        spec["security_context"] = POD_SECURITY
        return program_job(
            f"{name}-smoke",
            kind="verify",
            content=[name, args.subject],
            namespace=args.namespace,
            labels=LABELS,
            template={"metadata": _metadata({**LABELS, **GENERAL_PURPOSE}, args), "spec": spec},
            deadline_seconds=seconds,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _benchmark(
        self, name: str, args: VerificationArgs, benchmark: BenchmarkArgs, smoke: k8s.batch.v1.Job | None
    ) -> k8s.batch.v1.Job:
        """Not as root: the client needs no more than a home in which it may write."""
        size = {"cpu": str(benchmark.cpu), "memory": benchmark.memory}
        container: k8s.core.v1.ContainerArgsDict = {
            "name": "vllm-bench",
            "image": benchmark.image,
            "command": ["sh", "-c", f"{shlex.join(bench_command(args, benchmark))} && cat {RESULT}"],
            "env": [
                {"name": "BASE_URL", "value": args.url},
                # The image knows no user of this number.
                {"name": "HOME", "value": SCRATCH},
                {"name": "USER", "value": "bench"},
                *_key_variable("OPENAI_API_KEY", args),
            ],
            "volume_mounts": [
                {"name": "llm-model", "mount_path": args.model_path, "read_only": True},
                {"name": "scratch", "mount_path": SCRATCH},
            ],
            "resources": {"limits": size, "requests": size},
            "security_context": CONTAINER_SECURITY,
            "termination_message_policy": "FallbackToLogsOnError",
        }
        claim: k8s.core.v1.VolumeArgsDict = {
            "name": "llm-model",
            "persistent_volume_claim": {"claim_name": args.claim_name, "read_only": True},
        }
        labels = {**BENCHMARK_LABELS, **GENERAL_PURPOSE, **args.labels}
        spec = _pod(container, claim, {"name": "scratch", "empty_dir": {}})
        spec["security_context"] = POD_SECURITY
        if args.service_account is not None:
            spec["service_account_name"] = args.service_account
        template: k8s.core.v1.PodTemplateSpecArgsDict = {"metadata": _metadata(labels, args), "spec": spec}
        return k8s.batch.v1.Job(
            f"{name}-benchmark",
            metadata={
                "name": job_name("benchmark", template, name, args.subject, benchmark.run),
                "namespace": args.namespace,
                "labels": BENCHMARK_LABELS,
                # A measurement that takes long or fails does not mean that the deployment failed.
                "annotations": {"pulumi.com/skipAwait": "true"},
            },
            spec={
                "backoff_limit": 0,
                "active_deadline_seconds": BENCHMARK_SECONDS,
                "template": template,
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[smoke] if smoke else [], delete_before_replace=True),
        )


def bench_command(args: VerificationArgs, benchmark: BenchmarkArgs) -> list[str]:
    """``vllm bench serve`` (https://docs.vllm.ai/en/v0.10.1.1/cli/bench/serve.html). The tokenizer is the model's own,
    from its files; the address is in the environment."""
    return [
        *("vllm", "bench", "serve"),
        *("--model", args.model),
        *("--tokenizer", f"{args.model_path}/"),
        *(["--trust-remote-code"] if benchmark.trust_remote_code else []),
        *("--base-url", "$(BASE_URL)"),
        *("--dataset-name", "random"),
        *("--random-input-len", str(benchmark.input_tokens)),
        *("--random-output-len", str(benchmark.output_tokens)),
        *("--num-prompts", str(benchmark.prompts)),
        *(["--request-rate", str(benchmark.request_rate)] if benchmark.request_rate else []),
        *(["--max-concurrency", str(benchmark.max_concurrency)] if benchmark.max_concurrency else []),
        *("--ignore-eos", "--save-result"),
        *("--result-dir", RESULT.rpartition("/")[0]),
        *("--result-filename", RESULT.rpartition("/")[2]),
    ]


def _metadata(labels: Mapping[str, str], args: VerificationArgs) -> k8s.meta.v1.ObjectMetaArgsDict:
    return {"labels": labels, **({"annotations": args.annotations} if args.annotations else {})}


def _key_variable(name: str, args: VerificationArgs) -> list[k8s.core.v1.EnvVarArgsDict]:
    return secret_variable(name, args.api_key_secret, API_KEY_VARIABLE) or []


def _pod(container: k8s.core.v1.ContainerArgsDict, *volumes: k8s.core.v1.VolumeArgsDict) -> k8s.core.v1.PodSpecArgsDict:
    return {
        "restart_policy": "Never",
        "automount_service_account_token": False,
        "enable_service_links": False,
        "containers": [container],
        "volumes": list(volumes),
    }
