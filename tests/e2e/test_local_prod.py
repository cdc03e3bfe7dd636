"""The prod stack, with everything that it has switched on, on the embedded cluster.

One stack through its life, in the order of the file: each test begins where the one before it ended. The autoscaler and
the clients are played: by patches of the scale subresource, and by requests through port-forwards.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import yaml
from kubernetes import client

from deepseek_acs.chatclient import Client
from deepseek_acs.modelmover.mover import verify
from deepseek_acs.verifier.cluster import ApiServer
from deepseek_acs.verifier.forward import ForwardedConnection
from deepseek_acs.verifier.target import Target
from local.stack import CLUSTER_FOLDER
from tests.e2e.conftest import ROOT, Project, eventually, left_in_namespace, make_project, uids
from tests.e2e.test_local_stack import AT_ONCE, all_ready, bucket_as

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FIRST_KEY, SECOND_KEY = "0123456789abcdef" * 4, "fedcba9876543210" * 4
HUB_TOKEN, SECOND_TOKEN = "hub-token-" * 4, "other-token-" * 4
ON_BY_ONE_KEY = ("security", "observability", "verification")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = make_project(tmp_path_factory.mktemp("prod"), "local-prod")
    file = found.folder / "Pulumi.local-prod.yaml"
    content = yaml.safe_load(file.read_text())
    del content["config"]["deepseek:apiKey"]
    file.write_text(yaml.safe_dump(content))
    yield found
    found.stop()


def set_key(project: Project, key: str) -> None:
    """As the error text says: by standard input, so that no list of processes shows it."""
    project.pulumi("stack", "select", "--create", project.stack)
    project.pulumi("config", "set", "--stack", project.stack, "--secret", "deepseek:apiKey", given=key)


def keys(project: Project) -> list[str]:
    """Names of the Secrets with the clients' key."""
    found = project.core.list_namespaced_secret(project.namespace).items
    return [secret.metadata.name for secret in found if secret.metadata.name.startswith("access-api-key-")]


def asked_for(project: Project) -> set[str]:
    """The Secrets that the leaders take their key from."""
    variables = [entry for pod in project.pods().values() for entry in pod.spec.containers[0].env]
    return {entry.value_from.secret_key_ref.name for entry in variables if entry.name == "VLLM_API_KEY"}


def scale(project: Project, count: int) -> None:
    """As KEDA's HPA does it."""
    group = ("leaderworkerset.x-k8s.io", "v1", project.namespace, "leaderworkersets", "deepseek-r1")
    body = {"spec": {"replicas": count}}
    project.custom.patch_namespaced_custom_object_scale(*group, body, field_manager="kube-controller-manager")
    eventually(lambda: all_ready(project, 2 * count))


def test_it_has_on_what_prod_has_on(project: Project) -> None:
    prod = yaml.safe_load((ROOT / "Pulumi.prod.yaml").read_text())["config"]["deepseek:deployment"]
    ours = project.settings()
    assert all(name in prod and name in ours for name in ON_BY_ONE_KEY)
    for section in ("inference", "security", "observability", "verification"):
        assert prod[section].keys() == ours[section].keys(), section


def test_without_the_key_nothing_is_created_and_the_fix_is_said(project: Project) -> None:
    output = project.run("up", fails=True)
    assert "openssl rand -hex 32 | pulumi config set -s local-prod --secret deepseek:apiKey" in output
    assert "nothing was created or changed" in output


def test_up(project: Project) -> None:
    set_key(project, FIRST_KEY)
    project.pulumi("config", "set", "--stack", project.stack, "--secret", "deepseek:hubToken", given=HUB_TOKEN)
    output = project.run("up", previewed=True)
    assert FIRST_KEY not in output
    assert all_ready(project, 2)
    project.run("up", "--expect-no-changes")


def test_every_optional_object_is_there(project: Project) -> None:
    """The real API server has accepted each of them; nothing here enforces or acts on them."""
    namespace = project.namespace
    policies = client.NetworkingV1Api(project.api).list_namespaced_network_policy(namespace).items
    assert {p.metadata.name.removeprefix("deepseek-r1-") for p in policies} == {
        *("clients", "members", "egress", "jobs", "cache"),
    }
    (budget,) = client.PolicyV1Api(project.api).list_namespaced_pod_disruption_budget(namespace).items
    assert budget.spec.max_unavailable
    (ingress,) = client.NetworkingV1Api(project.api).list_namespaced_ingress(namespace).items
    assert ingress.spec.rules[0].host == "llm.example.com"
    for group, version, plural in (
        ("keda.sh", "v1alpha1", "scaledobjects"),
        ("monitoring.coreos.com", "v1", "podmonitors"),
        ("monitoring.coreos.com", "v1", "prometheusrules"),
    ):
        found = project.custom.list_namespaced_custom_object(group, version, namespace, plural)
        assert len(found["items"]) == 1, plural
    boards = project.core.list_namespaced_config_map(namespace, label_selector="grafana_dashboard=1").items
    assert len(boards) == 1
    (verified,) = [
        job for job in project.batch.list_namespaced_job(namespace).items if job.metadata.name.startswith("verify-")
    ]
    assert verified.status.succeeded == 1


def test_pods_have_no_token_and_no_rights(project: Project) -> None:
    for pod in project.pods().values():
        assert pod.spec.service_account_name == "deepseek-r1"
        assert not [v for v in pod.spec.volumes if v.projected], "no token is mounted"
        assert pod.spec.containers[0].security_context.capabilities.drop == ["ALL"]


def test_key_is_in_no_pod_no_state_and_no_job(project: Project) -> None:
    pods = project.core.list_namespaced_pod(project.namespace).items
    assert FIRST_KEY not in str([pod.to_dict() for pod in pods])
    (state,) = (project.folder / ".state" / "pulumi" / ".pulumi" / "stacks").rglob("local-prod.json")
    assert FIRST_KEY not in state.read_text()


def test_verify_asks_with_and_without_the_key(project: Project) -> None:
    output = project.run("verify")
    assert "The endpoint answers." in output
    assert "no API key is configured" not in output
    assert FIRST_KEY not in output
    assert "so are /invocations, /tokenize, a bent Host" in output


def asked(project: Project, key: str, path: str, host: str = "leader") -> int:
    """The status of a request through a real port-forward."""
    (pod,) = (name for name, pod in project.pods().items() if pod.metadata.labels.get("role") == "leader")
    target = Target.of_outputs(json.loads(project.pulumi("stack", "output", "--json")))
    target = replace(target, kubeconfig=str(project.cluster.kubeconfig))
    connect = partial(ForwardedConnection, ApiServer(target), target, pod, 8000, silence_seconds=30)
    return Client(connect=connect, key=key or None).status("GET", path, host=host)


def test_the_filter_is_in_front(project: Project) -> None:
    """By its own program, from the ConfigMap and the Secret that the leader mounts."""
    assert asked(project, FIRST_KEY, "/v1/models") == 200
    assert asked(project, "", "/health") == 200
    for key, path, host, status in (
        ("", "/v1/models", "leader/x", 400),
        ("", "/v1/models", "leader", 401),
        ("", "/metrics", "leader", 401),
        (FIRST_KEY, "/metrics", "leader", 200),
        (FIRST_KEY, "/version", "leader", 404),
        (FIRST_KEY, "/invocations", "leader", 404),
        (FIRST_KEY, "/v1//models", "leader", 404),
    ):
        assert asked(project, key, path, host) == status, (path, host)
    (monitor,) = project.custom.list_namespaced_custom_object(
        "monitoring.coreos.com", "v1", project.namespace, "podmonitors"
    )["items"]
    credentials = monitor["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"]
    secret = project.core.read_namespaced_secret(credentials["name"], project.namespace)
    metrics_key = base64.b64decode(secret.data[credentials["key"]]).decode()
    assert asked(project, metrics_key, "/metrics") == 200
    assert asked(project, metrics_key, "/v1/models") == 401


def test_rotation_of_the_key(project: Project) -> None:
    (old,), before = keys(project), uids(project)
    set_key(project, SECOND_KEY)
    output = project.run("up")
    assert SECOND_KEY not in output
    (new,) = keys(project)
    assert new != old
    eventually(lambda: all_ready(project, 2))
    assert asked_for(project) == {new}
    assert not uids(project) & before
    assert "The endpoint answers." in project.run("verify")
    project.run("up", "--expect-no-changes")


def test_secrets_are_in_no_output_and_no_state(project: Project) -> None:
    """Whatever was printed so far, and the widest forms of each command, with a new one of each secret under way."""
    values = [FIRST_KEY, SECOND_KEY, HUB_TOKEN, SECOND_TOKEN, *access_key_secrets(project)]
    project.pulumi("config", "set", "--stack", project.stack, "--secret", "deepseek:hubToken", given=SECOND_TOKEN)
    replaced = [option for urn in access_keys(project) for option in ("--replace", urn)]
    assert len(replaced) == 4
    for command in ("preview", "up"):
        assert "[secret]" in project.run(command, "--diff", *replaced)
    project.pulumi("refresh", "--diff", "--yes")
    project.pulumi("destroy", "--diff", "--preview-only", "--exclude-protected")
    project.pulumi("stack", "export")
    project.pulumi("stack", "output", "--json")
    project.pulumi("stack", "--show-ids", "--show-urns")
    values += access_key_secrets(project)
    kubeconfig = yaml.safe_load(project.cluster.kubeconfig.read_text())
    values.append(base64.b64decode(kubeconfig["users"][0]["user"]["client-key-data"]).decode())
    files = [path for path in (project.folder / ".state" / "pulumi").rglob("*") if path.is_file()]
    written = [file.read_text(errors="replace") for file in files]
    for text in [*project.said, *written]:
        for value in values:
            assert value not in text
            assert base64.b64encode(value.encode()).decode() not in text


def access_keys(project: Project) -> list[str]:
    return [r["urn"] for r in project.state()["resources"] if r["type"] == "alicloud:ram/accessKey:AccessKey"]


def access_key_secrets(project: Project) -> list[str]:
    account = json.loads((project.folder / CLUSTER_FOLDER / "oss" / "account.json").read_text())
    return [key["secret"] for key in account["keys"].values()]


def test_scaling_from_one_to_three_and_back(project: Project) -> None:
    first = uids(project)
    scale(project, 3)
    assert first < uids(project)
    project.run("up", "--expect-no-changes")
    assert "The endpoint answers." in project.run("verify")
    scale(project, 1)
    assert uids(project) == first
    project.run("up", "--expect-no-changes")


@contextmanager
def pods_are_killed(project: Project) -> Iterator[list[str]]:
    """A pod every second, in turn leaders and workers, as machines that fail; the names of the killed."""
    ended, killed = threading.Event(), list[str]()

    def kill() -> None:
        while not ended.wait(1):
            names = sorted(project.pods())
            if names:
                name = names[len(killed) % len(names)]
                try:
                    project.core.delete_namespaced_pod(name, project.namespace, grace_period_seconds=0)
                except client.ApiException:
                    continue
                killed.append(name)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def test_new_image_while_pods_die(project: Project) -> None:
    scale(project, 2)
    image = "vllm/vllm-openai:v0.33.0-cu129"
    project.change(inference={"engine": {**project.settings()["inference"]["engine"], "image": image}})
    process = project.start("up", "--skip-preview")
    eventually(
        lambda: (
            project.group()["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["image"] == image
        )
    )
    with pods_are_killed(project) as killed:
        eventually(lambda: len(killed) >= 4)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    eventually(lambda: all_ready(project, 4))
    assert {pod.spec.containers[0].image for pod in project.pods().values()} == {image}
    project.run("up", "--expect-no-changes")
    assert "The endpoint answers." in project.run("verify")
    scale(project, 1)


def test_options_off_again_on_the_live_stack(project: Project) -> None:
    """One update takes them away, and none of their objects stays."""
    by_hand = {"kind": "manual", "takeOver": True}
    project.change(
        **dict.fromkeys(ON_BY_ONE_KEY),
        inference={"lifecycle": None, "scaling": by_hand, "replicas": 1},
        service={"kind": "clusterIP"},
    )
    project.run("up")
    eventually(lambda: all_ready(project, 2))
    namespace = project.namespace
    assert not client.NetworkingV1Api(project.api).list_namespaced_network_policy(namespace).items
    assert not client.PolicyV1Api(project.api).list_namespaced_pod_disruption_budget(namespace).items
    assert not keys(project)
    assert asked_for(project) == set()
    project.run("up", "--expect-no-changes")


def test_destroy_leaves_only_the_weights(project: Project) -> None:
    project.control("oss", "PUT", "access-keys/owner", {"secret": "owner-secret", "policies": None})
    project.run("destroy")
    assert left_in_namespace(project) == {"kube-root-ca.crt"}
    assert not project.core.list_persistent_volume().items
    verify(bucket_as(project, "owner", "owner-secret"), "models/DeepSeek-R1", full=True, backoff=AT_ONCE)
