"""Features of the engine as arguments of ``vllm serve``, which differ between versions."""

import json

from deepseek_acs.planner.vllm_releases.release import Version, changed_in


def reasoning(version: Version, parser: str) -> tuple[str, ...]:
    """Reasoning apart from the content of an answer."""
    switch = ("--enable-reasoning",) if version < changed_in("reasoning_switch_idle") else ()
    return (*switch, f"--reasoning-parser={parser}")


def tool_calling(parser: str, chat_template: str | None) -> tuple[str, ...]:
    """Calls of tools that the model decides on. The template is a path in the pod."""
    template = (f"--chat-template={chat_template}",) if chat_template else ()
    return ("--enable-auto-tool-choice", f"--tool-call-parser={parser}", *template)


def prefix_caching(is_on: bool) -> tuple[str, ...]:
    """The cache of prompts that begin alike."""
    return ("--enable-prefix-caching" if is_on else "--no-enable-prefix-caching",)


def chunked_prefill(version: Version, is_on: bool) -> tuple[str, ...]:
    """Prompts that are split over steps."""
    if is_on:
        return ("--enable-chunked-prefill",)
    has_value = version < changed_in("chunked_prefill_switch")
    return ("--enable-chunked-prefill=false" if has_value else "--no-enable-chunked-prefill",)


def kv_offloading(gib: float) -> tuple[str, ...]:
    """Cached prompts in the memory of the hosts, this much for all ranks of the engine together."""
    # Before 0.14, the way had no default.
    return (f"--kv-offloading-size={gib:g}", "--kv-offloading-backend=native")


def traces(endpoint: str) -> tuple[str, ...]:
    """A span for each request, sent to a collector."""
    return (f"--otlp-traces-endpoint={endpoint}",)


def multi_token_prediction(version: Version, tokens: int) -> tuple[str, ...]:
    """Speculative decoding by the layers that come with the model."""
    if version < changed_in("speculative_config"):
        return (f"--num-speculative-tokens={tokens}",)
    method = "mtp" if version >= changed_in("method_mtp") else "deepseek_mtp"
    return (f"--speculative-config={json.dumps({'method': method, 'num_speculative_tokens': tokens})}",)
