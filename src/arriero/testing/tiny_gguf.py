"""Writes tiny GGUF files with random weights, one for each model family, and LoRA adapters for them.

They load and decode in milliseconds and speak nonsense; equal arguments give equal files. Needs
`gguf` and `numpy` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import numpy.typing as npt

from arriero.testing import tiny_vocab
from arriero.testing.tiny_vocab import CHAT_TEMPLATE, TinyVocab

if TYPE_CHECKING:
    from pathlib import Path

EMBEDDING_SIZE = 64
LAYERS = 2
HEADS = 4
HEAD_SIZE = EMBEDDING_SIZE // HEADS
FEED_FORWARD_SIZE = 128
SLIDING_WINDOW = 16

Tensors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Family:
    """What sets a family apart. The defaults are those of LLaMA.

    norm: "rms" or "layer". norm_bias, bias: of the norms, and of the other matrices.
    qkv: one fused matrix or three. gated: a feed-forward network with a gate ("fused" in `ffn_up`).
    position: "rope", "learned" or "alibi". extra_norms: further norms of a layer and their sizes.
    """

    tokenizer: str = "spm"
    norm: str = "rms"
    norm_bias: bool = False
    bias: bool = False
    qkv_bias: bool = False
    fused_qkv: bool = False
    ffn_norm: bool = True
    gate: str = "split"
    position: str = "rope"
    kv_heads: int = HEADS
    rope_size: int = HEAD_SIZE
    tied_output: bool = False
    output_bias: bool = False
    embedding_norm: bool = False
    extra_norms: dict[str, int] = field(default_factory=dict)
    sliding: bool = False


_GPT = Family("gpt-2", "layer", norm_bias=True, bias=True, fused_qkv=True, gate="none", position="learned")
_QK_NORMS = {"attn_q_norm": HEAD_SIZE, "attn_k_norm": HEAD_SIZE}
_POST_NORMS = {"post_attention_norm": EMBEDDING_SIZE, "post_ffw_norm": EMBEDDING_SIZE}

FAMILIES: dict[str, Family] = {
    "llama": Family(kv_heads=2),
    "gptneox": Family(
        "gpt-2", "layer", norm_bias=True, bias=True, fused_qkv=True, gate="none", rope_size=HEAD_SIZE // 2
    ),
    "mpt": Family("mpt", "layer", fused_qkv=True, gate="none", position="alibi"),
    "gpt2": _GPT,
    "bloom": Family(
        "bloom", "layer", norm_bias=True, bias=True, fused_qkv=True, gate="none", position="alibi",
        embedding_norm=True,
    ),
    "falcon": Family(
        "falcon", "layer", norm_bias=True, fused_qkv=True, ffn_norm=False, gate="none", kv_heads=1
    ),
    "starcoder": Family(
        "starcoder", "layer", norm_bias=True, bias=True, fused_qkv=True, gate="none", position="learned",
        kv_heads=1,
    ),
    "starcoder2": Family("starcoder", "layer", norm_bias=True, bias=True, gate="none", kv_heads=2),
    "stablelm": Family("gpt-2", "layer", norm_bias=True, rope_size=HEAD_SIZE // 2),
    "qwen2": Family("qwen2", qkv_bias=True, kv_heads=2),
    "qwen3": Family("qwen2", kv_heads=2, tied_output=True, extra_norms=_QK_NORMS),
    "gemma": Family(kv_heads=1, tied_output=True),
    "gemma2": Family(kv_heads=2, tied_output=True, extra_norms=_POST_NORMS, sliding=True),
    "gemma3": Family(kv_heads=1, tied_output=True, extra_norms=_QK_NORMS | _POST_NORMS, sliding=True),
    "phi2": Family(
        "phi-2", "layer", norm_bias=True, bias=True, fused_qkv=True, ffn_norm=False, gate="none",
        rope_size=HEAD_SIZE // 2, output_bias=True,
    ),
    "phi3": Family(fused_qkv=True, gate="fused"),
    "gptj": _GPT,
}  # fmt: skip
"""By the name of the architecture in GGUF. Mistral, Vicuna, SmolLM ... are "llama"; "gptj" is known to
llama.cpp by name and cannot be loaded."""


def write_tiny_gguf(
    path: Path,
    architecture: str = "llama",
    *,
    seed: int = 0,
    context_size: int = 256,
    chat_template: str | None = CHAT_TEMPLATE,
) -> Path:
    """Write a model of a family in FAMILIES, or "bert" (an encoder for embeddings); return `path`.

    context_size: what the file says that the model was trained for.
    """
    writer = gguf.GGUFWriter(path, architecture)
    _add_sizes(writer, context_size)
    weights = _Weights(seed)
    if architecture == "bert":
        _add_bert(writer, weights, tiny_vocab.wordpiece(), context_size)
    else:
        _add_decoder(writer, weights, FAMILIES[architecture], context_size)
        if chat_template is not None:
            writer.add_chat_template(chat_template)
    _save(writer, weights.tensors)
    return path


def write_reciting_gguf(path: Path, text: str = "abcdefghijklmnopqrstuvwxyz") -> Path:
    """Write a model that says what follows the last letter of its prompt in `text`, then ends; return `path`.

    text: distinct ASCII letters, each a token. After anything else it says something fixed but arbitrary.
    """
    writer = gguf.GGUFWriter(path, "qwen2")
    _add_sizes(writer, context_size=256)
    writer.add_chat_template(CHAT_TEMPLATE)
    weights = _Weights(seed=0)
    _add_decoder(writer, weights, FAMILIES["qwen2"], context_size=256)
    for name, values in weights.tensors.items():
        # Attention and feed-forward add nothing, so that only the last token counts.
        if name.endswith(("attn_output.weight", "ffn_down.weight")):
            values[:] = 0.0
    vocab = tiny_vocab.bpe()
    order = [*(vocab.tokens.index(letter) for letter in text), vocab.eos]
    for token, successor in pairwise(order):
        weights.tensors["output.weight"][successor] = 8.0 * weights.tensors["token_embd.weight"][token]
    _save(writer, weights.tensors)
    return path


def write_tiny_lora(path: Path, *, seed: int = 0, scale: float = 30.0, rank: int = 2) -> Path:
    """Write a LoRA adapter for the tiny llama that changes what it says; return `path`.

    scale: strength of the change; 0 gives an adapter that changes nothing.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    weights = _Weights(seed)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_output"):
            weights.matrix(f"blk.{layer}.{name}.weight.lora_a", rank, EMBEDDING_SIZE)
            weights.matrix(f"blk.{layer}.{name}.weight.lora_b", EMBEDDING_SIZE, rank)
            weights.tensors[f"blk.{layer}.{name}.weight.lora_b"] *= np.float32(scale)
    _save(writer, weights.tensors)
    return path


class _Weights:
    """Collects tensors. Rows come first, as in numpy; GGUF names sizes the other way round."""

    def __init__(self, seed: int) -> None:
        self.tensors: Tensors = {}
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, rows: int, columns: int) -> None:
        values = self._random.standard_normal((rows, columns)) / np.sqrt(columns)
        self.tensors[name] = values.astype(np.float32)

    def vector(self, name: str, size: int, value: float) -> None:
        self.tensors[name] = np.full(size, value, np.float32)

    def linear(self, name: str, rows: int, columns: int, *, bias: bool) -> None:
        self.matrix(f"{name}.weight", rows, columns)
        if bias:
            self.vector(f"{name}.bias", rows, 0.0)

    def norm(self, name: str, *, size: int = EMBEDDING_SIZE, bias: bool) -> None:
        self.vector(f"{name}.weight", size, 1.0)
        if bias:
            self.vector(f"{name}.bias", size, 0.0)


def _add_sizes(writer: Any, context_size: int) -> None:
    writer.add_block_count(LAYERS)
    writer.add_context_length(context_size)
    writer.add_embedding_length(EMBEDDING_SIZE)
    writer.add_feed_forward_length(FEED_FORWARD_SIZE)
    writer.add_head_count(HEADS)


def _add_decoder(writer: Any, weights: _Weights, family: Family, context_size: int) -> None:
    vocab = tiny_vocab.sentencepiece() if family.tokenizer == "spm" else tiny_vocab.bpe(family.tokenizer)
    vocab.write(writer)
    _add_settings(writer, family)
    size = len(vocab.tokens)
    weights.matrix("token_embd.weight", size, EMBEDDING_SIZE)
    if family.position == "learned":
        weights.matrix("position_embd.weight", context_size, EMBEDDING_SIZE)
    if family.embedding_norm:
        weights.norm("token_embd_norm", bias=family.norm_bias)
    for layer in range(LAYERS):
        _add_layer(weights, f"blk.{layer}", family)
    weights.norm("output_norm", bias=family.norm_bias)
    if not family.tied_output:
        weights.linear("output", size, EMBEDDING_SIZE, bias=family.output_bias)


def _add_settings(writer: Any, family: Family) -> None:
    writer.add_head_count_kv(family.kv_heads)
    if family.norm == "rms":
        writer.add_layer_norm_rms_eps(1e-5)
    else:
        writer.add_layer_norm_eps(1e-5)
    if family.position == "rope":
        writer.add_rope_dimension_count(family.rope_size)
        writer.add_parallel_residual(True)
    if family.position == "alibi":
        writer.add_max_alibi_bias(8.0)
    if family.sliding:
        writer.add_sliding_window(SLIDING_WINDOW)


def _add_layer(weights: _Weights, prefix: str, family: Family) -> None:
    kv_size = family.kv_heads * HEAD_SIZE
    bias, size, wide = family.bias, EMBEDDING_SIZE, FEED_FORWARD_SIZE
    weights.norm(f"{prefix}.attn_norm", bias=family.norm_bias)
    if family.fused_qkv:
        weights.linear(f"{prefix}.attn_qkv", size + 2 * kv_size, size, bias=bias)
    else:
        for name, rows in (("attn_q", size), ("attn_k", kv_size), ("attn_v", kv_size)):
            weights.linear(f"{prefix}.{name}", rows, size, bias=bias or family.qkv_bias)
    weights.linear(f"{prefix}.attn_output", size, size, bias=bias)
    for name, norm_size in family.extra_norms.items():
        weights.norm(f"{prefix}.{name}", size=norm_size, bias=False)
    if family.ffn_norm:
        weights.norm(f"{prefix}.ffn_norm", bias=family.norm_bias)
    if family.gate == "split":
        weights.linear(f"{prefix}.ffn_gate", wide, size, bias=bias)
    weights.linear(f"{prefix}.ffn_up", wide * 2 if family.gate == "fused" else wide, size, bias=bias)
    weights.linear(f"{prefix}.ffn_down", size, wide, bias=bias)


def _add_bert(writer: Any, weights: _Weights, vocab: TinyVocab, context_size: int) -> None:
    vocab.write(writer)
    writer.add_sep_token_id(vocab.eos)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(2)
    weights.matrix("token_embd.weight", len(vocab.tokens), EMBEDDING_SIZE)
    weights.matrix("position_embd.weight", context_size, EMBEDDING_SIZE)
    weights.matrix("token_types.weight", 2, EMBEDDING_SIZE)
    weights.norm("token_embd_norm", bias=True)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights.linear(f"blk.{layer}.{name}", EMBEDDING_SIZE, EMBEDDING_SIZE, bias=True)
        weights.norm(f"blk.{layer}.attn_output_norm", bias=True)
        weights.linear(f"blk.{layer}.ffn_up", FEED_FORWARD_SIZE, EMBEDDING_SIZE, bias=True)
        weights.linear(f"blk.{layer}.ffn_down", EMBEDDING_SIZE, FEED_FORWARD_SIZE, bias=True)
        weights.norm(f"blk.{layer}.layer_output_norm", bias=True)


def _save(writer: Any, tensors: Tensors) -> None:
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
