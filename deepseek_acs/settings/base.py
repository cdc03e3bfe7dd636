"""Base class of all settings, string types and quantities."""

import ast
import functools
import inspect
import ipaddress
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

DNS_LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""DNS-1035 label: names of Services and LeaderWorkerSets
(https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#rfc-1035-label-names)."""

BUCKET_NAME = r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$"
"""https://www.alibabacloud.com/help/en/oss/user-guide/bucket-naming-conventions"""

KEY_PREFIX = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"
"""A folder in a bucket without leading or trailing slash and without ``.`` or ``..`` as a part."""

BINARY_QUANTITY = r"^[1-9][0-9]*(Mi|Gi|Ti)$"
"""A Kubernetes quantity with a binary suffix. Decimal ones (``512G``) are refused: ACS rounds them up to the next
legal size and bills that (https://www.alibabacloud.com/help/en/cs/user-guide/acs-pod-instance-overview)."""

MOUNT_OPTION = r"^[a-z0-9_]+(=[^\s,]+)?$"

_REPOSITORY = r"([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
_TAG, _DIGEST = r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", r"@sha256:[0-9a-f]{64}"
IMAGE = rf"^{_REPOSITORY}({_TAG}|({_TAG})?{_DIGEST})$"
"""An image with a tag or a digest (https://github.com/distribution/reference/blob/main/reference.go)."""

ENDPOINT = r"^https?://([A-Za-z0-9-]+\.)*[A-Za-z0-9-]+(:[0-9]{1,5})?$"
"""A URL without path, user name and query: each of them could hold a secret, which would be readable in the state."""

Endpoint = Annotated[str, Field(pattern=ENDPOINT, examples=["https://hub.example.com"])]
DnsLabel = Annotated[str, Field(pattern=DNS_LABEL, max_length=63)]
Quantity = Annotated[str, Field(pattern=BINARY_QUANTITY, examples=["512Gi"])]
Port = Annotated[int, Field(ge=1, le=65535)]

_MEBIBYTES = {"Mi": 1, "Gi": 1024, "Ti": 1024**2}


def mebibytes(quantity: str) -> int:
    """A quantity in the form of ``BINARY_QUANTITY``, in MiB."""
    return int(quantity[:-2]) * _MEBIBYTES[quantity[-2:]]


def gibibytes(quantity: str) -> int:
    """A quantity in Gi or Ti as a number of GiB."""
    return mebibytes(quantity) // 1024


def quantity(gib: float) -> str:
    """A number of GiB, a multiple of 1 MiB, as a quantity in the form of ``BINARY_QUANTITY``."""
    return f"{gib:.0f}Gi" if gib == int(gib) else f"{gib * 1024:.0f}Mi"


@functools.cache
def descriptions(model: type[BaseModel]) -> Mapping[str, str]:
    """The docstrings below the fields of a model, by field name. They are read on demand: pydantic's own option
    ``use_attribute_docstrings`` parses the source of all settings at each start, which takes longer than everything
    else they need."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        found |= _docstrings(base.__module__)[base.__name__]
    return found


@functools.cache
def _docstrings(module: str) -> Mapping[str, Mapping[str, str]]:
    """The docstrings below the fields of each class of a module."""
    classes: dict[str, dict[str, str]] = {}
    for definition in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(definition, ast.ClassDef):
            found = classes[definition.name] = {}
            for field, docstring in pairwise(definition.body):
                match field, docstring:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                        found[name] = inspect.cleandoc(text)
    return classes


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    for name, text in descriptions(model).items():
        schema["properties"][model.model_fields[name].alias]["description"] = text


class Settings(BaseModel):
    """Base of all settings: camelCase in the stack file, frozen, unknown keys refused, no values in errors, and no
    empty section, which would silently be the same as no section."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,  # of most settings no validator is needed but that of the whole stack file
        json_schema_extra=_describe,
    )

    @field_validator("*")
    @classmethod
    def _is_not_empty(cls, value: object, info: ValidationInfo) -> object:
        """A section whose lines are all commented out is null, and would silently be off. Where null is a valid choice,
        it is not the default."""
        if value is None and cls.model_fields[str(info.field_name)].default is None:
            raise problem("it is empty", fix="write a value, or {} for a section's defaults, or remove the line")
        return value


def problem(problem: str, *, fix: str) -> PydanticCustomError:
    """An error of one of our own checks; ``components/stack_config.py`` prints problem and fix separately."""
    return PydanticCustomError("check", "{problem}", {"problem": problem, "fix": fix})


def _ipv4_network(text: str) -> str:
    """IPv4 only: neither the access control lists of an IPv4 load balancer nor the network policies of Alibaba Cloud
    support IPv6
    (https://www.alibabacloud.com/help/en/ack/serverless-kubernetes/user-guide/using-the-network-policy-networkpolicy)."""
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise problem("this is not an IPv4 network", fix="write it in CIDR notation, for example 10.0.0.0/8") from None
    if network.prefixlen == 0:
        raise problem("this network contains every address", fix="list the client networks, for example 10.0.0.0/8")
    if str(network) != text:
        raise problem("this is an address with host bits, not a network", fix=f"write {network}")
    return text


def _not_empty(items: tuple[object, ...]) -> tuple[object, ...]:
    """Unlike ``min_length``, it is not reported in addition to a wrong item."""
    if not items:
        raise problem("the list is empty", fix="write at least one item, or remove the setting")
    return items


NotEmpty = AfterValidator(_not_empty)

Cidr = Annotated[str, AfterValidator(_ipv4_network), Field(examples=["10.0.0.0/8"])]

HOST = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$"
"""A complete host name without wildcard
(https://kubernetes.io/docs/concepts/services-networking/ingress/#hostname-wildcards)."""

OBJECT_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""DNS subdomain: names of Secrets and Gateways
(https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names)."""

ObjectName = Annotated[str, Field(pattern=OBJECT_NAME, max_length=253)]
