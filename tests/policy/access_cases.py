"""Policies about access from outside: Services, routes, network policies, the API key, and plain HTTP."""

from collections.abc import Mapping
from typing import Any

from policy.resources import UNKNOWN, Resource
from tests.policy.stacks import (
    BALANCER,
    CONTAINER,
    EMULATED,
    ENCRYPTED,
    EXACT,
    GATEWAY,
    GROUP_LABEL,
    KEY,
    LEADER,
    LISTED,
    LOAD_BALANCER,
    NO_KEY,
    PRIVATE,
    Broken,
    Kept,
    admits,
    attached,
    cloud,
    group,
    http_route,
    ingress,
    manifest,
    network,
    network_policy,
    pod,
    pool,
    resource,
    secret,
    service,
)

IN_A_SECURITY_GROUP = {**pod(), "metadata": {"annotations": {"network.alibabacloud.com/security-group-ids": "sg-1"}}}
GROUPED = manifest("LeaderWorkerSet", spec={"leaderWorkerTemplate": {"workerTemplate": IN_A_SECURITY_GROUP}})
OLD = "registry.example/vllm:v0.7.2"
EIP = "network.alibabacloud.com/pod-with-eip"
REDIRECT = "alb.ingress.kubernetes.io/ssl-redirect"
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
WORKERS = {"podSelector": {"matchLabels": {"role": "worker"}}}


def keyed(**variable: Any) -> Resource:
    """A group whose leaders have the API key's variable, as given."""
    return group(pod(env=[{"name": "VLLM_API_KEY", **variable}]))


def by_secret(**reference: Any) -> Resource:
    return keyed(valueFrom={"secretKeyRef": {"name": "key", "key": "key", **reference}})


KEY_VARIABLE = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "key"}}}


def acl_entry(entry: Any) -> Resource:
    return resource("alicloud:slb/aclEntryAttachment:AclEntryAttachment", "it", {"entry": entry})


def mover(*arguments: str, eip: str = "", **container: Any) -> Resource:
    """A Job with a secret, or with a public address."""
    given = {"name": "modelmover", "args": list(arguments), "envFrom": [{"secretRef": {"name": "key"}}], **container}
    annotations = {EIP: eip} if eip else {}
    return manifest(
        "Job", spec={"template": {"metadata": {"annotations": annotations}, "spec": {"containers": [given]}}}
    )


def volume(url: str) -> Resource:
    csi = {"nodePublishSecretRef": {"name": "x"}, "volumeAttributes": {"url": url}}
    return manifest("PersistentVolume", spec={"csi": csi})


def dataset(endpoint: str, **mount: Any) -> Resource:
    return manifest("Dataset", spec={"mounts": [{"options": {"fs.oss.endpoint": endpoint}, **mount}]})


def scaler(address: str, **trigger: Any) -> Resource:
    return manifest("ScaledObject", spec={"triggers": [{"metadata": {"serverAddress": address}, **trigger}]})


BROKEN: Mapping[str, list[Broken]] = {
    "restrict-resource-types": [
        *(
            Broken("", f"creates no {one.type}", (one,))
            for one in (
                manifest("TCPRoute"),
                manifest("ClusterRoleBinding"),
                manifest("StatefulSet"),
                resource("kubernetes:core/v1:ServicePatch", "it", {"kind": "Service"}),
                resource("alicloud:slb/applicationLoadBalancer:ApplicationLoadBalancer", "it", {}),
                resource("command:local:Command", "it", {}),
                resource("pulumi:providers:command", "it", {}),
            )
        ),
    ],
    "disallow-public-services": [
        Broken("spec.type", "NodePort opens", (service("NodePort"),)),
        Broken(f"metadata.annotations[{next(iter(PRIVATE))}]", "public address", (service("LoadBalancer"),)),
        Broken(
            f"metadata.annotations[{next(iter(PRIVATE))}]",
            "public address",
            (service("LoadBalancer", {next(iter(PRIVATE)): "internet"}),),
        ),
        Broken("spec.externalIPs", "no controller verifies", (service(externalIPs=["192.0.2.1"]),)),
        Broken(
            f"metadata.annotations[{LOAD_BALANCER}-id]",
            "whether the existing load balancer lb-1 has a public address cannot be seen",
            (service("LoadBalancer", {**PRIVATE, f"{LOAD_BALANCER}-id": "lb-1"}),),
            {"allowedLoadBalancers": ["lb-2"]},
        ),
    ],
    "disallow-public-pods": [
        *(
            Broken(f"{LEADER}.metadata.annotations[{name}]", "public address", (group(pod(annotations={name: value})),))
            for name, value in (
                (EIP, "true"),
                ("k8s.aliyun.com/pod-with-eip", "true"),
                ("k8s.aliyun.com/eci-with-eip", "true"),
                ("network.alibabacloud.com/eip-instance-id", "eip-1"),
                ("k8s.aliyun.com/pod-eip-instanceid", "eip-1"),
            )
        ),
        Broken(
            f"spec.template.metadata.annotations[{EIP}]", "public", (mover(eip="true", ports=[{"containerPort": 1}]),)
        ),
        Broken(f"spec.template.metadata.annotations[{EIP}]", "public", (mover(eip="true"),), {"allowedContainers": []}),
    ],
    "require-api-key": [
        Broken("", "the engine of r1 requires no API key (VLLM_API_KEY is not set)", (BALANCER, group(NO_KEY))),
        Broken("", "requires no API key", (ingress(), group(NO_KEY))),
        Broken("", "requires no API key", (attached(sectionName="websecure"), group(NO_KEY))),
        Broken("", "requires no API key", (manifest("TCPRoute", spec={}), group(NO_KEY))),
        Broken("", "VLLM_API_KEY is empty", (BALANCER, keyed(value=""))),
        Broken("", "VLLM_API_KEY is empty", (BALANCER, keyed())),
        Broken("", "VLLM_API_KEY is optional", (BALANCER, by_secret(optional=True))),
        Broken(
            "",
            "VLLM_API_KEY is empty in the Secret key",
            (BALANCER, by_secret(), secret(stringData={"key": ""})),
        ),
        Broken(
            "",
            "VLLM_API_KEY is empty",
            (BALANCER, group(pod(env=[{"name": "VLLM_API_KEY", "value": KEY}, {"name": "VLLM_API_KEY", "value": ""}]))),
        ),
    ],
    "require-request-filter": [
        *(
            Broken("", "no request filter is in front of the engine of r1", (entry, group(pod(command=command))))
            for entry in (BALANCER, ingress(), http_route(), manifest("TCPRoute", spec={}))
            for command in (["vllm", "serve"], ["vllm", "serve", "--middleware=other.Filter"])
        ),
    ],
    "require-patched-engine": [
        Broken(
            f"{CONTAINER}.image",
            "clients can use what is published of vLLM 0.7.2: CVE-2026-48746 (a bent header Host opens /v1",
            (BALANCER, group(pod(image=OLD, command=["vllm", "serve"]))),
        ),
        Broken(
            f"{CONTAINER}.image", "of vLLM 0.7.2: CVE-2025-48956 (one huge header", (BALANCER, group(pod(image=OLD)))
        ),
        Broken(
            f"{CONTAINER}.image", "vLLM 0.7.2 is older than 0.11", (group(pod(image=OLD)),), {"minimumVersion": "0.11"}
        ),
    ],
    "require-load-balancer-acl": [
        Broken(f"metadata.annotations[{LOAD_BALANCER}-acl-id]", "every address of the VPC", (BALANCER,)),
        Broken(
            f"metadata.annotations[{LOAD_BALANCER}-acl-id]",
            "every address",
            (service("LoadBalancer", {**PRIVATE, **LISTED, f"{LOAD_BALANCER}-acl-status": "off"}),),
        ),
        Broken(
            f"metadata.annotations[{LOAD_BALANCER}-acl-id]",
            "every address",
            (service("LoadBalancer", {**PRIVATE, **LISTED, f"{LOAD_BALANCER}-acl-type": "black"}),),
        ),
    ],
    "require-load-balancer-tls": [
        Broken("spec.type", "in plain HTTP", (BALANCER, group())),
        Broken(
            "spec.type",
            "in plain HTTP",
            (service("LoadBalancer", ENCRYPTED, ports=[{"port": 443}, {"port": 8000}]), group()),
        ),
        Broken(
            "spec.type",
            "in plain HTTP",
            (
                service("LoadBalancer", {f"{LOAD_BALANCER}-protocol-port": "http:443"}, ports=[{"port": 443}]),
                group(),
            ),
        ),
    ],
    "require-route-https": [
        Broken("spec.tls", "r1.example.com is served over plain HTTP", (ingress([]),)),
        Broken("spec.tls", "plain HTTP", (ingress([{"hosts": ["other.example.com"]}]),)),
        Broken("spec.parentRefs[0]", "all listeners", (attached(),)),
        Broken("spec.parentRefs[0]", "the listener web of gate is plain HTTP", (attached(), GATEWAY)),
        Broken("spec.parentRefs[0]", "the listener web", (attached(sectionName="web"), GATEWAY)),
    ],
    "require-https-redirect": [
        Broken(f"metadata.annotations[{REDIRECT}]", "answered instead", (ingress(annotations={REDIRECT: "false"}),)),
        Broken(
            "metadata.annotations[nginx.ingress.kubernetes.io/force-ssl-redirect]",
            "answered instead",
            (
                ingress(
                    class_name="mse",
                    annotations={
                        "nginx.ingress.kubernetes.io/ssl-redirect": "true",
                        "nginx.ingress.kubernetes.io/force-ssl-redirect": "false",
                    },
                ),
            ),
        ),
        Broken(
            "metadata.annotations[nginx.ingress.kubernetes.io/ssl-redirect]",
            "not redirected",
            (ingress(class_name="mse"),),
        ),
        Broken(
            f"metadata.annotations[{REDIRECT}]",
            "not redirected",
            (ingress(class_name=None, annotations={"kubernetes.io/ingress.class": "alb"}),),
        ),
        Broken("spec.ingressClassName", "traefik redirects plain HTTP is not known", (ingress(class_name="traefik"),)),
        Broken("spec.ingressClassName", "(default) redirects", (ingress(class_name=None),)),
    ],
    "restrict-route-paths": [
        *(
            Broken(
                "spec.rules[0].http.paths[0]",
                f"{kind} {path} lets paths",
                (ingress(paths=[{"path": path, "pathType": kind}]),),
            )
            for kind, path in (
                ("Prefix", "/"),
                ("Prefix", "/v1"),
                ("Prefix", "/v1/models"),
                ("Exact", "/invocations"),
                ("Exact", "/v1/../invocations"),
                ("Exact", "/v1/responses/../../metrics"),
                ("Exact", "/v1/responses/%2e%2e/x"),
                ("ImplementationSpecific", "/v1/models"),
            )
        ),
        Broken(
            "spec.rules[0].http.paths[0]", "a path without type /v1/models", (ingress(paths=[{"path": "/v1/models"}]),)
        ),
        Broken("spec.defaultBackend", "every path", (ingress(defaultBackend={"service": {"name": "x"}}),)),
        *(
            Broken(f"metadata.annotations[{name}]", "whatever the rules say", (ingress(annotations={name: "x"}),))
            for name in (
                "nginx.ingress.kubernetes.io/configuration-snippet",
                "nginx.ingress.kubernetes.io/rewrite-target",
                "nginx.ingress.kubernetes.io/use-regex",
                "nginx.ingress.kubernetes.io/mirror-target",
                "alb.ingress.kubernetes.io/rewrite-target",
                "alb.ingress.kubernetes.io/actions.response-503",
                "alb.ingress.kubernetes.io/conditions.service-a",
            )
        ),
        Broken("spec.rules", "without rules", (manifest("HTTPRoute", spec={"parentRefs": []}),)),
        Broken("spec.rules[0].matches", "every path goes through", (http_route([]),)),
        Broken("spec.rules[0].matches[0].path", "PathPrefix / lets", (http_route([{}]),)),
        Broken("spec.rules[0].matches[0].path", "PathPrefix /v1 lets", (http_route([{"path": {"value": "/v1"}}]),)),
        Broken(
            "spec.rules[0].matches[0].path",
            "RegularExpression /v1/models lets",
            (http_route([{"path": {"type": "RegularExpression", "value": "/v1/models"}}]),),
        ),
        *(
            Broken("spec.rules[0].filters", f"a filter {kind} can", (http_route(filters=[{"type": kind}]),))
            for kind in ("URLRewrite", "RequestMirror", "ExtensionRef", "RequestRedirect")
        ),
        Broken(
            "spec.rules[0].filters",
            "a filter URLRewrite can",
            (http_route(backendRefs=[{"name": "x", "filters": [{"type": "URLRewrite"}]}]),),
        ),
        Broken("", "a TCPRoute lets every path", (manifest("TCPRoute"),)),
    ],
    "restrict-pool-members": [
        Broken("spec.selector.matchLabels", "the workers of r1", (group(), pool({GROUP_LABEL: "r1"}))),
    ],
    "restrict-ingress-classes": [
        Broken("spec.ingressClassName", "no security fixes since March 2026", (ingress(class_name="nginx"),)),
        Broken("spec.ingressClassName", "traefik is not in the option", (ingress(class_name="traefik"),)),
        Broken("spec.ingressClassName", "the cluster's default class", (ingress(class_name=None),)),
        Broken(
            "spec.ingressClassName",
            "no security fixes",
            (ingress(class_name=None, annotations={"kubernetes.io/ingress.class": "nginx"}),),
        ),
    ],
    "disallow-plain-http": [
        Broken(
            "spec.template.spec.containers[modelmover].args[0]",
            "a secret goes to hub.example by plain HTTP",
            (mover("--hub=http://hub.example/models"),),
        ),
        Broken(
            f"{CONTAINER}.env[HUB].value",
            "hub.example",
            (group(pod(env=[KEY_VARIABLE, {"name": "HUB", "value": "HTTP://hub.example"}])),),
        ),
        Broken("spec.template.spec.containers[modelmover].args[0]", "goes to a host by", (mover("http://[x"),)),
        Broken("spec.template.spec.containers[modelmover].args[0]", "10.0.0.1", (mover("http://10.0.0.1"),)),
        Broken(
            "spec.template.spec.containers[modelmover].args[0]", "127.0.0.1.evil", (mover("http://127.0.0.1.evil"),)
        ),
        Broken(
            "spec.csi.volumeAttributes.url",
            "oss.example by plain HTTP",
            (volume("http://oss.example"),),
        ),
        Broken("spec.csi.volumeAttributes.url", "without scheme", (volume("oss-cn-hangzhou-internal.aliyuncs.com"),)),
        Broken(
            "spec.mounts[0].options.fs.oss.endpoint",
            "oss.example",
            (dataset("http://oss.example", encryptOptions=[{"name": "x"}]),),
        ),
        Broken(
            "spec.triggers[0].metadata.serverAddress",
            "prometheus.example",
            (scaler("http://prometheus.example:9090", authenticationRef={"name": "x"}),),
        ),
        Broken("endpoints[0].oss", "oss.example", (cloud({"oss": "http://oss.example"}),)),
    ],
    "require-network-policy": [
        Broken(LEADER, "neither a NetworkPolicy", (group(), network_policy({"matchLabels": {"app": "other"}}))),
        Broken(LEADER, "neither a NetworkPolicy", (group(), network_policy({}, policyTypes=["Egress"]))),
        Broken(
            "spec.leaderWorkerTemplate.workerTemplate",
            "neither a NetworkPolicy",
            (group(), network_policy({"matchLabels": {"role": "leader"}})),
        ),
        *(
            Broken(
                "spec.ingress[0].from[0].podSelector",
                "every pod of the namespace",
                (group(), admits({"podSelector": selector})),
            )
            for selector in ({}, {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]})
        ),
        Broken(LEADER, "neither a NetworkPolicy", (group(stack="local"),), {"exemptStacks": ["dev"]}),
        Broken(LEADER, "neither a NetworkPolicy", (cloud({"oss": "http://127.0.0.1:19000"}), group())),
        Broken(
            LEADER,
            "neither a NetworkPolicy",
            (cloud(dict.fromkeys(("oss", "ram", "sts", "slb"), "https://oss.example")), group()),
        ),
    ],
    "restrict-network-policy-peers": [
        Broken("spec.ingress[0]", "admits every client", (network_policy({}, ingress=[{}]),)),
        Broken("spec.ingress[0]", "admits every client", (network_policy({}, ingress=[{"from": []}]),)),
        Broken("spec.ingress[0].from[0].ipBlock.cidr", "0.0.0.0/0 has 4,294,967,296", (admits(network("0.0.0.0/0")),)),
        Broken("spec.ingress[0].from[0].ipBlock.cidr", "10.0.0.0/8 has", (admits(network("10.0.0.0/8")),)),
        Broken("spec.ingress[0].from[0].ipBlock.cidr", "::/0 has 2^128", (admits(network("::/0")),)),
        Broken("spec.ingress[0].from[0].ipBlock.cidr", "everyone is not a network", (admits(network("everyone")),)),
        Broken(
            "spec.ingress[0].from[0].ipBlock.cidr",
            "the widest accepted network is a /24",
            (admits(network("10.0.0.0/16")),),
            {"minPrefixLength": 24},
        ),
        Broken(
            "spec.ingress[0].from[0].ipBlock.cidr",
            "the widest accepted network is a /64",
            (admits(network("2001:db8::/56")),),
            {"minPrefixLengthIPv6": 64},
        ),
        Broken(
            "spec.ingress[0].from[0].ipBlock.cidr",
            "100.64.0.0/10 has",
            (admits(network("100.64.0.0/10")),),
            {"allowedNetworks": []},
        ),
        Broken(
            "spec.ingress[0].from[0].namespaceSelector",
            "every namespace of the cluster",
            (admits({"namespaceSelector": {}}),),
        ),
        Broken(
            "spec.ingress[0].from[0].namespaceSelector",
            "every namespace",
            (
                admits(
                    {
                        "namespaceSelector": {
                            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]
                        }
                    }
                ),
            ),
        ),
        Broken("spec.ingress[0].from[1]", "an empty peer", (admits(WORKERS, {}),)),
        Broken("spec.ingress[0].ports", "every port", (admits(MONITORING, ports=[]),)),
        Broken("spec.ingress[0].ports[0]", "a range of ports", (admits(MONITORING, ports=[{"protocol": "TCP"}]),)),
        Broken(
            "spec.ingress[0].ports[0]",
            "a range of ports",
            (admits(network("10.0.0.0/24"), ports=[{"port": 1, "endPort": 65535}]),),
        ),
    ],
    "restrict-load-balancer-clients": [
        Broken("entry", "0.0.0.0/0 has", (acl_entry("0.0.0.0/0"),)),
        Broken(
            "entryLists[1].entry",
            "10.0.0.0/8 has",
            (
                resource(
                    "alicloud:slb/acl:Acl", "it", {"entryLists": [{"entry": "10.1.0.0/16"}, {"entry": "10.0.0.0/8"}]}
                ),
            ),
        ),
    ],
}

KEPT: Mapping[str, list[Kept]] = {
    "restrict-resource-types": [
        (group(), cloud(), service(), network_policy({})),
        (resource("deepseek:access:Access", "access", {}), resource("pulumi:pulumi:Stack", "it", {})),
    ],
    "disallow-public-services": [
        (service(),),
        (BALANCER,),
        (service("LoadBalancer", {next(iter(PRIVATE)): UNKNOWN}),),
        (service("LoadBalancer", {**PRIVATE, f"{LOAD_BALANCER}-id": UNKNOWN}),),
    ],
    "disallow-public-pods": [
        (group(),),
        (group(pod(annotations={EIP: "false", "network.alibabacloud.com/eip-bandwidth": "5"})),),
        (group(pod(annotations={EIP: UNKNOWN})),),
        (mover(eip="true"),),
    ],
    "require-api-key": [
        (BALANCER, group()),
        (BALANCER, group(pod(env=UNKNOWN))),
        (BALANCER, by_secret(), secret(stringData={"key": KEY})),
        (BALANCER, by_secret(), secret(stringData={"key": UNKNOWN})),
        (service(), group(NO_KEY)),
        (BALANCER,),
    ],
    "require-request-filter": [
        (BALANCER, group()),
        (BALANCER, group(pod(command=["sh", "-c", "exec vllm serve --middleware requestfilter.RequestFilter"]))),
        (BALANCER, group(pod(args=["--middleware=requestfilter.RequestFilter"], command=["vllm", "serve"]))),
        (service(), group(pod(command=["vllm", "serve"]))),
    ],
    "require-patched-engine": [
        (BALANCER, group(pod(image="registry.example/vllm:v0.33.0"))),
        (BALANCER, group(pod(image=UNKNOWN))),
        (service(), group(pod(image=OLD))),
    ],
    "require-load-balancer-acl": [
        (service("LoadBalancer", {**PRIVATE, **LISTED}),),
        (service("LoadBalancer", {**PRIVATE, **LISTED, f"{LOAD_BALANCER}-acl-id": UNKNOWN}),),
        (service(),),
    ],
    "require-load-balancer-tls": [
        (BALANCER, group(pod(command=["vllm", "serve", "--ssl-certfile", "/tls/tls.crt"]))),
        (service("LoadBalancer", ENCRYPTED, ports=[{"port": 443}]), group()),
        (service(), group()),
    ],
    "require-route-https": [
        (ingress([{"hosts": ["r1.example.com"]}]),),
        (ingress([{"hosts": ["*.example.com"]}]),),
        (ingress([{"secretName": "tls"}]),),
        (ingress(UNKNOWN),),
        (attached(sectionName="websecure"), GATEWAY),
        (attached(sectionName="https"),),
    ],
    "require-https-redirect": [
        (ingress(),),
        (ingress(class_name="mse", annotations={"nginx.ingress.kubernetes.io/ssl-redirect": "true"}),),
        (ingress(ingressClassName=UNKNOWN),),
        (http_route(),),
    ],
    "restrict-route-paths": [
        (ingress(),),
        (ingress(paths=[EXACT, {"path": "/v1/responses", "pathType": "Prefix"}]),),
        (ingress(paths=[{"path": "/v1/responses/resp_1-2", "pathType": "Exact"}]),),
        (ingress(paths=[{"path": UNKNOWN, "pathType": "Exact"}]),),
        (http_route(),),
        (http_route([{"path": {"type": "PathPrefix", "value": "/v1/responses"}}]),),
        (http_route(filters=[{"type": "RequestHeaderModifier"}]),),
        (http_route(UNKNOWN),),
    ],
    "restrict-pool-members": [
        (group(), pool({GROUP_LABEL: "r1", "role": "leader"})),
        (group(), pool({GROUP_LABEL: "another"})),
        (pool({GROUP_LABEL: "r1"}),),
    ],
    "restrict-ingress-classes": [(ingress(),), (ingress(class_name="mse"),), (ingress(ingressClassName=UNKNOWN),)],
    "disallow-plain-http": [
        (
            mover(
                "--hub=https://hub.example", "http://127.0.0.1:19001", "http://ds-leader.models.svc.cluster.local:8000"
            ),
        ),
        (mover("http://hub.example", envFrom=[]),),
        (group(pod(env=[KEY_VARIABLE, {"name": "HTTP_PROXY", "value": "http://proxy.example:3128"}])),),
        (volume("https://oss.example"),),
        (dataset("http://oss.example"),),
        (dataset("https://oss.example", encryptOptions=[{"name": "x"}]),),
        (scaler("http://prometheus.example:9090"),),
        (EMULATED,),
        (cloud(),),
    ],
    "require-network-policy": [
        (group(), network_policy({"matchLabels": {GROUP_LABEL: "r1"}})),
        (group(), network_policy({})),
        (
            group(),
            network_policy({"matchExpressions": [{"key": "role", "operator": "Exists"}]}),
            network_policy({"matchExpressions": [{"key": "role", "operator": "DoesNotExist"}]}),
        ),
        (
            group(),
            *(
                network_policy(
                    {
                        "matchExpressions": [
                            {"key": f"{GROUP_LABEL[:-4]}worker-index", "operator": operator, "values": ["0"]}
                        ]
                    }
                )
                for operator in ("In", "NotIn")
            ),
        ),
        (
            group(),
            network_policy({}),
            network_policy({"matchLabels": {"app": "cache"}}, ingress=[{"from": [{"podSelector": {}}]}]),
        ),
        (group(), admits(WORKERS, MONITORING)),
        (EMULATED, group()),
        (GROUPED,),
    ],
    "restrict-network-policy-peers": [
        (network_policy({}, ingress=[]),),
        (network_policy({}, policyTypes=["Egress"], egress=[{}]),),
        (admits(MONITORING, WORKERS, network("10.1.0.0/16"), network("100.64.0.0/10"), network("2001:db8::/56")),),
        (admits(WORKERS, ports=[]),),
        (admits({"podSelector": {"matchExpressions": [{"key": "role", "operator": "In", "values": ["worker"]}]}}),),
        (admits({**MONITORING, "podSelector": {}}),),
        (admits({"podSelector": {}}),),
        (admits(network(UNKNOWN), {"namespaceSelector": UNKNOWN}),),
        (admits(network("10.1.0.0/24"), ports=[{"port": 8000, "endPort": 8000}]),),
        (network_policy({}, ingress=[UNKNOWN]),),
    ],
    "restrict-load-balancer-clients": [(acl_entry("10.1.0.0/16"),), (acl_entry(UNKNOWN),), (service(),)],
}
