"""What the server in the place of the engines learns from the leaders' pods."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client

from local.openai.leaders import LEADERS, ClusterLeaders

SECRETS = {("n", "key-2"): {"VLLM_API_KEY": base64.b64encode(b"new").decode()}}


def pod(*command: str, secret: str = "") -> Any:
    env = []
    if secret:
        reference = client.V1SecretKeySelector(name=secret, key="VLLM_API_KEY")
        env.append(client.V1EnvVar(name="VLLM_API_KEY", value_from=client.V1EnvVarSource(secret_key_ref=reference)))
    container = client.V1Container(name="vllm", command=list(command), env=env)
    return client.V1Pod(metadata=client.V1ObjectMeta(namespace="n"), spec=client.V1PodSpec(containers=[container]))


class FakeApi:
    def __init__(self, *pods: Any) -> None:
        self.pods = pods

    def list_pod_for_all_namespaces(self, *, label_selector: str, **options: Any) -> Any:
        assert label_selector == LEADERS
        return SimpleNamespace(items=self.pods)

    def read_namespaced_config_map(self, name: str, namespace: str, **options: Any) -> Any:
        if name != "requestfilter-1":
            raise client.ApiException(status=404)
        return client.V1ConfigMap(data={"requestfilter.py": "class RequestFilter: ..."})

    def read_namespaced_secret(self, name: str, namespace: str, **options: Any) -> Any:
        if (namespace, name) not in SECRETS:
            raise client.ApiException(status=404)
        return client.V1Secret(data=SECRETS[namespace, name])


@pytest.mark.parametrize(
    "command",
    [
        ["vllm", "serve", "/models/m/", "--served-model-name", "ds", "--port", "8000"],
        ["sh", "-c", "ray_init.sh leader && exec vllm serve /models/m/ --served-model-name ds --port 8000"],
        ["vllm", "serve", "/models/m/", "--served-model-name=ds"],
    ],
)
def test_served_name_is_the_engines_argument(command: list[str]) -> None:
    served = ClusterLeaders(FakeApi(pod(*command))).served()
    assert served.models == {"ds"}
    assert served.keys == frozenset()


def test_keys_of_the_leaders_that_are_there_while_one_is_rotated() -> None:
    api = FakeApi(pod("vllm", secret="key-1"), pod("vllm", secret="key-2"))
    served = ClusterLeaders(api).served()
    assert served.keys == {"new"}
    assert "new" not in repr(served)


def filtered(config_map: str, secret: str) -> Any:
    """A leader as components/request_filter.py makes it."""
    found = pod("sh", "-c", "ray && exec vllm serve /m/ --middleware requestfilter.RequestFilter", secret=secret)
    (container,) = found.spec.containers
    container.env.append(client.V1EnvVar(name="PYTHONPATH", value="/opt/requestfilter:/a"))
    volumes = {
        "requestfilter": client.V1Volume(name="", config_map=client.V1ConfigMapVolumeSource(name=config_map)),
        "keys": client.V1Volume(name="", secret=client.V1SecretVolumeSource(secret_name=secret)),
        "shm": client.V1Volume(name="", empty_dir=client.V1EmptyDirVolumeSource()),
    }
    paths = {"requestfilter": "/opt/requestfilter", "keys": "/keys", "shm": "/dev/shm"}
    for name, volume in volumes.items():
        volume.name = name
    found.spec.volumes = list(volumes.values())
    container.volume_mounts = [client.V1VolumeMount(name=name, mount_path=path) for name, path in paths.items()]
    return found


def test_middleware_is_what_the_pod_mounts() -> None:
    api = FakeApi(filtered("requestfilter-1", "key-2"), filtered("requestfilter-0", "key-2"), pod("vllm"))
    served = ClusterLeaders(api).served()
    (found,) = served.middlewares
    assert found.name == "requestfilter.RequestFilter"
    assert found.files == {"requestfilter.py": b"class RequestFilter: ..."}
    assert found.folders == {"/keys": {"VLLM_API_KEY": b"new"}}
    assert "new" not in repr(served)


def test_middleware_whose_keys_are_gone_is_that_of_a_pod_that_ends() -> None:
    assert ClusterLeaders(FakeApi(filtered("requestfilter-1", "key-1"))).served().middlewares == ()
