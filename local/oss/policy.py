"""RAM policies (https://www.alibabacloud.com/help/en/oss/user-guide/authorization-syntax-and-elements)."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

ACCOUNT = "1000000000000000"
"""The account that owns everything here."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
"""One or more, with ``*`` for any text and ``?`` for one character."""


class CurrentTime(BaseModel):
    """A condition on the time of a request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: datetime = Field(alias="acs:CurrentTime")


class Conditions(BaseModel):
    """All must hold. Others are refused rather than ignored: this server does not evaluate them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date_less_than: CurrentTime = Field(alias="DateLessThan")


class Statement(BaseModel):
    """What is allowed or denied, and until when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effect: Literal["Allow", "Deny"] = Field(alias="Effect")
    actions: Patterns = Field(alias="Action")
    resources: Patterns = Field(alias="Resource")
    conditions: Conditions | None = Field(default=None, alias="Condition")

    def covers(self, action: str, resource: str) -> bool:
        """Whether it is about this action on this resource, now."""
        if self.conditions is not None and datetime.now(UTC) >= self.conditions.date_less_than.time:
            return False
        return _matches(self.actions, action) and _matches(self.resources, resource)


class Policy(BaseModel):
    """A policy document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal["1"] = Field(alias="Version")
    statements: list[Statement] = Field(alias="Statement")


def allows(policies: Iterable[Policy], action: str, resource: str) -> bool:
    """Whether one statement allows it and none denies it."""
    effects = {
        statement.effect for policy in policies for statement in policy.statements if statement.covers(action, resource)
    }
    return effects == {"Allow"}


def resource_name(region: str, bucket: str, key: str) -> str:
    """Of an object, of a bucket if ``key`` is empty, of all buckets if both are."""
    return f"acs:oss:oss-{region}:{ACCOUNT}:{bucket or '*'}" + (f"/{key}" if key else "")


def _matches(patterns: Iterable[str], text: str) -> bool:
    return any(
        re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL)
        for pattern in patterns
    )
