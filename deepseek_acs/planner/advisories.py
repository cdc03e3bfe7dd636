"""Published vulnerabilities of vLLM, torch and Ray, and which of them a deployment has.

The table is ``advisories.toml``, as of the date in its head; a vulnerability that was published later is not in it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal

from deepseek_acs.planner.catalogue import rows
from deepseek_acs.planner.dangerous import PICKLE_FORMATS
from deepseek_acs.planner.spec import ResolvedSpec
from deepseek_acs.planner.vllm import split_arguments
from deepseek_acs.planner.vllm_releases.release import requirements, versions

Release = tuple[int, ...]
"""``(0, 10, 1, 1)``; a Version has three numbers, a release may have more."""


@dataclass(frozen=True, kw_only=True)
class Advisory:
    """One row of the table; its head says what the fields mean."""

    id: str
    package: Literal["vllm", "torch", "ray"]
    published: date
    reach: Literal["api", "pods", "model"]
    effect: str
    ghsa: str = ""
    introduced: Release = ()
    fixed: Release | None = None
    needs: tuple[str, ...] = ()
    filtered: bool = False
    confirmed: bool = True
    note: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The names by which it is accepted."""
        return frozenset({self.id, self.ghsa} - {""})

    @property
    def source(self) -> str:
        """Its page; that of GitHub's database, where an ID of that is known."""
        known = self.ghsa or (self.id if self.id.startswith("GHSA-") else "")
        return f"https://github.com/advisories/{known}" if known else f"https://nvd.nist.gov/vuln/detail/{self.id}"

    def concerns(self, release: Release) -> bool:
        """Whether a release of its package is in its range."""
        return self.introduced <= release and (self.fixed is None or release < self.fixed)


def release(text: str) -> Release:
    """``0.10.1.1`` as numbers. Raises ValueError."""
    return tuple(int(part) for part in text.split("."))


def image_release(image: str) -> Release | None:
    """vLLM's release in an image's name, with all of its numbers; None without one."""
    found = re.search(r"vllm[a-z/_-]*:?v?(\d+(?:\.\d+)+)", image.rsplit("@", 1)[0])
    return release(found[1]) if found else None


@cache
def advisories() -> tuple[Advisory, ...]:
    """All of the table. Raises TypeError, ValueError for a row that is wrong."""
    found = []
    for row in rows("advisories.toml")["advisory"]:
        versions = {field: release(row[field]) for field in ("introduced", "fixed") if field in row}
        found.append(Advisory(**{**row, **versions, "needs": tuple(row.get("needs", ()))}))
    return tuple(found)


def applying(spec: ResolvedSpec) -> Iterator[Advisory]:
    """Those that ``spec`` has as it is set, accepted ones included."""
    for advisory in _concerning(image_release(spec.engine.image) or spec.engine.vllm.version):
        kept_out = advisory.filtered and spec.request_filter is not None
        if not kept_out and all(CONDITIONS[need](spec) for need in advisory.needs):
            yield advisory


@cache
def _concerning(vllm: Release) -> Sequence[Advisory]:
    releases: Mapping[str, Release] = {"vllm": vllm, "torch": torch_of(vllm)}
    # Images do not tell their version of Ray: any is possible.
    return [one for one in advisories() if one.package == "ray" or one.concerns(releases[one.package])]


@cache
def torch_of(vllm: Release) -> Release:
    """The torch that a release of vLLM requires, or the last one before it that the catalogue has; 0 before all."""
    known = [version for version in versions() if version <= vllm]
    return release(requirements(known[-1])["torch"]) if known else (0,)


def _arguments(spec: ResolvedSpec) -> Mapping[str, str]:
    return split_arguments(spec.engine.extra_args)


def _prefix_cache(spec: ResolvedSpec) -> bool:
    given = _arguments(spec)
    return "--enable-prefix-caching" in given or (
        not spec.engine.vllm.is_v0 and "--no-enable-prefix-caching" not in given
    )


def _pickle(spec: ResolvedSpec) -> bool:
    return spec.weights.allow_pickle or _arguments(spec).get("--load-format") in PICKLE_FORMATS


def _open_group(spec: ResolvedSpec) -> bool:
    return spec.layout.pods > 1 and spec.security.network_policy is None and not spec.security.security_groups


CONDITIONS: Mapping[str, Callable[[ResolvedSpec], bool]] = {
    "key": lambda spec: spec.service.api_key,
    "v0-engine": lambda spec: spec.engine.vllm.is_v0,
    "tensor-across-pods": lambda spec: spec.layout.pods > 1 and spec.layout.tensor > spec.layout.gpus_per_pod,
    "kv-transfer": lambda spec: "--kv-transfer-config" in _arguments(spec),
    "prefix-cache": _prefix_cache,
    "tool-parser": lambda spec: "--tool-call-parser" in _arguments(spec),
    "qwen3-coder-parser": lambda spec: _arguments(spec).get("--tool-call-parser") == "qwen3_coder",
    "hidden-states": lambda spec: "extract_hidden_states" in _arguments(spec).get("--speculative-config", ""),
    "prompt-embeds": lambda spec: "--enable-prompt-embeds" in _arguments(spec),
    # The catalogue's models, and those of a config.json, are texts only; of others nothing is known.
    "multimodal": lambda spec: spec.model.shapes is None,
    "gguf": lambda spec: "gguf" in (_arguments(spec).get("--load-format"), _arguments(spec).get("--quantization")),
    "embed": lambda spec: "POST /v1/embeddings" in spec.api_paths,
    "remote-code": lambda spec: spec.engine.trust_remote_code,
    "no-remote-code": lambda spec: not spec.engine.trust_remote_code,
    "python-optimized": lambda spec: bool(spec.engine.env.get("PYTHONOPTIMIZE")),
    "rust-frontend": lambda spec: spec.engine.env.get("VLLM_USE_RUST_FRONTEND", "0") != "0",
    "pickle": _pickle,
    "ray-without-token": lambda spec: (
        spec.engine.backend == "ray" and spec.layout.pods > 1 and not spec.engine.ray_token
    ),
    "open-group": _open_group,
}
"""What ``needs`` may name: of a deployment, whether it is so."""
