"""Reads the stack's configuration: the specification, with all problems at once, and the secrets separately."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime.config import is_config_secret
from pydantic import ValidationError

from deepseek_acs.planner.check import check
from deepseek_acs.planner.findings import Finding, report, spelled
from deepseek_acs.planner.resolve import resolve
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.summary import text, with_cost
from deepseek_acs.settings.errors import DEPLOYMENT, findings
from deepseek_acs.settings.paths import STACK_PATHS, update_paths
from deepseek_acs.settings.secret_texts import misplaced_secrets
from deepseek_acs.settings.stack import StackSettings

from .measured_starts import with_starts
from .names import name_findings
from .secrets import Secrets, read_secrets, secret_findings

PROJECT_FOLDER = Path(__file__).parent.parent
"""The folder of relative paths in a stack file. Not the working directory, which the engine chooses."""

MISSING_DEPLOYMENT = Finding(
    path=DEPLOYMENT,
    problem="the stack has no deployment settings",
    fix="copy the deepseek:deployment section of Pulumi.dev.yaml into the stack's file and change it",
)

TEXT_DEPLOYMENT = Finding(
    path=DEPLOYMENT,
    problem="expected a mapping, got a string",
    fix="write the settings below it, indented, as in Pulumi.dev.yaml, without | and quotes",
)


ENCRYPTED_VALUE = Finding(
    path=DEPLOYMENT,
    problem="a value below it is encrypted (secure:), and these settings are shown in plain text: in the preview, in "
    "Pulumi's state and in the pods",
    fix="write a plain value; secrets are keys of their own (docs/configuration.md), and variables of the engine come "
    "from a Secret by engine.secretEnv",
)


def load() -> tuple[ResolvedSpec, Secrets]:
    """Specification and secrets of the current stack. The plan and its warnings go to the log.

    Raises ``pulumi.RunError`` with all problems and their fixes.
    """
    config = pulumi.Config()
    spec = with_starts(resolve(_settings(config), folder=PROJECT_FOLDER), config)
    found = checked(spec)
    errors = [finding for finding in found if finding.severity == "error"]
    if errors := [*errors, *name_findings(spec), *secret_findings(config, spec)]:
        raise _error(errors)
    pulumi.log.info(text(with_cost(spec)))
    for finding in found:
        pulumi.log.warn(str(finding))
    return spec, read_secrets(config, spec)


def checked(spec: ResolvedSpec) -> list[Finding]:
    """Errors and warnings about ``spec``, with the paths of a stack file. Of the second revision of an update, those
    that the first does not have."""
    found = [spelled(finding, STACK_PATHS) for finding in check(spec)]
    if spec.update is not None:
        paths, candidate = update_paths(spec.update.sections), spec.update.candidate
        others = [spelled(finding, paths) for finding in check(candidate)]
        found += [
            dataclasses.replace(finding, problem=f"revision {candidate.revision}: {finding.problem}")
            for finding in others
            if finding not in found
        ]
    return found


def given() -> Mapping[str, Any]:
    """The settings as they stand in the stack file. ``load`` has checked them: they contain no secret."""
    settings: Mapping[str, Any] = pulumi.Config().require_object(DEPLOYMENT)
    return settings


def _settings(config: pulumi.Config) -> StackSettings:
    # ``from None``: the causes would be printed with the traceback. Pulumi's text contains all settings, and pydantic's
    # is for developers.
    try:
        raw = config.get_object(DEPLOYMENT)
    except pulumi.ConfigTypeError:
        raise _error([TEXT_DEPLOYMENT]) from None
    if raw is None:
        raise _error([MISSING_DEPLOYMENT])
    misplaced = list(misplaced_secrets(raw, DEPLOYMENT))
    if is_config_secret(f"{config.name}:{DEPLOYMENT}"):
        misplaced.append(ENCRYPTED_VALUE)
    try:
        settings = StackSettings.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _error([*findings(error), *misplaced]) from None
    if misplaced:
        raise _error(misplaced)
    return settings


def _error(found: list[Finding]) -> pulumi.RunError:
    return pulumi.RunError(report(found, where=f"Pulumi.{pulumi.get_stack()}.yaml"))
