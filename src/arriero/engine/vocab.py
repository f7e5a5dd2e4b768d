"""The vocabulary of a loaded model: text to tokens and back.

Part of the llama.cpp seam (with `capi.py` and `llama.py`); pure lookups, no state that changes
but caches. Safe from any thread.
"""

from __future__ import annotations

from typing import Any

from arriero.engine.capi import ffi

_UNKNOWN = 1 << 0
_CONTROL = 1 << 3


class Vocab:
    """Tokens of one model. Token ids are ints in [0, size)."""

    def __init__(self, lib: Any, model: Any) -> None:
        self._lib = lib
        self._vocab = lib.llama_model_get_vocab(model)
        self.size: int = lib.llama_vocab_n_tokens(self._vocab)
        self.bos: int | None = self._or_none(lib.llama_vocab_bos(self._vocab))
        self.eos: int | None = self._or_none(lib.llama_vocab_eos(self._vocab))
        self.add_bos: bool = lib.llama_vocab_get_add_bos(self._vocab)
        self._pieces: list[bytes | None] = [None] * self.size
        self._end_of_generation: dict[int, bool] = {}
        self._controls: dict[int, str] | None = None

    @property
    def controls(self) -> dict[int, str]:
        """Names of the control and unknown tokens by id: text that is special when it is trusted."""
        if self._controls is None:
            attributes = self._lib.llama_vocab_get_attr
            self._controls = {
                token: self.name(token).decode("utf-8", "replace")
                for token in range(self.size)
                if attributes(self._vocab, token) & (_CONTROL | _UNKNOWN)
            }
        return self._controls

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text`, without begin or end tokens.

        special: names of special tokens in the text become those tokens.
        """
        return self._tokenize(text, add_special=False, parse_special=special)

    def tokenize_whole(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text` with the begin and end tokens that the model wants (embeddings)."""
        return self._tokenize(text, add_special=True, parse_special=special)

    def piece(self, token: int) -> bytes:
        """Return the printable bytes of a token: empty for control tokens, perhaps part of a character."""
        known = self._pieces[token]
        if known is None:
            known = self._pieces[token] = self._piece(token, special=False)
        return known

    def name(self, token: int) -> bytes:
        """Return the bytes of a token, control tokens by name (`<|im_end|>`)."""
        return self._piece(token, special=True)

    def control_text(self, token: int) -> str | None:
        """Return the name of a control token, None for any other."""
        return self.controls.get(token)

    def ends_generation(self, token: int) -> bool:
        """Tell whether the model ends its turn with this token (EOS, EOT ...)."""
        known = self._end_of_generation.get(token)
        if known is None:
            known = self._end_of_generation[token] = self._lib.llama_vocab_is_eog(self._vocab, token)
        return known

    def _tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        buffer = ffi.new("llama_token[]", room)
        args = (self._vocab, data, len(data), buffer, room, add_special, parse_special)
        count = self._lib.llama_tokenize(*args)
        if count < 0:
            room = -count
            buffer = ffi.new("llama_token[]", room)
            count = self._lib.llama_tokenize(
                self._vocab, data, len(data), buffer, room, add_special, parse_special
            )
        return ffi.unpack(buffer, count) if count else []

    def _piece(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ffi.new("char[]", size)
            count = self._lib.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
            if count >= 0:
                return bytes(ffi.buffer(buffer, count))
            size = -count

    @staticmethod
    def _or_none(token: int) -> int | None:
        return token if token >= 0 else None
