"""Compares what the planner takes for acceptable with what vLLM's own parser accepts: ``python -m
tools.vllm_catalogue.compare [VERSION ...]``, all versions by default; about 3 s of CPU time each.

Every name that any version has is tried on each, in several spellings, and every argument with many values. Left out is
``--config``, which reads a file, and what the values of an object's keys may be.
"""

import sys
from collections.abc import Iterator, Sequence

from deepseek_acs.planner.vllm_releases import release
from deepseek_acs.planner.vllm_releases.command_line import refusal
from tools.vllm_catalogue.__main__ import newest_of_each
from tools.vllm_catalogue.extract import run_parser
from tools.vllm_catalogue.parser_of import SAMPLES
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
    accepted = run_parser(unpacked(newest_of_each(published())[release.text(version)]), "accepts", tried)
    different = [
        f"{' '.join(words)!r}: vLLM {'accepts' if theirs else 'refuses'} it"
        for words, theirs in zip(tried, accepted, strict=True)
        if (refusal(known, words) is None) != theirs
    ]
    return len(tried), different


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 if there is a difference."""
    status = 0
    for version in map(release.version, arguments) if arguments else release.versions():
        tried, different = differences(version)
        print(f"vLLM {release.text(version)}: {tried} command lines, {len(different)} differences", flush=True)
        for line in different:
            print(f"  {line}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
