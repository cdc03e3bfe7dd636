"""The parts of real nodes that need no node: what is generated, images, refusals, and the small programs of a node."""

import asyncio
import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from local import go, tools
from local.__main__ import _about_real_nodes, _chosen_nodes, _real_nodes, _wanted_nodes
from local.cluster import Cluster
from local.engine_image import vllm
from local.go import ToolError
from local.ports import held_port
from local.processes import Process
from local.real_nodes import bring_up, cgroups, cni_plugin, configuration, contents, images, network, requirements
from local.real_nodes.device_plugin import PACKAGE, DevicePlugin, messages
from local.real_nodes.machine import memory_information
from local.real_nodes.plan import GATEWAY, Plan, node_plans, read_plan
from local.real_nodes.relay import Relay
from local.stack import StackError, local_needs

ROOT = Path(__file__).parents[2]
REGION = "cn-hangzhou"
FIRST = f"virtual-kubelet-{REGION}-a"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(
        folder=str(tmp_path / "nodes"),
        cgroup="deepseek-0",
        nodes=node_plans(REGION),
        cpus=192,
        memory=1900 * 2**30,
        gpus=8,
        gpu_resource="nvidia.com/gpu",
        labels={"type": "virtual-kubelet", "alibabacloud.com/gpu-model-series": "GU8TF"},
        api_server_port=6443,
        relayed_ports=(19000, 19001),
        binaries={
            name: f"/bin/of/{name}"
            for name in ("containerd", "runc", "kubelet", "kube-proxy", "netpol", "coredns", "ptp")
        },
        certificates="/pki",
        region=REGION,
    )


class TestConfiguration:
    def test_plan_is_read_as_it_was_written(self, plan: Plan, tmp_path: Path) -> None:
        plan.write(tmp_path / "plan.json")
        assert read_plan(tmp_path / "plan.json") == plan

    def test_kubelet_takes_what_a_container_has(self, plan: Plan) -> None:
        found = configuration.kubelet(plan, plan.node(FIRST))
        assert (found["failCgroupV1"], found["oomScoreAdj"], found["cgroupDriver"]) == (False, 0, "cgroupfs")
        assert found["cgroupRoot"] == f"/deepseek-0/{FIRST}"

    def test_nothing_of_this_machines_network_is_told_to_pods(self, plan: Plan) -> None:
        found = configuration.kubelet(plan, plan.node(FIRST))
        assert (found["resolvConf"], found["clusterDNS"]) == ("", [GATEWAY])
        assert "forward" not in configuration.corefile(Path("/kubeconfig"))

    def test_containerd_has_our_runc_and_plugins(self, plan: Plan) -> None:
        found = tomllib.loads(configuration.containerd(plan, plan.node(FIRST)))["plugins"]
        runtime = found["io.containerd.cri.v1.runtime"]
        assert runtime["restrict_oom_score_adj"]
        assert runtime["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == "/bin/of/runc"
        assert runtime["cni"]["bin_dirs"] == ["/bin/of", f"{plan.folder}/cni-plugins"]
        assert found["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == configuration.PAUSE_IMAGE

    def test_each_node_has_pods_of_its_own(self, plan: Plan) -> None:
        networks = [
            configuration.cni(plan, node)["plugins"][0]["ipam"]["ranges"][0][0]["subnet"] for node in plan.nodes
        ]
        assert len(set(networks)) == len(plan.nodes)

    def test_api_server_reaches_kubelets_by_the_relay(self) -> None:
        (selection,) = configuration.egress_selector()["egressSelections"]
        assert selection["connection"]["transport"]["uds"]["udsName"] == "nodes/egress.sock"

    def test_labels_are_one_argument(self, plan: Plan) -> None:
        expected = "alibabacloud.com/gpu-model-series=GU8TF,type=virtual-kubelet"
        assert configuration.node_labels(plan.labels) == expected

    def test_links_are_made_between_our_namespaces_only(self, plan: Plan) -> None:
        """Each new interface is in the bridge's namespace, where the commands run, or in that of the node's process."""
        commands = [*network.commands(plan), *network.node_commands(plan, FIRST, 4242)]
        made = [command for command in commands if command.startswith("link add")]
        assert made == ["link add nodes0 type bridge", "link add veth1 type veth peer name eth0 netns 4242"]

    def test_memory_of_another_size(self) -> None:
        text = "MemTotal:  100 kB\nMemFree: 5 kB\nMemAvailable:   50 kB\nBuffers:  7 kB\n"
        expected = "MemTotal: 2048 kB\nMemFree: 2048 kB\nMemAvailable: 2048 kB\nBuffers:  7 kB\n"
        assert memory_information(text, 2 * 2**20) == expected

    def test_clusters_do_not_share_a_cgroup(self, tmp_path: Path) -> None:
        assert cgroups.group_of(tmp_path / "a") != cgroups.group_of(tmp_path / "b")


class TestRequirements:
    @pytest.fixture(autouse=True)
    def all_is_there(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(requirements, "effective_capabilities", lambda status: 2**41 - 1)
        monkeypatch.setattr(cgroups, "missing", list)
        monkeypatch.setattr(requirements, "has_ipsets", lambda: True)
        for program in requirements.PROGRAMS:
            (tmp_path / program).touch(mode=0o755)
        monkeypatch.setattr(requirements, "SEARCHED", str(tmp_path))
        monkeypatch.setattr("local.programs.lacks_library", lambda names: None)

    def test_nothing_is_missing(self, tmp_path: Path) -> None:
        assert requirements.problem((tmp_path,)) is None

    def test_another_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert requirements.problem(()) == "real nodes need Linux, and this is darwin"

    def test_no_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert str(requirements.problem(())).startswith("real nodes need root; run it as root (sudo -E make up)")

    def test_root_without_capabilities(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(requirements, "effective_capabilities", lambda status: 1 << 12)
        assert str(requirements.problem(())).startswith("root lacks CAP_SYS_ADMIN, CAP_SYS_CHROOT here")

    def test_no_cgroups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cgroups, "missing", lambda: ["cpuset", "pids"])
        expected = "the cgroup controllers cpuset, pids are missing below /sys/fs/cgroup"
        assert str(requirements.problem(())).startswith(expected)

    def test_missing_program_names_its_package(self, tmp_path: Path) -> None:
        (tmp_path / "nft").unlink()
        assert requirements.problem(()) == "the program nft is missing; on Debian: apt-get install nftables"

    def test_no_ipsets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(requirements, "has_ipsets", lambda: False)
        assert str(requirements.problem(())).startswith("the kernel has no IP sets, which network policies need")

    def test_folder_that_a_node_does_not_see(self) -> None:
        found = requirements.problem((Path("/var/lib/jenkins/project"),))
        assert (
            found == "/var/lib/jenkins/project is in /var/lib, of which a node has its own; move it to another folder"
        )

    def test_capabilities_are_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        assert requirements.effective_capabilities("Name:\tx\nCapEff:\t00000000a80425fb\n") == 0xA80425FB

    @pytest.mark.parametrize(
        ("text", "version_2", "expected"),
        [("cpu cpuset memory", True, ["pids"]), ("", False, ["cpuset", "memory", "pids"])],
    )
    def test_controllers_of_both_versions(
        self, text: str, version_2: bool, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(cgroups, "ROOT", tmp_path)
        if version_2:
            (tmp_path / "cgroup.controllers").write_text(text)
        else:
            (tmp_path / "cpu").mkdir()
            (tmp_path / "cpu" / "cgroup.procs").touch()
        assert cgroups.missing() == expected

    def test_the_reason_is_said_at_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(
            StackError, match=r"^NODES=real: real nodes need root; .* NODES=simulated needs none of it\.$"
        ):
            _real_nodes(local_needs(ROOT, "local"), "real")

    def test_who_has_not_chosen_is_told_why_nodes_are_simulated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert _about_real_nodes().startswith("The nodes are simulated, as they were; make up NODES=real starts")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert _about_real_nodes().startswith("The nodes are simulated: real nodes need root; run it as root")

    def test_what_cannot_be_built_is_said_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("local.programs.lacks_library", lambda names: f"{names[2]} cannot be built")
        assert _about_real_nodes() == "The nodes are simulated: containerd cannot be built."

    def test_unknown_kind_of_nodes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NODES", "fake")
        with pytest.raises(StackError, match="NODES=fake: write real or simulated"):
            _chosen_nodes(local_needs(ROOT, "local"))

    def test_what_the_local_stack_needs(self) -> None:
        found = _real_nodes(local_needs(ROOT, "local"), "real")
        assert found is not None
        assert found.relayed_ports == (19000, 19001)
        assert found.images.engine == ("registry-cn-hangzhou.ack.aliyuncs.com/ack-demo/vllm:v0.7.2",)

    def test_what_the_stack_with_a_real_engine_needs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("local.__main__.engine", lambda say: tmp_path / "engine")
        monkeypatch.delenv("NODES", raising=False)
        needs = local_needs(ROOT, "local-vllm")
        assert _chosen_nodes(needs) == "real"
        found = _real_nodes(needs, "real")
        assert found is not None
        assert (found.images.engine, found.images.vllm) == ((), ("vllm/vllm-openai:v0.32.0-cpu",))
        assert found.engine == tmp_path / "engine"

    def test_a_real_engine_needs_real_nodes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NODES", "simulated")
        with pytest.raises(StackError, match=r"^NODES=simulated: the image vllm/vllm-openai:v0.32.0-cpu runs on real"):
            _chosen_nodes(local_needs(ROOT, "local-vllm"))
        assert _chosen_nodes(local_needs(ROOT, "local")) == "simulated"

    def test_nodes_are_real_where_they_can_be(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NODES", raising=False)
        needs = local_needs(ROOT, "local")
        assert _wanted_nodes(Cluster(tmp_path), needs) == "real"
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert _wanted_nodes(Cluster(tmp_path), needs) == "simulated"

    def test_nodes_stay_what_they_are(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NODES", raising=False)
        monkeypatch.setattr("local.cluster.ensure_nodes", lambda *_, **__: None)
        monkeypatch.setattr(Cluster, "kubelet_port", 1)
        needs, cluster = local_needs(ROOT, "local"), Cluster(tmp_path)
        assert needs.nodes is not None
        assert cluster.nodes == ""
        cluster.simulate_nodes(needs.nodes)
        assert _wanted_nodes(cluster, needs) == cluster.nodes == "simulated"
        with pytest.raises(StackError, match=r"^deployment\.verification\.gate asks the leaders by their addresses"):
            _wanted_nodes(cluster, replace(needs, gated=True))
        cluster._change_nodes(real=True)
        assert _wanted_nodes(cluster, needs) == cluster.nodes == "real"
        monkeypatch.setenv("NODES", "simulated")
        assert _wanted_nodes(cluster, needs) == "simulated"


@pytest.fixture
def image(tmp_path: Path) -> images.Image:
    folder = tmp_path / "content"
    (folder / "deep" / "left").mkdir(parents=True)
    (folder / "deep" / "file").write_text("text")
    (folder / "deep" / "left" / "out").write_text("text")
    return images.Image(
        files={"/opt/content": folder},
        folders={"/tmp": 0o1777},
        links={"/bin/a": "/bin/b"},
        texts={"/bin/b": "#!/bin/sh\n"},
        left_out=frozenset({"left"}),
        command=("b",),
    )


class TestImages:
    def written(self, image: images.Image, path: Path) -> Path:
        images.write_image(path, image, ["example.com/b:1", "example.com/c:2"], architecture="amd64")
        return path

    def test_layout_is_consistent(self, image: images.Image, tmp_path: Path) -> None:
        path = self.written(image, tmp_path / "image.tar")
        digests = bring_up.described(path)
        assert digests.keys() == {"example.com/b:1", "example.com/c:2"}
        with tarfile.open(path) as tar:

            def blob(digest: str) -> Any:
                file = tar.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}")
                assert file is not None
                return file

            manifest = json.load(blob(digests["example.com/b:1"]))
            config = json.load(blob(manifest["config"]["digest"]))
            (layer,) = manifest["layers"]
            assert config["rootfs"]["diff_ids"] == [layer["digest"]]
            assert config["config"]["Cmd"] == ["b"]
            with tarfile.open(fileobj=blob(layer["digest"])) as content:
                assert content.getnames() == ["tmp", "bin/a", "bin/b", "opt/content/deep/file"]
                assert {member.uid for member in content.getmembers()} == {0}
                assert content.getmember("tmp").mode == 0o1777

    def test_same_files_are_the_same_image(self, image: images.Image, tmp_path: Path) -> None:
        first = self.written(image, tmp_path / "1.tar").read_bytes()
        assert bring_up.described(tmp_path / "1.tar") == bring_up.described(self.written(image, tmp_path / "2.tar"))
        before = image.key(["b"])
        (tmp_path / "content" / "deep" / "file").write_text("another")
        assert image.key(["b"]) != before != image.key(["c"])
        assert self.written(image, tmp_path / "3.tar").read_bytes() != first

    def test_real_vllm_is_its_libraries_and_a_path(self, tmp_path: Path) -> None:
        engine = tmp_path / "engine"
        (engine / "lib").mkdir(parents=True)
        extension = next(Path(sysconfig.get_config_var("DESTSHARED")).glob("_ctypes.*.so"))
        shutil.copy(extension, engine / "lib")
        python = contents.python_image()
        made = contents.vllm_image(python, engine)
        assert made.environment["PATH"].startswith(f"{engine}/bin:")
        assert python.files.items() <= made.files.items()
        assert shutil.which("lscpu") in made.files
        assert not [path for path in made.files if path.startswith(str(engine))], "containers find it mounted"

    def test_full_disk_leaves_nothing(
        self, image: images.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(tarfile.TarFile, "addfile", full)
        names = bring_up.ImageNames(engine=("a:1",), jobs=("b:1",))
        with pytest.raises(
            bring_up.ImageError, match=r"image of pause cannot be written to .*: No space left on device"
        ):
            list(bring_up.archives_of(names, tmp_path / "content" / "deep" / "file", lambda line: None))
        assert list((tmp_path / "cache" / "images").iterdir()) == []

    def test_archives_of_earlier_versions_are_deleted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path))
        monkeypatch.setattr(contents, "python_image", lambda: images.Image())
        monkeypatch.setattr(contents, "pause_image", lambda path: images.Image())
        pause = tmp_path / "pause"
        pause.touch()

        def made(version: int) -> Path:
            names = bring_up.ImageNames(engine=(), jobs=(f"jobs:{version}",))
            *_, last = bring_up.archives_of(names, pause, lambda line: None)
            os.utime(last, (version, version))
            return last

        first = made(0)
        later = [made(version) for version in range(1, bring_up.KEPT_ARCHIVES)]
        os.utime(made(0))
        newest = made(bring_up.KEPT_ARCHIVES)
        assert set((tmp_path / "images").glob("jobs-*")) == {first, *later[1:], newest}

    @pytest.mark.parametrize(
        ("name", "full"),
        [
            ("python:3.12", "docker.io/library/python:3.12"),
            ("vllm/vllm-openai:v0.33.0", "docker.io/vllm/vllm-openai:v0.33.0"),
            ("registry.example/a/b:1", "registry.example/a/b:1"),
            ("localhost/a:1", "localhost/a:1"),
            ("host:5000/a:1", "host:5000/a:1"),
        ],
    )
    def test_names_as_containerd_has_them(self, name: str, full: str) -> None:
        assert images.full_name(name) == full


class TestImport:
    """With a script in the place of ``ctr``."""

    @pytest.fixture
    def archive(self, image: images.Image, tmp_path: Path) -> Path:
        path = tmp_path / "engine-0123.tar"
        images.write_image(path, image, ["example.com/b:1"], architecture="amd64")
        return path

    def ctr(self, folder: Path, *, listed: str = "", error: str = "") -> Path:
        path = folder / "ctr"
        fails = f"echo '{error}' >&2; exit 1" if error else 'echo imported > "$0.imported"'
        path.write_text(f"#!/bin/sh\ncase $6 in list) printf 'REF TYPE DIGEST\\n{listed}';; *) {fails};; esac\n")
        path.chmod(0o755)
        return path

    def given(self, ctr: Path, archive: Path) -> list[str]:
        said: list[str] = []
        (ctr.parent / "node-1" / "containerd").mkdir(parents=True, exist_ok=True)
        bring_up.import_image(ctr, Path("/socket"), archive, ctr.parent / "node-1", said.append)
        return said

    def test_it_is_imported_once(self, archive: Path, tmp_path: Path) -> None:
        ctr = self.ctr(tmp_path)
        assert self.given(ctr, archive) == ["node-1: importing engine (0 MiB)"]
        assert (tmp_path / "ctr.imported").exists()
        digest = bring_up.described(archive)["example.com/b:1"]
        ctr = self.ctr(tmp_path, listed=f"example.com/b:1 type {digest}\\n", error="again")
        assert self.given(ctr, archive) == []

    def test_full_disk(self, archive: Path, tmp_path: Path) -> None:
        ctr = self.ctr(tmp_path, error="ctr: write /x: no space left on device")
        expected = (
            r"the disk is full while node-1 imports engine-0123\.tar into .*/node-1/containerd: \d+ MiB are free; "
            "make room and run it again"
        )
        with pytest.raises(bring_up.ImageError, match=expected):
            self.given(ctr, archive)
        assert archive.exists()

    @pytest.mark.parametrize(
        "error",
        [
            "ctr: rpc error: code = Unavailable desc = transport is closing",
            "ctr: error reading from server: EOF",
            'ctr: connection error: desc = "transport: Error while dialing: dial unix /s: connect: connection refused"',
        ],
    )
    def test_containerd_that_ends_damages_no_image(self, error: str, archive: Path, tmp_path: Path) -> None:
        ctr = self.ctr(tmp_path, error=error)
        expected = r"containerd of node-1 has ended while it imported engine-0123\.tar; run it again"
        with pytest.raises(bring_up.ImageError, match=expected):
            self.given(ctr, archive)
        assert archive.exists()

    def test_import_goes_on_when_containerd_is_back(
        self, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A socket that a killed one has left does not answer."""
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        monkeypatch.setattr(bring_up, "_containerd", lambda process: path)
        process = Process(name="node-a", command=(), folder=tmp_path)
        assert not bring_up._answers(process)
        path.unlink()
        (tmp_path / "virtual-kubelet-r-a" / "containerd").mkdir(parents=True)
        given = (self.ctr(tmp_path, error="ctr: connection error"), node_plans("r")[0], process, archive)
        nodes, said = bring_up.RealNodes(tmp_path), list[str]()
        nodes.folder = tmp_path
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            with pytest.raises(bring_up.ContainerdEndedError):
                nodes._import(*given, said.append)
        assert len(said) == bring_up.IMPORTS

    def test_damaged_image(self, archive: Path, tmp_path: Path) -> None:
        ctr = self.ctr(tmp_path, error="ctr: unexpected commit digest sha256:0, expected sha256:1")
        with pytest.raises(
            bring_up.ImageError, match=r"is damaged \(ctr: unexpected commit .* it was deleted, and the"
        ):
            self.given(ctr, archive)
        assert not archive.exists()

    def test_truncated_archive(self, archive: Path, tmp_path: Path) -> None:
        archive.write_bytes(archive.read_bytes()[:1000])
        with pytest.raises(bring_up.ImageError, match="is damaged"):
            self.given(self.ctr(tmp_path), archive)
        assert not archive.exists()


class TestContents:
    def test_python_of_the_image_finds_all_it_loads(self) -> None:
        """The files exist, the loader's among them, and the name that Jobs call leads to the interpreter."""
        found = contents.python_image()
        assert all(path.exists() for path in found.files.values())
        assert any("ld-linux" in path for path in found.files)
        assert found.links["/usr/bin/python3"] in found.files

    def test_threads_of_the_image_can_end(self) -> None:
        """glibc: "libgcc_s.so.1 must be installed for pthread_exit to work"."""
        assert any(path.endswith("/libgcc_s.so.1") for path in contents.python_image().files)

    def test_engine_has_what_its_server_imports(self) -> None:
        """Run with nothing but the engine's own files on the path."""
        found = contents.engine_image(contents.python_image())
        packages = [
            source for path, source in found.files.items() if path.startswith(f"{contents.ENGINE_FOLDER}/packages")
        ]
        allowed = {source.name.removesuffix(".py") for source in packages} | {"local"}
        script = (
            "import sys; import local.engine_image.vllm, local.engine_image.ray\n"
            "print(*sorted({name.partition('.')[0] for name, module in sys.modules.items()"
            " if 'site-packages' in str(getattr(module, '__file__', ''))}))"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) - {"_distutils_hack"} <= allowed


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    with held_port() as first, held_port() as second:
        yield first, second


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class TestEngineImage:
    def test_missing_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert vllm.main(["serve", "/models/none", "--served-model-name", "ds"]) == 1
        assert capsys.readouterr().err == "error: the model /models/none is not there\n"

    def test_missing_middleware(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match=r"--middleware nothing\.Here: there is no module nothing on PYTHONPATH"):
            vllm.main(["serve", str(tmp_path), "--middleware", "nothing.Here"])

    def test_workers_join_their_leader_and_end_with_it(self, ports: tuple[int, int]) -> None:
        port, _ = ports
        command = [sys.executable, "-m", "local.engine_image.ray"]
        own = [f"--ray_port={port}", "--ray_init_timeout=60"]
        worker = subprocess.Popen([*command, "worker", "--ray_address=127.0.0.1", *own], cwd=ROOT, text=True)
        # The listening process outlives the rendezvous, in the session that ends here.
        leader = subprocess.Popen(
            [*command, "leader", "--ray_cluster_size=2", *own],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert leader.wait(60) == 0
        assert worker.poll() is None
        os.killpg(leader.pid, 9)
        assert worker.wait(60) == 1

    def test_leader_of_mp_serves_when_its_workers_have_joined(self, tmp_path: Path, ports: tuple[int, int]) -> None:
        """With a probe of the rendezvous in between, as the worker's own has it."""
        port, master = ports
        command = [sys.executable, "-m", "local.engine_image.vllm", "serve", str(tmp_path), "--nnodes=2"]
        command += [f"--port={port}", "--master-addr=127.0.0.1", f"--master-port={master}"]
        leader = subprocess.Popen([*command, "--node-rank=0"], cwd=ROOT, start_new_session=True)
        try:
            eventually(lambda: answers(master))
            assert not answers(port), "not before the worker has come"
            worker = subprocess.Popen([*command, "--node-rank=1", "--headless"], cwd=ROOT)
            eventually(lambda: answers(port))
        finally:
            os.killpg(leader.pid, 9)
        leader.wait()
        assert worker.poll() is None, "as with vLLM, it does not notice"
        worker.terminate()
        assert worker.wait(60) == 0

    def test_middleware_finds_the_files_next_to_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "besides.py").write_text("x = 1")
        (tmp_path / "settings.json").write_text("{}")
        monkeypatch.syspath_prepend(tmp_path)
        assert vllm._middleware("besides.Filter").files == {"besides.py": b"x = 1", "settings.json": b"{}"}

    @pytest.mark.parametrize(
        ("tails", "zeros"), [((), False), ((b"\1", b"\2"), False), ((b"\1", b"\0"), True), ((b"\0\1",), False)]
    )
    def test_leader_sees_a_shard_of_zeros(self, tmp_path: Path, tails: tuple[bytes, ...], zeros: bool) -> None:
        for number, tail in enumerate(tails):
            (tmp_path / f"{number}.safetensors").write_bytes(b"header" + tail * vllm.TAIL_BYTES)
        assert vllm._has_zeros(tmp_path) is zeros

    def test_leader_gives_up(self) -> None:
        command = [sys.executable, "-m", "local.engine_image.ray", "leader", "--ray_cluster_size=2"]
        done = subprocess.run(
            [*command, "--ray_port=0", "--ray_init_timeout=0"],
            cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False, start_new_session=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (1, "error: not all of 1 workers have joined in time\n")


class TestDevicePlugin:
    @pytest.fixture
    def plugin(self, tmp_path: Path) -> Iterator[tuple[DevicePlugin, Path]]:
        plugin = DevicePlugin("nvidia.com/gpu", 8)
        path = tmp_path / "gpu.sock"
        server = plugin.serve(path)
        yield plugin, path
        server.stop(grace=None).wait()

    def test_kubelet_is_told_of_all_devices(self, plugin: tuple[DevicePlugin, Path]) -> None:
        types = messages()
        with grpc.insecure_channel(f"unix://{plugin[1]}") as channel:
            listed = channel.unary_stream(
                f"/{PACKAGE}.DevicePlugin/ListAndWatch",
                request_serializer=types["Empty"].SerializeToString,
                response_deserializer=types["ListAndWatchResponse"].FromString,
            )(types["Empty"]())
            assert [(device.ID, device.health) for device in next(listed).devices] == [
                (f"gpu-{number}", "Healthy") for number in range(8)
            ]
            listed.cancel()
            request = types["AllocateRequest"]()
            request.container_requests.add(devicesIDs=["gpu-0", "gpu-1"])
            answer = channel.unary_unary(
                f"/{PACKAGE}.DevicePlugin/Allocate",
                request_serializer=types["AllocateRequest"].SerializeToString,
                response_deserializer=types["AllocateResponse"].FromString,
            )(request, timeout=10)
            (response,) = answer.container_responses
            assert list(response.mounts) == []

    def test_containers_with_a_device_find_the_engine(self) -> None:
        types = messages()
        request = types["AllocateRequest"]()
        request.container_requests.add(devicesIDs=["gpu-0"])
        (response,) = DevicePlugin("nvidia.com/gpu", 8, "/cache/engine")._allocate(request).container_responses
        (mount,) = response.mounts
        assert (mount.container_path, mount.host_path, mount.read_only) == ("/cache/engine", "/cache/engine", True)

    def test_it_registers(self, plugin: tuple[DevicePlugin, Path], tmp_path: Path) -> None:
        types = messages()
        seen: list[Any] = []

        def register(request: Any, _: object) -> Any:
            seen.append(request)
            return types["Empty"]()

        handler = grpc.unary_unary_rpc_method_handler(
            register,
            request_deserializer=types["RegisterRequest"].FromString,
            response_serializer=types["Empty"].SerializeToString,
        )
        kubelet = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
        generic = grpc.method_handlers_generic_handler(f"{PACKAGE}.Registration", {"Register": handler})
        kubelet.add_generic_rpc_handlers((generic,))
        kubelet.add_insecure_port(f"unix://{tmp_path / 'kubelet.sock'}")
        kubelet.start()
        plugin[0].register(tmp_path / "kubelet.sock", plugin[1])
        kubelet.stop(grace=None).wait()
        (request,) = seen
        assert (request.version, request.endpoint, request.resource_name) == ("v1beta1", "gpu.sock", "nvidia.com/gpu")


class TestRelay:
    @pytest.mark.parametrize("address", ["127.0.0.1:22", "10.0.0.1:443", "[::1]:22"])
    def test_only_nodes_are_reached_by_it(self, address: str, tmp_path: Path) -> None:
        async def answer() -> bytes:
            relay = Relay(-1, api_server_port=0, relayed_ports=())
            server = await asyncio.start_unix_server(relay._egress, tmp_path / "egress")
            async with server:
                reader, writer = await asyncio.open_unix_connection(str(tmp_path / "egress"))
                with closing(writer):
                    writer.write(f"CONNECT {address} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    return await reader.read()

        assert asyncio.run(answer()) in (b"HTTP/1.1 403 Forbidden\r\n\r\n", b"")

    def test_pod_without_the_relay_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("CNI_COMMAND", "ADD")
        monkeypatch.setenv("CNI_CONTAINERID", "c1")
        monkeypatch.setenv("CNI_NETNS", "/proc/self/ns/net")
        given = tmp_path / "given.json"
        given.write_text(json.dumps({"cniVersion": "1.0.0", "node": "n", "folder": str(tmp_path), "prevResult": {}}))
        with given.open() as file:
            monkeypatch.setattr(sys, "stdin", file)
            assert cni_plugin.main() == 1
        assert json.loads(capsys.readouterr().out)["code"] == cni_plugin.FAILED


class TestTools:
    def test_missing_headers_say_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path))
        monkeypatch.setattr(go, "find", lambda: "go")
        expected = "containerd cannot be built without .* apt-get install gcc pkg-config libseccomp-dev"
        with pytest.raises(ToolError, match=expected):
            tools.tool("containerd")
        assert re.match(expected, str(tools.lacks_library(["kubelet", "containerd"])))
        tools._cached(tools.TOOLS["containerd"]).parent.mkdir(parents=True)
        assert tools.lacks_library(["kubelet", "containerd"]) is None

    def test_programs_of_ours_are_a_part_of_the_key(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "cluster" / "pause").mkdir(parents=True)
        for name in ("go.mod", "go.sum", "pause/main.go"):
            (tmp_path / "cluster" / name).write_text("require k8s.io/kubernetes v1.36.3\n")
        monkeypatch.setattr(tools, "MODULES", tmp_path)
        before = tools._cached(tools.TOOLS["ptp"])
        (tmp_path / "cluster" / "pause" / "main.go").write_text("package main\n")
        assert tools._cached(tools.TOOLS["ptp"]) != before

    @pytest.mark.parametrize(
        ("printed", "missing", "fits"),
        [
            ("containerd github.com/containerd/containerd/v2 v2.3.0 1a2b", "", True),
            ("containerd containerd.io 2.4.1 1a2b", "", True),
            ("containerd github.com/containerd/containerd/v2 v2.3.7 1a2b", "runc", False),
            ("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6", "", False),
            ("containerd github.com/containerd/containerd/v3 v3.0.0 1a2b", "", False),
        ],
    )
    def test_containerd_of_the_machine_is_used_if_it_fits(
        self, printed: str, missing: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tools, "_searched", lambda: str(tmp_path))
        monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
        for name in {"containerd", "containerd-shim-runc-v2", "ctr", "runc"} - {missing}:
            (tmp_path / name).write_text(f"#!/bin/sh\necho '{printed}'\n")
            (tmp_path / name).chmod(0o755)
        own = tmp_path / "containerd"
        assert tools._own("containerd") == (own if fits else None)

    def test_what_belongs_to_a_program_is_found_with_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tools, "_searched", lambda: str(tmp_path / "sbin"))
        for name in ("bin/ctr", "sbin/runc", "cache/pause"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).touch(mode=0o755)
        built = {"containerd": tmp_path / "bin" / "containerd", "ptp": tmp_path / "cache" / "ptp"}
        found = bring_up.binaries_of(built)
        assert {name: Path(found[name]).parent.name for name in bring_up.COMPANIONS} == {
            "runc": "sbin",
            "ctr": "bin",
            "pause": "cache",
        }
        with pytest.raises(ToolError, match=r"nothing is missing, which .*/containerd needs"):
            tools.companion(built["containerd"], "nothing")
