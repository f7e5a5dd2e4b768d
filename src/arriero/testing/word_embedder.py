"""An embedding model without weights: texts that share words have vectors that are alike.

A token is a word or a mark; a vector is the sum of one direction for each word. For tests of memories.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

import numpy as np

from arriero.core import Embeddings, ModelInfo, Span, Token
from arriero.errors import ContextOverflow, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

EOS = 1
NUM_TOKENS = 1 << 20
WORD = re.compile(r"\w+|[^\w\s]")


class WordEmbedder:
    """Implements `core.Embedder`, and tells its tokens.

    failures: raised by the next calls of `embed`, one each. batches: what was embedded, call by call.
    """

    def __init__(self, *, name: str = "words", dimensions: int = 64, context_size: int = 256) -> None:
        self.name = name
        self.failures: list[Exception] = []
        self.batches: list[list[str]] = []
        self.info = ModelInfo(
            architecture="words",
            description="Words",
            context_size=context_size,
            train_context_size=context_size,
            embedding_size=dimensions,
            num_tokens=NUM_TOKENS,
            num_parameters=0,
            size_bytes=0,
            generates=False,
            chat_template=None,
            bos="",
            eos="<eos>",
            add_bos=False,
            special_tokens=("<eos>",),
            pooling="mean",
            library="none",
        )

    async def embed(
        self, inputs: Sequence[str | Sequence[int]], *, normalize: bool | None = None
    ) -> Embeddings:
        """Embed texts; refuse an empty one and one that is too long, as engines do."""
        if self.failures:
            raise self.failures.pop(0)
        texts = [text for text in inputs if isinstance(text, str)]
        tokens = [words(text) for text in texts]
        for index, found in enumerate(tokens):
            if not found:
                raise InvalidRequest(f"input {index} is empty", param="input")
            if len(found) + 2 > self.info.context_size:
                raise ContextOverflow(f"input {index} has {len(found)} tokens", param="input")
        self.batches.append(texts)
        vectors = tuple(self._vector(found).astype("<f4").tobytes() for found in tokens)
        return Embeddings(vectors, sum(map(len, tokens)))

    async def tokenize(self, prompt: Sequence[Span], *, add_bos: bool) -> list[Token]:
        """Return the words and marks of a prompt."""
        return [token for span in prompt for token in _tokens(span)]

    def _vector(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        size = self.info.embedding_size
        seeds = [zlib.crc32(token.lower().encode()) for token in tokens]
        directions = [np.random.default_rng(seed).standard_normal(size) for seed in seeds]
        total: NDArray[np.float64] = np.sum(directions, axis=0)
        return total / np.linalg.norm(total)


def words(text: str) -> list[str]:
    """Return the tokens of a text."""
    return WORD.findall(text)


def _tokens(span: Span) -> list[Token]:
    if span.tokens:
        return [Token(text="", token=token) for token in span.tokens]
    if span.special and span.text == "<eos>":
        return [Token(text="", token=EOS)]
    found = words(span.text)
    return [Token(text=word, token=2 + zlib.crc32(word.encode()) % (NUM_TOKENS - 2)) for word in found]
