"""Policies about pods: resources, probes, images, and the Pod Security Standard."""

import base64
from collections.abc import Mapping
from typing import Any

from deepseek_acs.planner.dangerous import FLAGS, VARIABLES
from policy.checks.engine_options import UNSAFE_FLAGS
from policy.resources import UNKNOWN, Resource
from tests.policy.stacks import (
    CONTAINER,
    EMULATED,
    HARDENED,
    KEY,
    LEADER,
    RESOURCES,
    Broken,
    Kept,
    budget,
    group,
    manifest,
    pod,
    resource,
    secret,
    service,
)

DIGEST = "@sha256:" + "0" * 64


def job(container: Mapping[str, Any], *, annotations: Mapping[str, Any] | None = None, **spec: Any) -> Resource:
    template = {"metadata": {"annotations": annotations or {}}, "spec": {"containers": [container], **spec}}
    return manifest("Job", spec={"template": template})


def helm(chart: Any, **properties: Any) -> Resource:
    return resource("kubernetes:helm.sh/v3:Release", "lws", {"chart": chart, **properties})


def secured(**context: Any) -> Resource:
    """A group whose engine has these fields in its security context."""
    return group(pod(security=context))


def without(field: str) -> Resource:
    """A group whose engine lacks a field of its security context."""
    return group(pod(securityContext={key: value for key, value in HARDENED.items() if key != field}))


def volumes(*given: Mapping[str, Any]) -> Resource:
    return group(pod(spec={"volumes": list(given)}))


def namespace(**levels: Any) -> Resource:
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode, level in levels.items()}
    return manifest("Namespace", metadata={"labels": labels})


def pair(**spec: Any) -> Resource:
    """A group of two pods with eight GPUs each."""
    both = {"leaderTemplate": pod(), "workerTemplate": pod(), "size": 2}
    return group(leaderWorkerTemplate=both, **spec)


def scaled(kind: str, **spec: Any) -> Resource:
    """An autoscaler of the group."""
    return manifest(kind, spec={"scaleTargetRef": {"kind": "LeaderWorkerSet", "name": "r1"}, **spec})


GPU_CONTAINER = {"name": "gpu", "resources": {"limits": RESOURCES}}
GU8TF = {"alibabacloud.com/gpu-model-series": "GU8TF"}
PRICED = {"gpuHour": {"GU8TF": 5}}
SURGE = {"rolloutStrategy": {"rollingUpdateConfiguration": {"maxSurge": 1}}}

PRIVILEGED = namespace(enforce="privileged", audit="baseline", warn="baseline")
ENFORCE = "metadata.labels[pod-security.kubernetes.io/enforce]"
CACHE = manifest("Dataset", spec={})

ORDINARY = pod(labels={"alibabacloud.com/hpn-type": None})
"""Without RDMA."""

SECURITY = f"{CONTAINER}.securityContext"
BUS = "registry-cn-hangzhou.ack.aliyuncs.com/ack-demo/vllm"

BROKEN: Mapping[str, list[Broken]] = {
    "disallow-plain-secrets": [
        Broken(
            f"{CONTAINER}.env[VLLM_API_KEY].value",
            "secret",
            (group(pod(env=[{"name": "VLLM_API_KEY", "value": KEY}])),),
        ),
        Broken(f"{CONTAINER}.env[HF_TOKEN].value", "secret", (group(pod(env=[{"name": "HF_TOKEN", "value": KEY}])),)),
        Broken(f"{CONTAINER}.args", "--api-key puts", (group(pod(args=["--api-key", KEY])),)),
        Broken(f"{CONTAINER}.args", "--api-key puts", (group(pod(args=["--api-key=$(VLLM_API_KEY)"])),)),
        Broken(f"{CONTAINER}.args", "--api-key puts", (group(pod(args=[f"--api-ke={KEY}"])),)),
        Broken(
            f"{CONTAINER}.args",
            "$(VLLM_API_KEY) puts",
            (group(pod(args=["--served-model-name=$(VLLM_API_KEY)"])),),
        ),
        Broken(f"{CONTAINER}.env[DB_PASSWD].value", "secret", (group(pod(env=[{"name": "DB_PASSWD", "value": KEY}])),)),
        Broken(f"{CONTAINER}.env[HF_PAT].value", "secret", (group(pod(env=[{"name": "HF_PAT", "value": KEY}])),)),
        Broken(
            f"{LEADER}.spec.containers[0].env[0].value",
            "a password in a URL",
            (group(pod(env=[{"name": "HTTP_PROXY", "value": "http://me:secret@proxy.example"}])),),
        ),
        Broken(f"{CONTAINER}.command", "--api-key puts", (group(pod(command=["sh", "-c", f"x --api-key {KEY}"])),)),
        Broken(
            "data.credentials.ini",
            "an AccessKey",
            (manifest("ConfigMap", data={"credentials.ini": "id=LTAI5tExample1234abcd"}),),
        ),
        Broken("data.accessKeySecret", "in plain text", (manifest("ConfigMap", data={"accessKeySecret": KEY}),)),
        Broken(
            "data.tls.pem",
            "a private key",
            (manifest("ConfigMap", data={"tls.pem": "-----BEGIN RSA PRIVATE KEY-----"}),),
        ),
        Broken(
            "metadata.annotations.note", "a token of Hugging Face", (service(annotations={"note": f"hf_{'a' * 34}"}),)
        ),
        Broken(
            "spec.csi.volumeAttributes.akSecret",
            "in plain text",
            (manifest("PersistentVolume", spec={"csi": {"volumeAttributes": {"akSecret": KEY}}}),),
        ),
        Broken(
            "spec.mounts[0].options.fs.oss.accessKeySecret",
            "in plain text",
            (manifest("Dataset", spec={"mounts": [{"options": {"fs.oss.accessKeySecret": KEY}}]}),),
        ),
    ],
    "disallow-leaked-secrets": [
        Broken(
            f"{LEADER}.spec.containers[0].env[0].value",
            "the value of apiKey of the Secret key",
            (group(pod(env=[{"name": "X", "value": f"Bearer {KEY}"}])), secret(stringData={"apiKey": KEY})),
        ),
        Broken(
            "data.note",
            "the value of apiKey",
            (
                manifest("ConfigMap", data={"note": KEY}),
                secret(data={"apiKey": base64.b64encode(KEY.encode()).decode(), "bytes": "/w=="}),
            ),
        ),
    ],
    "require-requests-limits": [
        Broken(f"{CONTAINER}.resources.requests", "cpu and memory missing", (group(pod(resources=None)),)),
        Broken(
            f"{CONTAINER}.resources.limits",
            "memory missing",
            (group(pod(resources={"requests": RESOURCES, "limits": {"cpu": "1"}})),),
        ),
        Broken(
            f"{LEADER}.spec.initContainers[init].resources.requests",
            "cpu and memory missing",
            (group(pod(spec={"initContainers": [{"name": "init"}]})),),
        ),
        Broken(
            "spec.jobTemplate.spec.template.spec.containers[c].resources.limits",
            "cpu",
            (
                manifest(
                    "CronJob", spec={"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}}
                ),
            ),
        ),
    ],
    "require-pod-probes": [
        Broken(CONTAINER, "without startupProbe", (group(pod(startupProbe=None)),)),
        Broken(
            CONTAINER, "without readinessProbe, livenessProbe", (group(pod(readinessProbe=None, livenessProbe=None)),)
        ),
        Broken(f"{LEADER}.spec.containers", "unknown which one serves", (group(pod(ports=None)),)),
        Broken(
            "spec.leaderWorkerTemplate.workerTemplate.spec.containers[vllm]",
            "without startupProbe",
            (manifest("LeaderWorkerSet", spec={"leaderWorkerTemplate": {"workerTemplate": pod(startupProbe=None)}}),),
        ),
    ],
    "disable-service-links": [
        Broken(
            f"{LEADER}.spec.enableServiceLinks",
            "a Service named vllm",
            (group(pod(spec={"enableServiceLinks": True})),),
        ),
    ],
    "restrict-rdma": [
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/hpn-type]",
            "series GU8TF only with 8 GPUs, not 4",
            (group(pod(resources={"limits": {"nvidia.com/gpu": "4"}})),),
        ),
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/hpn-type]",
            "series A10 not at all",
            (group(pod(labels={"alibabacloud.com/gpu-model-series": "A10"})),),
        ),
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/hpn-type]",
            "only with 1 or 2 or 4 or 8 or 16 GPUs, not 3",
            (
                group(
                    pod(
                        labels={"alibabacloud.com/compute-class": "gpu-hpn"},
                        resources={"limits": {"nvidia.com/gpu": "3"}},
                    )
                ),
            ),
        ),
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/hpn-type]",
            "without a GPU series",
            (group(pod(labels={"alibabacloud.com/gpu-model-series": ""})),),
        ),
    ],
    "require-pod-disruption-budget": [
        Broken("spec.replicas", "all 2 groups", (group(replicas=2),)),
        Broken("spec.replicas", "all 2 groups", (group(replicas=2), budget({"matchLabels": {"app": "other"}}))),
    ],
    "disallow-mutable-tags": [
        Broken(f"{CONTAINER}.image", f"{BUS} has no tag", (group(pod(image=BUS)),)),
        Broken(f"{CONTAINER}.image", "has no tag", (group(pod(image="registry.example:5000/vllm")),)),
        *(
            Broken(f"{CONTAINER}.image", "contains no version", (group(pod(image=f"{BUS}:{tag}")),))
            for tag in ("latest", "main", "nightly", "v1", "stable", "cu130-nightly")
        ),
        Broken(f"{CONTAINER}.image", "another image can be pushed", (group(),), {"requireDigest": True}),
        Broken(
            f"{LEADER}.spec.volumes[weights].image.reference",
            "has no tag",
            (volumes({"name": "weights", "image": {"reference": "docker.io/library/weights"}}),),
        ),
    ],
    "restrict-image-registries": [
        Broken(f"{CONTAINER}.image", "docker.io/library/vllm is not", (group(pod(image="vllm:v1.0")),)),
        Broken(f"{CONTAINER}.image", "docker.io/evil/vllm is not", (group(pod(image="evil/vllm:v1.0")),)),
        Broken(f"{CONTAINER}.image", "evil.example/vllm/x is not", (group(pod(image="evil.example/vllm/x:v1.0")),)),
        Broken(f"{CONTAINER}.image", "vllm-openai-evil is not", (group(pod(image="vllm/vllm-openai-evil:v1.0")),)),
        Broken(f"{CONTAINER}.image", "is not", (group(),), {"allowedRegistries": ["registry.example"]}),
    ],
    "restrict-helm-charts": [
        Broken("chart", "oci://evil.example/lws is not", (helm("oci://evil.example/lws"),)),
        Broken("chart", "charts/../../evil is not", (helm("oci://registry.k8s.io/lws/charts/../../evil"),)),
        Broken("chart", "https://evil.example is not", (helm("lws", repositoryOpts={"repo": "https://evil.example"}),)),
        Broken("chart", "an empty string is not", (helm(None),)),
    ],
    "disallow-host-namespaces": [
        *(
            Broken(f"{LEADER}.spec.{field}", f"{field} shares the node's", (group(pod(spec={field: True})),))
            for field in ("hostNetwork", "hostPID", "hostIPC")
        ),
        Broken("spec.networkmode", "the node's network", (manifest("JindoRuntime", spec={}),)),
    ],
    "disallow-host-process": [
        Broken(
            f"{SECURITY}.windowsOptions.hostProcess", "on the node", (secured(windowsOptions={"hostProcess": True}),)
        ),
        Broken(
            f"{LEADER}.spec.securityContext.windowsOptions.hostProcess",
            "on the node",
            (group(pod(spec={"securityContext": {"windowsOptions": {"hostProcess": True}}})),),
        ),
    ],
    "disallow-privileged-containers": [
        Broken(f"{SECURITY}.privileged", "has full access to the node", (secured(privileged=True),)),
        Broken(
            f"{LEADER}.spec.ephemeralContainers[debug].securityContext.privileged",
            "has full access to the node",
            (group(pod(spec={"ephemeralContainers": [{"name": "debug", "securityContext": {"privileged": True}}]})),),
        ),
    ],
    "disallow-host-path": [
        Broken(
            f"{LEADER}.spec.volumes[sock]", "the node's files", (volumes({"name": "sock", "hostPath": {"path": "/"}}),)
        ),
        Broken(
            "spec.hostPath",
            "hostPath exposes the node's files",
            (manifest("PersistentVolume", spec={"hostPath": {"path": "/"}}),),
        ),
        Broken("spec.local", "local exposes", (manifest("PersistentVolume", spec={"local": {"path": "/mnt"}}),)),
        Broken(
            "spec.tieredstore.levels[0].volumeType",
            "hostPath, the default",
            (manifest("JindoRuntime", spec={"tieredstore": {"levels": [{"mediumtype": "MEM"}]}}),),
        ),
    ],
    "disallow-host-ports": [
        Broken(f"{CONTAINER}.ports[0].hostPort", "opened on the node", (group(pod(ports=[{"hostPort": 8000}])),))
    ],
    "disallow-probe-hosts": [
        Broken(
            f"{CONTAINER}.livenessProbe.httpGet.host",
            "another host",
            (group(pod(livenessProbe={"httpGet": {"host": "100.100.100.200", "port": 80}})),),
        ),
        Broken(
            f"{CONTAINER}.lifecycle.preStop.tcpSocket.host",
            "another host",
            (group(pod(lifecycle={"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}})),),
        ),
    ],
    "disallow-proc-mount": [Broken(f"{SECURITY}.procMount", "weaker", (secured(procMount="Unmasked"),))],
    "disallow-privilege-escalation": [
        Broken(f"{SECURITY}.allowPrivilegeEscalation", "more rights", (secured(allowPrivilegeEscalation=True),)),
        Broken(f"{SECURITY}.allowPrivilegeEscalation", "more rights", (without("allowPrivilegeEscalation"),)),
        Broken(f"{SECURITY}.allowPrivilegeEscalation", "more rights", (group(pod(securityContext=None)),)),
    ],
    "restrict-capabilities": [
        Broken(f"{SECURITY}.capabilities.drop", "default capabilities", (without("capabilities"),)),
        Broken(f"{SECURITY}.capabilities.drop", "default", (secured(capabilities={"drop": ["NET_RAW"]}),)),
        Broken(
            f"{SECURITY}.capabilities.add",
            "SYS_ADMIN is more than",
            (secured(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),),
        ),
        Broken(f"{SECURITY}.capabilities.add", "IPC_LOCK is more than", (group(ORDINARY),)),
        Broken(f"{SECURITY}.capabilities.add", "IPC_LOCK is more than", (group(),), {"rdmaCapabilities": []}),
    ],
    "restrict-seccomp": [
        Broken(f"{SECURITY}.seccompProfile", "Unconfined", (secured(seccompProfile={"type": "Unconfined"}),)),
        Broken(f"{SECURITY}.seccompProfile", "(none)", (without("seccompProfile"),)),
    ],
    "restrict-apparmor-profiles": [
        Broken(f"{SECURITY}.appArmorProfile.type", "weaker", (secured(appArmorProfile={"type": "Unconfined"}),)),
        Broken(
            f"{LEADER}.metadata.annotations[container.apparmor.security.beta.kubernetes.io/vllm]",
            "weaker",
            (group(pod(annotations={"container.apparmor.security.beta.kubernetes.io/vllm": "unconfined"})),),
        ),
    ],
    "restrict-selinux": [
        Broken(f"{SECURITY}.seLinuxOptions.type", "weaker", (secured(seLinuxOptions={"type": "spc_t"}),)),
        Broken(f"{SECURITY}.seLinuxOptions.user", "weaker", (secured(seLinuxOptions={"user": "sysadm_u"}),)),
        Broken(f"{SECURITY}.seLinuxOptions.role", "weaker", (secured(seLinuxOptions={"role": "sysadm_r"}),)),
    ],
    "restrict-sysctls": [
        Broken(
            f"{LEADER}.spec.securityContext.sysctls[0]",
            "kernel.msgmax is not among",
            (group(pod(spec={"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}})),),
        )
    ],
    "restrict-volume-types": [
        Broken(f"{LEADER}.spec.volumes[share]", "type nfs", (volumes({"name": "share", "nfs": {"server": "x"}}),)),
        Broken(
            "spec.csi.driver",
            "evil.example is not",
            (manifest("PersistentVolume", spec={"csi": {"driver": "evil.example"}}),),
        ),
        Broken("spec.csi.driver", "a volume without CSI driver", (manifest("PersistentVolume", spec={"nfs": {}}),)),
    ],
    "require-run-as-nonroot": [
        Broken(
            "spec.template.spec.containers[mover].securityContext.runAsNonRoot",
            "the image's user",
            (job({"name": "mover"}),),
        ),
        Broken(
            "spec.template.spec.containers[mover].securityContext.runAsNonRoot",
            "the image's user",
            (
                job(
                    {"name": "mover", "securityContext": {"runAsNonRoot": False}},
                    securityContext={"runAsNonRoot": True},
                ),
            ),
        ),
        Broken(
            "spec.template.spec.containers[mover].securityContext.runAsUser",
            "0 is root",
            (job({"name": "mover"}, securityContext={"runAsNonRoot": True, "runAsUser": 0}),),
        ),
        Broken(f"{SECURITY}.runAsNonRoot", "the image's user", (group(),), {"rootContainers": []}),
    ],
    "require-pod-security-labels": [
        Broken(ENFORCE, "no standard", (manifest("Namespace"),)),
        Broken(ENFORCE, "the namespace has privileged here", (PRIVILEGED, job({"name": "mover"}))),
        Broken(ENFORCE, "privileged", (PRIVILEGED, CACHE), {"allowPrivilegedForFluid": False}),
        Broken(ENFORCE, "privileged", (PRIVILEGED, group()), {"allowPrivilegedForRdma": False}),
        Broken(
            "metadata.labels[pod-security.kubernetes.io/warn]",
            "privileged",
            (namespace(enforce="baseline", audit="restricted", warn="privileged"), CACHE),
        ),
        Broken(
            "metadata.labels[pod-security.kubernetes.io/audit]",
            "no standard",
            (namespace(enforce="restricted", warn="restricted"),),
        ),
    ],
    "restrict-automount-sa-token": [
        Broken(
            f"{LEADER}.spec.automountServiceAccountToken",
            "a token for the API server is mounted",
            (group(pod(spec={"automountServiceAccountToken": None})),),
        ),
        Broken(
            "spec.template.spec.automountServiceAccountToken",
            "is mounted",
            (job({"name": "preload"}, initContainers=[{"name": "other"}], automountServiceAccountToken=True),),
        ),
        Broken(
            f"{LEADER}.spec.volumes[token]",
            "the token is one for the API server",
            (volumes({"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}),),
        ),
    ],
    "disallow-best-effort": [
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/compute-qos]",
            "evict the pod",
            (group(pod(labels={"alibabacloud.com/compute-qos": "best-effort"})),),
        ),
        Broken(
            f"{LEADER}.metadata.labels[alibabacloud.com/compute-qos]",
            "evict the pod",
            (group(pod(labels={"alibabacloud.com/compute-qos": "best-effort"}), stack="local"),),
            {"exemptStacks": ["dev"]},
        ),
    ],
    "restrict-hourly-cost": [
        Broken("spec.replicas", "may cost 80.00 per hour, and 79.00 are", (pair(),), {**PRICED, "maxHourlyCost": 79}),
        Broken("spec.replicas", "may cost 160.00 per", (pair(replicas=2),), {**PRICED, "maxHourlyCost": 159}),
        *(
            Broken("spec.replicas", "may cost 240.00 per", (pair(), scaler), {**PRICED, "maxHourlyCost": 239})
            for scaler in (scaled("ScaledObject", maxReplicaCount=3), scaled("HorizontalPodAutoscaler", maxReplicas=3))
        ),
        Broken("spec.replicas", "may cost 160.00 per", (pair(**SURGE),), {**PRICED, "maxHourlyCost": 159}),
        Broken(
            "spec.replicas",
            "may cost 120.00 per hour",
            (pair(), job({**GPU_CONTAINER, "name": "benchmark"}, nodeSelector=GU8TF)),
            {**PRICED, "maxHourlyCost": 119},
        ),
        Broken("spec", "8 GPUs of series GU8TF, whose price", (group(),), {"maxHourlyCost": 1000}),
        Broken("spec", "8 GPUs of series (none), whose", (job(GPU_CONTAINER),), {**PRICED, "maxHourlyCost": 1000}),
    ],
    "disallow-unsafe-engine-options": [
        *(
            Broken(f"{CONTAINER}.env[{name}]", problem, (group(pod(env=[{"name": name, "value": value}])),))
            for name, value, problem in (
                *((name, "x", danger.reason) for name, danger in VARIABLES.items()),
                ("VLLM_SERVER_DEV_MODE", "", VARIABLES["VLLM_SERVER_DEV_MODE"].reason),
                ("VLLM_PLUGINS", "x", "import packages"),
                ("LD_PRELOAD", "x", "a library"),
            )
        ),
        Broken(
            f"{CONTAINER}.env[VLLM_SERVER_DEV_MODE]",
            VARIABLES["VLLM_SERVER_DEV_MODE"].reason,
            (group(pod(env=[{"name": "VLLM_SERVER_DEV_MODE", "valueFrom": {"configMapKeyRef": {"name": "x"}}}])),),
        ),
        *(
            Broken(f"{CONTAINER}.args", f"{name}: {FLAGS[name].reason}", (group(pod(args=list(arguments))),))
            for name, *arguments in (
                ("--root-path", "--root-path", "/x"),
                ("--root-path", "--root_path=/x"),
                ("--root-path", "--root-pat=/x"),
                ("--config", "--config", "/x.yaml"),
                ("--middleware", "--middleware=x.Y"),
                ("--middleware", "--middleware", "requestfilter.Other"),
                *((name, name) for name in sorted(UNSAFE_FLAGS)),
            )
        ),
        *(
            Broken(f"{CONTAINER}.args", "the format is pickle", (group(pod(args=list(arguments))),))
            for arguments in (("--load-format=pt",), ("--load-format", "npcache"))
        ),
        *(
            Broken(f"{CONTAINER}.command", "--root-path", (group(pod(command=["sh", "-c", script])),))
            for script in ("exec vllm serve --root-path '/x y'", "it's --root-path=/x")
        ),
    ],
}

KEPT: Mapping[str, list[Kept]] = {
    "disallow-plain-secrets": [
        (group(),),
        (group(pod(env=[{"name": "MAX_TOKENS", "value": "1"}, {"name": "TOKEN_FILE", "value": "/x"}])),),
        (group(pod(env=[{"name": "OPENAI_API_KEY", "value": "$(VLLM_API_KEY)"}])),),
        (group(pod(args=["--api-key-header", "x"])),),
        (secret(stringData={"accessKeySecret": KEY}),),
        (manifest("ConfigMap", data={"settings": "level=1"}),),
    ],
    "disallow-leaked-secrets": [
        (group(), secret(stringData={"apiKey": KEY})),
        (group(), secret(stringData={"port": "8000"})),
        (group(), secret(stringData={"apiKey": UNKNOWN})),
    ],
    "require-requests-limits": [(group(),), (group(pod(resources=UNKNOWN)),), (service(),)],
    "disable-service-links": [(group(),), (job({"name": "mover"}),)],
    "restrict-rdma": [
        (group(),),
        (group(pod(labels={"alibabacloud.com/gpu-model-series": "FUTURE"})),),
        (group(pod(resources={"limits": {"nvidia.com/gpu": UNKNOWN}})),),
        (
            group(
                pod(
                    labels={"alibabacloud.com/gpu-model-series": "P16EN"},
                    resources={"limits": {"alibabacloud.com/ppu": "16"}},
                )
            ),
        ),
        (group(pod(labels={"alibabacloud.com/hpn-type": None}, resources={})),),
    ],
    "require-pod-disruption-budget": [
        (group(),),
        (group(replicas=2), budget({"matchLabels": {"role": "leader"}})),
        (group(replicas=UNKNOWN),),
    ],
    "require-pod-probes": [(group(),), (job({"name": "mover", "ports": [{}]}),)],
    "disallow-mutable-tags": [
        (group(),),
        (group(pod(image="registry.example:5000/vllm:alinux3.2104-py312")),),
        (group(pod(image=f"registry.example/vllm{DIGEST}")),),
        (group(pod(image=f"registry.example/vllm:main{DIGEST}")),),
        (group(pod(image=UNKNOWN)),),
    ],
    "restrict-image-registries": [
        (group(),),
        (group(pod(image="vllm/vllm-openai:v0.33.0")),),
        (group(pod(image=f"docker.io/vllm/vllm-openai{DIGEST}")),),
        (group(pod(image=UNKNOWN)),),
    ],
    "restrict-helm-charts": [
        (helm("oci://registry.k8s.io/lws/charts/lws"),),
        (helm("https://aliacs-app-catalog.oss-cn-hangzhou.aliyuncs.com/charts-incubator/ack-fluid-1.0.13.tgz"),),
        (helm(UNKNOWN),),
    ],
    "disallow-host-namespaces": [
        (group(),),
        (group(pod(spec={"hostNetwork": False})),),
        (manifest("JindoRuntime", spec={"networkmode": "ContainerNetwork"}),),
    ],
    "disallow-host-process": [(group(),)],
    "disallow-privileged-containers": [(group(),), (secured(privileged=False),)],
    "disallow-host-path": [
        (volumes({"name": "shm", "emptyDir": {}}),),
        (manifest("PersistentVolume", spec={"csi": {}}),),
        (manifest("JindoRuntime", spec={"tieredstore": {"levels": [{"volumeType": "emptyDir"}]}}),),
    ],
    "disallow-host-ports": [(group(),), (group(pod(ports=[{"containerPort": 8000, "hostPort": 0}])),)],
    "disallow-probe-hosts": [(group(),), (group(pod(lifecycle={"preStop": {"exec": {"command": ["x"]}}})),)],
    "disallow-proc-mount": [(group(),), (secured(procMount="Default"),)],
    "disallow-privilege-escalation": [(group(),), (group(pod(securityContext=UNKNOWN)),)],
    "restrict-capabilities": [
        (group(),),
        (secured(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),),
        (group(pod(securityContext=UNKNOWN)),),
    ],
    "restrict-seccomp": [
        (group(),),
        (secured(seccompProfile={"type": "Localhost", "localhostProfile": "x"}),),
        (job({"name": "mover"}, securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),),
    ],
    "restrict-apparmor-profiles": [
        (group(),),
        (secured(appArmorProfile={"type": "RuntimeDefault"}),),
        (group(pod(annotations={"container.apparmor.security.beta.kubernetes.io/vllm": "runtime/default"})),),
    ],
    "restrict-selinux": [(group(),), (secured(seLinuxOptions={"type": "container_t", "level": "s0:c1,c2"}),)],
    "restrict-sysctls": [
        (group(pod(spec={"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}})),)
    ],
    "restrict-volume-types": [
        (volumes({"name": "model", "persistentVolumeClaim": {"claimName": "x"}}, {"name": "shm", "emptyDir": {}}),),
        (manifest("PersistentVolume", spec={"csi": {"driver": "ossplugin.csi.alibabacloud.com"}}),),
    ],
    "require-run-as-nonroot": [
        (group(),),
        (job({"name": "mover"}, securityContext={"runAsNonRoot": True, "runAsUser": 65534}),),
        (job({"name": "mover", "securityContext": {"runAsNonRoot": True}}),),
    ],
    "require-pod-security-labels": [
        (namespace(enforce="baseline", audit="restricted", warn="restricted"),),
        (PRIVILEGED, CACHE),
        (PRIVILEGED, group()),
        (manifest("Namespace", metadata={"labels": UNKNOWN}),),
    ],
    "restrict-automount-sa-token": [
        (group(),),
        (job({"name": "preload"}, automountServiceAccountToken=True),),
        (
            volumes(
                {
                    "name": "oidc",
                    "projected": {"sources": [{"serviceAccountToken": {"audience": "sts.aliyuncs.com"}}]},
                }
            ),
        ),
    ],
    "disallow-best-effort": [
        (group(),),
        (EMULATED, group(pod(labels={"alibabacloud.com/compute-qos": "best-effort"}))),
    ],
    "restrict-hourly-cost": [(pair(replicas=100),)],
    "disallow-unsafe-engine-options": [
        (group(pod(env=[{"name": "VLLM_SERVER_DEV_MODE", "value": "0"}, {"name": "VLLM_PORT", "value": "1"}])),),
        (group(pod(args=["--middleware", "requestfilter.RequestFilter", "--ssl-certfile=x", "--host=::"])),),
        (group(pod(args=["--trust-remote-code", "--load-format", "safetensors", "--port=8000"])),),
        (job({"name": "prometheus", "args": ["--config=/etc/x"]}),),
    ],
}
