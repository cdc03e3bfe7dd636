"""Options that may have no effect, or contradict each other."""

from collections.abc import Iterator

from deepseek_acs.planner.acs import GPU_HPN
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.metrics import EngineMetrics
from deepseek_acs.planner.pod_security import namespace_labels
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.shutdown import ANNOUNCE_SECONDS, LOAD_BALANCER_MAX
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.urls import is_unencrypted
from deepseek_acs.planner.vllm import version_of
from deepseek_acs.planner.vllm_releases.release import changed_in, newest, text

POLICIES_ON_ACS = "https://help.aliyun.com/en/ack/product-overview/poseidon"
"""The component that enforces NetworkPolicy. Its limitations name only CPU pods of ACS."""

INGRESS_NGINX = "https://kubernetes.io/blog/2025/11/11/ingress-nginx-retirement/"
INTERFACE = "eth0"
"""Of the pods (components/acs_pods.py)."""

RETIRED_CLASSES = frozenset({"nginx", "ingress-nginx"})
"""Classes that ingress-nginx has by default, and by its Helm chart's name."""


@rule("https://github.com/kubernetes-sigs/lws/blob/main/pkg/controllers/leaderworkerset_controller.go")
def service_name(spec: ResolvedSpec) -> Iterator[Problem]:
    """The Service has a different name than the LeaderWorkerSet."""
    if spec.service.name == spec.name:
        yield (
            Field.SERVICE_NAME,
            f"it equals {Field.GROUP_NAME}, and the LeaderWorkerSet controller creates a Service with that name for "
            "its pods",
            "write another name",
        )


@rule("https://www.alibabacloud.com/help/en/cs/user-guide/node-affinity-scheduling")
def zone(spec: ResolvedSpec) -> Iterator[Problem]:
    """The zone is in the region."""
    chosen, region = spec.zone, spec.cloud.region
    if chosen is not None and not (chosen.startswith(region) and chosen != region):
        yield (
            Field.ZONE,
            f"{chosen} is not a zone of {region}",
            f"write a zone of {region}, such as {region}{'' if region[-1].isdigit() else '-'}a, or change "
            f"{Field.REGION}",
        )


@rule("https://help.aliyun.com/en/slb/classic-load-balancer/user-guide/health-check-overview/")
def load_balancer_clients(spec: ResolvedSpec) -> Iterator[Problem]:
    """Network policies admit the clients of the internal load balancer, which preserves client addresses."""
    policy, service = spec.security.network_policy, spec.service
    if policy is None or service.kind != "internalLoadBalancer" or service.allowed_cidrs:
        return
    if not any(client.cidr for client in policy.clients):
        yield (
            Field.NETWORK_POLICY,
            "it blocks all clients of the internal load balancer, which preserves client addresses",
            f"set {Field.ALLOWED_CIDRS}, or add a client with a cidr",
        )


@rule("https://kubernetes.io/docs/concepts/security/service-accounts/#default-service-accounts")
def service_account(spec: ResolvedSpec) -> Iterator[Problem]:
    """The pods do not use the namespace's default service account."""
    if spec.security.pods is not None and spec.base_name == "default":
        yield (
            Field.GROUP_NAME,
            f"{Field.POD_SECURITY} creates a service account with this name, and every namespace already has one "
            "called default, for all other pods",
            "write another name",
        )


@rule("https://www.alibabacloud.com/help/doc-detail/2878633.html")
def logs_of_reserved_pods(spec: ResolvedSpec) -> Iterator[Problem]:
    """Logs are collected through environment variables only where ACS reads them."""
    if spec.observability and spec.observability.logs.sls_logstore and spec.gpu.compute_class == GPU_HPN:
        yield (
            Field.LOGSTORE,
            "it uses environment variables, which ACS ignores on pods of compute class gpu-hpn",
            "remove it, and collect the logs with a sidecar (docs/observability.md)",
        )


@rule("https://docs.vllm.ai/en/v0.10.1.1/cli/bench/serve.html")
def benchmark_image(spec: ResolvedSpec) -> Iterator[Problem]:
    """The benchmark's image contains vLLM's benchmark client."""
    if spec.benchmark_image is None:
        return
    is_own = spec.benchmark_image != spec.engine.image
    version = (version_of(spec.benchmark_image) if is_own else spec.engine.named_version) or newest()
    if version < changed_in("bench_serve"):
        yield (
            Field.BENCHMARK_IMAGE,
            f"the image has vLLM {text(version)}, whose vllm bench serve does not have the options that are needed",
            "write an image with vLLM 0.10.1 or newer here; the engine's image can stay",
        )


@rule("https://docs.vllm.ai/en/v0.10.1.1/cli/bench/serve.html")
def benchmark_length(spec: ResolvedSpec) -> Iterator[Problem]:
    """The benchmark's requests fit into the engine's longest request."""
    benchmark, longest = spec.verification.benchmark if spec.verification else None, spec.engine.max_model_len
    if benchmark and longest is not None and (tokens := benchmark.input_tokens + benchmark.output_tokens) > longest:
        yield (
            Field.BENCHMARK,
            f"inputTokens + outputTokens are {tokens:,}, and the engine accepts requests of at most {longest:,} tokens",
            f"write fewer tokens, or raise {Field.MAX_MODEL_LEN}",
        )


@rule("https://docs.vllm.ai/en/stable/examples/observability/opentelemetry/")
def traces(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine sends traces without falling back to its earlier generation."""
    engine = spec.engine
    if spec.traces is not None and changed_in("v1") <= engine.vllm.version < changed_in("v1_traces"):
        yield (
            Field.TRACES,
            f"{engine.vllm.name} would fall back to the earlier generation of the engine, which is slower and needs "
            "other memory",
            f"use an image with vLLM {text(changed_in('v1_traces'))} or newer, or remove it",
        )


@warning("https://docs.vllm.ai/en/stable/examples/observability/opentelemetry/")
def trace_packages(spec: ResolvedSpec) -> Iterator[Problem]:
    """The image has what sends traces."""
    engine = spec.engine
    if spec.traces is not None and engine.vllm.version < changed_in("opentelemetry_required"):
        yield (
            Field.TRACES,
            f"the engine does not start unless the image has OpenTelemetry's packages, which {engine.vllm.name} does "
            "not require",
            "check with pip show opentelemetry-exporter-otlp in the image, or use one with vLLM "
            f"{text(changed_in('opentelemetry_required'))} or newer",
        )


@rule("https://github.com/vllm-project/vllm/pull/15202")
def objectives(spec: ResolvedSpec) -> Iterator[Problem]:
    """A latency objective is within the range of the engine's histograms."""
    alerts, vllm = spec.observability.alerts if spec.observability else None, spec.engine.vllm
    if alerts is None:
        return
    metrics = EngineMetrics(version=vllm.version)
    for field, objective, longest in (
        (Field.FIRST_TOKEN, alerts.time_to_first_token_seconds, metrics.longest_first_token_seconds),
        (Field.INTER_TOKEN, alerts.inter_token_seconds, metrics.longest_inter_token_seconds),
    ):
        if objective is not None and objective > longest:
            yield (
                field,
                f"the histogram of {vllm.name} ends at {longest:g} s, so an alert at {objective:g} s would never fire",
                f"write {longest:g} or less, or remove the setting",
            )


@warning(POLICIES_ON_ACS)
def network_policies_hold(spec: ResolvedSpec) -> Iterator[Problem]:
    """Network policies are enforced."""
    if spec.security.network_policy is not None and not spec.security.security_groups:
        yield (
            Field.NETWORK_POLICY,
            "Alibaba Cloud documents network policies for CPU pods of ACS with the component Poseidon, but not for "
            f"GPU pods ({POLICIES_ON_ACS})",
            f"test whether they are enforced (docs/access.md), or set {Field.SECURITY_GROUPS} as well",
        )


@warning("https://kubernetes.io/docs/concepts/security/pod-security-admission/")
def namespace_labelled(spec: ResolvedSpec) -> Iterator[Problem]:
    """The namespace has the labels that enforce Pod Security Standards."""
    labels = namespace_labels(spec)
    if labels and not spec.cluster.create_namespace:
        text = " ".join(f"{name}={value}" for name, value in labels.items())
        yield (
            Field.POD_SECURITY,
            "the stack did not create the namespace, so it does not label it",
            f"label it: kubectl label namespace {spec.cluster.namespace} {text}",
        )


@warning(INGRESS_NGINX)
def maintained_ingress_controller(spec: ResolvedSpec) -> Iterator[Problem]:
    """The controller of an Ingress gets security fixes."""
    route = spec.service.route
    if route is not None and route.kind == "ingress" and route.class_name in RETIRED_CLASSES:
        yield (
            Field.ROUTE,
            f"{route.class_name} is the class of ingress-nginx, which has had no security fixes since March 2026",
            "use a route of kind gateway, or an Ingress of a controller that is maintained, such as alb",
        )


@warning("https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/")
def old_groups_keep_their_objects(spec: ResolvedSpec) -> Iterator[Problem]:
    """No rollout is in progress while old groups still use what an update deletes."""
    partition = spec.rollout.partition
    if partition:
        key = "deepseek:apiKey, " if spec.service.api_key else ""
        yield (
            Field.PARTITION,
            f"an update to another {key}storage, model or bucket deletes the old one, which groups below {partition} "
            "still use: pulumi up times out, and a failed pod of those groups is not "
            "replaced",
            "finish the rollout (partition: 0) before you change them",
        )


@warning("docs/lifecycle.md")
def requests_are_finished(spec: ResolvedSpec) -> Iterator[Problem]:
    """Route, load balancer and pods allow the same longest request."""
    service = spec.service
    if spec.lifecycle is None:
        return
    seconds = spec.lifecycle.request_seconds
    if service.route is not None and service.route.request_seconds > seconds:
        yield (
            Field.REQUEST,
            f"the route allows requests of {service.route.request_seconds} s ({Field.ROUTE_REQUEST}), and a "
            f"terminating pod finishes requests of {seconds} s",
            "write the same number",
        )
    if service.kind == "internalLoadBalancer" and seconds > LOAD_BALANCER_MAX - ANNOUNCE_SECONDS:
        yield (
            Field.REQUEST,
            f"the load balancer cuts connections to a terminating pod after {LOAD_BALANCER_MAX} s, so requests of "
            f"{seconds} s through it do not finish",
            f"write {LOAD_BALANCER_MAX - ANNOUNCE_SECONDS} or less, or accept it",
        )


@warning("docs/lifecycle.md")
def requests_are_not_cut_off(spec: ResolvedSpec) -> Iterator[Problem]:
    """Pods that clients reach through a route or a load balancer finish their requests."""
    service = spec.service
    if spec.lifecycle is None and (service.route is not None or service.kind == "internalLoadBalancer"):
        yield (
            Field.LIFECYCLE,
            "a pod that ends is gone after 30 s: each update, scale-down and eviction cuts off requests, and a load "
            "balancer or proxy may still send new ones",
            "set it",
        )


@warning("https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html#nccl-socket-ifname")
def network_variables(spec: ResolvedSpec) -> Iterator[Problem]:
    """Variables of the network mean what their names suggest."""
    env = spec.engine.env
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME"):
        if name in env and not _selects_interface(env[name]):
            yield (
                Field.ENV,
                f"{name}={env[name]} does not select {INTERFACE}, the only interface of a pod on ACS",
                "remove it, or write eth0",
            )
    if "VLLM_PORT" in env:
        yield (
            Field.ENV,
            "VLLM_PORT is the first port at which processes of the engine meet, and not that of the API",
            f"remove it; {Field.PORT} is the port of the API",
        )


def _selects_interface(value: str) -> bool:
    """As NCCL reads it: names or their beginnings, all but these after ``^``, and exactly these after ``=``."""
    names = value.lstrip("^=").split(",")
    if value.startswith("="):
        return INTERFACE in names
    return any(INTERFACE.startswith(name) for name in names) != value.startswith("^")


@warning("docs/scaling.md")
def metrics_are_found(spec: ResolvedSpec) -> Iterator[Problem]:
    """The autoscaler finds the metrics that it queries."""
    scaler = spec.replicas.scaler
    if scaler is not None and scaler.kind == "queue" and spec.observability is None:
        yield (
            Field.SCALING,
            "queue selects metrics by the labels namespace and leaderworkerset, which the PodMonitor of "
            f"{Field.OBSERVABILITY} adds; if nothing else adds them, the number of groups never changes",
            f"set {Field.OBSERVABILITY}, or check that your Prometheus has them (docs/scaling.md)",
        )


@warning("docs/access.md")
def secrets_are_encrypted_on_the_way(spec: ResolvedSpec) -> Iterator[Problem]:
    """Tokens and keys are sent over HTTPS, or within this machine."""
    scaler, service = spec.replicas.scaler, spec.service
    if scaler is not None and scaler.kind == "queue":
        prometheus = scaler.prometheus
        if prometheus.authorization and is_unencrypted(prometheus.url):
            yield (
                Field.PROMETHEUS,
                "every query sends the secret deepseek:prometheusToken there over plain HTTP",
                "write https://, if the Prometheus supports it",
            )
    if service.api_key and service.kind == "internalLoadBalancer":
        yield (
            Field.SERVICE_KIND,
            "the load balancer's listener is plain TCP: keys, prompts and answers cross the VPC unencrypted",
            f"serve clients through {Field.ROUTE} with TLS, or use the load balancer only for networks that you trust",
        )


@warning("docs/verification.md")
def something_is_verified(spec: ResolvedSpec) -> Iterator[Problem]:
    """There is a group to verify."""
    verification = spec.verification
    asks = verification and (verification.smoke or verification.benchmark or verification.gate)
    if asks and spec.replicas.first == 0:
        yield (
            Field.VERIFICATION,
            "there are no groups at first, so nothing is verified",
            "run make verify once there is a group",
        )
