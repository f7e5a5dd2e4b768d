"""From the spans of a prompt to its tokens, and from tokens to text, for one loaded model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from arriero.core import Span, Token
from arriero.engine.vocab import Vocab
from arriero.errors import ContextOverflow, InvalidRequest

LONGEST_TOKEN = 1024
"""No token has more characters."""
TOKENS_AT_ONCE = 4096


class Prompts:
    """Reads prompts for one model. Raises InvalidRequest, ContextOverflow."""

    def __init__(self, vocab: Vocab, model: str, context_size: int) -> None:
        self._vocab = vocab
        self._model = model
        self._context_size = context_size

    def tokens(self, spans: Sequence[Span], add_bos: bool) -> tuple[list[int], int]:
        """Return the tokens of a prompt and how many leading ones are shared."""
        self._check_length(spans)
        tokens: list[int] = []
        shared: int | None = None
        for span in spans:
            if not span.shared and shared is None and (span.text or span.tokens):
                shared = len(tokens)
            tokens += self._span_tokens(span)
        shared = len(tokens) if shared is None else shared
        bos = self._vocab.bos if add_bos and self._vocab.add_bos else None
        if bos is not None and tokens[:1] != [bos]:
            tokens.insert(0, bos)
            shared += 1 if shared else 0
        return tokens, shared

    def described(self, spans: Sequence[Span], add_bos: bool) -> Iterator[tuple[tuple[Token, ...], bool]]:
        """Yield the tokens of a prompt with their texts, in parts, and whether it is the last part."""
        tokens, _ = self.tokens(spans, add_bos)
        for start in range(0, max(1, len(tokens)), TOKENS_AT_ONCE):
            end = start + TOKENS_AT_ONCE
            yield tuple(map(self._described, tokens[start:end])), end >= len(tokens)

    def _described(self, token: int) -> Token:
        return Token(self._vocab.piece(token).decode("utf-8", "replace"), token)

    def text(self, tokens: tuple[int, ...]) -> str:
        """Return the text of tokens, special ones by name."""
        names = b"".join(map(self._vocab.name, self._span_tokens(Span(tokens=tokens))))
        return names.decode("utf-8", "replace")

    def _check_length(self, spans: Sequence[Span]) -> None:
        """Refuse what cannot fit before the work of tokenizing it."""
        size = sum(len(span.text) for span in spans)
        if size > LONGEST_TOKEN * self._context_size:
            raise ContextOverflow(
                f"the prompt does not fit the context window: {size} characters, and the context of model"
                f" {self._model} is {self._context_size} tokens",
                param="prompt",
            )

    def _span_tokens(self, span: Span) -> list[int]:
        if not span.tokens:
            return self._vocab.tokenize(span.text, special=span.special) if span.text else []
        for token in span.tokens:
            if not 0 <= token < self._vocab.size:
                raise InvalidRequest(f"no token {token} in the vocabulary", param="prompt")
        return list(span.tokens)
