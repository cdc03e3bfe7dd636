"""Arguments of the public components: a front end for the settings, as the stack file and the command line are.

Each argument stands for one setting. So a public component has the defaults of a stack file, is resolved by the same
planner and checked by the same rules; findings name the arguments.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import pulumi
from pydantic import ValidationError

from deepseek_acs.planner.check import check
from deepseek_acs.planner.findings import Field, Finding, Spelling, report, spelled
from deepseek_acs.planner.resolve import resolve
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.settings.errors import DEPLOYMENT, findings
from deepseek_acs.settings.paths import STACK_PATHS
from deepseek_acs.settings.stack import StackSettings

from ..names import name_findings

DEFAULT_MODEL = "deepseek-ai/DeepSeek-R1"
DEFAULT_SERIES = "GU8TF"
"""The guide's."""

REGION_OF_PROVIDER = "region"
"""Configuration key of the alicloud provider, which has the region by default."""

_SETTING = re.compile(rf"\b{DEPLOYMENT}((?:\.[A-Za-z]+)+)")

T = TypeVar("T")

spell: Callable[[str], str] = str
"""How users write an argument's name: as Python does, or camelCase where the component is used by a schema."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of one kind of component.

    ``paths`` says which setting an argument stands for. Those of ``inputs`` may be outputs of other resources: what
    they are is checked only where it is known already. ``others`` stand for no single setting.
    """

    component: str
    paths: Mapping[str, str]
    inputs: Collection[str]
    others: Collection[str] = ()
    required: Collection[str] = ()
    sections: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Arguments to name for a whole section of the settings, where they are not those whose settings are in it."""

    made_up: tuple[str, ...] = ()
    """Sections of the settings that stand for parts of a deployment that the component does not have. A finding about
    them is of interest only where it names one of the arguments."""

    def resolve(
        self, name: str, args: Mapping[str, Any], *, settings: Mapping[str, Any], found: Collection[Finding] = ()
    ) -> tuple[ResolvedSpec, list[Finding]]:
        """The specification and its warnings. ``settings`` are values by path that the component itself decides,
        ``found`` findings of its own, with arguments as paths.

        Raises ``pulumi.RunError`` with all problems and their fixes.
        """
        problems = [*self._unusable(args), *found]
        given = {
            path: args[argument]
            for argument, path in self.paths.items()
            if argument in args and not isinstance(args[argument], pulumi.Output)
        }
        try:
            parsed = StackSettings.model_validate(_nested({**self._defaults(args), **settings, **given}))
        except ValidationError as error:
            raise self._error(name, [*problems, *map(self._renamed, findings(error))]) from None
        # A component's files are those of the program that uses it.
        spec = resolve(parsed, folder=Path.cwd())
        spelling = self._spelling()
        named = [spelled(finding, spelling) for finding in check(spec) if self._concerns(finding)]
        problems += [finding for finding in named if finding.severity == "error"]
        problems += [self._renamed(finding) for finding in name_findings(spec, models=name, access=name)]
        if problems:
            raise self._error(name, problems)
        return spec, named

    def _defaults(self, args: Mapping[str, Any]) -> dict[str, Any]:
        model = str(args.get("model") or DEFAULT_MODEL)
        region = pulumi.Config("alicloud").get(REGION_OF_PROVIDER)
        return {
            **({"cloud.region": region} if region else {}),
            "model.name": model,
            "weights.prefix": f"models/{model.rpartition('/')[2]}",
            "inference.gpu.series": DEFAULT_SERIES,
        }

    def _unusable(self, args: Mapping[str, Any]) -> Iterator[Finding]:
        known = [*self.paths, *self.inputs, *self.others]
        for argument, value in args.items():
            if argument not in known:
                near = difflib.get_close_matches(argument, known, n=1)
                fix = f"did you mean {spell(near[0])}?" if near else "remove it: docs/library.md lists the arguments"
                yield Finding(path=argument, problem="there is no such argument", fix=fix)
            elif isinstance(value, pulumi.Output) and argument not in self.inputs:
                yield Finding(
                    path=spell(argument),
                    problem="it is an output of another resource, and the plan needs the value before any exists",
                    fix="write a plain value",
                )
        for argument in self.required:
            if argument not in args:
                yield Finding(path=spell(argument), problem="this argument is required", fix="add it")

    def _concerns(self, finding: Finding) -> bool:
        path = STACK_PATHS[Field(finding.path)].removeprefix(f"{DEPLOYMENT}.")
        return path in self.paths.values() or path.partition(".")[0] not in self.made_up

    def _spelling(self) -> Spelling:
        names = {field: self._below(path.removeprefix(f"{DEPLOYMENT}.")) for field, path in STACK_PATHS.items()}
        return {field: name for field, name in names.items() if name}

    def _below(self, path: str) -> str:
        """The argument for a setting, or those for a section; empty where there are none."""
        exact = [argument for argument, of in self.paths.items() if of == path] or self.sections.get(path, ())
        below = exact or [argument for argument, of in self.paths.items() if of.startswith(f"{path}.")]
        return ", ".join(map(spell, below))

    def _renamed(self, finding: Finding) -> Finding:
        def rename(text: str) -> str:
            return _SETTING.sub(lambda match: self._below(match[1][1:]) or match[1][1:], text)

        return Finding(path=rename(finding.path), problem=rename(finding.problem), fix=rename(finding.fix))

    def _error(self, name: str, found: list[Finding]) -> pulumi.RunError:
        return pulumi.RunError(report(found, where=f"{self.component} {name}"))


def present(args: T) -> T:
    """The arguments without those that are None: an output that a component does not have stands for no argument."""
    return cast(T, {name: value for name, value in cast(Mapping[str, Any], args).items() if value is not None})


def pair_findings(args: Mapping[str, Any], *pair: str) -> Iterator[Finding]:
    """Of two arguments that need each other, only one is given."""
    missing = [argument for argument in pair if argument not in args]
    if len(missing) == 1:
        given = next(argument for argument in pair if argument in args)
        yield Finding(
            path=spell(missing[0]),
            problem=f"it is missing, and {spell(given)} is given",
            fix="write both, or neither",
        )


def checked_secret(
    argument: str, value: pulumi.Input[str], problem: Callable[[str], str | None], *, fix: str
) -> pulumi.Output[str]:
    """The value as a secret; as soon as it is known, ``pulumi.RunError`` is raised where ``problem`` finds one."""

    def checked(known: str) -> str:
        if found := problem(known):
            raise pulumi.RunError(str(Finding(path=spell(argument), problem=found, fix=fix)))
        return known

    return pulumi.Output.secret(value).apply(checked)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by path as the stack file nests them."""
    found: dict[str, Any] = {}
    for path, value in values.items():
        *sections, last = path.split(".")
        section = found
        for name in sections:
            section[name] = section.get(name) or {}
            section = section[name]
        section[last] = value
    return found
