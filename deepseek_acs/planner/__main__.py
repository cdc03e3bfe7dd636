"""The planner on the command line: ``python -m deepseek_acs.planner check deepseek-ai/DeepSeek-R1 --series GU8TF``.

It plans what a stack file with the same settings asks for, with the same defaults.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deepseek_acs.planner.catalogue import gpu_series
from deepseek_acs.planner.findings import Field, Finding, PlanError, Spelling, report, spelled, wrapped
from deepseek_acs.planner.spec import ResolvedSpec

FLAGS: Spelling = {
    Field.MODEL: "MODEL",
    Field.CONFIG_FILE: "--config",
    Field.WEIGHTS_GIB: "--weights-gib",
    Field.REGION: "--region",
    Field.THROUGHPUT: "--throughput",
    Field.GROUP: "--series, --gpus-per-pod, --tensor, --pipeline",
    Field.LAYOUT: "--tensor, --pipeline",
    Field.SERIES: "--series",
    Field.GPUS_PER_POD: "--gpus-per-pod",
    Field.TENSOR: "--tensor",
    Field.PIPELINE: "--pipeline",
    Field.GPU_MEMORY_GIB: "--gpu-memory-gib",
    Field.NETWORK: "--network",
    Field.IMAGE: "--image",
    Field.ENGINE_VERSION: "--vllm-version",
    Field.BACKEND: "--backend",
    Field.MAX_MODEL_LEN: "--max-model-len",
    Field.UTILIZATION: "--gpu-memory-utilization",
    Field.MEASURED_KV_CACHE: "--kv-cache-gib",
    Field.ENFORCE_EAGER: "--enforce-eager",
    Field.EXTRA_ARGS: "--engine-arg",
    Field.CURRENCY: "--currency",
    Field.GPU_HOUR: "--gpu-hour",
    Field.VCPU_HOUR: "--vcpu-hour",
    Field.MEMORY_GIB_HOUR: "--memory-gib-hour",
    Field.TOKENS_PER_SECOND: "--tokens-per-second",
}
"""How the command line spells the fields that it has."""


def parser() -> argparse.ArgumentParser:
    """The arguments; those of a deployment are the same for all commands."""
    deployment = argparse.ArgumentParser(add_help=False)
    deployment.add_argument("model", help="name on ModelScope and Hugging Face, for example deepseek-ai/DeepSeek-R1")
    deployment.add_argument("--config", metavar="FILE", help="config.json of a model that the catalogue does not have")
    deployment.add_argument("--weights-gib", type=float, help="size of the safetensors files, if nothing else is known")
    deployment.add_argument("--gpus-per-pod", type=int, help="GPUs per pod; derived if left out, like the next two")
    deployment.add_argument("--tensor", type=int, help="tensor parallel size")
    deployment.add_argument("--pipeline", type=int, help="pipeline parallel size")
    deployment.add_argument("--image", help="image of the engine; its name contains the version (default: the guide's)")
    deployment.add_argument("--vllm-version", help="version of vLLM, if the image's name does not contain it")
    deployment.add_argument("--backend", choices=("ray", "mp"), help="how pods form one engine")
    deployment.add_argument(
        "--max-model-len", type=int, help="longest request in tokens (default: the model's context)"
    )
    deployment.add_argument("--gpu-memory-utilization", type=float, help="share of GPU memory (0.95)")
    deployment.add_argument(
        "--kv-cache-gib", type=float, help="measured: what an engine's log says is left for the cache"
    )
    deployment.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction, help="no CUDA graphs (default)")
    deployment.add_argument("--gpu-memory-gib", type=float, help="memory of a GPU, if the series is not known")
    deployment.add_argument("--network", choices=("standard", "rdma"), help="network of the pods")
    deployment.add_argument("--region", default="cn-hangzhou", help="region of the bucket (cn-hangzhou)")
    deployment.add_argument("--throughput", type=int, metavar="MIB_S", help="storage, per pod (300)")
    deployment.add_argument("--currency", help="of prices; list prices are known in USD (default) and CNY")
    deployment.add_argument("--gpu-hour", type=float, metavar="PRICE", help="price of one GPU for one hour")
    deployment.add_argument("--vcpu-hour", type=float, metavar="PRICE", help="price of one vCPU of a GPU pod")
    deployment.add_argument("--memory-gib-hour", type=float, metavar="PRICE", help="price of one GiB of a GPU pod")
    deployment.add_argument("--tokens-per-second", type=float, help="measured output of one group, for its price")
    deployment.add_argument(
        "--engine-arg",
        action="append",
        default=[],
        metavar="ARG",
        help="argument of vllm serve, written --engine-arg=--max-num-seqs=64; may be repeated",
    )
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="plain data instead of a table")

    main = argparse.ArgumentParser(
        prog="python -m deepseek_acs.planner", description="Does a model fit, and on which GPUs?"
    )
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


def specification(arguments: argparse.Namespace, series: str) -> ResolvedSpec:
    """What the arguments ask for; raises PlanError for a value that no stack file could have, either."""
    from pydantic import ValidationError

    from deepseek_acs.planner.resolve import resolve
    from deepseek_acs.settings.errors import findings
    from deepseek_acs.settings.paths import STACK_PATHS
    from deepseek_acs.settings.stack import StackSettings

    def given(**values: object) -> dict[str, object]:
        return {name: value for name, value in values.items() if value is not None}

    settings = {
        "cloud": {"region": arguments.region},
        "model": given(name=arguments.model, weightsGiB=arguments.weights_gib, configFile=arguments.config),
        "weights": {"prefix": "models"},
        "storage": given(kind="csi", throughputMiBps=arguments.throughput),
        "inference": given(
            gpu=given(series=series, perPod=arguments.gpus_per_pod, gpuMemoryGiB=arguments.gpu_memory_gib),
            parallelism=given(tensor=arguments.tensor, pipeline=arguments.pipeline),
            network=arguments.network,
            engine=given(
                image=arguments.image,
                version=arguments.vllm_version,
                backend=arguments.backend,
                maxModelLen=arguments.max_model_len,
                gpuMemoryUtilization=arguments.gpu_memory_utilization,
                kvCacheGiB=arguments.kv_cache_gib,
                enforceEager=arguments.enforce_eager,
                extraArgs=tuple(arguments.engine_arg),
            ),
        ),
        "prices": given(
            currency=arguments.currency,
            gpuHour=arguments.gpu_hour,
            vcpuHour=arguments.vcpu_hour,
            memoryGiBHour=arguments.memory_gib_hour,
            tokensPerSecond=arguments.tokens_per_second,
        ),
    }
    try:
        return resolve(StackSettings.model_validate(settings), folder=Path.cwd())
    except ValidationError as error:
        fields = {path: field for field, path in STACK_PATHS.items()}
        named = (dataclasses.replace(found, path=fields.get(found.path, found.path)) for found in findings(error))
        raise PlanError([spelled(found, FLAGS) for found in named]) from None


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; 0 if the plan works, 1 if it cannot, 2 for wrong arguments or a missing package."""
    arguments = parser().parse_args(words)
    try:
        return run(arguments)
    except PlanError as error:
        where = f"{arguments.model} on {arguments.series}" if arguments.series else arguments.model
        print(report(error.findings, where=where, outcome="it cannot work"), file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("rich", "matplotlib", "pydantic"):
            raise
        print(
            f"{package} is not installed: python -m pip install -r deepseek_acs/planner/requirements.txt",
            file=sys.stderr,
        )
        return 2


def run(arguments: argparse.Namespace) -> int:
    """The command that ``arguments`` name."""
    # rich and matplotlib take tenths of a second to import; only the command line needs them.
    from deepseek_acs.planner import report as tables

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
            return _chart(*_checked(arguments), arguments.output)
        case _:
            _show(*_checked(arguments), as_json=arguments.json)
    return 0


def _checked(arguments: argparse.Namespace) -> tuple[ResolvedSpec, list[Finding]]:
    """The specification and its warnings; raises PlanError with all errors at once."""
    from deepseek_acs.planner.check import check

    spec = specification(arguments, arguments.series)
    # A warning about what the command has no flag for, who reaches the pods for example, is for a stack file.
    said = (finding for finding in check(spec) if finding.severity == "error" or finding.path in FLAGS)
    found = [spelled(finding, FLAGS) for finding in said]
    if errors := [finding for finding in found if finding.severity == "error"]:
        raise PlanError(errors)
    return spec, found


def _show(spec: ResolvedSpec, warnings: Sequence[Finding], *, as_json: bool) -> None:
    from deepseek_acs.planner import report as tables
    from deepseek_acs.planner.summary import text, with_cost

    if as_json:
        print(json.dumps(tables.spec_data(spec, warnings), indent=2))
        return
    print(text(with_cost(spec)))
    for warning in warnings:
        print(wrapped("warning   ", str(warning)))
    if spec.memory:
        print()
        tables.show(tables.memory_table(spec.memory))


def _compare(arguments: argparse.Namespace) -> int:
    from deepseek_acs.planner import report as tables
    from deepseek_acs.planner.compare import best, compare

    series = arguments.series or list(gpu_series())
    rows = compare(specification(arguments, series[0]), series)
    shown = rows if arguments.all else best(rows)
    if arguments.json:
        print(json.dumps([tables.row_data(row) for row in shown], indent=2))
    elif shown:
        tables.show(tables.comparison_table(shown))
    else:
        print("no layout works; see --all for the reasons", file=sys.stderr)
    return 0 if shown else 1


def _chart(spec: ResolvedSpec, warnings: Sequence[Finding], output: Path) -> int:
    if spec.memory is None:
        print("the memory of this model is not predicted, so there is nothing to draw", file=sys.stderr)
        return 1
    from deepseek_acs.planner.chart import draw

    draw(spec, spec.memory, output)
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
