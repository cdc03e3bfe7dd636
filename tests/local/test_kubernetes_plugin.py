"""What the kubernetes plugin does with an API server, as the engine asks for it: the fake's contract.

With ``PROVIDER=official`` the same tests run against Pulumi's own plugin, as far as it can be built: of version 4.25,
which always upserts (``local/plugins/kubernetes/facts.toml``).
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2, json_format, struct_pb2
from kubernetes import client, config
from pulumi.runtime.proto import (
    engine_pb2_grpc,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

from local import tools
from local.cluster import Cluster

pytestmark = pytest.mark.integration

IS_OFFICIAL = os.environ.get("PROVIDER") == "official"
FAKE = Path(__file__).parents[2] / "local" / "plugins" / "kubernetes" / "pulumi-resource-kubernetes"
ANNOTATION = "pulumi.com/patchFieldManager"
SECONDS = 2


class Engine(engine_pb2_grpc.EngineServicer):
    """The engine, as far as plugins speak to it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def Log(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the RPC
        self.said.append(request.message)
        return empty_pb2.Empty()


class Plugin:
    """One process of the plugin, configured for one cluster."""

    def __init__(self, address: str, engine: Engine, kubeconfig: str, **options: str) -> None:
        self.engine = engine
        binary = tools.tool("pulumi-resource-kubernetes") if IS_OFFICIAL else FAKE
        self._process = subprocess.Popen([binary, address], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._channel = grpc.insecure_channel(f"127.0.0.1:{int(self._process.stdout.readline())}")
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        variables = {
            "kubeconfig": kubeconfig,
            "enableServerSideApply": "true",
            "enableSecretMutable": "true",
            **options,
        }
        prefixed = {f"kubernetes:config:{name}": value for name, value in variables.items()}
        self._stub.Configure(provider_pb2.ConfigureRequest(variables=prefixed, args=struct(variables)))

    def check(self, urn: str, new: Any, old: Any = None) -> dict[str, Any]:
        request = provider_pb2.CheckRequest(urn=urn, news=struct(new), randomSeed=32 * b"s")
        if old is not None:
            request.olds.CopyFrom(struct(old))
        return plain(self._stub.Check(request).inputs)

    def create(self, new: Any, *, preview: bool = False, name: str = "a") -> dict[str, Any]:
        request = provider_pb2.CreateRequest(urn=urn_of(new, name), properties=struct(new), preview=preview)
        request.timeout = SECONDS
        return plain(self._stub.Create(request).properties)

    def update(self, state: Any, new: Any, *, preview: bool = False, ignore: Any = ()) -> dict[str, Any]:
        request = provider_pb2.UpdateRequest(
            urn=urn_of(new), id=id_of(new), olds=struct(state), news=struct(new), preview=preview, ignoreChanges=ignore
        )
        request.timeout = SECONDS
        return plain(self._stub.Update(request).properties)

    def diff(self, state: Any, old: Any, new: Any) -> Any:
        request = provider_pb2.DiffRequest(
            urn=urn_of(new), id=id_of(new), olds=struct(state), old_inputs=struct(old), news=struct(new)
        )
        return self._stub.Diff(request)

    def read(self, new: Any, state: Any = None) -> Any:
        request = provider_pb2.ReadRequest(urn=urn_of(new), id=id_of(new))
        if state is not None:
            request.inputs.CopyFrom(struct(new))
            request.properties.CopyFrom(struct(state))
        return self._stub.Read(request)

    def delete(self, state: Any, new: Any) -> None:
        request = provider_pb2.DeleteRequest(urn=urn_of(new), id=id_of(new), properties=struct(state))
        request.old_inputs.CopyFrom(struct(new))
        request.timeout = SECONDS
        self._stub.Delete(request)

    def stop(self) -> None:
        self._channel.close()
        self._process.kill()
        self._process.communicate()


def struct(value: Mapping[str, Any]) -> Any:
    found = struct_pb2.Struct()
    found.update(value)
    return found


def plain(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(value)
    return found


def urn_of(new: Any, name: str = "a") -> str:
    version = new["apiVersion"] if "/" in new["apiVersion"] else f"core/{new['apiVersion']}"
    return f"urn:pulumi:dev::deepseek::kubernetes:{version}:{new['kind']}::{name}"


def id_of(new: Any) -> str:
    metadata = new["metadata"]
    return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))


def reasons(error: grpc.RpcError) -> list[str]:
    """Of an object that exists and is not ready."""
    (details,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    status = status_pb2.Status.FromString(details)
    failed = provider_pb2.ErrorResourceInitFailed()
    assert status.details[0].Unpack(failed)
    return list(failed.reasons)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    found.start_api_server()
    yield found
    found.stop(delete=True)


@pytest.fixture(scope="module")
def engine() -> Iterator[tuple[str, Engine]]:
    server, servicer = grpc.server(ThreadPoolExecutor(4)), Engine()
    engine_pb2_grpc.add_EngineServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield address, servicer
    server.stop(grace=None)


@pytest.fixture(scope="module")
def plugin(cluster: Cluster, engine: tuple[str, Engine]) -> Iterator[Plugin]:
    """As the program configures it."""
    found = Plugin(*engine, cluster.kubeconfig.read_text(), upsertExistingObjects="true")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def core(cluster: Cluster) -> Any:
    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


def config_map(name: str, annotations: Mapping[str, str] | None = None, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", **({"annotations": annotations} if annotations else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def managers(core: Any, name: str) -> set[tuple[str, str]]:
    live = core.read_namespaced_config_map(name, "default")
    return {(entry.manager, entry.operation) for entry in live.metadata.managed_fields}


def test_names_are_made_up_and_kept(plugin: Plugin) -> None:
    urn = "urn:pulumi:dev::deepseek::kubernetes:core/v1:ConfigMap::thing"
    first = plugin.check(urn, {"data": {"a": "1"}})
    assert first["metadata"]["name"].startswith("thing-")
    assert len(first["metadata"]["name"]) == len("thing-") + 8
    assert first["metadata"]["annotations"] == {"pulumi.com/autonamed": "true"}
    assert plugin.check(urn, {"data": {"a": "2"}}, first)["metadata"]["name"] == first["metadata"]["name"]


def test_create_takes_over_what_exists_and_its_preview_forces(plugin: Plugin, core: Any) -> None:
    core.create_namespaced_config_map("default", config_map("taken", a="theirs", b="theirs"))
    assert plugin.create(config_map("taken", a="ours"), preview=True)["data"] == {"a": "ours", "b": "theirs"}
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create(config_map("taken", a="ours"))
    text = caught.value.details()
    assert "was not successfully created by the Kubernetes API server" in text
    assert 'Apply failed with 1 conflict: conflict with "OpenAPI-Generator" using v1: .data.a' in text
    state = plugin.create(config_map("taken", c="ours"))
    assert state["data"] == {"a": "theirs", "b": "theirs", "c": "ours"}


@pytest.mark.skipif(IS_OFFICIAL, reason="the official plugin refuses since 4.29, and 4.25 is what can be built")
def test_create_without_upserts_refuses_what_exists(cluster: Cluster, engine: tuple[str, Engine], core: Any) -> None:
    plugin = Plugin(*engine, cluster.kubeconfig.read_text())
    try:
        core.create_namespaced_config_map("default", config_map("there", a="theirs"))
        inputs = config_map("there", a="ours")
        assert plugin.create(inputs, preview=True) == inputs, "the preview says nothing of it"
        with pytest.raises(grpc.RpcError) as caught:
            plugin.create(inputs)
        assert 'configmaps "there" already exists' in caught.value.details()
        assert "set upsertExistingObjects on the provider" in caught.value.details()
        state = plugin.create(config_map("new", a="1"))
        assert managers(core, "new") == {("pulumi-kubernetes", "Update")}
        plugin.update(state, config_map("new", b="2"))
        ((manager, operation),) = managers(core, "new")
        assert manager.startswith("pulumi-kubernetes-")
        assert operation == "Apply"
        assert core.read_namespaced_config_map("new", "default").data == {"b": "2"}
    finally:
        plugin.stop()


def test_each_creation_has_a_manager_of_its_own(plugin: Plugin, core: Any) -> None:
    """So what a killed engine has made is a conflict for the next one."""
    inputs = config_map("killed", a="1")
    plugin.create(inputs)
    ((first, operation),) = managers(core, "killed")
    assert first.startswith("pulumi-kubernetes-")
    assert operation == "Apply"
    assert plugin.create(config_map("killed", a="2"), preview=True)["data"] == {"a": "2"}
    with pytest.raises(grpc.RpcError, match=f'conflict with \\\\?\\\\?"{first}') as caught:
        plugin.create(config_map("killed", a="2"))
    assert "field conflict detected" in caught.value.details()


def test_annotation_names_the_manager(plugin: Plugin, core: Any) -> None:
    ours, theirs = ({ANNOTATION: f"pulumi-deepseek-{stack}"} for stack in ("dev", "prod"))
    state = plugin.create(config_map("named", ours, a="1"))
    assert managers(core, "named") == {("pulumi-deepseek-dev", "Apply")}
    assert plugin.create(config_map("named", ours, a="2"))["data"] == {"a": "2"}
    with pytest.raises(grpc.RpcError, match="had an apply conflict") as caught:
        plugin.create(config_map("named", theirs, a="2"))
    assert 'conflict with "pulumi-deepseek-dev": .metadata.annotations.pulumi.com/patchFieldManager' in str(
        caught.value.details()
    )
    state = plugin.update(state, config_map("named", a="3"))
    assert managers(core, "named") == {("pulumi-deepseek-dev", "Apply")}, "the state remembers it"
    plugin.update(state, config_map("named", {ANNOTATION: "other"}, a="3"))
    assert managers(core, "named") == {("other", "Apply")}


def test_update_takes_over_what_kubectl_has_changed_and_its_preview_does_not(plugin: Plugin, core: Any) -> None:
    state = plugin.create(config_map("patched", {ANNOTATION: "us"}, a="1"))
    core.patch_namespaced_config_map("patched", "default", {"data": {"a": "2"}}, field_manager="kubectl-patch")
    new = config_map("patched", {ANNOTATION: "us"}, a="3")
    with pytest.raises(grpc.RpcError, match="kubectl-patch") as caught:
        plugin.update(state, new, preview=True)
    (reason,) = reasons(caught.value)
    assert reason.startswith(
        'the Kubernetes API server reported that "default/patched" failed to fully initialize or become live: '
    )
    assert 'The resource managed by field manager "us" had an apply conflict: Apply failed with 1 conflict' in reason
    assert plugin.update(state, new)["data"] == {"a": "3"}
    assert managers(core, "patched") == {("us", "Apply")}
    core.patch_namespaced_config_map("patched", "default", {"data": {"a": "4"}}, field_manager="autoscaler")
    with pytest.raises(grpc.RpcError, match="autoscaler"):
        plugin.update(state, new)
    forced = config_map("patched", {ANNOTATION: "us", "pulumi.com/patchForce": "true"}, a="5")
    assert plugin.update(state, forced)["data"] == {"a": "5"}


def test_ignored_fields_of_others_are_left_to_them(plugin: Plugin, core: Any) -> None:
    state = plugin.create(config_map("scaled", {ANNOTATION: "us"}, b="1"))
    core.patch_namespaced_config_map("scaled", "default", {"data": {"a": "2"}}, field_manager="autoscaler")
    for preview in (True, False):
        new = config_map("scaled", {ANNOTATION: "us"}, a="1", b="2")
        assert plugin.update(state, new, preview=preview, ignore=["data.a"])["data"] == {"a": "2", "b": "2"}


def test_update_of_what_is_gone(plugin: Plugin, core: Any) -> None:
    state = plugin.create(config_map("gone", a="1"))
    core.delete_namespaced_config_map("gone", "default")
    for preview in (True, False):
        with pytest.raises(grpc.RpcError) as caught:
            plugin.update(state, config_map("gone", a="2"), preview=preview)
        text = caught.value.details()
        assert 'failed: configmaps "gone" not found' in text
        assert 'unable to get cluster state: configmaps "gone" not found' in text


def test_wait_ends_with_few_words(plugin: Plugin, core: Any) -> None:
    waits = {"pulumi.com/waitFor": "condition=Available"}
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create(config_map("waits", waits))
    (reason,) = reasons(caught.value)
    assert reason.endswith(
        "was successfully created, but the Kubernetes API server reported that it failed to fully initialize or become "
        "live: timed out waiting for the condition"
    )
    assert "Has no .status.conditions" in plugin.engine.said


def test_wait_does_not_end_when_the_object_is_deleted(plugin: Plugin, core: Any) -> None:
    body = config_map("leaving", a="1")
    body["metadata"]["finalizers"] = ["deepseek.example/held"]
    core.create_namespaced_config_map("default", body)
    core.delete_namespaced_config_map("leaving", "default")
    waits = config_map("leaving", {"pulumi.com/waitFor": "jsonpath={.data.b}=2"})
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(plugin.create, waits)
        core.patch_namespaced_config_map("leaving", "default", {"metadata": {"finalizers": None}})
        with pytest.raises(grpc.RpcError, match="timed out waiting for the condition"):
            waiting.result()


def test_refresh_and_what_it_finds(plugin: Plugin, core: Any) -> None:
    inputs = config_map("refreshed", a="1")
    state = plugin.create(inputs)
    core.patch_namespaced_config_map("refreshed", "default", {"data": {"a": "2", "b": "added"}})
    assert plugin.diff(state, inputs, inputs).changes == provider_pb2.DiffResponse.DIFF_NONE
    found = plugin.read(inputs, state)
    assert found.id == "default/refreshed"
    assert plain(found.inputs)["data"] == {"a": "2"}, "what the program does not set is not seen"
    changed = plugin.diff(plain(found.properties), plain(found.inputs), inputs)
    assert list(changed.detailedDiff) == ["data.a"]
    assert plain(plugin.read(inputs).inputs)["data"] == {"a": "2", "b": "added"}, "an import takes all of it"
    core.delete_namespaced_config_map("refreshed", "default")
    assert not plugin.read(inputs, state).HasField("properties")


def test_changes_that_replace(plugin: Plugin) -> None:
    inputs = config_map("replaced", a="1")
    state = plugin.create(inputs)
    found = plugin.diff(state, inputs, config_map("replaced", a="2"))
    assert (list(found.replaces), found.deleteBeforeReplace) == (["data.a"], True)
    labelled = config_map("replaced", {"x": "y"}, a="1")
    assert list(plugin.diff(state, inputs, labelled).replaces) == []
    secret = {**config_map("secret"), "kind": "Secret", "data": {}, "stringData": {"a": "1"}}
    state = plugin.create(secret)
    assert plugin.diff(state, secret, secret).changes == provider_pb2.DiffResponse.DIFF_NONE
    assert list(plugin.diff(state, secret, {**secret, "stringData": {"a": "2"}}).replaces) == []


def test_deletion_names_the_finalizers_that_hold_it(plugin: Plugin, core: Any) -> None:
    inputs = config_map("held", a="1")
    inputs["metadata"]["finalizers"] = ["deepseek.example/held"]
    state = plugin.create(inputs)
    with pytest.raises(grpc.RpcError) as caught:
        plugin.delete(state, inputs)
    assert reasons(caught.value) == ["timed out waiting for the condition"]
    (warning,) = [text for text in plugin.engine.said if text.startswith("finalizers might be preventing deletion (")]
    assert "deepseek.example/held" in warning
    core.patch_namespaced_config_map("held", "default", {"metadata": {"finalizers": None}})
    plugin.delete(state, inputs)
