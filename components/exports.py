"""The stack's outputs: what a user or another stack needs to use the deployment."""

import json
import shlex
from collections.abc import Mapping

import pulumi

from deepseek_acs.planner import cost
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.summary import with_cost
from deepseek_acs.settings.cloud import ClusterSettings
from deepseek_acs.settings.route import GatewayRoute, InferencePoolRoute, IngressRoute

from .canary_guard import guard_status
from .expansion import shell_path
from .gate import Gate, store_name
from .inference_service import InferenceService
from .labels import report_command, reports_name
from .model_bucket import ModelBucket
from .model_mount import ModelMount
from .verification import Verification


def outputs(
    spec: ResolvedSpec,
    *,
    bucket: ModelBucket,
    mount: ModelMount,
    service: InferenceService,
    verification: Verification | None,
    gate: Gate | None = None,
) -> Mapping[str, pulumi.Input[object]]:
    """Outputs by name. The two commands are the guide's own check; run each in its own shell. With a route, the second
    works alone."""
    namespace, port, name = spec.cluster.namespace, spec.service.port, spec.model.served_name
    routed = route_url(spec.service.route) if spec.service.route else None
    in_namespace = f"{kubectl(spec.cluster)} --namespace {namespace}"
    found: dict[str, pulumi.Input[object]] = {
        "model": name,
        "namespace": namespace,
        "group": spec.selected.name,
        "plan": with_cost(spec),
        "cost": cost.data(cost.cost(spec)),
        "bucket": bucket.bucket_name,
        "weights": pulumi.Output.format("oss://{0}/{1}", bucket.bucket_name, spec.weights.prefix),
        "claim": mount.claim_name,
        "serviceDnsName": service.dns_name,
        "servicePort": port,
        "requestFilter": spec.request_filter is not None,
        "serviceUrl": f"{routed}/v1" if routed else pulumi.Output.format("http://{0}:{1}/v1", service.dns_name, port),
        "portForwardCommand": pulumi.Output.format(
            f"{in_namespace} port-forward svc/{{0}} {port}:{port}", service.name
        ),
        "curlCommand": curl_command(name, routed or f"http://localhost:{port}", with_key=spec.service.api_key),
    }
    if spec.service.route and spec.service.route.kind == "inferencePool":
        found["inferencePool"] = spec.selected.name
    if spec.observability and spec.observability.incidents:
        found["incidents"] = reports_name(spec.name)
        found["incidentsCommand"] = report_command(in_namespace, reports_name(spec.name))
    if spec.gate:
        found["knownGoodStore"] = store_name(spec.base_name)
    if gate:
        found["knownGood"] = gate.known_good
    if update := spec.update:
        found["update"] = {
            "group": update.candidate.name,
            "weight": update.weight,
            "guard": guard_status(spec.base_name) if update.limits else None,
        }
    if verification and verification.benchmark_job is not None:
        logs = f"{in_namespace} logs --follow job/{{0}}"
        found["benchmarkCommand"] = pulumi.Output.format(logs, verification.benchmark_job)
    return found


def route_url(route: GatewayRoute | InferencePoolRoute | IngressRoute) -> str:
    """URL for clients outside the cluster, without the API's ``/v1``."""
    plain = route.tls.kind == "none" if route.kind == "ingress" else route.plain_http
    return f"{'http' if plain else 'https'}://{route.host}"


def kubectl(cluster: ClusterSettings) -> str:
    """The beginning of a command for the stack's cluster."""
    words = ["kubectl"]
    if cluster.kubeconfig_file:
        words.append(f"--kubeconfig {shell_path(cluster.kubeconfig_file)}")
    if cluster.context:
        words.append(f"--context {shlex.quote(cluster.context)}")
    return " ".join(words)


def curl_command(model: str, url: str, *, with_key: bool) -> str:
    """One chat completion with curl. The key goes from Pulumi's configuration to curl's standard input, so neither the
    command nor the process list shows it."""
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "Tell me about deep learning."}], "max_tokens": 128}
    )
    address = shlex.quote(f"{url}/v1/chat/completions")
    call = f"{address} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    if not with_key:
        return f"curl {call}"
    key = f"$(pulumi config get --stack {shlex.quote(pulumi.get_stack())} deepseek:apiKey)"
    return f"printf 'Authorization: Bearer %s' \"{key}\" | curl -H @- {call}"
