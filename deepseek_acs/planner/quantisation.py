"""How a checkpoint is quantised, from what its config.json says."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from deepseek_acs.planner.model import Quantisation

Config = Mapping[str, Any]


class UnknownFormatError(Exception):
    """The checkpoint has a format that is not modelled; the text names it."""


def quantisation_of(c: Config) -> Quantisation | None:
    """How the linear layers are stored, None for 16 bits; raises UnknownFormatError."""
    found = _quantisation(c.get("quantization_config"))
    if found is not None:
        for pattern in found.ignore:
            if pattern.startswith("re:"):
                re.compile(pattern[3:])
    # DeepSeek-V4 has it in a key next to the quantisation, which applies to all other layers.
    if found is not None and c.get("expert_dtype") == "fp4":
        return replace(found, experts=_quantisation({"quant_method": "mxfp4"}))
    return found


def cache_quantised_by(c: Config) -> Literal["modelopt", "compressed-tensors"] | None:
    """The tool that says that the cache is to be in FP8, None if none does; raises UnknownFormatError for a format that
    is not modelled."""
    q = c.get("quantization_config") or {}
    said = q.get("kv_cache_scheme") or q.get("kv_cache_quant_algo")
    if not said:
        return None
    if isinstance(said, str):
        is_fp8 = said.upper() == "FP8"
    else:
        is_fp8 = said.get("num_bits") == 8 and said.get("type") == "float"
    if not is_fp8:
        raise UnknownFormatError(f"a cache in {said if isinstance(said, str) else 'a format other than FP8'}")
    return "compressed-tensors" if _method(q) == "compressed-tensors" else "modelopt"


def _method(q: Config) -> str:
    method = str(q.get("quant_method") or "").lower()
    producer = q.get("producer")
    if not method and isinstance(producer, dict):
        method = str(producer.get("name", ""))
    return method or str(q.get("quant_algo", "")).lower()


def _quantisation(q: Config | None) -> Quantisation | None:
    if not q:
        return None
    method = _method(q)
    ignore = tuple(q.get("ignore") or q.get("modules_to_not_convert") or q.get("exclude_modules") or ())
    if "quantized_layers" in q or str(q.get("quant_algo")).upper() == "MIXED_PRECISION":
        raise UnknownFormatError("weights of mixed precision")
    if q.get("dynamic") and method == "gptq":
        raise UnknownFormatError("GPTQ weights whose format differs by layer")
    match method:
        case "fp8":
            rows, columns = q.get("weight_block_size") or (0, 0)
            return Quantisation(method="fp8", bits=8, rows=rows, columns=columns, scale_bytes=4, ignore=ignore)
        case "fbgemm_fp8":
            return Quantisation(method="fbgemm_fp8", bits=8, rows=1, columns=0, scale_bytes=4, ignore=ignore)
        case "awq" | "gptq":
            return Quantisation(
                method=method,
                bits=q["bits"],
                rows=1,
                columns=max(0, q.get("group_size", 0)),
                scale_bytes=2,
                zero_point=bool(q.get("zero_point", method == "gptq")),
                ignore=ignore,
            )
        case "mxfp4":
            return Quantisation(
                method="mxfp4", bits=4, rows=1, columns=32, scale_bytes=1, experts_only=True, ignore=ignore
            )
        case "compressed-tensors":
            return _compressed_tensors(q, ignore)
        case "modelopt" | "modelopt_fp4" | "nvfp4":
            return _modelopt(q, method, ignore)
        case _:
            raise UnknownFormatError(f"weights in a format that is not known here ({method})")


def _modelopt(q: Config, method: str, ignore: tuple[str, ...]) -> Quantisation:
    algorithm = str(q.get("quant_algo") or ("FP8" if method == "modelopt" else "NVFP4")).upper()
    if algorithm == "FP8":
        return Quantisation(method="modelopt", bits=8, rows=0, columns=0, scale_bytes=4, ignore=ignore)
    if algorithm == "NVFP4":
        return Quantisation(method="nvfp4", bits=4, rows=1, columns=16, scale_bytes=1, ignore=ignore)
    raise UnknownFormatError(f"weights in a format that is not known here ({algorithm})")


def _compressed_tensors(q: Config, ignore: tuple[str, ...]) -> Quantisation | None:
    groups = list((q.get("config_groups") or {}).values())
    if not groups:
        # Only the cache is quantised.
        return None
    weights = groups[0]["weights"]
    if any(group["weights"] != weights or group.get("targets", ["Linear"]) != ["Linear"] for group in groups):
        raise UnknownFormatError("weights whose format differs by layer")
    strategy = weights["strategy"]
    rows, columns = {
        "tensor": (0, 0),
        "channel": (1, 0),
        "group": (1, weights.get("group_size")),
        "tensor_group": (1, weights.get("group_size")),
        "block": weights.get("block_structure") or (128, 128),
    }[strategy]
    bits = weights["num_bits"]
    return Quantisation(
        method="fp8" if strategy == "block" else "compressed-tensors",
        bits=bits,
        rows=rows,
        columns=columns,
        scale_bytes={"tensor_group": 1, "block": 4}.get(strategy, 2 if bits == 4 else 4),
        zero_point=weights.get("symmetric") is False,
        ignore=ignore,
    )
