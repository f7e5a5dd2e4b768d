"""Which model families the engine loads and runs, shown on tiny files; and that broken ones are refused."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from arriero.engine.capi import open_library, packaged_library
from arriero.engine.llama import Context, Llama, load
from arriero.errors import ConfigError
from arriero.testing.broken_gguf import spoil_magic, spoil_tensor_size, truncate
from arriero.testing.tiny_gguf import (
    EMBEDDING_SIZE,
    FAMILIES,
    write_reciting_gguf,
    write_tiny_gguf,
    write_tiny_lora,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CELLS = 64
TEXT = "hello world, café 你好"


@contextmanager
def loaded(path: Path, *, adapters: Sequence[Path] = (), embeddings: bool = False) -> Iterator[Context]:
    model = load(path, library=packaged_library(), gpu_layers=0)
    context = Context(
        model,
        cells=CELLS,
        batch_size=CELLS,
        max_sequences=1,
        max_outputs=CELLS,
        threads=1,
        embeddings=embeddings,
    )
    context.apply_adapters(adapters)
    yield context
    context.close()
    model.close()


def feed(context: Context, tokens: Sequence[int], start: int) -> None:
    """Fill the batch; only the last token has an output."""
    count = len(tokens)
    context.tokens[:count] = tokens
    context.positions[:count] = range(start, start + count)
    context.slots[:count] = 0
    context.outputs[:count] = 0
    context.outputs[count - 1] = 1


def greedy(context: Context, tokens: Sequence[int], count: int) -> list[int]:
    """Return the likeliest continuation; every logit must be a finite number."""
    said: list[int] = []
    fed, position = list(tokens), 0
    while len(said) < count:
        feed(context, fed, position)
        assert context.decode(len(fed))
        logits = context.logits(1)[0]
        assert np.isfinite(logits).all()
        position += len(fed)
        fed = [int(logits.argmax())]
        said += fed
    return said


def text_of(model: Llama, tokens: Sequence[int]) -> str:
    return b"".join(model.vocab.piece(token) for token in tokens).decode()


@pytest.mark.parametrize("architecture", sorted(FAMILIES.keys() - {"gptj"}))
def test_family_loads_and_decodes(tmp_path: Path, architecture: str) -> None:
    """The family loads, takes any text apart and together again, and decodes four tokens."""
    with loaded(write_tiny_gguf(tmp_path / "m.gguf", architecture)) as context:
        model = context.model
        tokens = model.vocab.tokenize(TEXT, special=False)
        said = greedy(context, tokens, 4)

    assert model.architecture == architecture
    assert all(0 <= token < model.vocab.size for token in said)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_text_comes_back(tmp_path: Path, architecture: str) -> None:
    """Both kinds of vocabulary hold every text; known words are one token."""
    with loaded(write_tiny_gguf(tmp_path / "m.gguf", architecture)) as context:
        vocab = context.model.vocab
        tokens = vocab.tokenize(TEXT, special=False)

        assert text_of(context.model, tokens).strip() == TEXT
        assert vocab.name(tokens[1]) == b" world"
        assert len(vocab.tokenize("<|im_end|>", special=True)) == 1
        assert len(vocab.tokenize("<|im_end|>", special=False)) > 1


def test_gptj_is_refused(tmp_path: Path) -> None:
    """A family that llama.cpp names but cannot load is refused with its name."""
    path = write_tiny_gguf(tmp_path / "m.gguf", "gptj")

    with pytest.raises(ConfigError, match="unsupported model architecture: 'gptj'"):
        load(path, library=packaged_library(), gpu_layers=0)


def test_encoder_embeds(tmp_path: Path) -> None:
    """The tiny encoder gives a pooled vector that depends on the text."""
    vectors = []
    with loaded(write_tiny_gguf(tmp_path / "m.gguf", "bert"), embeddings=True) as context:
        for text in ("hello world", "one two three"):
            tokens = context.model.vocab.tokenize_whole(text, special=False)
            feed(context, tokens, 0)
            context.outputs[: len(tokens)] = 1
            context.decode(len(tokens))
            vectors.append(context.pooled_embedding(0))

    assert vectors[0].shape == (EMBEDDING_SIZE,)
    assert not np.allclose(vectors[0], vectors[1])


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    """The seed decides every byte."""
    first, same, other = (
        write_tiny_gguf(tmp_path / f"{number}.gguf", seed=seed).read_bytes()
        for number, seed in enumerate([1, 1, 2])
    )

    assert first == same
    assert first != other


@pytest.mark.parametrize(("scale", "changes"), [(30.0, True), (0.0, False)])
def test_lora_adapter(tmp_path: Path, scale: float, changes: bool) -> None:
    """An adapter changes what the tiny llama says; one without strength does not."""
    path = write_tiny_gguf(tmp_path / "m.gguf")
    adapter = write_tiny_lora(tmp_path / "lora.gguf", scale=scale)
    prompt = range(10, 20)
    with loaded(path) as context:
        plain = greedy(context, prompt, 8)
    with loaded(path, adapters=[adapter]) as context:
        adapted = greedy(context, prompt, 8)

    assert (plain != adapted) is changes


def test_reciting_model(tmp_path: Path) -> None:
    """The reciting model goes on with its text from the last letter of the prompt, then ends."""
    with loaded(write_reciting_gguf(tmp_path / "m.gguf", "abcdef")) as context:
        vocab = context.model.vocab
        said = greedy(context, vocab.tokenize("user: c", special=False), 4)

        assert text_of(context.model, said[:3]) == "def"
        assert vocab.ends_generation(said[3])


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.1, 0.9])
def test_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    """A file cut short anywhere is an error that names it."""
    path = truncate(write_tiny_gguf(tmp_path / "m.gguf"), keep)

    with pytest.raises(ConfigError, match=str(path)):
        load(path, library=packaged_library(), gpu_layers=0)


def test_other_magic_is_refused(tmp_path: Path) -> None:
    """A file that does not begin as GGUF is an error that names it."""
    path = spoil_magic(write_tiny_gguf(tmp_path / "m.gguf"))

    with pytest.raises(ConfigError, match=str(path)):
        load(path, library=packaged_library(), gpu_layers=0)


@pytest.mark.parametrize(("size", "tensor"), [(60, "output_norm.weight"), (7, "output.weight")])
def test_wrong_tensor_size_is_refused(tmp_path: Path, size: int, tensor: str) -> None:
    """A tensor of another size than it should have is an error that names it, or the one after it."""
    path = spoil_tensor_size(write_tiny_gguf(tmp_path / "m.gguf"), size=size)

    with pytest.raises(ConfigError, match=f"'{tensor}'"):
        load(path, library=packaged_library(), gpu_layers=0)


def test_a_gpu_that_is_not_used_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A library without a GPU loads the model all the same, and says that the key has no effect."""
    path = write_tiny_gguf(tmp_path / "m.gguf")
    library = packaged_library()
    if open_library(library).llama_supports_gpu_offload():
        pytest.skip("this machine's library computes on a GPU")

    load(path, library=library, gpu_layers=-1).close()

    assert caplog.messages == [f"use_gpu has no effect: {library} computes on the CPU only"]
