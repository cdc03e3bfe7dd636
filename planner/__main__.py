"""The planner on the command line: ``python -m planner check deepseek-ai/DeepSeek-R1 --series GU8TF``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from planner.case import Choices
from planner.findings import report
from planner.plan import Plan, PlanError, make_plan


def parser() -> argparse.ArgumentParser:
    """The arguments; those of a deployment are the same for all commands."""
    deployment = argparse.ArgumentParser(add_help=False)
    deployment.add_argument("model", help="name on ModelScope and Hugging Face, for example deepseek-ai/DeepSeek-R1")
    deployment.add_argument("--config", metavar="FILE", help="config.json of a model that the catalogue does not have")
    deployment.add_argument("--weights-gib", type=float, help="size of the safetensors files, if nothing else is known")
    deployment.add_argument("--cards", type=int, help="cards per pod; derived if left out, like the next two")
    deployment.add_argument("--tensor", type=int, help="tensor parallel size")
    deployment.add_argument("--pipeline", type=int, help="pipeline parallel size")
    deployment.add_argument("--image", help="image of the engine; its name tells the version (default: current vLLM)")
    deployment.add_argument("--backend", choices=("ray", "mp"), default="ray", help="how pods form one engine")
    deployment.add_argument(
        "--max-model-len", type=int, help="longest request in tokens (default: the model's context)"
    )
    deployment.add_argument("--gpu-memory-utilization", type=float, default=0.9, help="share of GPU memory")
    deployment.add_argument("--cache-gib", type=float, help="measured: what an engine's log says is left for the cache")
    deployment.add_argument("--enforce-eager", action="store_true", help="no CUDA graphs")
    deployment.add_argument("--gpu-memory-gib", type=float, help="memory of a card, if the series is not known")
    deployment.add_argument("--network", choices=("standard", "rdma"), default="standard", help="network of the pods")
    deployment.add_argument("--throughput", type=int, default=300, metavar="MIB_S", help="storage, per pod (300)")
    deployment.add_argument(
        "--engine-arg",
        action="append",
        default=[],
        metavar="ARG",
        help="argument of vllm serve, written --engine-arg=--max-num-seqs=64; may be repeated",
    )
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="plain data instead of a table")

    main = argparse.ArgumentParser(prog="python -m planner", description="Does a model fit, and on which GPUs?")
    commands = main.add_subparsers(dest="command", required=True)
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("--series", required=True, help="GPU series of ACS, for example GU8TF")
    commands.add_parser("check", parents=[deployment, one, as_json], help="the plan for one layout, or the cheapest")
    several = commands.add_parser("compare", parents=[deployment, as_json], help="layouts on several GPU series")
    several.add_argument("--series", action="append", default=[], help="only this series; may be repeated")
    several.add_argument("--all", action="store_true", help="also larger layouts, and those that cannot work")
    chart = commands.add_parser("chart", parents=[deployment, one], help="memory of each stage as a picture")
    chart.add_argument("--output", type=Path, default=Path("memory.png"), help="file, .png or .svg (memory.png)")
    commands.add_parser("models", help="the catalogue of models")
    commands.add_parser("gpus", help="the catalogue of GPU series")
    commands.add_parser("rules", help="what is checked")
    return main


def choices(arguments: argparse.Namespace, series: str) -> Choices:
    """The choices that the arguments make."""
    return Choices(
        model=arguments.model,
        series=series,
        throughput_mib_s=arguments.throughput,
        weights_gib=arguments.weights_gib,
        config_file=arguments.config,
        cards=arguments.cards,
        tensor=arguments.tensor,
        pipeline=arguments.pipeline,
        gpu_memory_gib=arguments.gpu_memory_gib,
        image=arguments.image,
        backend=arguments.backend,
        max_model_len=arguments.max_model_len,
        gpu_memory_utilization=arguments.gpu_memory_utilization,
        cache_gib=arguments.cache_gib,
        enforce_eager=arguments.enforce_eager,
        extra_args=tuple(arguments.engine_arg),
        network=arguments.network,
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 if the plan works, 1 if it cannot, 2 for wrong arguments or a missing package."""
    arguments = parser().parse_args(words)
    try:
        return run(arguments)
    except PlanError as error:
        where = f"{arguments.model} on {arguments.series}"
        print(report(error.findings, where=where, outcome="it cannot work"), file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("rich", "matplotlib"):
            raise
        print(f"{package} is not installed: python -m pip install -r planner/requirements.txt", file=sys.stderr)
        return 2


def run(arguments: argparse.Namespace) -> int:
    """The command that ``arguments`` name."""
    # rich and matplotlib take tenths of a second to import; only the command line needs them.
    from planner import report as tables

    match arguments.command:
        case "models":
            tables.show(tables.models_table())
        case "gpus":
            tables.show(tables.gpus_table())
        case "rules":
            tables.show(tables.rules_table())
        case "compare":
            return _compare(arguments)
        case "chart":
            return _chart(make_plan(choices(arguments, arguments.series)), arguments.output)
        case _:
            plan = make_plan(choices(arguments, arguments.series))
            if arguments.json:
                print(json.dumps(tables.plan_data(plan), indent=2))
                return 0
            print(plan.summary())
            for warning in plan.warnings:
                print(f"warning   {warning}")
            if plan.memory:
                print()
                tables.show(tables.memory_table(plan.memory))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from planner import report as tables
    from planner.compare import best, compare

    rows = compare(choices(arguments, ""), arguments.series)
    shown = rows if arguments.all else best(rows)
    if arguments.json:
        print(json.dumps([tables.row_data(row) for row in shown], indent=2))
    elif shown:
        tables.show(tables.comparison_table(shown))
    else:
        print("no layout works; see --all for the reasons", file=sys.stderr)
    return 0 if shown else 1


def _chart(plan: Plan, output: Path) -> int:
    if plan.memory is None:
        print("the memory of this model is not predicted, so there is nothing to draw", file=sys.stderr)
        return 1
    from planner.chart import draw

    draw(plan, plan.memory, output)
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
