"""Registers the rules with Pulumi and serves them: ``pulumi preview --policy-pack policy``."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The language host runs this folder by its path, so module names would begin here; they are those of the repository.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    PolicyPack,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.deserialize import serialize_properties

from policy.resources import Resource, plain
from policy.rules import RULES, ResourceRule, StackRule, message

_managed: set[str] = set()
"""URNs of the resources that the engine validated one by one. It does not validate resources that the program only
reads, such as an existing bucket. At the end it passes those as well, without marking them."""


def policy(rule: ResourceRule | StackRule) -> Policy:
    """A rule as Pulumi's policy."""
    common: dict[str, Any] = {
        "name": rule.name,
        "description": rule.statement,
        "enforcement_level": EnforcementLevel(rule.level),
        "config_schema": PolicyConfigSchema({name: dict(option.schema) for name, option in rule.options.items()})
        if rule.options
        else None,
        "url": rule.source or None,
    }
    if isinstance(rule, ResourceRule):
        return ResourceValidationPolicy(validate=_resource_check(rule), **common)
    return StackValidationPolicy(validate=_stack_check(rule), **common)


def _resource_check(rule: ResourceRule) -> Callable[[ResourceValidationArgs, Callable[..., None]], None]:
    def validate(args: ResourceValidationArgs, report: Callable[..., None]) -> None:
        _managed.add(args.urn)
        for finding in rule.check(_resource(args), **rule.arguments(args.get_config())):
            report(message(finding))

    return validate


def _stack_check(rule: StackRule) -> Callable[[StackValidationArgs, Callable[..., None]], None]:
    def validate(args: StackValidationArgs, report: Callable[..., None]) -> None:
        # Empty if a company has disabled all rules about single resources.
        checked = [one for one in args.resources if one.urn in _managed or not _managed]
        stack = [_resource(one, one.property_dependencies) for one in checked]
        for violation in rule.check(stack, **rule.arguments(args.get_config())):
            report(message(violation.finding), violation.resource.urn)

    return validate


def _resource(given: Any, references: Any = None) -> Resource:
    return Resource(
        type=given.resource_type,
        name=given.name,
        urn=given.urn,
        # Unwraps the proxies of the SDK, which refuse to return a list that contains an unknown value.
        properties=plain(serialize_properties(given.props)),
        protected=bool(given.opts.protect),
        references={name: tuple(one.urn for one in ones) for name, ones in (references or {}).items()},
    )


PolicyPack(name="deepseek-on-acs", policies=[policy(rule) for rule in RULES])
