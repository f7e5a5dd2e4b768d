"""Turns the tokens of one generation into printable text, piece by piece, and sees where it stops.

1. A part of a character is held back until the character is complete. Bytes that can belong to no
   character become U+FFFD at once. A part that is still incomplete at the end is dropped.
2. Control tokens are never printed. One whose name is a stop sequence stops; all others are skipped.
3. Stop sequences and private tokens: see `text_filter.py`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

from arriero.engine.text_filter import Emission, VisibleText


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
        self._visible = VisibleText(stop_sequences, private_tokens)
        self._stop_sequence: str | None = None

    def feed(self, token: int) -> Emission:
        """Return the text that the token makes certain. After a stop there is none."""
        if self._stop_sequence is not None:
            return Emission(stop_sequence=self._stop_sequence)
        name = self._control_text(token)
        if name is None:
            return self._noted(self._visible.feed(self._decoder.decode(self._piece(token))))
        if name not in self._stops:
            return Emission()
        emission = self.flush()
        self._stop_sequence = emission.stop_sequence or name
        return Emission(emission.text, self._stop_sequence)

    def flush(self) -> Emission:
        """Return what was held back for a match that now cannot come."""
        if self._stop_sequence is not None:
            return Emission(stop_sequence=self._stop_sequence)
        return self._noted(self._visible.flush())

    def _noted(self, emission: Emission) -> Emission:
        self._stop_sequence = emission.stop_sequence
        return emission
