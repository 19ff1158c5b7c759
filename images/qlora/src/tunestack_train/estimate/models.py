"""Configs of models that presets and the guide name, for estimates where the model itself is not at hand.

Gemma and Llama are gated: without a token not even config.json can be fetched. What stands here are facts of those
files (fields that the estimate reads, no more), as published on the models' pages on the Hugging Face hub and repeated
in their technical reports, table of architectures.
"""

from collections.abc import Mapping
from typing import Final


def _gemma2(hidden: int, layers: int, heads: int, groups: int, intermediate: int, head_dim: int) -> dict[str, object]:
    return {
        "model_type": "gemma2",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": intermediate,
        "head_dim": head_dim,
        "vocab_size": 256000,
        "attn_logit_softcapping": 50.0,
    }


def _decoder(
    model_type: str,
    hidden: int,
    layers: int,
    heads: tuple[int, int],
    intermediate: int,
    vocabulary: int,
    **more: object,
) -> dict[str, object]:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
        **more,
    }


# Gemma 2: https://arxiv.org/abs/2408.00118, table 1. The transformers classes' own defaults confirm gemma-7b
# (GemmaConfig) and Mistral 7B v0.1 (MistralConfig).
KNOWN: Final[Mapping[str, Mapping[str, object]]] = {
    "google/gemma-2b": _decoder("gemma", 2048, 18, (8, 1), 16384, 256000, head_dim=256),
    "google/gemma-7b": _decoder("gemma", 3072, 28, (16, 16), 24576, 256000, head_dim=256),
    "google/gemma-2-2b": _gemma2(2304, 26, 8, 4, 9216, 256),
    "google/gemma-2-9b": _gemma2(3584, 42, 16, 8, 14336, 256),
    "google/gemma-2-27b": _gemma2(4608, 46, 32, 16, 36864, 128),
    "google/gemma-3-1b-pt": _decoder("gemma3_text", 1152, 26, (4, 1), 6912, 262144, head_dim=256),
    "meta-llama/Llama-3.1-8B": _decoder("llama", 4096, 32, (32, 8), 14336, 128256),
    "meta-llama/Llama-3.2-1B": _decoder(
        "llama", 2048, 16, (32, 8), 8192, 128256, head_dim=64, tie_word_embeddings=True
    ),
    "meta-llama/Llama-3.2-3B": _decoder(
        "llama", 3072, 28, (24, 8), 8192, 128256, head_dim=128, tie_word_embeddings=True
    ),
    "mistralai/Mistral-7B-v0.1": _decoder("mistral", 4096, 32, (32, 8), 14336, 32000),
    "mistralai/Mistral-7B-v0.3": _decoder("mistral", 4096, 32, (32, 8), 14336, 32768),
    "Qwen/Qwen2.5-7B": _decoder("qwen2", 3584, 28, (28, 4), 18944, 152064),
    "Qwen/Qwen3-8B": _decoder("qwen3", 4096, 36, (32, 8), 12288, 151936, head_dim=128),
}


def known(model: str) -> Mapping[str, object] | None:
    """The config of a hub id, of its instruction-tuned variant too; None when it is not one of those above."""
    lower = model.lower()
    for name, config in KNOWN.items():
        if lower in (name.lower(), *(f"{name.lower()}{ending}" for ending in ("-it", "-instruct"))):
            return config
        if name.endswith("-pt") and lower == f"{name.removesuffix('-pt')}-it".lower():
            return config
    return None
