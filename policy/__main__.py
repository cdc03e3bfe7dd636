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
"""URNs that the engine asked about one by one. It does not for resources that the program only reads, such as an
existing bucket; at the end it shows those as well, and does not say which they are."""


class _AtTheEnd(StackValidationPolicy):  # type: ignore[misc] # no types
    """Lets a policy about single resources be called for the whole stack as well: its base class takes other
    arguments than Policy."""

    def __init__(self, *arguments: Any) -> None:
        Policy.__init__(self, *arguments)


class _ResourcePolicy(ResourceValidationPolicy, _AtTheEnd):  # type: ignore[misc] # no types
    """Evaluates a rule about single resources: of each one that the program manages before it is created or changed,
    and of those that it only reads at the end."""

    def __init__(self, rule: ResourceRule) -> None:
        super().__init__(**_common(rule))
        self._rule = rule

    def validate(self, args: ResourceValidationArgs | StackValidationArgs, report: Callable[..., None]) -> None:
        arguments = self._rule.arguments(args.get_config())
        if isinstance(args, ResourceValidationArgs):
            _managed.add(args.urn)
            for finding in self._rule.check(_resource(args), **arguments):
                report(message(finding))
            return
        for one in args.resources:
            if _is_only_read(one.urn):
                for finding in self._rule.check(_resource(one, read_only=True), **arguments):
                    report(message(finding), one.urn)


def policy(rule: ResourceRule | StackRule) -> Policy:
    """A rule as Pulumi's policy."""
    if isinstance(rule, ResourceRule):
        return _ResourcePolicy(rule)
    return StackValidationPolicy(validate=_stack_check(rule), **_common(rule))


def _stack_check(rule: StackRule) -> Callable[[StackValidationArgs, Callable[..., None]], None]:
    def validate(args: StackValidationArgs, report: Callable[..., None]) -> None:
        stack = [_resource(one, one.property_dependencies, read_only=_is_only_read(one.urn)) for one in args.resources]
        for violation in rule.check(stack, **rule.arguments(args.get_config())):
            report(message(violation.finding), violation.resource.urn)

    return validate


def _common(rule: ResourceRule | StackRule) -> dict[str, Any]:
    properties = {name: dict(option.schema) for name, option in rule.options.items()}
    return {
        "name": rule.name,
        "description": rule.statement,
        "enforcement_level": EnforcementLevel(rule.level),
        "config_schema": PolicyConfigSchema(properties) if properties else None,
        "url": rule.source,
    }


def _is_only_read(urn: str) -> bool:
    # Empty where a company has disabled all rules about single resources.
    return bool(_managed) and urn not in _managed


def _resource(given: Any, references: Any = None, *, read_only: bool = False) -> Resource:
    return Resource(
        type=given.resource_type,
        name=given.name,
        urn=given.urn,
        # Unwraps the proxies of the SDK, which refuse to return a list that contains an unknown value.
        properties=plain(serialize_properties(given.props)),
        protected=bool(given.opts.protect),
        read_only=read_only,
        references={name: tuple(one.urn for one in ones) for name, ones in (references or {}).items()},
    )


PolicyPack(name="deepseek-on-acs", policies=[policy(rule) for rule in RULES])
