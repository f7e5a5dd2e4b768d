from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arriero.engine import llama
from arriero.engine.capi import packaged_library
from arriero.errors import ConfigError, NotSupported
from arriero.guard.gguf import read_metadata
from arriero.guard.gguf_tokenizer import tokenizer_documents
from arriero.testing.tiny_gguf import write_tiny_gguf

WORDS = (
    *("the", " don't", "I'LL", " hello world", "12345", "3.14", "\n\n", "\t ", "   ", "\r\n"),
    *("<|im_start|>", "<s>", "</s>", "<|endoftext|>", "<bos>", "<0x41>"),
    *(
        "é",
        "caf\u0065\u0301",
        "日本語",
        "😀",
        "👩‍👧",
        "а",
        "عرب",
        "▁",
        "Ġ",
        "ﬁ",
        "½",
        "\u00a0",
        "\u3000",
        "\u0958",
    ),
    *"!?.,;:-_()[]{}<>|$+=~^`\"'abcXYZ09",
)


def texts(count: int) -> list[str]:
    """Return the same random texts every time, of words that are hard to cut."""
    chance = random.Random(1)
    return ["".join(chance.choices(WORDS, k=chance.randint(0, 40))) for _ in range(count)]


@pytest.fixture(scope="session")
def tokenizers() -> Any:
    """The reference implementation of the documents."""
    return pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")


@pytest.fixture
def check(tokenizers: Any) -> Callable[[Path], None]:
    """Compares a file's documents with what llama.cpp makes of the file."""

    def check(path: Path) -> None:
        document = tokenizer_documents(read_metadata(path), max_length=64)["tokenizer"]
        reference = tokenizers.Tokenizer.from_str(json.dumps(document))
        model = llama.load(path, library=packaged_library(), gpu_layers=0)
        try:
            for text in texts(300):
                assert reference.encode(text).ids == model.vocab.tokenize_whole(text, special=True), text
        finally:
            model.close()

    return check


@pytest.mark.parametrize("family", ["llama", "gpt2", "starcoder", "qwen2"])
def test_same_tokens_as_llama_cpp(check: Callable[[Path], None], tmp_path: Path, family: str) -> None:
    """Each kind of vocabulary gives the tokens that the engine evaluates."""
    check(write_tiny_gguf(tmp_path / "tiny.gguf", family))


def test_same_tokens_of_the_starter_model(check: Callable[[Path], None], smollm2: Path) -> None:
    """The starter model's document gives the tokens that the engine evaluates."""
    check(smollm2)


def test_wordpiece(tokenizers: Any, minilm: Path) -> None:
    """A WordPiece vocabulary comes back in the form that it was converted from."""
    documents = tokenizer_documents(read_metadata(minilm), max_length=512)

    reference = tokenizers.Tokenizer.from_str(json.dumps(documents["tokenizer"]))
    assert reference.encode("Unaffable café 日").tokens == [
        "[CLS]",
        "una",
        "##ffa",
        "##ble",
        "cafe",
        "日",
        "[SEP]",
    ]
    assert documents["special_tokens_map"]["mask_token"] == "[MASK]"


def test_special_tokens(smollm2: Path) -> None:
    """The names of special tokens and the template stand in the tokenizer's configuration."""
    documents = tokenizer_documents(read_metadata(smollm2), max_length=2048)

    assert documents["special_tokens_map"] == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
    }
    assert documents["tokenizer_config"]["model_max_length"] == "2048"
    assert "<|im_start|>system" in documents["tokenizer_config"]["chat_template"]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"tokenizer.ggml.model": "rwkv"}, NotSupported, "rwkv"),
        ({"tokenizer.ggml.pre": "unheard-of"}, NotSupported, "unheard-of"),
        ({"tokenizer.ggml.tokens": None}, ConfigError, "no vocabulary"),
        ({"tokenizer.ggml.tokens": []}, ConfigError, "no vocabulary"),
        ({"tokenizer.ggml.token_type": [1]}, ConfigError, "token_type"),
        ({"tokenizer.ggml.merges": None}, ConfigError, "no merges"),
        ({"tokenizer.ggml.model": "llama"}, ConfigError, "scores"),
        ({"tokenizer.ggml.model": "bert"}, ConfigError, "lacks"),
    ],
)
def test_refused(tmp_path: Path, change: dict[str, Any], error: type[Exception], said: str) -> None:
    """Nothing is made up for a vocabulary that is not known or not whole."""
    metadata = read_metadata(write_tiny_gguf(tmp_path / "tiny.gguf", "gpt2")) | change

    with pytest.raises(error, match=said):
        tokenizer_documents(metadata, max_length=64)
