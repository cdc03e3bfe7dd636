"""The embedded cluster: a real etcd, API server, controller manager, scheduler and LeaderWorkerSet controller on the
loopback interface, with kwok in the place of machines.

What is real: admission, validation, storage, scheduling, binding, garbage collection, group restarts. What is not: no
container is ever started; kwok sets pods to Running and Ready. Only the pods that move weights or verify do their work,
as processes of this machine (``local/pod_runner``). Fluid's objects live, but nothing is cached (``local/fluid``).
Whatever port of a pod is forwarded, a small server that computes no tokens answers (``local/openai``).

``kwokctl create cluster --runtime binary`` (kwok 0.8.0) was tried in place of this module and starts in 14 s. Not used:
its etcd serves without TLS or client certificates, all components share one admin certificate, LeaderWorkerSet runs in
containers only, it needs ``kubectl``, and it kills by process ID alone, even if another process has the ID by now.
"""

import base64
import contextlib
import json
import math
import random
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, Request, build_opener

import yaml

from local import tools
from local.certificates import Certificates
from local.go import Report
from local.nodes import MANAGED, GpuNodes, ensure_nodes
from local.pod_runner import LABEL, PROGRAMS
from local.processes import Process, ProcessError, ProcessStatus, listens, locked, python_process, wait_until
from local.real_nodes.bring_up import ImageNames, RealNodes, binaries_of
from local.real_nodes.configuration import egress_selector
from local.real_nodes.plan import GATEWAY, NODES, SERVICE_NETWORK, WITHOUT_PROXY, Plan, node_plans

CONTEXT = "deepseek-local"
PORT_RANGE = range(20_000, 32_768)
"""Below the ports that systems give to connections, one of which could hold a port until its server starts
(https://docs.kernel.org/networking/ip-sysctl.html, ``ip_local_port_range``)."""

START_SECONDS = 90
"""Time for one part to become ready; it takes a few seconds unless the machine is very busy."""

PORTS = (
    *("etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler"),
    *("kwok", "lws-webhook", "lws-health", "openai"),
)

NODE_KINDS = ("real", "simulated")

SIMULATION_PROCESSES = ("kwok", "pod-runner", "openai")
"""They play nodes and pods; with real nodes there is nothing to play."""

CPUS_OF_A_POD, MEMORY_OF_A_POD = 192, 1900 * 2**30
"""Room for the largest pod of ACS, as in ``local/nodes.py``."""

DEFINITIONS = {
    "lws": ("leaderworkersets.leaderworkerset.x-k8s.io", "disaggregatedsets.disaggregatedset.x-k8s.io"),
    "gateway-api": ("gateways.gateway.networking.k8s.io", "httproutes.gateway.networking.k8s.io"),
    "inference-extension": ("inferencepools.inference.networking.k8s.io",),
    "keda": ("scaledobjects.keda.sh", "triggerauthentications.keda.sh"),
    "prometheus-operator": ("podmonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com"),
}
"""Custom resource definitions by the Go module that they are taken from. But for LeaderWorkerSet's, no controller of
them runs here: their objects are validated and stored, and nothing comes of them."""

FLUID_DEFINITIONS = Path(__file__).parent / "fluid" / "definitions.yaml"

CSI_DRIVERS = Path(__file__).parent / "csi" / "drivers.yaml"

KWOK_STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)

NOT_OF_THE_RUNNER = {"key": f'.metadata.labels["{LABEL}"]', "operator": "NotIn", "values": list(PROGRAMS)}
"""What kwok's stages for pods have to require, so that it leaves those of the pod runner alone."""

POD_WEBHOOKS = ("mpod.kb.io", "vpod.kb.io")
POD_WEBHOOK_SELECTOR = {"matchExpressions": [{"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}]}
"""As LWS's kustomize patches have it: pods of other owners are not sent to the controller."""


@dataclass(frozen=True, kw_only=True)
class RealNodesNeeds:
    """What real nodes are to be like.

    :param nodes: the GPU nodes of a simulated cluster, whose room the real ones share. :param images: names by which
    pods ask for them. :param relayed_ports: of this machine's loopback, found by pods on their own. :param engine:
    folder of the real vLLM, if a pod is to run it.
    """

    nodes: GpuNodes
    images: ImageNames
    relayed_ports: tuple[int, ...]
    engine: Path | None = None


class Cluster:
    """The cluster whose state is in ``folder``; every method may be called at any time, by any process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.kubeconfig = self.folder / "kubeconfig"
        self.pods = self.folder / "pods"
        self._certificates = Certificates(self.folder / "certificates")
        self._real_nodes = RealNodes(self.folder)
        self._simulated = self.folder / "simulated-nodes"

    def start_api_server(self) -> None:
        """Starts etcd and the API server alone: no controllers, no nodes, no kinds of others."""
        binaries = tools.build_all(tools.CLUSTER_TOOLS[:2])
        with self._starting({**dict.fromkeys(tools.CLUSTER_TOOLS, Path("/")), **binaries}):
            pass

    def start(self, real: RealNodesNeeds | None = None, say: Report | None = None) -> None:
        """Starts what does not run and waits until all of it is ready, the real nodes included if there are to be any.
        Data of an earlier run are kept. Raises ToolError, ProcessError."""
        built = tools.build_all(tools.tools_of_a_cluster(real=real is not None), say)
        self._change_nodes(real=real is not None)
        with self._starting({**dict.fromkeys(tools.CLUSTER_TOOLS, Path("/")), **built}) as (ports, processes):
            *others, fluid, lws = processes
            for process in others:
                process.start()
            self._install_definitions()
            self._install_lws_webhooks(ports)
            fluid.start()
            lws.start()
            answers = partial(self._is_ours, ports["lws-webhook"])
            wait_until("its webhooks answer", answers, seconds=START_SECONDS, process=lws)
            wait_until(
                "the default service account exists",
                lambda: self._exists("/api/v1/namespaces/default/serviceaccounts/default"),
                seconds=START_SECONDS,
                process=next(p for p in others if p.name == "kube-controller-manager"),
            )
            if real is None:
                self._forget_nodes(
                    lambda node: not (node["metadata"].get("annotations") or {}).items() >= MANAGED.items()
                )
            else:
                self._start_nodes(real, ports, built, say or print)

    @property
    def nodes(self) -> str:
        """The kind that it has, one of ``NODE_KINDS``; empty before it has any."""
        return "real" if self.has_real_nodes else "simulated" if self._simulated.exists() else ""

    @property
    def has_real_nodes(self) -> bool:
        """Whether it was last started with real nodes."""
        return self._real_nodes.folder.is_dir()

    def simulate_nodes(self, wanted: GpuNodes) -> None:
        """Gives it these nodes, after a start without real ones."""
        ensure_nodes(self.kubeconfig, wanted, kubelet_port=self.kubelet_port)
        self._simulated.touch()

    def _change_nodes(self, *, real: bool) -> None:
        """Ends what plays the nodes of the other kind. Their pods are deleted by the controller manager."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self.folder):
            if real and not self.has_real_nodes:
                for process in self._known_processes():
                    if process.name in SIMULATION_PROCESSES:
                        process.stop()
                self._real_nodes.folder.mkdir()
                self._simulated.unlink(missing_ok=True)
            elif not real and self.has_real_nodes:
                self._real_nodes.stop()
                shutil.rmtree(self._real_nodes.folder)

    def _start_nodes(
        self, real: RealNodesNeeds, ports: Mapping[str, int], built: Mapping[str, Path], say: Report
    ) -> None:
        pods = math.ceil(real.nodes.count / NODES)
        plan = Plan(
            folder=str(self._real_nodes.folder),
            cgroup=self._real_nodes.cgroup,
            nodes=node_plans(real.nodes.region),
            cpus=pods * CPUS_OF_A_POD,
            memory=pods * MEMORY_OF_A_POD,
            gpus=pods * real.nodes.gpus_per_pod,
            gpu_resource=real.nodes.resource,
            labels={
                "type": "virtual-kubelet",
                "topology.kubernetes.io/region": real.nodes.region,
                "alibabacloud.com/gpu-model-series": real.nodes.series,
            },
            api_server_port=ports["apiserver"],
            relayed_ports=real.relayed_ports,
            binaries=binaries_of(built),
            certificates=str(self._certificates.folder),
            region=real.nodes.region,
            engine=str(real.engine or ""),
        )
        for client in ("kubelet", "kube-proxy", "netpol", "coredns"):
            self._write_kubeconfig(
                self._real_nodes.folder / f"{client}.kubeconfig", client, f"https://{GATEWAY}:{ports['apiserver']}"
            )
        for manifest in _load_yaml(CSI_DRIVERS):
            self._apply(f"/apis/storage.k8s.io/v1/csidrivers/{manifest['metadata']['name']}", manifest)
        self._forget_nodes(lambda node: node["metadata"]["name"] not in {node.name for node in plan.nodes})
        for node, process in self._real_nodes.start(plan, real.images, say):
            wait_until(
                f"the node {node.name} is ready",
                partial(self._node_is_ready, node.name, plan),
                seconds=START_SECONDS,
                process=process,
            )

    def _node_is_ready(self, name: str, plan: Plan) -> bool:
        path = f"/api/v1/nodes/{name}"
        if not self._exists(path):
            return False
        status = json.loads(self._request("GET", path)).get("status", {})
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
        return ready and status.get("allocatable", {}).get(plan.gpu_resource, "0") == str(plan.gpus)

    def _forget_nodes(self, has_gone: Callable[[Any], bool]) -> None:
        """Deletes these nodes with their pods, which would wait for their kubelet until the controller manager notices
        that it is not coming back."""
        nodes = json.loads(self._request("GET", "/api/v1/nodes"))["items"]
        gone = {node["metadata"]["name"] for node in nodes if has_gone(node)}
        for name in gone:
            self._request("DELETE", f"/api/v1/nodes/{name}")
        for pod in json.loads(self._request("GET", "/api/v1/pods"))["items"] if gone else ():
            if pod["spec"].get("nodeName") in gone:
                path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
                self._request("DELETE", f"{path}?gracePeriodSeconds=0")

    @contextmanager
    def _starting(self, binaries: Mapping[str, Path]) -> Iterator[tuple[Mapping[str, int], list[Process]]]:
        """While the folder is locked: the API server is ready, the other processes may be started."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self.folder):
            if self._certificates.ensure():
                # They know one another by the certificates of before.
                self._stop_processes()
            ports = self._ports()
            self._write_configuration(ports)
            etcd, apiserver, *others = self._processes(ports, binaries)
            if etcd.running() is None:
                # Its client waits for up to two minutes between attempts, and there is nothing left that it can finish.
                apiserver.stop(at_once=True)
            etcd.start()
            apiserver.start()
            wait_until("the API server is ready", self._api_is_ready, seconds=START_SECONDS, process=apiserver)
            yield ports, others

    def stop(self, *, delete: bool = False) -> None:
        """Ends all processes; ``delete`` also removes the data, the certificates and the kubeconfig."""
        if not self.folder.exists():
            return
        with locked(self.folder):
            self._real_nodes.stop()
            self._stop_processes()
        if delete:
            shutil.rmtree(self.folder)

    def _stop_processes(self) -> None:
        for process in reversed(self._known_processes()):
            process.stop()

    @property
    def kubelet_port(self) -> int:
        """Where kwok plays the kubelet of every node, once the cluster was started."""
        return self._saved_ports()["kwok"]

    def status(self) -> list[ProcessStatus]:
        """Each process of the cluster, in the order of start; empty if it was never started."""
        return [process.status() for process in self._all_processes()]

    def ended(self) -> list[Process]:
        """Those that were started, and have ended by themselves."""
        return [process for process in self._all_processes() if process.was_started and process.running() is None]

    def start_again(self, process: Process) -> bool:
        """Starts one that has ended by itself. Not those of real nodes, which are joined by the network's process: they
        want a whole start."""
        if process.name in {known.name for known in self._real_nodes.known()}:
            return False
        process.start_again()
        return True

    def _all_processes(self) -> list[Process]:
        return [*self._known_processes(), *(self._real_nodes.known() if self.has_real_nodes else ())]

    def _known_processes(self) -> list[Process]:
        if not (self.folder / "ports.json").exists():
            return []
        # A cluster that another version of this project has started may lack some.
        ports = {**dict.fromkeys(PORTS, 0), **self._saved_ports()}
        return self._processes(ports, dict.fromkeys(tools.CLUSTER_TOOLS, Path("/")))

    def _saved_ports(self) -> dict[str, int]:
        saved: dict[str, int] = json.loads((self.folder / "ports.json").read_text(encoding="utf-8"))
        return saved

    def _ports(self) -> dict[str, int]:
        """Free ports, the same ones at each start, so that a kubeconfig stays valid."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            saved = self._saved_ports()
            ours = any(status.running for status in self.status())
            if saved.keys() == set(PORTS) and (ours or not any(listens(port) for port in saved.values())):
                return saved
            if ours:
                self._stop_processes()
        free = (port for port in random.sample(PORT_RANGE, len(PORT_RANGE)) if not listens(port))
        ports = dict(zip(PORTS, free, strict=False))
        (self.folder / "ports.json").write_text(json.dumps(ports), encoding="utf-8")
        return ports

    def _write_configuration(self, ports: Mapping[str, int]) -> None:
        for client in ("admin", "controller-manager", "scheduler", "kwok", "pod-runner", "openai", "fluid", "lws"):
            path = self.kubeconfig if client == "admin" else self.folder / f"{client}.kubeconfig"
            self._write_kubeconfig(path, client, f"https://127.0.0.1:{ports['apiserver']}")
        if self.has_real_nodes:
            (self.folder / "egress.yaml").write_text(yaml.safe_dump(egress_selector()), encoding="utf-8")
        else:
            self._write_kwok_configuration(ports)
        self._write_lws_configuration(ports)

    def _write_kwok_configuration(self, ports: Mapping[str, int]) -> None:
        stages = tools.assets("kwok") / "kustomize" / "stage"
        manifests = [_load_yaml(stages / name)[0] for name in KWOK_STAGES]
        for manifest in manifests:
            if manifest["spec"]["resourceRef"]["kind"] == "Pod":
                manifest["spec"]["selector"]["matchExpressions"].append(NOT_OF_THE_RUNNER)
        manifests.append(_forwards_to(ports["openai"]))
        (self.folder / "kwok.yaml").write_text(yaml.safe_dump_all(manifests), encoding="utf-8")

    def _write_lws_configuration(self, ports: Mapping[str, int]) -> None:
        webhook_certificates = self.folder / "lws-webhook"
        webhook_certificates.mkdir(exist_ok=True, mode=0o700)
        server = self._certificates.server
        shutil.copyfile(server.certificate, webhook_certificates / "tls.crt")
        key = webhook_certificates / "tls.key"
        key.touch(mode=0o600)
        shutil.copyfile(server.key, key)
        lws = {
            "apiVersion": "config.lws.x-k8s.io/v1alpha1",
            "kind": "Configuration",
            "leaderElection": {"leaderElect": False},
            # Its own management waits for a Secret to be mounted, which happens only in a cluster.
            "internalCertManagement": {"enable": False},
            "webhook": {"host": "127.0.0.1", "port": ports["lws-webhook"], "certDir": str(webhook_certificates)},
            "metrics": {"bindAddress": "0"},
            "health": {"healthProbeBindAddress": f"127.0.0.1:{ports['lws-health']}"},
        }
        (self.folder / "lws.yaml").write_text(yaml.safe_dump(lws), encoding="utf-8")

    def _write_kubeconfig(self, path: Path, client: str, server: str) -> None:
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(self._kubeconfig(client, server)), encoding="utf-8")

    def _kubeconfig(self, client: str, server: str) -> dict[str, Any]:
        pair = self._certificates.pair(client)
        user = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
        cluster = {
            "server": server,
            "certificate-authority-data": _base64(self._certificates.authority.certificate),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "clusters": [{"name": CONTEXT, "cluster": cluster}],
            "users": [{"name": client, "user": user}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": client}}],
        }

    def _processes(self, ports: Mapping[str, int], binaries: Mapping[str, Path]) -> list[Process]:
        """In the order of start."""
        certificates = self._certificates
        server, authority = certificates.server, certificates.authority.certificate
        etcd_client, kubelet_client = certificates.pair("apiserver-etcd"), certificates.pair("apiserver-kubelet")
        etcd_url = f"https://127.0.0.1:{ports['etcd']}"
        peer_url = f"https://127.0.0.1:{ports['etcd-peer']}"
        arguments: dict[str, list[str]] = {
            "etcd": [
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={etcd_url}",
                f"--advertise-client-urls={etcd_url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=default={peer_url}",
                f"--cert-file={server.certificate}",
                f"--key-file={server.key}",
                "--client-cert-auth",
                f"--trusted-ca-file={authority}",
                f"--peer-cert-file={server.certificate}",
                f"--peer-key-file={server.key}",
                "--peer-client-cert-auth",
                f"--peer-trusted-ca-file={authority}",
                # Nothing here is worth the wait for a disk.
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            "kube-apiserver": [
                f"--etcd-servers={etcd_url}",
                f"--etcd-cafile={authority}",
                f"--etcd-certfile={etcd_client.certificate}",
                f"--etcd-keyfile={etcd_client.key}",
                "--bind-address=127.0.0.1",
                # Without it the server looks for the default route's interface, and ends if there is none. Real nodes
                # find it at the bridge. The built-in Service "kubernetes" may not have a loopback endpoint.
                *(
                    (f"--advertise-address={GATEWAY}", f"--egress-selector-config-file={self.folder / 'egress.yaml'}")
                    if self.has_real_nodes
                    else ("--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none")
                ),
                f"--secure-port={ports['apiserver']}",
                f"--tls-cert-file={server.certificate}",
                f"--tls-private-key-file={server.key}",
                f"--client-ca-file={authority}",
                "--anonymous-auth=false",
                "--authorization-mode=RBAC",
                f"--service-cluster-ip-range={SERVICE_NETWORK}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={certificates.service_account_key}",
                f"--service-account-signing-key-file={certificates.service_account_key}",
                # Port-forwards go to kwok, which plays the kubelet. Names of nodes do not resolve here.
                "--kubelet-preferred-address-types=InternalIP",
                f"--kubelet-certificate-authority={authority}",
                f"--kubelet-client-certificate={kubelet_client.certificate}",
                f"--kubelet-client-key={kubelet_client.key}",
            ],
            "kube-controller-manager": [
                f"--kubeconfig={self.folder / 'controller-manager.kubeconfig'}",
                "--bind-address=127.0.0.1",
                f"--secure-port={ports['controller-manager']}",
                "--leader-elect=false",
                "--use-service-account-credentials=true",
                f"--service-account-private-key-file={certificates.service_account_key}",
                f"--root-ca-file={authority}",
            ],
            "kube-scheduler": [
                f"--kubeconfig={self.folder / 'scheduler.kubeconfig'}",
                "--bind-address=127.0.0.1",
                f"--secure-port={ports['scheduler']}",
                "--leader-elect=false",
            ],
            "kwok": [
                f"--kubeconfig={self.folder / 'kwok.kubeconfig'}",
                f"--config={self.folder / 'kwok.yaml'}",
                "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
                f"--server-address=127.0.0.1:{ports['kwok']}",
                f"--tls-cert-file={server.certificate}",
                f"--tls-private-key-file={server.key}",
                "--node-lease-duration-seconds=40",
            ],
            "lws": [
                f"--config={self.folder / 'lws.yaml'}",
                f"--kubeconfig={self.folder / 'lws.kubeconfig'}",
            ],
        }
        *processes, lws = [
            Process(name=name, command=[str(binaries[name]), *options], folder=self.folder, environment=WITHOUT_PROXY)
            for name, options in arguments.items()
        ]
        runner = python_process(
            "pod-runner",
            "local.pod_runner",
            f"--kubeconfig={self.folder / 'pod-runner.kubeconfig'}",
            f"--folder={self.pods}",
            f"--engine=127.0.0.1:{ports['openai']}",
            folder=self.folder,
        )
        openai = python_process(
            "openai",
            "local.openai",
            f"--port={ports['openai']}",
            f"--kubeconfig={self.folder / 'openai.kubeconfig'}",
            folder=self.folder,
        )
        fluid = python_process(
            "fluid", "local.fluid", f"--kubeconfig={self.folder / 'fluid.kubeconfig'}", folder=self.folder
        )
        found = [*processes, runner, openai, fluid, lws]
        return [p for p in found if not (self.has_real_nodes and p.name in SIMULATION_PROCESSES)]

    def _install_definitions(self) -> None:
        """Those of LeaderWorkerSet and of the optional parts' kinds, and ours for Fluid's kinds."""
        apiserver = self._known_processes()[1]
        urls = {}
        for definition in _definitions():
            name = definition["metadata"]["name"]
            urls[name] = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
            self._apply(urls[name], definition)
        for name, url in urls.items():
            wait_until(f"{name} is served", partial(self._established, url), seconds=30, process=apiserver)

    def _install_lws_webhooks(self, ports: Mapping[str, int]) -> None:
        """As the controller's own manifests have them, but for the address."""
        authority = _base64(self._certificates.authority.certificate)
        for manifest in _load_yaml(tools.assets("lws") / "config" / "webhook" / "manifests.yaml"):
            manifest["metadata"]["name"] = f"lws-{manifest['metadata']['name']}"
            for webhook in manifest["webhooks"]:
                path_ = webhook["clientConfig"]["service"]["path"]
                url = f"https://127.0.0.1:{ports['lws-webhook']}{path_}"
                webhook["clientConfig"] = {"url": url, "caBundle": authority}
                if webhook["name"] in POD_WEBHOOKS:
                    webhook["objectSelector"] = POD_WEBHOOK_SELECTOR
            plural = f"{manifest['kind'].lower()}s"
            self._apply(f"/apis/admissionregistration.k8s.io/v1/{plural}/{manifest['metadata']['name']}", manifest)

    def _request(self, method: str, path: str, body: object = None) -> Any:
        pair = self._certificates.pair("admin")
        context = ssl.create_default_context(cafile=str(self._certificates.authority.certificate))
        context.load_cert_chain(pair.certificate, pair.key)
        request = Request(
            f"https://127.0.0.1:{self._saved_ports()['apiserver']}{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        try:
            with build_opener(HTTPSHandler(context=context)).open(request, timeout=10) as response:
                return response.read()
        except (OSError, HTTPException) as error:
            if isinstance(error, HTTPError) and error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            log = self.folder / "logs" / "kube-apiserver.log"
            raise ProcessError(f"the API server does not answer ({error}); its log is {log}; run it again") from None

    def _apply(self, path: str, body: object) -> None:
        self._request("PATCH", f"{path}?fieldManager=deepseek-local&force=true", body)

    def _exists(self, path: str) -> bool:
        # Refused, reset, 401 before the certificates are read, 404: all the same, not yet there.
        with contextlib.suppress(OSError, ProcessError):
            self._request("GET", path)
            return True
        return False

    def _is_ours(self, port: int) -> bool:
        """Whether a server of this cluster accepts TLS there, and not one of another cluster."""
        context = ssl.create_default_context(cafile=str(self._certificates.authority.certificate))
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1) as connection,
            context.wrap_socket(connection, server_hostname="127.0.0.1"),
        ):
            return True
        return False

    def _api_is_ready(self) -> bool:
        return self._exists("/readyz")

    def _established(self, path: str) -> bool:
        conditions = json.loads(self._request("GET", path)).get("status", {}).get("conditions") or []
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _definitions() -> Iterator[Any]:
    for module, names in DEFINITIONS.items():
        for path in sorted(tools.assets(module).rglob("*.yaml")):
            # The folders hold much larger ones, too.
            if path.stem.partition("_")[2] in {name.partition(".")[0] for name in names}:
                yield from _load_yaml(path)
    yield from _load_yaml(FLUID_DEFINITIONS)


def _forwards_to(port: int) -> dict[str, Any]:
    """kwok's rule for all ports of all pods (https://kwok.sigs.k8s.io/docs/user/kwok-in-cluster/)."""
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterPortForward",
        "metadata": {"name": "openai"},
        "spec": {"forwards": [{"target": {"address": "127.0.0.1", "port": port}}]},
    }


def _load_yaml(path: Path) -> list[Any]:
    # The CRDs are large, and libyaml reads them ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=loader) if document]


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
