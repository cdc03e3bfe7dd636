"""Real nodes for the embedded cluster: kubelet, containerd with runc, CNI, kube-proxy and CoreDNS on this machine.

A node is a process (``node``) with mount, pid, uts, ipc and network namespaces of its own; its programs and all pods
end with it, whatever kills it. The nodes are joined by a bridge in a further network namespace, that of the process
``network``. No interface and no route leads from there to this machine's network: ``network`` relays single TCP ports
between the two (``relay``). So pods reach the API server and the emulators of this machine, and the API server reaches
the kubelets.
"""
