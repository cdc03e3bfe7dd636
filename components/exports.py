"""The stack's outputs: what a person or another stack needs to use the deployment."""

import json
from collections.abc import Mapping

import pulumi

from components.inference_service import InferenceService
from components.model_bucket import ModelBucket
from components.settings.cloud import ClusterSettings
from components.settings.deployment import Deployment
from components.storage import ModelMount
from planner.plan import Plan


def outputs(
    settings: Deployment, plan: Plan, *, bucket: ModelBucket, mount: ModelMount, service: InferenceService
) -> Mapping[str, pulumi.Input[object]]:
    """Outputs by name. The two commands are the guide's own check, to be run one in each of two shells."""
    namespace, port = settings.cluster.namespace, settings.service.port
    return {
        "model": settings.model.served_name,
        "namespace": namespace,
        "group": settings.inference.name,
        "plan": plan.facts(),
        "bucket": bucket.bucket_name,
        "weights": pulumi.Output.format("oss://{0}/{1}", bucket.bucket_name, settings.weights.prefix),
        "claim": mount.claim_name,
        "serviceDnsName": service.dns_name,
        "servicePort": port,
        "serviceUrl": pulumi.Output.format("http://{0}:{1}/v1", service.dns_name, port),
        "portForwardCommand": pulumi.Output.format(
            f"{kubectl(settings.cluster)} --namespace {namespace} port-forward svc/{{0}} {port}:{port}", service.name
        ),
        "curlCommand": curl_command(settings.model.served_name, port),
    }


def kubectl(cluster: ClusterSettings) -> str:
    """The beginning of a command for the stack's cluster."""
    words = ["kubectl"]
    if cluster.kubeconfig_file:
        words.append(f"--kubeconfig {cluster.kubeconfig_file}")
    if cluster.context:
        words.append(f"--context {cluster.context}")
    return " ".join(words)


def curl_command(model: str, port: int) -> str:
    """One chat completion by curl, through the forwarded port."""
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "Tell me about deep learning."}], "max_tokens": 128}
    )
    return f"curl http://localhost:{port}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"
