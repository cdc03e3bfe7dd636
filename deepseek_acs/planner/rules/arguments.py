"""Whether the image's version of vLLM takes the arguments and the environment, and what they do together."""

from collections.abc import Iterator, Mapping

from deepseek_acs.planner.dangerous import FLAGS, SECRET_FLAGS, flag_of, meant
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.engine import is_too_long, program_flags
from deepseek_acs.planner.rules.rule import VLLM, VLLM_07, Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm import LONGEST_UNCHUNKED, SHORT_STEP, argument_problem
from deepseek_acs.planner.vllm_releases.given import argument_of, given, problems, variable_problems
from deepseek_acs.planner.vllm_releases.release import Release, changed_in, release, text

WHEELS = "https://pypi.org/project/vllm/#history"

GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""Variables that hide GPUs of a pod, which are all used and paid for."""


def known_release(spec: ResolvedSpec) -> Release | None:
    """What is known of the image's version; None where the version is not known, or is not in the catalogue."""
    return release(spec.engine.named_version) if spec.engine.named_version else None


def _names(spec: ResolvedSpec) -> Mapping[str, tuple[str, ...]]:
    """All arguments by their usual names, with their values, but those that switch something off."""
    known = known_release(spec)
    found = {}
    for name, values in given(spec.engine.arguments):
        argument = argument_of(known, name) if known else None
        usual = argument.name if argument else name
        is_off = argument is not None and argument.flag and name != usual and name.startswith(("--no-", "--disable-"))
        if not is_off:
            found[usual] = values
    return found


def _own(spec: ResolvedSpec) -> list[str]:
    """The additional arguments without those that another rule refuses."""
    refused = {*program_flags(spec), *SECRET_FLAGS, *FLAGS}
    own, is_kept = [], True
    for word in spec.engine.extra_args:
        if word.startswith("-"):
            is_kept = meant(flag_of(word), refused) is None
        if is_kept:
            own.append(word)
    return own


@rule(WHEELS)
def arguments(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine version accepts the additional arguments and their values."""
    if found := argument_problem(spec.engine.extra_args, spec.engine.vllm):
        yield Field.EXTRA_ARGS, *found
    elif known := known_release(spec):
        for problem, fix in problems(known, _own(spec)):
            yield Field.EXTRA_ARGS, problem, fix


@rule(WHEELS)
def features(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine version has the features that are set, and the parsers that they name."""
    known = known_release(spec)
    for field, written in spec.engine.features.items() if known else ():
        for problem, fix in problems(known, written) if known else ():
            yield field, problem, fix


@warning(WHEELS)
def arguments_in_full(spec: ResolvedSpec) -> Iterator[Problem]:
    """Additional arguments are written in full."""
    known = known_release(spec)
    for name, _ in given(spec.engine.extra_args) if known else ():
        head = name.partition(".")[0]
        argument = argument_of(known, head) if known else None
        if argument is not None and head not in argument.names:
            yield (
                Field.EXTRA_ARGS,
                f"vLLM reads {head} as {argument.name}, and the plan does not",
                f"write {argument.name}",
            )


@rule(f"{VLLM}/entrypoints/common/cli_args.py")
def arguments_together(spec: ResolvedSpec) -> Iterator[Problem]:
    """Arguments that need or exclude others are given with them, or without."""
    names, version = _names(spec), spec.engine.named_version
    needs = [("--enable-auto-tool-choice", "--tool-call-parser"), ("--enable-log-outputs", "--enable-log-requests")]
    if version is not None and version < changed_in("reasoning_switch_idle"):
        needs.append(("--enable-reasoning", "--reasoning-parser"))
    for name, other in needs:
        if name in names and other not in names:
            yield Field.EXTRA_ARGS, f"vLLM: Error: {name} requires {other}", f"add {other}, or remove {name}"
    if "--enable-eplb" in names and "--enable-expert-parallel" not in names:
        yield (
            Field.EXTRA_ARGS,
            "vLLM: enable_expert_parallel must be True to use EPLB.",
            "add --enable-expert-parallel, or remove --enable-eplb",
        )
    pair = ("--enable-auto-tool-choice", "--enable-reasoning")
    if version is not None and version < changed_in("tools_with_reasoning") and all(name in names for name in pair):
        yield (
            Field.EXTRA_ARGS,
            f"vLLM: Error: {pair[0]} and {pair[1]} cannot be enabled at the same time",
            f"remove one of them, or use an image with vLLM {text(changed_in('tools_with_reasoning'))} or newer",
        )


@warning(f"{VLLM_07}/entrypoints/openai/serving_chat.py")
def idle_arguments(spec: ResolvedSpec) -> Iterator[Problem]:
    """Each additional argument has an effect."""
    names, version = _names(spec), spec.engine.named_version
    if "--tool-call-parser" in names and "--enable-auto-tool-choice" not in names:
        yield (
            Field.EXTRA_ARGS,
            "--tool-call-parser parses nothing without --enable-auto-tool-choice",
            "add --enable-auto-tool-choice",
        )
    if version is None or "--reasoning-parser" not in names:
        return
    if version < changed_in("reasoning_switch_idle") and "--enable-reasoning" not in names:
        yield (
            Field.EXTRA_ARGS,
            f"--reasoning-parser has no effect on {spec.engine.vllm.name} without --enable-reasoning",
            "add --enable-reasoning",
        )
    if version < changed_in("think_tag_in_template"):
        yield (
            Field.EXTRA_ARGS,
            f"the parser of {spec.engine.vllm.name} looks for a beginning <think>, which the chat template of today's "
            "DeepSeek-R1 writes itself, so that reasoning stays in the content",
            f"use an image with vLLM {text(changed_in('think_tag_in_template'))} or newer",
        )


@rule("https://github.com/vllm-project/vllm/pull/13620")
def long_prompts(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine answers prompts up to the longest request."""
    serving = spec.serving
    if serving is not None and not is_too_long(spec) and not spec.answers_long_prompts:
        yield (
            Field.MAX_MODEL_LEN,
            f"above {LONGEST_UNCHUNKED:,}, {spec.engine.vllm.name} answers prompts of more than "
            f"{serving.max_num_batched_tokens or SHORT_STEP:,} tokens with nothing: it does not split prompts for MLA, "
            "and limits a step all the same",
            f"write {LONGEST_UNCHUNKED} or less, or --max-num-batched-tokens={serving.max_model_len}, or use an image "
            f"with vLLM {text(changed_in('long_prompts_of_mla'))} or newer",
        )


@rule(f"{VLLM}/model_executor/models/deepseek_mtp.py", mended_by_layout=True)
def drafts_in_stages(spec: ResolvedSpec) -> Iterator[Problem]:
    """Multi-token prediction of DeepSeek runs in pipeline stages."""
    version, serving, model = spec.engine.named_version, spec.serving, spec.model.shapes
    if version is None or serving is None or model is None or not serving.draft_layers or spec.layout.pipeline == 1:
        return
    is_able = changed_in("mtp_in_stages") <= version < changed_in("mtp_in_one_stage")
    if model.family.startswith("deepseek_v3") and not is_able and version < changed_in("mtp_in_stages_again"):
        yield (
            Field.PIPELINE,
            f"{spec.engine.vllm.name} has no multi-token prediction with pipeline stages; vLLM: Pipeline parallelism "
            "is not supported for this model.",
            "write 1 and a larger tensor parallel size, remove the speculative decoding, or use an image with vLLM "
            f"{text(changed_in('mtp_in_stages_again'))} or newer",
        )


@rule(WHEELS)
def variables(spec: ResolvedSpec) -> Iterator[Problem]:
    """The engine version accepts its environment variables, and all GPUs of a pod are visible to it."""
    env, version = spec.engine.env, spec.engine.named_version
    for name in GPU_VARIABLES:
        if name in env:
            yield (
                Field.ENV,
                f"{name} hides GPUs of the pod, which the layout counts and ACS bills",
                f"remove it and set {Field.GPUS_PER_POD}",
            )
    if known := known_release(spec):
        for is_stopped, problem, fix in variable_problems(known, env):
            if is_stopped:
                yield Field.ENV, problem, fix
    generation = env.get("VLLM_USE_V1")
    if version is None or generation is None:
        return
    if generation == "1" and version < changed_in("v1"):
        yield (
            Field.ENV,
            f"VLLM_USE_V1=1 starts an early form of the current generation on {spec.engine.vllm.name}, without MLA",
            f"remove it, or use an image with vLLM {text(changed_in('v1'))} or newer",
        )
    if generation == "0" and changed_in("v0_dropped") <= version < changed_in("v1_variable_dropped"):
        yield Field.ENV, f"VLLM_USE_V1=0 ends {spec.engine.vllm.name} at its start", "remove it"


@warning(WHEELS)
def idle_variables(spec: ResolvedSpec) -> Iterator[Problem]:
    """Each environment variable of vLLM is read by the engine version."""
    if known := known_release(spec):
        for is_stopped, problem, fix in variable_problems(known, spec.engine.env):
            if not is_stopped:
                yield Field.ENV, problem, fix
