"""The conversion of MiniLM, on a BERT of the same build and toy size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from arriero.catalogue.minilm import convert

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "##ing"]
SIZE, WIDE, CONTEXT = 32, 64, 12


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    tensors: dict[str, npt.NDArray[np.float32]] = {}

    def add(name: str, *shape: int) -> None:
        tensors[name] = random.standard_normal(shape).astype(np.float32)

    add("embeddings.word_embeddings.weight", len(WORDS), SIZE)
    add("embeddings.position_embeddings.weight", CONTEXT, SIZE)
    add("embeddings.token_type_embeddings.weight", 2, SIZE)
    add("pooler.dense.weight", SIZE, SIZE)
    norms = ["embeddings.LayerNorm"]
    block = "encoder.layer.0"
    for name in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    ):
        add(f"{block}.{name}.weight", SIZE, SIZE)
        add(f"{block}.{name}.bias", SIZE)
    add(f"{block}.intermediate.dense.weight", WIDE, SIZE)
    add(f"{block}.intermediate.dense.bias", WIDE)
    add(f"{block}.output.dense.weight", SIZE, WIDE)
    add(f"{block}.output.dense.bias", SIZE)
    norms += [f"{block}.attention.output.LayerNorm", f"{block}.output.LayerNorm"]
    for name in norms:
        add(f"{name}.weight", SIZE)
        add(f"{name}.bias", SIZE)
    config = {
        "num_hidden_layers": 1,
        "max_position_embeddings": CONTEXT,
        "hidden_size": SIZE,
        "intermediate_size": WIDE,
        "num_attention_heads": 2,
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
    }
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return {
        "tensors": tmp_path / "model.safetensors",
        "config": tmp_path / "config.json",
        "vocabulary": tmp_path / "vocab.txt",
    }


def test_equal_input_gives_equal_bytes(tmp_path: Path, source: dict[str, Path]) -> None:
    """Two conversions give the same file, so that its hash can be pinned."""
    convert(**source, target=tmp_path / "a.gguf")
    convert(**source, target=tmp_path / "b.gguf")

    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_tensors(tmp_path: Path, source: dict[str, Path]) -> None:
    """Matrices have eight bits a weight; norms, biases and small tables are whole; no pooler."""
    convert(**source, target=tmp_path / "m.gguf")
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}

    assert len(types) == 3 + 2 + 2 * 8
    assert (
        types["token_embd.weight"] == types["blk.0.attn_q.weight"] == types["blk.0.ffn_up.weight"] == "Q8_0"
    )
    assert types["position_embd.weight"] == types["token_types.weight"] == "F32"
    assert types["blk.0.attn_q.bias"] == types["blk.0.layer_output_norm.weight"] == "F32"


def test_vocabulary(tmp_path: Path, source: dict[str, Path]) -> None:
    """Starts of words are marked, continuations lose their sign, and special words keep their places."""
    convert(**source, target=tmp_path / "m.gguf")
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields

    def value(key: str) -> object:
        return fields[f"tokenizer.ggml.{key}"].contents()

    words = ["[PAD]", "\u2581[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2581hello", "ing"]
    assert value("tokens") == words
    assert value("token_type") == [3, 5, 3, 3, 3, 3, 1, 1]
    assert (value("bos_token_id"), value("eos_token_id"), value("unknown_token_id")) == (3, 4, 2)
