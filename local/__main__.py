"""``python -m local up|preview|destroy|verify|back|status|down|reset|env|official|engine``: ``pulumi`` with what it
needs around it."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from local.cluster import NODE_KINDS, Cluster, RealNodesNeeds
from local.engine.installation import IMAGE, engine
from local.go import ToolError
from local.policy_pack import OFF, pack_options
from local.processes import Process, ProcessError, ProcessStatus, memory_mib
from local.programs import lacking
from local.pulumi_environment import EngineEnvironment, ProviderChoiceError, engine_environment
from local.services import Services
from local.stack import (
    CLUSTER_FOLDER,
    STATE_FOLDER,
    LocalNeeds,
    StackError,
    embedded_stacks,
    local_needs,
    require_free_cluster,
)
from local.tools import OFFICIAL_KUBERNETES, tool
from local.verification import StackPrograms

ROOT = Path(__file__).resolve().parent.parent

FAKES_ONLY_PREVIEW = (
    "{stack} is a stack of the real cloud, and fakes can only preview it ({names}).\n"
    "Install Pulumi by its official installer (https://www.pulumi.com/docs/install/), which brings the Python language "
    "host, and then the official plugins: make plugins"
)
SIMULATION = (
    "The cluster is real but for its machines: no token is computed and no container runs, except for the pods that "
    "move weights or verify, which are processes here. The cloud is OSS and RAM on this machine, as far as the stack "
    "needs them."
)


REAL = (
    "The nodes are real: kubelets and containers, in namespaces of their own. The engine's image is a small server of "
    "the embedded cluster, and no token is computed. The cloud is OSS and RAM on this machine, as far as the stack "
    "needs them."
)
REAL_ENGINE = (
    "The nodes are real: kubelets and containers, in namespaces of their own. The engine is a real vLLM on the CPU; "
    "its tokens are those of a small random model. The cloud is OSS and RAM on this machine."
)
WITHOUT_ADDRESSES = (
    "deployment.verification.gate asks the leaders by their addresses, and those of simulated nodes lead nowhere: "
    "every update would be held. Use NODES=real (docs/local.md), or remove it from this stack"
)
WITHOUT_RAY = (
    f"deployment.inference.engine.backend: vLLM in {IMAGE} refuses Ray (current platform cpu does not support ray). "
    "Write mp, there or in deployment.update.engine (docs/engine-on-cpu.md)"
)
NODES = "NODES"
"""Chooses ``real`` or ``simulated`` nodes."""

LOST = "{name} of the embedded cluster ended. Log: {log}\nRun it again: that starts what is missing."
RESTARTED = "{name} of the embedded cluster ended, and is started again. Log: {log}"
RESTARTS = 3
"""Of processes of the cluster while pulumi runs, before it is stopped."""
WATCH_SECONDS = 2


def say(text: str) -> None:
    """Messages go to stderr: stdout belongs to pulumi and to ``env``."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, that of ``pulumi`` where it ran."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = ("up", "preview", "destroy", "verify", "back", "status", "down", "reset", "env", "official", "engine")
    parser.add_argument("command", choices=commands)
    parser.add_argument("--stack", default="local", help="the stack, as in Pulumi.<stack>.yaml (default: local)")
    parser.add_argument(
        "--policy",
        default=OFF,
        help="for up and preview, the policy pack: on, off, or a file with levels and options (default: off)",
    )
    parser.epilog = "What follows -- is passed on to pulumi, or to the program that is run."
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    parsed = parser.parse_args(given[:split])
    try:
        return _run(parsed.command, parsed.stack, given[split + 1 :], policy=parsed.policy)
    except (ToolError, ProcessError, ProviderChoiceError, StackError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(command: str, stack: str, options: Sequence[str], *, policy: str) -> int:
    if command == "status":
        return _status()
    if command == "official":
        print(tool(OFFICIAL_KUBERNETES, say))
        return 0
    if command == "engine":
        print(engine(say))
        return 0
    if command == "down":
        _stop()
        say("The embedded cluster is stopped; its data are kept (make reset deletes them).")
        return 0
    needs = local_needs(ROOT, stack)
    if command == "up" and needs.embedded_cluster:
        require_free_cluster(ROOT, stack)
    if command in ("up", "preview") and needs.ray_on_cpu:
        raise StackError(WITHOUT_RAY)
    pulumi = tool("pulumi", say)
    environment = engine_environment(
        ROOT,
        pulumi=pulumi,
        emulated_cloud=needs.emulated_cloud,
        on_loopback=needs.on_loopback,
        environ=os.environ,
    )
    if command == "env":
        print(environment.shell() + f"export PULUMI_STACK={stack}")
        return 0
    if command == "reset":
        return _reset(pulumi, environment)
    if command in ("verify", "back"):
        programs = StackPrograms(root=ROOT, stack=stack, pulumi=pulumi, environment=environment, needs=needs)
        return programs.verify(options, say) if command == "verify" else programs.back(options)
    if command in ("up", "preview"):
        options = [*pack_options(ROOT, policy, on_loopback=needs.on_loopback), *options]
    return _pulumi(command, stack, options, pulumi, environment, needs)


def _pulumi(
    command: str,
    stack: str,
    options: Sequence[str],
    pulumi: Path,
    environment: EngineEnvironment,
    needs: LocalNeeds,
) -> int:
    changes_something = command in ("up", "destroy")
    if changes_something and not needs.emulated_cloud and environment.fakes:
        say(FAKES_ONLY_PREVIEW.format(stack=stack, names=", ".join(environment.fakes)))
        return 1
    say(environment.describe())
    Services(ROOT / CLUSTER_FOLDER).start(needs.services)
    for service in needs.services:
        say(f"{service.name}: at {service.url}")
    if needs.embedded_cluster:
        cluster = Cluster(ROOT / CLUSTER_FOLDER)
        running = _is_up(cluster)
        say(f"embedded cluster: {'running' if running else 'starting'}")
        # Only up brings one that runs up to date: its definitions, and its nodes.
        real = _real_nodes(needs, _wanted_nodes(cluster, needs) if command == "up" else cluster.nodes)
        if command == "up" or not running:
            cluster.start(real, say)
        if command == "up" and needs.nodes is not None and real is None:
            cluster.simulate_nodes(needs.nodes)
            if not os.environ.get(NODES):
                say(_about_real_nodes())
        say(SIMULATION if real is None else REAL if real.engine is None else REAL_ENGINE)
    call = [str(pulumi), command, "--stack", stack]
    if command == "destroy":
        # What is protected (the bucket) stays, instead of stopping the rest.
        call.append("--exclude-protected")
    if changes_something and needs.emulated_cloud:
        call.append("--yes")
    _create_stack(stack, pulumi, environment)
    return _call([*call, *options], environment, cluster if needs.embedded_cluster else None)


def _wanted_nodes(cluster: Cluster, needs: LocalNeeds) -> str:
    """What ``up`` starts: what was chosen, otherwise what the cluster has, otherwise real ones if there can be some.
    Raises StackError."""
    wanted = _chosen_nodes(needs) or cluster.nodes or ("simulated" if lacking() else "real")
    if wanted == "simulated" and needs.gated:
        raise StackError(WITHOUT_ADDRESSES)
    return wanted


def _real_nodes(needs: LocalNeeds, kind: str) -> RealNodesNeeds | None:
    """None for simulated nodes, and for none. Raises StackError."""
    if kind != "real":
        return None
    if needs.nodes is None or needs.images is None:
        say("The settings do not say what nodes are needed, so none are started; the preview says why.")
        return None
    if found := lacking():
        raise StackError(f"{NODES}=real: {found}. {NODES}=simulated needs none of it.")
    ports = tuple(sorted(port for service in needs.services if (port := urlsplit(service.url).port)))
    folder = engine(say) if needs.images.vllm else None
    return RealNodesNeeds(nodes=needs.nodes, images=needs.images, relayed_ports=ports, engine=folder)


def _about_real_nodes() -> str:
    """One line, for users who have not chosen."""
    if found := lacking():
        return f"The nodes are simulated: {found}."
    return f"The nodes are simulated, as they were; make up {NODES}=real starts real ones (docs/local.md)."


def _chosen_nodes(needs: LocalNeeds) -> str:
    """Empty if nothing was chosen. Raises StackError."""
    chosen = os.environ.get(NODES, "")
    if chosen not in ("", *NODE_KINDS):
        raise StackError(f"{NODES}={chosen}: write {' or '.join(NODE_KINDS)}")
    if needs.images is None or not needs.images.vllm:
        return chosen
    if chosen == "simulated":
        raise StackError(f"{NODES}=simulated: the image {IMAGE} runs on real nodes only")
    return "real"


def _create_stack(stack: str, pulumi: Path, environment: EngineEnvironment) -> None:
    """Creates it if it is not there. Raises StackError."""
    if "PULUMI_BACKEND_URL" in environment.variables and (ROOT / STATE_FOLDER / f"{stack}.json").is_file():
        return  # in the state here; to ask pulumi takes a second
    done = subprocess.run(  # noqa: S603
        [str(pulumi), "stack", "select", "--create", stack],
        cwd=ROOT,
        env=environment.over(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"pulumi cannot select the stack {stack}: {done.stderr.strip() or done.stdout.strip()}")


def _call(command: Sequence[str], environment: EngineEnvironment, cluster: Cluster | None = None) -> int:
    """Starts processes of ``cluster`` again that end meanwhile: pulumi would wait for them as long as for a group."""
    restarts, is_lost = 0, False
    with subprocess.Popen(command, cwd=ROOT, env=environment.over(os.environ)) as process:  # noqa: S603
        while True:
            try:
                code = process.wait(WATCH_SECONDS)
                for ended in cluster.ended() if cluster is not None and code and not is_lost else ():
                    say(_text(LOST, ended))
                return code
            except subprocess.TimeoutExpired:
                if cluster is None or is_lost:
                    continue
                for ended in cluster.ended():
                    restarts += 1
                    is_lost = restarts > RESTARTS or not cluster.start_again(ended)
                    say(_text(LOST if is_lost else RESTARTED, ended))
                    if is_lost:
                        process.send_signal(signal.SIGINT)
                        break
            except KeyboardInterrupt:
                continue  # the terminal has told pulumi too, which ends in its own time


def _text(text: str, ended: Process) -> str:
    return text.format(name=ended.name, log=ended.log.relative_to(ROOT))


def _is_up(cluster: Cluster) -> bool:
    return _all_run(cluster.status())


def _all_run(found: Sequence[ProcessStatus]) -> bool:
    return bool(found) and all(process.running for process in found)


def _stop() -> None:
    # What runs in the cluster ends before what it uses.
    Cluster(ROOT / CLUSTER_FOLDER).stop()
    Services(ROOT / CLUSTER_FOLDER).stop()


def _status() -> int:
    cluster = Cluster(ROOT / CLUSTER_FOLDER)
    found = [*cluster.status(), *Services(ROOT / CLUSTER_FOLDER).status()]
    if not found:
        say("The embedded cluster was never started here; make up starts it.")
        return 1
    for process in found:
        state = f"running, {process.memory_mib} MiB" if process.running else "not running"
        print(f"{process.name:<24} {state:<20} {process.log.relative_to(ROOT)}")
    print(f"{'together':<24} {memory_mib(found)} MiB")
    print(f"kubeconfig: {cluster.kubeconfig.relative_to(ROOT)}")
    print(f"logs of pods that run: {cluster.pods.relative_to(ROOT)}/*.log")
    return 0 if _all_run(found) else 1


def _reset(pulumi: Path, environment: EngineEnvironment) -> int:
    """Forgets the embedded cluster, and every stack that is in it."""
    _stop()
    Cluster(ROOT / CLUSTER_FOLDER).stop(delete=True)
    codes = [
        _call([str(pulumi), "stack", "rm", stack, "--force", "--yes", "--preserve-config"], environment)
        for stack in embedded_stacks(ROOT)
    ]
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main())
