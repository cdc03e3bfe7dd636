"""The parts of the embedded cluster that need no cluster: tools, certificates, processes, and what a stack asks for."""

import json
import os
import re
import signal
import ssl
import stat
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from cryptography import x509

from local import go, processes, programs, tools
from local.__main__ import RESTARTS, _call, main
from local.certificates import CLIENTS, Certificates
from local.cluster import DEFINITIONS, PORTS, Cluster
from local.go import ToolError
from local.processes import Process, ProcessError, wait_until
from local.pulumi_environment import EngineEnvironment
from local.services import Service
from local.stack import CLUSTER_FOLDER, STATE_FOLDER, StackError, local_needs, require_free_cluster

ROOT = Path(__file__).parents[2]


class TestTools:
    def test_versions_come_from_the_go_modules(self) -> None:
        assert tools.TOOLS["kube-apiserver"].version == "v1.36.3"
        assert {tool.module for tool in tools.TOOLS.values()} == {p.name for p in tools.MODULES.iterdir() if p.is_dir()}

    def test_cache_key_follows_the_pins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path))
        monkeypatch.setattr(tools, "MODULES", tmp_path)
        module = tmp_path / "cluster"
        module.mkdir()
        (module / "go.sum").write_text("")
        (module / "go.mod").write_text("require go.etcd.io/etcd/server/v3 v3.6.5\nrequire k8s.io/kubernetes v1.36.3\n")
        before = tools._cached(tools.TOOLS["etcd"])
        (module / "go.mod").write_text("require go.etcd.io/etcd/server/v3 v3.6.6\nrequire k8s.io/kubernetes v1.36.3\n")
        after = tools._cached(tools.TOOLS["etcd"])
        assert before != after
        assert before.is_relative_to(tmp_path)

    def test_missing_go_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ToolError, match=r"Go 1\.26 or newer is needed .* \(no go is on the PATH\)"):
            go.find()

    @pytest.mark.parametrize("printed", ["go1.25.3", "nonsense"])
    def test_old_go_is_refused(self, printed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        program = fake_go(tmp_path, monkeypatch, version=printed)
        with pytest.raises(ToolError, match=f"{program} is {printed}"):
            go.find()

    @pytest.mark.parametrize("verb", ["list", "build"])
    def test_failed_build_leaves_nothing_and_shows_gos_words(
        self, verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        fake_go(tmp_path, monkeypatch, failing=verb)
        expected = rf"(?s)go {verb} .*etcd.* failed in local/tools/cluster:\nno such module\n.*Go module proxy"
        with pytest.raises(ToolError, match=expected):
            tools.build_all(["etcd"], report=lambda line: None)
        assert not list((tmp_path / "cache").rglob("etcd*"))
        assert not [path for path in (tmp_path / "cache").rglob("cluster*") if path.is_dir()]

    def test_what_is_missing_of_a_module_is_built_by_one_call(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        fake_go(tmp_path, monkeypatch)
        (tmp_path / "cache" / "tools" / "cluster.unfinished" / "built" / "kubelet").mkdir(parents=True)
        said: list[str] = []
        (there,) = tools.build_all(["kubelet"], said.append).values()
        before = there.stat().st_mtime_ns
        built = tools.build_all(["etcd", "kubelet", "ptp", "ossplugin"], said.append)
        assert {name: path.read_text() for name, path in built.items()} == {
            "etcd": "go.etcd.io/etcd/server/v3",
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
            "ptp": "github.com/containernetworking/plugins/plugins/main/ptp",
            "ossplugin": ".",
        }
        assert (built["ptp"].parent / "pause").read_text() == "./pause"
        assert there.stat().st_mtime_ns == before
        assert not list((tmp_path / "cache" / "tools").glob("*.unfinished"))
        calls = [line.rpartition(" -o ")[2] for line in (tmp_path / "calls").read_text().splitlines() if " -o " in line]
        assert [len(call.split()) - 1 for call in calls] == [1, 5, 1], "packages of each build"
        versions = ", ".join(f"{name} {tools.TOOLS[name].version}" for name in ("etcd", "ptp", "ossplugin"))
        assert said[2] == f"building {versions} (first time only) …"
        assert re.fullmatch(r"built in \d+ s", said[3])
        assert len(said) == 4

    def test_programs_of_a_module_have_names_of_their_own(self) -> None:
        for module in {tool.module for tool in tools.TOOLS.values()}:
            names = [
                go.output_name(tools.MODULES / module, package)
                for tool in tools.TOOLS.values()
                for package in tool.packages
                if tool.module == module
            ]
            assert len(names) == len(set(names)), module

    def test_line_says_what_is_left_by_the_packages_until_now(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("local.go.time.monotonic", iter([0.0, 100.0, 220.0]).__next__)
        progress = go.Progress("building etcd", lambda line: None)
        assert progress.line() == "downloading Go modules"
        progress.expect(9)
        progress.compiled()
        progress.compiled()
        progress.compiled()
        assert progress.line() == "3 of 9 packages compiled, at most 4 min left"

    def test_lines_are_said_where_there_is_no_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(go, "SHOWN_SECONDS", 0)
        said, enough = [], threading.Event()

        def report(line: str) -> None:
            said.append(line)
            if len(said) == 3:
                enough.set()

        with go.Progress("building etcd", report):
            assert enough.wait(30)
        assert said[:2] == ["building etcd (first time only) …", "downloading Go modules"]

    def test_definitions_are_those_that_a_cluster_installs(self) -> None:
        assert {"lws", *tools.DEFINITIONS} == set(DEFINITIONS)

    @pytest.mark.parametrize(
        ("version", "fits"), [("v3.255.0", True), ("v3.300.1", True), ("v3.1.0", False), ("", False)]
    )
    def test_own_pulumi_is_used_if_it_fits(
        self, version: str, fits: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        own = tmp_path / "pulumi"
        own.write_text(f"#!/bin/sh\necho {version}\n")
        own.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("DEEPSEEK_CACHE", "/nowhere")
        assert tools._own("pulumi") == (own if fits else None)


def fake_go(folder: Path, monkeypatch: pytest.MonkeyPatch, *, version: str = "go1.26.0", failing: str = "") -> Path:
    """The only Go on the PATH. It writes down its calls, and the program of a package has the package's path in it."""
    go = folder / "go"
    go.write_text(
        f"""#!{sys.executable}
import pathlib, re, sys
folder = pathlib.Path({str(folder)!r})
verb, *rest = sys.argv[1:]
with (folder / "calls").open("a") as calls:
    print(*sys.argv[1:], file=calls)
if verb == {failing!r}:
    sys.exit("internal/abi\\nno such module" if verb == "build" else "no such module")
if verb == "env":
    print({version!r})
if verb == "list":
    print("internal/abi")
if verb == "build":
    output, *packages = rest[rest.index("-o") + 1 :]
    for package in packages:
        print(package, file=sys.stderr)
        name = re.sub(r"/v[0-9]+$", "", package).split("/")[-1]
        (pathlib.Path(output) / (name if name != "." else pathlib.Path.cwd().name)).write_text(package)
"""
    )
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("DEEPSEEK_CACHE", str(folder / "cache"))
    return go


class TestPrograms:
    """What is built while the Python packages are installed."""

    @pytest.mark.parametrize(
        ("chosen", "lacking", "state", "expected"),
        [
            ("", None, False, "kubelet"),
            ("real", None, True, "kubelet"),
            ("simulated", None, False, "kwok"),
            ("", None, True, "kwok"),
            ("", "real nodes need root", False, "kwok"),
            ("real", "real nodes need root", False, ""),
        ],
    )
    def test_are_those_of_the_nodes_that_up_starts(
        self,
        chosen: str,
        lacking: str | None,
        state: bool,
        expected: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("NODES", chosen)
        monkeypatch.setattr(programs, "SIMULATED", tmp_path if state else tmp_path / "none")
        monkeypatch.setattr(programs, "problem", lambda folders: lacking)
        monkeypatch.setattr(programs, "lacks_library", lambda names: None)
        found = programs.wanted()
        assert found[0] == "pulumi"
        assert {"kubelet", "kwok", "etcd"} & set(found) == ({expected, "etcd"} if expected else set())

    def test_simulated_nodes_are_known_by_the_clusters_file(self) -> None:
        assert Cluster(ROOT / CLUSTER_FOLDER)._simulated == programs.SIMULATED

    def test_failure_is_one_line(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        def fail(names: list[str]) -> None:
            raise ToolError("no Go")

        monkeypatch.setattr(programs, "build_all", fail)
        assert programs.main() == 1
        assert capsys.readouterr().err == "error: no Go\n"


class TestCertificates:
    def test_all_are_signed_by_the_authority_and_keys_are_private(self, tmp_path: Path) -> None:
        certificates = Certificates(tmp_path / "pki")
        certificates.ensure()
        authority = x509.load_pem_x509_certificate(certificates.authority.certificate.read_bytes())
        for name in ("server", *CLIENTS):
            pair = certificates.pair(name)
            x509.load_pem_x509_certificate(pair.certificate.read_bytes()).verify_directly_issued_by(authority)
            assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
        assert stat.S_IMODE(certificates.service_account_key.stat().st_mode) == 0o600

    def test_a_client_is_a_user_with_a_group(self, tmp_path: Path) -> None:
        certificates = Certificates(tmp_path)
        certificates.ensure()
        subject = x509.load_pem_x509_certificate(certificates.pair("admin").certificate.read_bytes()).subject.rdns
        said = {attribute.rfc4514_attribute_name: attribute.value for rdn in subject for attribute in rdn}
        assert (said["CN"], said["O"]) == ("deepseek-local-admin", "system:masters")

    def test_they_stay_as_long_as_all_are_there(self, tmp_path: Path) -> None:
        certificates = Certificates(tmp_path)
        certificates.ensure()
        first, account = certificates.server.certificate.read_bytes(), certificates.service_account_key.read_bytes()
        certificates.ensure()
        assert certificates.server.certificate.read_bytes() == first
        certificates.pair("kwok").key.unlink()
        certificates.ensure()
        assert certificates.server.certificate.read_bytes() != first
        assert certificates.service_account_key.read_bytes() == account, "tokens that were issued must stay valid"


@pytest.mark.integration
class TestProcess:
    def process(self, folder: Path, script: str) -> Process:
        return Process(name="thing", command=[sys.executable, "-c", script], folder=folder)

    def test_pid_of_another_process_is_not_taken_for_it(self, tmp_path: Path) -> None:
        process = self.process(tmp_path, "")
        pids = tmp_path / "pids"
        pids.mkdir()
        (pids / "thing.json").write_text(f'{{"pid": {os.getpid()}, "started": 1.0}}')
        assert process.running() is None
        process.stop()
        assert psutil.pid_exists(os.getpid())

    def test_end_while_waiting_shows_the_log(self, tmp_path: Path) -> None:
        process = self.process(tmp_path, "print('out of cheese')")
        process.start()
        with pytest.raises(
            ProcessError, match=r"(?s)thing: waiting until it is up: it ended.*thing\.log.*out of cheese"
        ):
            wait_until("it is up", lambda: False, seconds=30, process=process)

    def test_what_ignores_the_signal_is_killed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
        script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
        process = self.process(tmp_path, script)
        process.start()
        wait_until("it printed", lambda: process.log.read_text() == "up\n", seconds=30, process=process)
        process.stop()
        assert process.running() is None

    @pytest.mark.skipif(sys.platform != "linux", reason="system calls of Linux")
    def test_it_runs_until_its_last_thread_ends(self, tmp_path: Path) -> None:
        """Threads hold the ports. The first thread is a zombie here."""
        exit_of_a_thread = 60 if os.uname().machine == "x86_64" else 93
        script = (
            "import ctypes, threading, time\n"
            "threading.Thread(target=time.sleep, args=[600]).start()\n"
            "print('up', flush=True)\n"
            f"ctypes.CDLL(None).syscall({exit_of_a_thread}, 0)"
        )
        process = self.process(tmp_path, script)
        process.start()
        wait_until("it printed", lambda: process.log.read_text() == "up\n", seconds=30, process=process)
        first = process.running()
        assert first is not None
        deadline = time.monotonic() + 30
        while first.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert process.running() == first
        process.stop()
        assert process.running() is None

    def test_at_once_it_is_not_asked(self, tmp_path: Path) -> None:
        script = "import signal, time; signal.signal(15, print); print('up', flush=True); time.sleep(600)"
        process = self.process(tmp_path, script)
        process.start()
        wait_until("it printed", lambda: process.log.read_text() == "up\n", seconds=30, process=process)
        process.stop(at_once=True)
        assert process.running() is None
        assert process.log.read_text() == "up\n"

    def test_another_command_line_replaces_it(self, tmp_path: Path) -> None:
        self.process(tmp_path, "import time; time.sleep(600)").start()
        first = self.process(tmp_path, "").running()
        other = self.process(tmp_path, "import time; time.sleep(601)")
        other.start()
        second = other.running()
        assert first is not None
        assert second is not None
        assert first.pid != second.pid
        assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE
        other.stop()

    def test_start_twice_stop_and_previous_log(self, tmp_path: Path) -> None:
        process = self.process(tmp_path, "import time; print('up', flush=True); time.sleep(60)")
        process.start()
        first = process.running()
        process.start()
        second = process.running()
        assert first is not None
        assert first == second
        wait_until("it printed", lambda: process.log.read_text() == "up\n", seconds=30, process=process)
        process.stop()
        assert process.running() is None
        process.start()
        process.stop()
        assert process.log.with_suffix(".log.1").read_text() == "up\n"


class TestStack:
    def write(self, root: Path, deployment: Any) -> None:
        (root / "Pulumi.test.yaml").write_text(yaml.safe_dump({"config": {"deepseek:deployment": deployment}}))

    def test_local_stack_needs_the_cluster_and_two_nodes(self) -> None:
        needs = local_needs(ROOT, "local")
        assert needs.embedded_cluster
        assert needs.emulated_cloud
        assert needs.nodes is not None
        assert (needs.nodes.count, needs.nodes.gpus_per_pod, needs.nodes.series) == (2, 8, "GU8TF")

    def test_local_stack_needs_oss_and_a_hub(self) -> None:
        deployment = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text())["config"]["deepseek:deployment"]
        assert local_needs(ROOT, "local").services == (
            Service(
                name="oss",
                setting="deployment.cloud.endpoint",
                url=deployment["cloud"]["endpoint"],
                options=("--region=cn-hangzhou",),
            ),
            Service(
                name="hub",
                setting="deployment.weights.source.endpoint",
                url=deployment["weights"]["source"]["endpoint"],
            ),
        )

    def test_dev_stack_needs_nothing_here(self) -> None:
        needs = local_needs(ROOT, "dev")
        assert not needs.embedded_cluster
        assert not needs.emulated_cloud
        assert needs.services == ()

    @pytest.mark.parametrize(
        "deployment",
        [
            {"weights": {"source": {"kind": "huggingFace", "endpoint": "https://hf-mirror.com"}}},
            {"weights": {"source": {"kind": "bucket"}}},
            {"weights": {"source": "text"}},
            {"cloud": ["text"], "weights": 1},
        ],
    )
    def test_only_addresses_of_this_machine_are_served(self, tmp_path: Path, deployment: Any) -> None:
        self.write(tmp_path, deployment)
        assert local_needs(tmp_path, "test").services == ()

    def test_surge_groups_need_nodes_too(self, tmp_path: Path) -> None:
        deployment = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text())["config"]["deepseek:deployment"]
        deployment["inference"] |= {"replicas": 3, "rollout": {"maxSurge": 1}}
        self.write(tmp_path, deployment)
        nodes = local_needs(tmp_path, "test").nodes
        assert nodes is not None
        assert nodes.count == 8

    @pytest.mark.parametrize(
        ("inference", "update", "refused"),
        [
            ({"engine": {"backend": "ray"}}, None, True),
            ({"engine": {"backend": "mp"}}, None, False),
            ({"engine": {"backend": "ray", "image": "example.com/vllm-ray:v0.32.0"}}, None, False),
            ({"engine": {"backend": "ray"}, "parallelism": {"tensor": 1, "pipeline": 1}}, None, False),
            ({"engine": {"backend": "mp"}}, {"backend": "ray"}, True),
        ],
        ids=["Ray", "mp", "other image", "one pod", "Ray in an update"],
    )
    @pytest.mark.parametrize("command", ["up", "preview"])
    def test_ray_is_refused_on_a_cpu(
        self,
        command: str,
        inference: dict[str, dict[str, Any]],
        update: dict[str, str] | None,
        refused: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def start(*_: object) -> None:
            raise StackError("it goes on")

        monkeypatch.setattr("local.__main__.ROOT", tmp_path)
        monkeypatch.setattr("local.__main__.tool", start)
        (tmp_path / "local").symlink_to(ROOT / "local")
        deployment = yaml.safe_load((ROOT / "Pulumi.local-vllm.yaml").read_text())["config"]["deepseek:deployment"]
        for name, section in inference.items():
            deployment["inference"][name] |= section
        if update:
            deployment["update"] = {"revision": "ray", "engine": deployment["inference"]["engine"] | update}
        self.write(tmp_path, deployment)
        needs = local_needs(tmp_path, "test")
        assert needs.images is not None, "the settings are valid"
        assert main([command, "--stack", "test"]) == 1
        assert capsys.readouterr().err == (
            "error: deployment.inference.engine.backend: vLLM in vllm/vllm-openai:v0.32.0-cpu refuses Ray (current "
            "platform cpu does not support ray). Write mp, there or in deployment.update.engine "
            "(docs/engine-on-cpu.md)\n"
            if refused
            else "error: it goes on\n"
        )

    @pytest.mark.parametrize("deployment", [None, "text", {"cluster": {"kubeconfigFile": ".state/cluster/kubeconfig"}}])
    def test_mistakes_are_left_to_the_program(self, tmp_path: Path, deployment: Any) -> None:
        self.write(tmp_path, deployment)
        assert local_needs(tmp_path, "test").nodes is None

    def test_unknown_stack(self, tmp_path: Path) -> None:
        self.write(tmp_path, {})
        with pytest.raises(StackError, match=r"there is no stack file Pulumi\.prod\.yaml; stacks: test"):
            local_needs(tmp_path, "prod")

    @pytest.mark.parametrize(("stack", "asked"), [("prod", True), ("dev", False)])
    def test_key_is_known_from_the_stack_file(self, stack: str, asked: bool) -> None:
        assert local_needs(ROOT, stack).api_key is asked

    def test_key_is_known_as_the_program_reads_it(self, tmp_path: Path) -> None:
        deployment = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"]["deepseek:deployment"]
        self.write(tmp_path, deployment | {"service": {"apiKey": "true"}})
        assert local_needs(tmp_path, "test").api_key is True

    @pytest.mark.parametrize(
        ("endpoint", "emulated"),
        [
            ("http://127.0.0.1:9000", True),
            ("http://localhost", True),
            ("https://oss.example.com", False),
            (None, False),
        ],
    )
    def test_only_loopback_is_an_emulated_cloud(self, tmp_path: Path, endpoint: str | None, emulated: bool) -> None:
        self.write(tmp_path, {"cloud": {"endpoint": endpoint}})
        assert local_needs(tmp_path, "test").emulated_cloud is emulated

    @pytest.mark.parametrize(
        ("kubeconfig", "endpoint", "on_loopback"),
        [
            (".state/cluster/kubeconfig", "http://127.0.0.1:9000", True),
            (".state/cluster/kubeconfig", None, False),
            ("~/.kube/config", "http://127.0.0.1:9000", False),
        ],
    )
    def test_the_known_passphrase_is_for_stacks_of_this_machine_alone(
        self, tmp_path: Path, kubeconfig: str, endpoint: str | None, on_loopback: bool
    ) -> None:
        """Not for what is called local."""
        self.write(tmp_path, {"cloud": {"endpoint": endpoint}, "cluster": {"kubeconfigFile": kubeconfig}})
        assert local_needs(tmp_path, "test").on_loopback is on_loopback


class TestOneStackAtATime:
    """The local stacks, with the state of one of them."""

    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("local.__main__.ROOT", tmp_path)
        for path in ROOT.glob("Pulumi.*.yaml"):
            (tmp_path / path.name).write_text(path.read_text())
        return tmp_path

    def state(self, root: Path, stack: str, *types: str) -> None:
        path = root / STATE_FOLDER / f"{stack}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        latest = {"resources": [{"type": kind} for kind in types]} if types else None
        path.write_text(json.dumps({"version": 3, "checkpoint": {"stack": stack, "latest": latest}}))

    def test_second_one_is_refused_at_once(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state(root, "local", "pulumi:pulumi:Stack", "kubernetes:core/v1:Namespace", "kubernetes:batch/v1:Job")
        assert main(["up", "--stack", "local-fluid"]) == 1
        assert capsys.readouterr().err == (
            "error: the stack local is up in the embedded cluster (2 objects), and local-fluid would wait for its GPU "
            "nodes. Take it down first: make destroy STACK=local\n"
        )

    def test_what_destroy_leaves_is_in_nobodys_way(self, root: Path) -> None:
        require_free_cluster(root, "local-fluid")
        self.state(root, "local")
        require_free_cluster(root, "local-fluid")
        self.state(root, "local", "pulumi:pulumi:Stack", "pulumi:providers:kubernetes", "alicloud:oss/bucket:Bucket")
        require_free_cluster(root, "local-fluid")

    def test_stack_itself_and_those_of_other_clusters_do_not_matter(self, root: Path) -> None:
        for stack in ("local-fluid", "dev", "prod"):
            self.state(root, stack, "kubernetes:core/v1:Namespace")
        require_free_cluster(root, "local-fluid")
        with pytest.raises(StackError, match="the stack local-fluid is up"):
            require_free_cluster(root, "local")


def test_driver_explains_an_unknown_stack(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", "--stack", "nosuch"]) == 1
    assert (
        capsys.readouterr().err == "error: there is no stack file Pulumi.nosuch.yaml; "
        "stacks: dev, local, local-fluid, local-prod, local-vllm, prod\n"
    )


def test_ports_of_an_older_version_do_not_keep_a_cluster_from_being_stopped(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    (tmp_path / "ports.json").write_text(json.dumps({"etcd": 1, "apiserver": 2}))
    assert not any(process.running for process in cluster.status())
    cluster.stop()


def test_a_port_that_another_cluster_has_taken_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    ours, theirs = Cluster(tmp_path / "ours"), Cluster(tmp_path / "theirs")
    certificates = {}
    for cluster in (ours, theirs):
        cluster.folder.mkdir()
        certificates[cluster] = Certificates(cluster.folder / "certificates")
        certificates[cluster].ensure()
    server = certificates[theirs].server
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
        web.socket = context.wrap_socket(web.socket, server_side=True)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        assert theirs._is_ours(web.server_port)
        assert not ours._is_ours(web.server_port)
        web.shutdown()
    assert not theirs._is_ours(web.server_port)


def test_ports_are_not_those_of_connections(tmp_path: Path) -> None:
    ports = Cluster(tmp_path)._ports()
    assert len(set(ports.values())) == len(PORTS)
    assert all(20_000 <= port < 32_768 for port in ports.values())


@pytest.mark.parametrize(
    ("command", "running", "calls"),
    [
        ("preview", True, []),
        ("destroy", True, []),
        ("preview", False, ["start"]),
        ("up", True, ["start", "nodes"]),
        ("up", False, ["start", "nodes"]),
    ],
)
def test_only_up_changes_a_cluster_that_runs(
    command: str, running: bool, calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To bring it up to date takes longer than a preview."""
    made: list[str] = []
    (tmp_path / "Pulumi.local.yaml").write_text((ROOT / "Pulumi.local.yaml").read_text())
    pulumi = tmp_path / "pulumi"
    pulumi.write_text("#!/bin/sh\n")
    pulumi.chmod(0o755)
    monkeypatch.setattr("local.__main__.ROOT", tmp_path)
    monkeypatch.setattr("local.__main__.tool", lambda *_: pulumi)
    monkeypatch.setattr("local.__main__.Services.start", lambda *_: None)
    monkeypatch.setattr("local.__main__._is_up", lambda _: running)
    monkeypatch.setattr(Cluster, "start", lambda *_: made.append("start"))
    monkeypatch.setattr(Cluster, "kubelet_port", 1)
    monkeypatch.setattr(Cluster, "simulate_nodes", lambda *_: made.append("nodes"))
    monkeypatch.setenv("NODES", "simulated")
    assert main([command]) == 0
    assert made == calls


@pytest.fixture
def _interrupts_are_heeded() -> Iterator[None]:
    """By children: those of a job in the background would ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts_are_heeded")
def test_what_ends_while_pulumi_runs_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pulumi would wait for it as long as for a group. One that ends again and again is given up."""
    monkeypatch.setattr("local.__main__.ROOT", tmp_path)
    monkeypatch.setattr("local.__main__.WATCH_SECONDS", 0.01)
    etcd = Process(name="etcd", command=["sh", "-c", "echo >> starts"], folder=tmp_path)
    etcd.start()
    etcd.stop()
    known = Process(name="etcd", command=(), folder=tmp_path)
    monkeypatch.setattr(Cluster, "_known_processes", lambda _: [known])
    cluster = Cluster(tmp_path)
    assert cluster.ended() == [], "what was stopped has not ended by itself"
    (tmp_path / "starts").unlink(missing_ok=True)
    etcd.start()
    pulumi = ["sh", "-c", "trap 'exit 7' INT; while :; do sleep 0.1; done"]
    assert _call(pulumi, EngineEnvironment(variables={}, path_entries=(), plugins=()), cluster) == 7
    said = capsys.readouterr().err
    assert said.count("etcd of the embedded cluster ended, and is started again. Log: logs/etcd.log\n") == RESTARTS
    assert said.endswith(
        "etcd of the embedded cluster ended. Log: logs/etcd.log\nRun it again: that starts what is missing.\n"
    )
    assert len((tmp_path / "starts").read_text().splitlines()) == 1 + RESTARTS
    assert _call(["false"], EngineEnvironment(variables={}, path_entries=(), plugins=()), cluster) == 1
    assert capsys.readouterr().err.startswith("etcd of the embedded cluster ended. Log: ")
    monkeypatch.setattr(etcd.__class__, "was_started", True)
    monkeypatch.setattr(Cluster, "_known_processes", lambda _: [Process(name="node-a", command=(), folder=tmp_path)])
    assert _call(pulumi, EngineEnvironment(variables={}, path_entries=(), plugins=()), cluster) == 7
    assert capsys.readouterr().err.startswith("node-a of the embedded cluster ended. Log: "), "nodes want a whole start"


def test_api_server_that_does_not_answer_is_named_with_its_log(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster._certificates.ensure()
    cluster._ports()
    with pytest.raises(ProcessError, match=r"^the API server does not answer \(.*kube-apiserver.log; run it again$"):
        cluster._request("GET", "/readyz")
    assert not cluster._api_is_ready()
