"""What a GGUF file says of its model's shape, in the words of Hugging Face's `config.json`.

Only what stands in the file; nothing is guessed. Numbers that the file keeps as 32-bit floats are
written with as many digits as they have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arriero.errors import ConfigError

if TYPE_CHECKING:
    from arriero.guard.gguf import Metadata, Value

_KEYS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
    "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok",
}
"""GGUF's key, after the architecture, to Hugging Face's."""

_TOKENS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}

_MODEL_TYPES = {
    "command-r": "cohere",
    "gemma3": "gemma3_text",
    "gptneox": "gpt_neox",
    "gptj": "gptj",
    "phi2": "phi",
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
    "starcoder": "gpt_bigcode",
}
"""Architectures whose name in Hugging Face is another one."""


def config_document(metadata: Metadata, *, max_position_embeddings: int | None = None) -> dict[str, Any]:
    """Return the object of `config.json`, its keys sorted.

    max_position_embeddings: the longest session that is served; None = what the model was trained for.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise ConfigError("the file does not name its architecture (general.architecture)")
    found: dict[str, Any] = {"model_type": _MODEL_TYPES.get(architecture, architecture.replace("-", "_"))}
    for key, name in _KEYS.items():
        if (value := metadata.get(f"{architecture}.{key}")) is not None:
            found[name] = _shortest(value)
    for name, key in _TOKENS.items():
        if (token := metadata.get(key)) is not None:
            found[name] = token
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list):
        found["vocab_size"] = len(tokens)
    trained = metadata.get(f"{architecture}.context_length")
    if type(trained) is not int:
        raise ConfigError(
            f"the file does not say what context it was trained for ({architecture}.context_length)"
        )
    found["max_position_embeddings"] = max_position_embeddings or trained
    return dict(sorted(found.items()))


def _shortest(value: Value) -> Value:
    """Return the shortest decimal number that has the same 32-bit form: 1e-05 and not 9.99999974e-06."""
    if not isinstance(value, float):
        return value
    return float(str(np.float32(value)))
