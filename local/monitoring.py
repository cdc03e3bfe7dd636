"""A real Prometheus and a real kube-state-metrics for a stack on real nodes.

They read what the stack gives to prometheus-operator, PodMonitor and PrometheusRule, as the operator does
(https://prometheus-operator.dev/docs/api-reference/api/). Both run in the network namespace of the nodes' bridge, from
which they reach pods and the API server."""

import base64
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config

from local import tools
from local.cluster import Cluster
from local.processes import Process, wait_until
from local.prometheus import Prometheus, fetch
from local.real_nodes.namespaces import in_network, network_of
from local.real_nodes.plan import HOST_LOOPBACK, WITHOUT_PROXY

TOOLS = ("prometheus", "kube-state-metrics")
PROMETHEUS_PORT, STATE_PORT, STATE_TELEMETRY_PORT = 9090, 8080, 8081
"""In the bridge's namespace."""
STATE_METRICS = f"http://{HOST_LOOPBACK}:{STATE_PORT}/metrics"
STATE_RESOURCES = ("pods", "statefulsets")
START_SECONDS = 60
DISCOVERY_SECONDS = 3
GROUP = "monitoring.coreos.com"


@contextmanager
def monitoring(cluster: Cluster, folder: Path, namespace: str, *, network: int) -> Iterator[Prometheus]:
    """Both, for the objects in ``namespace``. ``network`` is the process that holds the bridge's network namespace.
    Raises ToolError, ProcessError, kubernetes.client.ApiException."""
    folder.mkdir(exist_ok=True)
    api = config.new_client_from_config(str(cluster.kubeconfig))
    core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
    (monitor,) = custom.list_namespaced_custom_object(GROUP, "v1", namespace, "podmonitors")["items"]
    (rules,) = custom.list_namespaced_custom_object(GROUP, "v1", namespace, "prometheusrules")["items"]
    _write_configuration(folder, monitor, rules, core)
    within = ["nsenter", f"--net={network_of(network)}"]
    state = Process(
        name="kube-state-metrics",
        command=[
            *within,
            str(tools.tool("kube-state-metrics")),
            f"--kubeconfig={cluster.folder / 'nodes' / 'kubelet.kubeconfig'}",
            f"--resources={','.join(STATE_RESOURCES)}",
            f"--namespaces={namespace}",
            f"--host={HOST_LOOPBACK}",
            f"--port={STATE_PORT}",
            f"--telemetry-host={HOST_LOOPBACK}",
            f"--telemetry-port={STATE_TELEMETRY_PORT}",
        ],
        folder=folder,
        environment=WITHOUT_PROXY,
    )
    server = Process(
        name="prometheus",
        command=[
            *within,
            str(tools.tool("prometheus")),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST_LOOPBACK}:{PROMETHEUS_PORT}",
        ],
        folder=folder,
        environment=WITHOUT_PROXY,
    )
    ended = threading.Event()
    discovery = threading.Thread(target=_discover, args=(folder, monitor, core, ended))
    descriptor = os.open(network_of(network), os.O_RDONLY)
    asked = Prometheus(
        url=f"http://{HOST_LOOPBACK}:{PROMETHEUS_PORT}",
        fetch=lambda address: in_network(descriptor, partial(fetch, address)),
    )
    try:
        state.start()
        server.start()
        discovery.start()
        wait_until("it is ready", partial(_is_ready, asked), seconds=START_SECONDS, process=server)
        yield asked
    finally:
        ended.set()
        server.stop()
        state.stop()
        discovery.join()
        os.close(descriptor)


def _write_configuration(folder: Path, monitor: Any, rules: Any, core: Any) -> None:
    key = folder / "key"
    key.touch(mode=0o600)
    namespace = monitor["metadata"]["namespace"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    if reference := endpoint.get("authorization", {}).get("credentials"):
        secret = core.read_namespaced_secret(reference["name"], namespace)
        key.write_bytes(base64.b64decode(secret.data[reference["key"]]))
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rules["spec"]["groups"]}), encoding="utf-8")
    (folder / "targets.json").write_text("[]", encoding="utf-8")
    state = {"job_name": "kube-state-metrics", "honor_labels": True}
    configuration = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [
            scrape_config(monitor, targets=folder / "targets.json", key=key),
            {**state, "static_configs": [{"targets": [f"{HOST_LOOPBACK}:{STATE_PORT}"]}]},
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")


def scrape_config(monitor: Mapping[str, Any], *, targets: Path, key: Path) -> dict[str, Any]:
    """Prometheus' form of a PodMonitor with one endpoint; the pods are in the file ``targets``, and the key that it may
    ask for in the file ``key``."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    authorization = endpoint.get("authorization")
    return {
        "job_name": f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}",
        "metrics_path": endpoint["path"],
        "scrape_interval": endpoint["interval"],
        "scrape_timeout": endpoint["scrapeTimeout"],
        "file_sd_configs": [{"files": [str(targets)]}],
        "relabel_configs": [
            {"source_labels": rule["sourceLabels"], "target_label": rule["targetLabel"]}
            for rule in endpoint["relabelings"]
        ],
        **({"authorization": {"type": authorization["type"], "credentials_file": str(key)}} if authorization else {}),
    }


def targets(monitor: Mapping[str, Any], pods: list[Any]) -> list[dict[str, Any]]:
    """The pods that have the monitored port, with the labels that Prometheus' discovery gives them
    (https://prometheus.io/docs/prometheus/latest/configuration/configuration/#pod)."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    return [
        {
            "targets": [f"{pod.status.pod_ip}:{port.container_port}"],
            "labels": {
                "__meta_kubernetes_namespace": pod.metadata.namespace,
                "__meta_kubernetes_pod_name": pod.metadata.name,
                **{
                    f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9_]', '_', name)}": value
                    for name, value in pod.metadata.labels.items()
                },
            },
        }
        for pod in pods
        if pod.status.pod_ip
        for container in pod.spec.containers
        for port in container.ports or ()
        if port.name == endpoint["port"]
    ]


def _discover(folder: Path, monitor: Any, core: Any, ended: threading.Event) -> None:
    selector = ",".join(f"{name}={value}" for name, value in monitor["spec"]["selector"]["matchLabels"].items())
    while not ended.wait(DISCOVERY_SECONDS):
        try:
            pods = core.list_namespaced_pod(monitor["metadata"]["namespace"], label_selector=selector).items
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError):
            continue
        new = folder / "targets.new"
        new.write_text(json.dumps(targets(monitor, pods)), encoding="utf-8")
        new.replace(folder / "targets.json")


def _is_ready(server: Prometheus) -> bool:
    try:
        server.fetch(f"{server.url}/-/ready")
    except OSError:
        return False
    return True
