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
