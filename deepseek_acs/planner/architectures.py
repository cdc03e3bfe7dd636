"""The first version of vLLM that has a class of its own for a model, as read in the published wheels
(``vllm/model_executor/models/registry.py``). What 0.6.6, the oldest one that is known here, already had is left out."""

from deepseek_acs.planner.vllm import Version

SINCE: dict[str, Version] = {
    "DeepseekV32ForCausalLM": (0, 11, 0),
    "DeepseekV41ForCausalLM": (0, 30, 0),
    "DeepseekV4ForCausalLM": (0, 20, 0),
    "Dots1ForCausalLM": (0, 9, 2),
    "Ernie4_5ForCausalLM": (0, 10, 1),
    "Ernie4_5_ForCausalLM": (0, 9, 2),
    "Ernie4_5_MoeForCausalLM": (0, 9, 2),
    "Exaone4ForCausalLM": (0, 10, 0),
    "Gemma3ForCausalLM": (0, 8, 0),
    "Gemma3ForConditionalGeneration": (0, 8, 0),
    "Gemma4ForConditionalGeneration": (0, 19, 0),
    "Glm4ForCausalLM": (0, 8, 4),
    "Glm4MoeForCausalLM": (0, 10, 0),
    "Glm4MoeLiteForCausalLM": (0, 15, 0),
    "GlmMoeDsaForCausalLM": (0, 16, 0),
    "GptOssForCausalLM": (0, 10, 1),
    "HunYuanDenseV1ForCausalLM": (0, 10, 0),
    "InternLM3ForCausalLM": (0, 7, 0),
    "KimiK25ForConditionalGeneration": (0, 15, 0),
    "KimiK3ForConditionalGeneration": (0, 27, 0),
    "KimiLinearForCausalLM": (0, 11, 1),
    "Llama4ForConditionalGeneration": (0, 8, 3),
    "LongcatFlashForCausalLM": (0, 11, 0),
    "MiMoForCausalLM": (0, 9, 0),
    "MiMoV2FlashForCausalLM": (0, 14, 0),
    "MiniMaxM1ForCausalLM": (0, 9, 2),
    "MiniMaxM2ForCausalLM": (0, 11, 1),
    "MiniMaxM3SparseForConditionalGeneration": (0, 24, 0),
    "Mistral3ForConditionalGeneration": (0, 8, 3),
    "NemotronHForCausalLM": (0, 9, 1),
    "Qwen2_5_VLForConditionalGeneration": (0, 7, 2),
    "Qwen3ForCausalLM": (0, 8, 4),
    "Qwen3MoeForCausalLM": (0, 8, 4),
    "Qwen3NextForCausalLM": (0, 10, 2),
    "Qwen3OmniMoeForConditionalGeneration": (0, 11, 1),
    "Qwen3VLForConditionalGeneration": (0, 11, 0),
    "Qwen3VLMoeForConditionalGeneration": (0, 11, 0),
    "Qwen3_5ForConditionalGeneration": (0, 17, 0),
    "Qwen3_5MoeForConditionalGeneration": (0, 17, 0),
    "SeedOssForCausalLM": (0, 10, 2),
    "Step3p5ForCausalLM": (0, 15, 1),
}


def known_since(architecture: str | None) -> Version | None:
    """The first version with a class for this value of a config's ``architectures``; None if that is not known."""
    return SINCE.get(architecture or "")
