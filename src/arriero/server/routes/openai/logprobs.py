"""Log probabilities in the two forms of OpenAI. Pure."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from arriero.core import TokenLogprob

IMPOSSIBLE = -9999.0
"""OpenAI's number for a probability of zero, which JSON cannot write as a logarithm."""


def chat_logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return the form of chat/completions."""
    return {"content": [chat_token(token) for token in logprobs], "refusal": None}


def chat_token(token: TokenLogprob) -> dict[str, Any]:
    """Return one token in the form of chat/completions."""
    top = [_chat_entry(data, logprob) for _, data, logprob in token.top]
    return {**_chat_entry(token.data, token.logprob), "top_logprobs": top}


def _chat_entry(data: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": shown(data), "logprob": finite(logprob), "bytes": list(data)}


class CompletionLogprobs:
    """The form of completions: parallel lists. Owns the offset in the text between deltas."""

    def __init__(self) -> None:
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def encode(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Return the lists for the next tokens."""
        return {name: list(items) for name, items in self.lists(logprobs).items()}

    def lists(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Iterator[object]]:
        """Return the lists for the next tokens, each made as it is asked for."""
        return {
            "tokens": (shown(token.data) for token in logprobs),
            "token_logprobs": (finite(token.logprob) for token in logprobs),
            "top_logprobs": (_top(token) for token in logprobs),
            "text_offset": (self._advance(token.data) for token in logprobs),
        }

    def _advance(self, data: bytes) -> int:
        start = self._offset
        self._offset += len(self._decoder.decode(data))
        return start


def _top(token: TokenLogprob) -> dict[str, float] | None:
    """Return the likeliest tokens by text, best first, and the token itself."""
    if token.logprob is None:
        return None
    top: dict[str, float] = {}
    for _, data, logprob in (*token.top, (token.token, token.data, token.logprob)):
        top.setdefault(shown(data), max(logprob, IMPOSSIBLE))
    return top


def shown(data: bytes) -> str:
    """Return a token's bytes as text, U+FFFD where they are no character."""
    return data.decode(errors="replace")


def finite(logprob: float | None) -> float | None:
    """Return a number that JSON can write."""
    return None if logprob is None else max(logprob, IMPOSSIBLE)
