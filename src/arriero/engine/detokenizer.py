"""Turns the tokens of one generation into printable text, piece by piece, and sees where it stops.

1. A part of a character is held back until the character is complete. Bytes that can belong to no
   character become U+FFFD at once. A part that is still incomplete at the end is dropped.
2. Control tokens are never printed. One whose name is a stop sequence stops; all others are skipped.
3. Stop sequences and private tokens: see `text_filter.py`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import NamedTuple

from arriero.engine.text_filter import TextFilter


class Emission(NamedTuple):
    """Text that may be shown now. `stop_sequence`: the one that was found; the generation is over."""

    text: str = ""
    stop_sequence: str | None = None

    @property
    def stopped(self) -> bool:
        return self.stop_sequence is not None


def no_control_text(_: int) -> str | None:
    return None


class Detokenizer:
    """Pure and incremental: `feed` every token, then `flush` once.

    piece: the bytes of a token. control_text: the name of a control token, None for any other.
    """

    def __init__(
        self,
        piece: Callable[[int], bytes],
        stop_sequences: Sequence[str] = (),
        private_tokens: Sequence[str] = (),
        control_text: Callable[[int], str | None] = no_control_text,
    ) -> None:
        self._piece = piece
        self._control_text = control_text
        self._stops = frozenset(filter(None, stop_sequences))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._filters = _filters(sorted(self._stops), sorted(filter(None, private_tokens)))
        self._stop_sequence: str | None = None

    def feed(self, token: int) -> Emission:
        """Return the text that the token makes certain. After a stop there is none."""
        if self._stop_sequence is not None:
            return Emission(stop_sequence=self._stop_sequence)
        name = self._control_text(token)
        if name is None:
            text = self._decoder.decode(self._piece(token))
            return self._filtered(text, last=False) if self._filters else Emission(text)
        if name not in self._stops:
            return Emission()
        emission = self.flush()
        self._stop_sequence = emission.stop_sequence or name
        return Emission(emission.text, self._stop_sequence)

    def flush(self) -> Emission:
        """Return what was held back for a match that now cannot come."""
        if self._stop_sequence is not None:
            return Emission(stop_sequence=self._stop_sequence)
        return self._filtered("", last=True)

    def _filtered(self, text: str, *, last: bool) -> Emission:
        for text_filter in self._filters:
            text, found = text_filter.feed(text)
            # A filter sees only what the one before it has passed on, so what it finds comes first.
            self._stop_sequence = found or self._stop_sequence
            if last or self._stop_sequence is not None:
                text += text_filter.flush()
        return Emission(text, self._stop_sequence)


def _filters(stops: Sequence[str], privates: Sequence[str]) -> list[TextFilter]:
    if not stops and not privates:
        return []
    visible = TextFilter(stops, privates)
    # A stop sequence around a private token would never be seen once the token is taken out.
    hidden = any(private in stop[:-1] for stop in stops for private in privates)
    return [TextFilter(stops, ()), visible] if hidden else [visible]
