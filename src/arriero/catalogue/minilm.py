"""Converts MiniLM, a BERT encoder, from its published safetensors to a GGUF file with weights of eight bits.

Equal input gives equal bytes. Needs the extra `starter` (`gguf`, `safetensors`); imports them late,
so that a server whose weights are there runs without.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arriero.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Tensor = npt.NDArray[Any]

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_WHOLE = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_PER_BLOCK = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_FULL_PRECISION = {"position_embd", "token_types"}
"""Small tables that llama.cpp's own converter keeps in single precision."""


def convert(*, tensors: Path, config: Path, vocabulary: Path, target: Path) -> None:
    """Write `target` from model.safetensors, config.json and vocab.txt.

    Raises NotSupported when the extra `starter` is not installed.
    """
    try:
        import gguf
        from safetensors.numpy import load_file
    except ImportError as exc:
        raise NotSupported("converting MiniLM needs more packages; install arriero[starter]") from exc
    settings = json.loads(config.read_bytes())
    writer = gguf.GGUFWriter(target, "bert")
    try:
        _write_settings(writer, gguf, settings)
        _write_vocabulary(writer, gguf, vocabulary.read_text("utf-8").splitlines())
        for name, values in _renamed(load_file(tensors), settings["num_hidden_layers"]):
            _add_tensor(writer, gguf, name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _write_settings(writer: Any, gguf: Any, settings: dict[str, Any]) -> None:
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_feed_forward_length(settings["intermediate_size"])
    writer.add_head_count(settings["num_attention_heads"])
    writer.add_layer_norm_eps(settings["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(settings["type_vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)


def _write_vocabulary(writer: Any, gguf: Any, words: list[str]) -> None:
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_piece(word) for word in words])
    writer.add_token_types([_token_type(gguf, word) for word in words])
    writer.add_pad_token_id(words.index("[PAD]"))
    writer.add_unk_token_id(words.index("[UNK]"))
    writer.add_bos_token_id(words.index("[CLS]"))
    writer.add_sep_token_id(words.index("[SEP]"))
    writer.add_eos_token_id(words.index("[SEP]"))
    writer.add_mask_token_id(words.index("[MASK]"))


def _piece(word: str) -> str:
    """Return a word as llama.cpp wants it: the start of a word is marked, not its continuation."""
    if word in _SPECIAL:
        return word
    return word[2:] if word.startswith("##") else "\u2581" + word


def _token_type(gguf: Any, word: str) -> int:
    if word in _SPECIAL:
        return int(gguf.TokenType.CONTROL)
    return int(gguf.TokenType.UNUSED if word.startswith("[unused") else gguf.TokenType.NORMAL)


def _renamed(sources: dict[str, Tensor], blocks: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors under GGUF's names, in the order of the file."""
    stems = dict(_WHOLE)
    for block in range(blocks):
        stems |= {f"encoder.layer.{block}.{s}": f"blk.{block}.{name}" for s, name in _PER_BLOCK.items()}
    for stem, name in stems.items():
        for suffix in ("weight", "bias"):
            if (values := sources.get(f"{stem}.{suffix}")) is not None:
                yield f"{name}.{suffix}", values.astype(np.float32)


def _add_tensor(writer: Any, gguf: Any, name: str, values: Tensor) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    block_size, _ = gguf.GGML_QUANT_SIZES[kind]
    whole = values.ndim == 1 or name.removesuffix(".weight") in _FULL_PRECISION
    if whole or values.shape[-1] % block_size:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
