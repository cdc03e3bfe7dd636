"""The parser of ``vllm serve`` as a published version builds it, run on its Python files alone.

    python parser_of.py FOLDER arguments          the arguments, as JSON
    python parser_of.py FOLDER accepts < CASES    for each case, a list of words, whether the parser accepts it
    python parser_of.py FOLDER keys               the keys of the configuration's classes, and the values that they take

What the files import beyond Python's standard library and a few small packages (torch, transformers, ...) is replaced
by empty classes: building the parser computes nothing with them. It runs as a process of its own for each version, and
knows nothing of this project.
"""

import abc
import argparse
import contextlib
import dataclasses
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import inspect
import io
import json
import os
import re
import sys
import types
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, Union

from pydantic import PydanticUserError, TypeAdapter
from pydantic_core import core_schema

REAL = {"annotated_types", "packaging", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection", "yaml"}
"""Packages that decide what a parser accepts, or that only hold data."""

VERSIONS = {"torch": "2.11.0", "transformers": "5.5.0", "numpy": "2.2.0", "ray": "2.48.0"}
"""Versions for what compares them. None of them decides an argument."""

ABSENT = {
    "amdsmi",
    "habana_frameworks",
    "libtpu",
    "neuronx_distributed_inference",
    "neuronxcc",
    "optimum",
    "pathwaysutils",
    "torch_neuronx",
    "torch_xla",
    "tpu_inference",
    "tpu_info",
    "transformers_neuronx",
}
"""Packages whose presence says that the machine has no NVIDIA cards."""

EMPTIED = ("vllm.third_party.pynvml", "vllm.ir", "vllm.v1.serial_utils")
"""Modules of vLLM that are replaced, too: NVIDIA's library, the registration of kernels, and messages of processes."""


class _Empty(abc.ABCMeta):
    """Metaclass of what takes the place of a missing package's members: a class of which everything can be asked."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _empty(name)
        setattr(cls, name, made)
        return made

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        # A decorator gives back what it decorates.
        if len(args) == 1 and not kwargs and (inspect.isfunction(args[0]) or inspect.isclass(args[0])):
            return args[0]
        return cls if cls.__module__ == "empty" else super().__call__(*args, **kwargs)

    def __getitem__(cls, _item: Any) -> Any:
        return cls

    def __iter__(cls) -> Any:
        return iter(())

    def __len__(cls) -> int:
        return 0

    def __bool__(cls) -> bool:
        return False

    def __or__(cls, other: Any) -> Any:
        return Union[cls, other]  # noqa: UP007 - | is what is defined here

    __ror__ = __or__

    def __enter__(cls) -> Any:
        return cls

    def __exit__(cls, *_: Any) -> None:
        pass

    def _itself(cls, *_: Any) -> Any:
        return cls

    register = _itself  # type: ignore[assignment]
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = __pow__ = (
        _itself
    )
    __and__ = __rand__ = __lshift__ = __floordiv__ = __mod__ = _itself

    def __int__(cls) -> int:
        return 0

    __index__ = __int__

    def _less(cls, _other: Any) -> bool:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = _less


def _empty(name: str) -> Any:
    members = {
        "__module__": "empty",
        "__init__": lambda self, *_, **__: None,
        "__init_subclass__": classmethod(lambda cls, **_: None),
        # Fields of such a type accept everything.
        "__get_pydantic_core_schema__": classmethod(lambda cls, *_: core_schema.any_schema()),
    }
    return _Empty(name, (), members)


class _EmptyModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in ("__version__", "__file__"):
            return VERSIONS.get(self.__name__, "1.0.0")
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        if name == "__all__":
            return []
        made = _empty(name)
        setattr(self, name, made)
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for everything that is neither real nor vLLM's own Python."""

    def __init__(self, folder: Path, real: Set[str]) -> None:
        self._folder = folder
        self._real = real

    def find_spec(self, name: str, _path: Any, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if top in ABSENT:
            raise ModuleNotFoundError(name)
        own = top == "vllm" and self._is_file(name) and not name.startswith(EMPTIED)
        if top in self._real or top in sys.stdlib_module_names or own:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def _is_file(self, name: str) -> bool:
        path = self._folder.joinpath(*name.split("."))
        return path.with_suffix(".py").exists() or path.is_dir()

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        if spec.name == "regex":
            return re
        made = _EmptyModule(spec.name)
        if spec.name.endswith("pynvml"):
            # The platform is chosen by what NVIDIA's library finds.
            made.nvmlDeviceGetCount = lambda: 1  # type: ignore[attr-defined]
            made.nvmlDeviceGetCudaComputeCapability = lambda _: (9, 0)  # type: ignore[attr-defined]
        if spec.name == "torch":
            made.iinfo = lambda _: types.SimpleNamespace(min=-(2**63), max=2**63 - 1)  # type: ignore[attr-defined]
        made.__path__ = []
        return made

    def exec_module(self, _module: types.ModuleType) -> None:
        pass


def build(folder: Path, real: Set[str] = frozenset(REAL)) -> argparse.ArgumentParser:
    """The parser of the words after ``vllm serve``. From then on everything of this version can be imported, with the
    packages ``real`` as they are."""
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, _Finder(folder, real))
    version = importlib.metadata.version
    importlib.metadata.version = lambda distribution_name: (
        version("vllm") if distribution_name == "vllm" else VERSIONS.get(distribution_name, "1.0.0")
    )
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ["VLLM_TARGET_DEVICE"] = "cuda"
    source = next(
        path for path in sorted(folder.glob("vllm/entrypoints/*/cli_args.py")) if "make_arg_parser" in path.read_text()
    )
    module = importlib.import_module(".".join(source.relative_to(folder).with_suffix("").parts))
    parser_class = module.FlexibleArgumentParser
    serve = folder / "vllm" / "entrypoints" / "cli" / "serve.py"
    if serve.exists():
        subparsers = parser_class(prog="vllm").add_subparsers()
        command = importlib.import_module("vllm.entrypoints.cli.serve").ServeSubcommand()
        return command.subparser_init(subparsers)  # type: ignore[no-any-return]
    # Before, the positional argument and --config were added by the main program.
    parser = parser_class(prog="vllm serve")
    parser.add_argument("model_tag", type=str)
    parser.add_argument("--config", type=str)
    return module.make_arg_parser(parser)  # type: ignore[no-any-return]


SAMPLES = (
    "1",
    "0",
    "-1",
    "0.5",
    "1e3",
    "8k",
    "8K",
    "1.5k",
    "1.5K",
    "1t",
    "auto",
    "AUTO",
    "abc",
    "None",
    "null",
    "",
    "{}",
    '{"a": 1}',
    "[]",
    "[1]",
    "true",
    "True",
    "yes",
    "2",
    "80",
    "70000",
    "a=1",
    "a=b",
    "image=2",
    "1,2",
    "a,b",
    '"a"',
    "0x10",
    " 1",
    "inf",
    "/",
    "1gb",
)
"""Values by which what a type accepts is told from other types."""


def accepted(type_: Any) -> str:
    """For each of ``SAMPLES``, whether a type takes it: 1 or 0."""
    return "".join(str(int(_takes(type_, sample))) for sample in SAMPLES)


def _takes(type_: Any, sample: Any) -> bool:
    try:
        type_(sample)
    except (ValueError, TypeError, SyntaxError, argparse.ArgumentTypeError):
        return False
    return True


def arguments(parser: argparse.ArgumentParser) -> list[dict[str, Any]]:
    """All arguments as plain data."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        found.append(
            {
                "names": parser_names(parser, action),
                "dest": action.dest,
                "nargs": action.nargs,
                "choices": None if action.choices is None else [_plain(choice) for choice in action.choices],
                "default": _plain(action.default),
                "action": type(action).__name__,
                "type": getattr(action.type, "__name__", None if action.type is None else type(action.type).__name__),
                "accepts": None if action.type is None else accepted(action.type),
                "required": action.required,
                "fields": _fields(action),
                "any_case": _any_case(action.type),
            }
        )
    return found


def _any_case(type_: Any) -> bool:
    """Whether a type takes every text and makes small letters of it."""
    return type_ is not None and "0" not in accepted(type_) and type_("AUTO") == "auto"


def _fields(action: argparse.Action) -> list[str] | None:
    """The keys of an argument whose value is an object that is checked against a class."""
    type_: Any = action.type
    found = [*(getattr(type_, "__defaults__", None) or ()), getattr(type_, "__self__", None)]
    for cell in getattr(type_, "__closure__", None) or ():
        found += [cell.cell_contents, *(getattr(cell.cell_contents, "__defaults__", None) or ())]
    # A function that makes the object does not show its class, which is called like the argument.
    class_name = action.dest.removeprefix("override_").title().replace("_", "")
    found.append(getattr(importlib.import_module("vllm.config"), class_name, None))
    for class_ in found:
        if inspect.isclass(class_) and dataclasses.is_dataclass(class_):
            return sorted(field.name for field in dataclasses.fields(class_) if field.init)
        if inspect.isclass(class_) and hasattr(class_, "model_fields"):
            return sorted(class_.model_fields)
    return None


def parser_names(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    """All names of an option, the usual one first and those that help does not show included."""
    names = [name for name, other in parser._option_string_actions.items() if other is action]
    usual = "--" + action.dest.replace("_", "-")
    shown = next((name for name in action.option_strings if name.startswith("--")), names[0] if names else usual)
    first = usual if usual in names else shown
    return [first, *sorted(set(names) - {first})] if names else []


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return getattr(value, "value", value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return f"<{type(value).__name__}>"


def accepts(parser: argparse.ArgumentParser, words: Sequence[str]) -> bool:
    """Whether the parser accepts the words after the name of the model."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            parser.parse_args(["model", *words])
        except (SystemExit, Exception):
            return False
    return True


OBJECT_SAMPLES: tuple[Any, ...] = (
    None,
    True,
    False,
    1,
    -1,
    0,
    2,
    1.0,
    1.5,
    "",
    "1",
    "1.5",
    "abc",
    "True",
    "yes",
    "on",
    [],
    ["a"],
    {},
)
"""Values by which what a key of an object accepts is told from other types."""


def keys() -> dict[str, dict[str, str | None]]:
    """By the class's name in small letters its keys, and for each of ``OBJECT_SAMPLES`` whether it takes it: 1 or 0;
    None where the class does not check."""
    importlib.import_module("vllm.config")
    found: dict[str, dict[str, str | None]] = {}
    for name, module in list(sys.modules.items()):
        for class_ in list(vars(module).values()) if name.startswith("vllm.config") else ():
            if inspect.isclass(class_) and dataclasses.is_dataclass(class_) and class_.__module__.startswith("vllm."):
                checked = getattr(class_, "__pydantic_fields__", {})
                found[class_.__name__.lower()] = {
                    field.name: _accepted_by(checked[field.name].annotation) if field.name in checked else None
                    for field in dataclasses.fields(class_)
                    if field.init
                }
    return found


def _accepted_by(annotation: Any) -> str | None:
    try:
        validate = TypeAdapter(annotation).validate_python
        return "".join(str(int(_takes(validate, sample))) for sample in OBJECT_SAMPLES)
    except PydanticUserError:
        # The type refers to a class that is not built yet, so it is not simple.
        return None


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        built = build(Path(sys.argv[1]))
    if sys.argv[2] == "arguments":
        print(json.dumps(arguments(built)))
    elif sys.argv[2] == "keys":
        with contextlib.redirect_stdout(sys.stderr):
            known = keys()
        print(json.dumps(known))
    else:
        print(json.dumps([accepts(built, words) for words in json.load(sys.stdin)]))
