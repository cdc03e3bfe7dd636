"""Compares what the planner takes for acceptable with what vLLM's own parser accepts: ``python -m
tools.vllm_catalogue.compare [VERSION ...]``, all versions by default, or ``newest``; up to 40 s of CPU time each.

Every name that any version has is tried on each, in several spellings, and every argument with many values. Left out is
``--config``, which reads a file. The keys of objects and the values of simple types are compared with the classes that
the engine makes of them.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence

from deepseek_acs.planner.vllm_releases import release
from deepseek_acs.planner.vllm_releases.command_line import refusal
from deepseek_acs.planner.vllm_releases.objects import takes_value
from tools.vllm_catalogue.__main__ import newest_of_each
from tools.vllm_catalogue.extract import run_parser
from tools.vllm_catalogue.objects import class_name
from tools.vllm_catalogue.parser_of import OBJECT_SAMPLES, SAMPLES
from tools.vllm_catalogue.wheels import published, unpacked


def cases(known: release.Release) -> Iterator[list[str]]:
    """Words that could follow the name of the model."""
    for usual in release.names("arguments"):
        if usual == "--config":
            continue
        every = {usual, *(name for span in release.spans("arguments", usual) for name in span.facts.get("names", ()))}
        for name in sorted(every):
            yield from ([name], [f"{name}="], [name, "1"], [f"{name}=abc"], [f"{name}x"])
            yield from ([f"{name}.a.b=1"], [f"{name}.a", "1"])
            if name.startswith("--"):
                yield from ([name[:-2], "1"], ["--" + name[2:].replace("-", "_"), "1"])
            argument = known.arguments.get(name)
            if argument:
                yield from ([f"{name}={sample}"] for sample in SAMPLES)
                yield from ([f"{name}={choice}"] for choice in argument.choices or ())
                yield from ([name, "{" + f'"{field}": null' + "}x"] for field in argument.fields or ())
    yield from (["-O", "2"], ["-O2"], ["-O=2"], ["-O3", "--enforce-eager"], ["-O"], ["-O", "x"], ["word"])


def differences(version: release.Version) -> tuple[int, list[str]]:
    """How many cases were tried on a version, and those on which the two do not agree."""
    known = release.Release(version=version)
    tried = list(cases(known))
    folder = unpacked(newest_of_each(published())[release.text(version)])
    accepted = run_parser(folder, "accepts", tried)
    different = [
        f"{' '.join(words)!r}: vLLM {'accepts' if theirs else 'refuses'} it"
        for words, theirs in zip(tried, accepted, strict=True)
        if (refusal(known, words) is None) != theirs
    ]
    compared, wrong = different_keys(known, run_parser(folder, "keys"))
    return len(tried) + compared, different + wrong


def different_keys(known: release.Release, classes: Mapping[str, Mapping[str, str | None]]) -> tuple[int, list[str]]:
    """The same for the keys of objects, with the engine's own ``classes``."""
    compared, different = 0, []
    for argument, ours in known.keys.items():
        theirs = classes.get(class_name(argument), {})
        compared += len(ours)
        different += [f"{argument}.{key}: only one of the two has it" for key in sorted(ours.keys() ^ theirs.keys())]
        for key in ours.keys() & theirs.keys():
            for sample, is_taken in zip(OBJECT_SAMPLES, theirs[key] or "", strict=False):
                if ours[key] and takes_value(ours[key], sample) != (is_taken == "1"):
                    verb = "takes" if is_taken == "1" else "refuses"
                    different.append(f"{argument}.{key}: vLLM {verb} {sample!r}")
    return compared, different


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 if there is a difference."""
    status = 0
    named = {release.text(version): version for version in release.versions()} | {"newest": release.newest()}
    for version in [named[argument] for argument in arguments] or release.versions():
        tried, different = differences(version)
        print(f"vLLM {release.text(version)}: {tried} command lines, {len(different)} differences", flush=True)
        for line in different:
            print(f"  {line}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
