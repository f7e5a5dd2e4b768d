"""What a matcher must know of a model's tokens: their bytes, which are special, which end a generation.

Knows nothing of llama.cpp: whoever has a tokenizer can make one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

from llguidance import LLTokenizer

SPECIAL_MARK = b"\xff"
"""A byte that no UTF-8 text holds: llguidance takes a token that begins with it as a special one."""


class TokenTable:
    """The tokens of one model. Does not change; usable from any thread.

    pieces: the bytes of each token by id: its part of the text, the name of a special one. Tokens
        without bytes are never used.
    special: tokens that are no text (control tokens); never part of a text that a schema, a regular
        expression or a choice describes.
    ends: tokens that end a generation, at least one. They are allowed where the text may end.
    tokenize: text to tokens as the model knows them, special names as text; used for forced text. Where
        it fails or does not give the text back, the longest tokens that fit are taken.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        special: Collection[int],
        ends: Collection[int],
        tokenize: Callable[[str], list[int]],
    ) -> None:
        self.pieces = tuple(pieces)
        self.ends = tuple(sorted(set(ends)))
        self.special = frozenset(special) | frozenset(ends)
        if not self.ends:
            raise ValueError("ends must name a token that ends a generation")
        if not self.special <= frozenset(range(self.size)):
            raise ValueError(f"special and ends must be token ids below {self.size}")
        self._tokenize = tokenize
        self._native: LLTokenizer | None = None
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return len(self.pieces)

    @property
    def native(self) -> LLTokenizer:
        """The tokens as llguidance wants them. The first call takes up to some seconds."""
        with self._lock:
            if self._native is None:
                self._native = LLTokenizer(_Wrapper(self), eos_token=list(self.ends))  # type: ignore[arg-type]
            return self._native

    def tokenize(self, text: str) -> list[int]:
        """Return tokens of text whose bytes are exactly `text`. Never raises."""
        try:
            tokens = list(self._tokenize(text))
            if not self.special.intersection(tokens) and self._bytes(tokens) == text.encode():
                return tokens
        except Exception:  # it is called from native code, which no exception of the caller may cross
            pass
        return self.native.greedy_tokenize(text)

    def _bytes(self, tokens: list[int]) -> bytes | None:
        if any(not 0 <= token < self.size for token in tokens):
            return None
        return b"".join(self.pieces[token] for token in tokens)


class _Wrapper:
    """A token table in the shape that LLTokenizer asks for."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, table: TokenTable) -> None:
        self.eos_token_id = table.ends[0]
        self.special_token_ids = sorted(table.special)
        self.tokens = list(table.pieces)
        for token in table.special:
            self.tokens[token] = SPECIAL_MARK + table.pieces[token]
        self._tokenize = table.tokenize

    def __call__(self, text: str) -> list[int]:
        return self._tokenize(text)
