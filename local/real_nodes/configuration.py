"""The configuration files of a node's programs, and of the cluster's DNS."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.real_nodes.plan import DNS_PORT, GATEWAY, POD_NETWORK, NodePlan, Plan
from local.real_nodes.relay import EGRESS_SOCKET

PAUSE_IMAGE = "deepseek.local/pause:1"
CNI_PLUGIN = "emulators"
CLUSTER_DOMAIN = "cluster.local"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
KUBELET_FOLDER = "/var/lib/kubelet"

PROTECTED_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""A kubelet sets these for the whole machine, unless it finds them as they should be
(https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/kubelet/cm/container_manager_linux.go)."""


def kubelet(plan: Plan, node: NodePlan) -> dict[str, Any]:
    """KubeletConfiguration."""
    certificates = Path(plan.certificates)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(certificates / "ca.crt")},
        },
        # Only who has a certificate of the cluster gets this far, and only from our own namespaces.
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": str(certificates / "server.crt"),
        "tlsPrivateKeyFile": str(certificates / "server.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{plan.cgroup}/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Many containers may not lower it.
        "oomScoreAdj": 0,
        "clusterDNS": [GATEWAY],
        "clusterDomain": CLUSTER_DOMAIN,
        # No names and no servers of this machine's network in pods.
        "resolvConf": "",
        "makeIPTablesUtilChains": False,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "100Mi", "imagefs.available": "100Mi"},
        # What is deleted cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # A node that was killed is noticed, and a new one is Ready, as fast as in a simulated cluster.
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
    }


def kube_proxy(node: NodePlan, kubeconfig: Path) -> dict[str, Any]:
    """KubeProxyConfiguration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": node.name,
        "clusterCIDR": POD_NETWORK,
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
        "healthzBindAddress": f"{node.address}:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }


def containerd(plan: Plan, node: NodePlan) -> str:
    """config.toml, version 3."""
    folder = Path(plan.folder)
    plugins = [str(Path(plan.binaries["ptp"]).parent), str(folder / "cni-plugins")]
    quoted = ", ".join(f'"{path}"' for path in plugins)
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing", "io.containerd.internal.v1.opt"]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
# Many containers may not lower it.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = [{quoted}]
conf_dir = "{folder / node.name / "cni"}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{plan.binaries["runc"]}"
SystemdCgroup = false
"""


def cni(plan: Plan, node: NodePlan) -> dict[str, Any]:
    """A network of point-to-point links, and the emulators on the loopback interface of each pod."""
    ranges = [[{"subnet": node.pods}]]
    # Addresses that are given out are forgotten with the pods, when the node ends.
    ipam = {"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "mtu": 1500, "ipMasq": False, "ipam": ipam},
            {"type": CNI_PLUGIN, "node": node.name, "folder": plan.folder},
        ],
    }


def cni_plugin_script() -> str:
    """The executable that containerd runs for the plugin ``emulators``."""
    root = Path(__file__).resolve().parents[2]
    return f"#!/bin/sh\nPYTHONPATH='{root}' exec '{sys.executable}' -S -m local.real_nodes.cni_plugin\n"


def corefile(kubeconfig: Path) -> str:
    """Names of the cluster, and no others: of the root zone, which the plugin is given too, it knows none, and says so
    as the name servers behind a cluster's would. Without it the answer would be that of a failure."""
    return f""".:{DNS_PORT} {{
    bind {GATEWAY}
    errors
    ready {GATEWAY}:8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa . {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 2
    }}
}}
"""


def egress_selector() -> dict[str, Any]:
    """How the API server reaches kubelets. The path is relative to its working folder: that of a socket is short."""
    connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": f"nodes/{EGRESS_SOCKET}"}}}
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }


def node_labels(labels: Mapping[str, str]) -> str:
    """As the kubelet's argument."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
