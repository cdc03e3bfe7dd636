"""The Pod Security Standard ``restricted``, control by control, for every pod template of the stack
(https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""

from collections.abc import Iterator, Sequence
from typing import Any

from deepseek_acs.planner.findings import Finding
from policy.pods import HPN_TYPE, Pod, pods
from policy.resources import UNKNOWN, Resource, Violation, items, mapping, of_kind, text

SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
VOLUME_TYPES = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
)
ALWAYS_ALLOWED_CAPABILITY = "NET_BIND_SERVICE"
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"

LABEL_PREFIX = "pod-security.kubernetes.io/"
"""https://kubernetes.io/docs/concepts/security/pod-security-admission/#pod-security-admission-labels-for-namespaces"""

LEVELS = ("baseline", "restricted")

ON_ACS = "remove it; the virtual nodes of ACS reject most of it anyway"


def host_namespaces(resource: Resource) -> Iterator[Finding]:
    """A pod that shares its node's network, processes or IPC, or a cache that does."""
    for pod in pods(resource):
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(field) is True:
                yield Finding(path=f"{pod.spec_path}.{field}", problem=f"{field} shares the node's", fix=ON_ACS)
    network = resource.spec.get("networkmode", "HostNetwork")
    if resource.kind == "JindoRuntime" and network is not UNKNOWN and network != "ContainerNetwork":
        yield Finding(
            path="spec.networkmode", problem="the cache's pods use the node's network", fix="write ContainerNetwork"
        )


def host_processes(resource: Resource) -> Iterator[Finding]:
    """A Windows pod with access to its node."""
    for path, context in _contexts(resource):
        if mapping(context.get("windowsOptions")).get("hostProcess") is True:
            yield Finding(
                path=f"{path}.windowsOptions.hostProcess", problem="the process runs on the node itself", fix=ON_ACS
            )


def privileged_containers(resource: Resource) -> Iterator[Finding]:
    """A container with all rights of its node."""
    for path, context in _contexts(resource):
        if context.get("privileged") is True:
            yield Finding(
                path=f"{path}.privileged", problem="a privileged container has full access to the node", fix=ON_ACS
            )


def host_paths(resource: Resource) -> Iterator[Finding]:
    """A volume with files of the node, in a pod, in a PersistentVolume or in a cache."""
    for pod in pods(resource):
        for path, volume in pod.volumes():
            if "hostPath" in volume:
                yield Finding(path=path, problem="hostPath exposes the node's files", fix=ON_ACS)
    if resource.kind == "PersistentVolume":
        for field in ("hostPath", "local"):
            if field in resource.spec:
                yield Finding(path=f"spec.{field}", problem=f"{field} exposes the node's files", fix=ON_ACS)
    levels = items(mapping(resource.spec.get("tieredstore")).get("levels")) if resource.kind == "JindoRuntime" else ()
    for index, level in enumerate(map(mapping, levels)):
        if level.get("volumeType", "hostPath") == "hostPath":
            yield Finding(
                path=f"spec.tieredstore.levels[{index}].volumeType",
                problem="hostPath, the default, keeps the cache in the node's files",
                fix="write emptyDir",
            )


def volume_types(resource: Resource, *, allowed_csi_drivers: Sequence[str]) -> Iterator[Finding]:
    """A volume of another type than the standard has; of volumes of the cluster, one of another driver."""
    for pod in pods(resource):
        for path, volume in pod.volumes():
            for kind in volume.keys() - {"name", *VOLUME_TYPES}:
                yield Finding(
                    path=path,
                    problem=f"the standard restricted has no volumes of type {kind}",
                    fix="use a PersistentVolumeClaim, or a type of the standard",
                )
    if resource.kind == "PersistentVolume":
        driver = mapping(resource.spec.get("csi")).get("driver")
        if resource.spec.get("csi") is not UNKNOWN and driver is not UNKNOWN and driver not in allowed_csi_drivers:
            yield Finding(
                path="spec.csi.driver",
                problem=f"{text(driver) or 'a volume without CSI driver'} is not in the option allowedCsiDrivers",
                fix=f"use {' or '.join(allowed_csi_drivers)}, or add the driver to the option",
            )


def host_ports(resource: Resource) -> Iterator[Finding]:
    """A container with a port of its node."""
    for pod in pods(resource):
        for path, container in pod.containers():
            for index, port in enumerate(map(mapping, items(container.get("ports")))):
                if port.get("hostPort") not in (None, 0, UNKNOWN):
                    yield Finding(
                        path=f"{path}.ports[{index}].hostPort", problem="the port is opened on the node", fix=ON_ACS
                    )


def probe_hosts(resource: Resource) -> Iterator[Finding]:
    """A probe or hook that makes the kubelet send a request to another host."""
    for pod in pods(resource):
        for path, container in pod.containers():
            hooks = mapping(container.get("lifecycle"))
            handlers = {
                **{name: container.get(name) for name in ("startupProbe", "readinessProbe", "livenessProbe")},
                **{f"lifecycle.{name}": hooks.get(name) for name in ("postStart", "preStop")},
            }
            for name, handler in handlers.items():
                for action in ("httpGet", "tcpSocket"):
                    if mapping(mapping(handler).get(action)).get("host") not in (None, "", UNKNOWN):
                        yield Finding(
                            path=f"{path}.{name}.{action}.host",
                            problem="the kubelet sends requests to another host than the pod",
                            fix="remove host",
                        )


def capabilities(resource: Resource, *, rdma_capabilities: Sequence[str]) -> Iterator[Finding]:
    """A container that keeps capabilities, or gets more of them than RDMA needs."""
    for pod in pods(resource):
        allowed = {ALWAYS_ALLOWED_CAPABILITY, *(rdma_capabilities if pod.labels.get(HPN_TYPE) == "rdma" else ())}
        for path, container in pod.containers():
            given = pod.setting(container, "capabilities")
            if given is UNKNOWN:
                continue
            dropped, added = mapping(given).get("drop"), mapping(given).get("add")
            if dropped is not UNKNOWN and "ALL" not in items(dropped):
                yield Finding(
                    path=f"{path}.securityContext.capabilities.drop",
                    problem="the container keeps the runtime's default capabilities",
                    fix="drop ALL; of the engine by deployment.security.pods: {}",
                )
            for name in items(added):
                if name is not UNKNOWN and name not in allowed:
                    yield Finding(
                        path=f"{path}.securityContext.capabilities.add",
                        problem=f"{text(name)} is more than the container needs",
                        fix=f"remove it; pods with RDMA may add {', '.join(rdma_capabilities)}",
                    )


def privilege_escalation(resource: Resource) -> Iterator[Finding]:
    """A process that can gain more rights than its parent has."""
    for pod in pods(resource):
        for path, container in pod.containers():
            context = container.get("securityContext")
            given = UNKNOWN if context is UNKNOWN else mapping(context).get("allowPrivilegeEscalation")
            if given is not UNKNOWN and given is not False:
                yield Finding(
                    path=f"{path}.securityContext.allowPrivilegeEscalation",
                    problem="a process can gain more rights than its parent has",
                    fix="write false; of the engine by deployment.security.pods: {}",
                )


def seccomp_profiles(resource: Resource) -> Iterator[Finding]:
    """A container that may make every system call."""
    for pod in pods(resource):
        for path, container in pod.containers():
            profile = pod.setting(container, "seccompProfile")
            kind = UNKNOWN if profile is UNKNOWN else mapping(profile).get("type")
            if kind is not UNKNOWN and kind not in ("RuntimeDefault", "Localhost"):
                yield Finding(
                    path=f"{path}.securityContext.seccompProfile",
                    problem=f"with the profile {text(kind) or '(none)'} the container may make every system call",
                    fix="write type: RuntimeDefault; of the engine by deployment.security.pods: {}",
                )


def root_users(resource: Resource, *, root_containers: Sequence[str]) -> Iterator[Finding]:
    """A container that runs as root, or may."""
    for pod in pods(resource):
        for path, container in pod.containers():
            if container.get("name") in root_containers:
                continue
            user, is_not_root = pod.setting(container, "runAsUser"), pod.setting(container, "runAsNonRoot")
            if user == 0:
                yield Finding(
                    path=f"{path}.securityContext.runAsUser", problem="0 is root", fix="write another user ID"
                )
            elif is_not_root is not UNKNOWN and is_not_root is not True:
                yield Finding(
                    path=f"{path}.securityContext.runAsNonRoot",
                    problem="the container runs as the image's user, who may be root",
                    fix="write runAsNonRoot: true and a runAsUser",
                )


def apparmor_profiles(resource: Resource) -> Iterator[Finding]:
    """A container for which AppArmor is switched off."""
    for path, context in _contexts(resource):
        kind = mapping(context.get("appArmorProfile")).get("type")
        if kind not in (None, "RuntimeDefault", "Localhost", UNKNOWN):
            yield _weaker(f"{path}.appArmorProfile.type")
    for pod in pods(resource):
        for name, value in pod.annotations.items():
            is_profile = name.startswith(APPARMOR_ANNOTATION)
            is_kept = value is UNKNOWN or text(value).startswith(("runtime/default", "localhost/"))
            if is_profile and not is_kept:
                yield _weaker(f"{pod.path}.metadata.annotations[{name}]".lstrip("."))


def selinux_options(resource: Resource) -> Iterator[Finding]:
    """A container with an SELinux type, user or role of its own choice."""
    for path, context in _contexts(resource):
        given = mapping(context.get("seLinuxOptions"))
        kind = given.get("type", "")
        if kind is not UNKNOWN and kind not in SELINUX_TYPES:
            yield _weaker(f"{path}.seLinuxOptions.type")
        for field in ("user", "role"):
            if given.get(field) not in (None, "", UNKNOWN):
                yield _weaker(f"{path}.seLinuxOptions.{field}")


def proc_mounts(resource: Resource) -> Iterator[Finding]:
    """A container that sees all of ``/proc``."""
    for path, context in _contexts(resource):
        if context.get("procMount") not in (None, "Default", UNKNOWN):
            yield _weaker(f"{path}.procMount")


def sysctls(resource: Resource) -> Iterator[Finding]:
    """A kernel parameter that other pods of the node would notice."""
    for path, context in _contexts(resource):
        for index, sysctl in enumerate(map(mapping, items(context.get("sysctls")))):
            name = sysctl.get("name")
            if name is not UNKNOWN and name not in SAFE_SYSCTLS:
                yield Finding(
                    path=f"{path}.sysctls[{index}]",
                    problem=f"{text(name)} is not among the safe kernel parameters",
                    fix="remove it",
                )


def service_account_tokens(resource: Resource, *, token_containers: Sequence[str]) -> Iterator[Finding]:
    """A pod with a token for the API server that it does not use."""
    for pod in pods(resource):
        names = {container.get("name") for _, container in pod.containers()}
        if names and names <= {*token_containers}:
            continue
        given = pod.spec.get("automountServiceAccountToken")
        if given is not UNKNOWN and given is not False:
            yield Finding(
                path=f"{pod.spec_path}.automountServiceAccountToken",
                problem="a token for the API server is mounted, which a compromised pod can use",
                fix="write false",
            )
        for path, volume in pod.volumes():
            for source in map(mapping, items(mapping(volume.get("projected")).get("sources"))):
                token = source.get("serviceAccountToken")
                if token is not None and token is not UNKNOWN and not mapping(token).get("audience"):
                    yield Finding(
                        path=path, problem="the token is one for the API server", fix="name the audience of the token"
                    )


def namespace_labels(
    stack: Sequence[Resource], *, allow_privileged_for_fluid: bool, allow_privileged_for_rdma: bool
) -> Iterator[Violation]:
    """A namespace in which no standard is enforced, or reported. The client of Fluid's cache is a privileged container,
    and with RDMA pods have a capability that ``baseline`` has not."""
    is_privileged = (allow_privileged_for_fluid and bool(of_kind(stack, "Dataset"))) or (
        allow_privileged_for_rdma
        and any(pod.labels.get(HPN_TYPE) == "rdma" for resource in stack for pod in pods(resource))
    )
    for namespace in of_kind(stack, "Namespace"):
        labels = namespace.metadata.get("labels")
        for mode in ("enforce", "audit", "warn"):
            levels = ("privileged", *LEVELS) if mode == "enforce" and is_privileged else LEVELS
            level = UNKNOWN if labels is UNKNOWN else mapping(labels).get(f"{LABEL_PREFIX}{mode}")
            if level is not UNKNOWN and level not in levels:
                finding = Finding(
                    path=f"metadata.labels[{LABEL_PREFIX}{mode}]",
                    problem=f"the namespace has {text(level) or 'no standard'} here",
                    fix=f"write {' or '.join(levels)}; deployment.security.pods: {{}} does it",
                )
                yield Violation(resource=namespace, finding=finding)


def _contexts(resource: Resource) -> Iterator[tuple[str, Any]]:
    """The security contexts of pods and containers, each with its path."""
    for pod in pods(resource):
        yield f"{pod.spec_path}.securityContext", mapping(pod.spec.get("securityContext"))
        yield from _container_contexts(pod)


def _container_contexts(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, container in pod.containers():
        yield f"{path}.securityContext", mapping(container.get("securityContext"))


def _weaker(path: str) -> Finding:
    return Finding(path=path, problem="it is weaker than the runtime's default", fix="remove it")
