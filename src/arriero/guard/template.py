"""The learnt form of a stream's common events: equal before and after the text that was generated.

An event is taken only if its bytes equal the learnt ones on both sides and the bytes between are the
inside of one JSON string. Then nothing but generated text differs from an event that was rebuilt in full,
and the learnt result stands on both sides of it.

Learning proves that the hole is such a place: an event with the upstream's own name in the hole is
rebuilt in full, and the name must come through untouched.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_HOLE = re.compile(rb'"(?:content|text|reasoning|reasoning_content|arguments)": ?"((?:[^"\\]|\\.)*+)"')
_is_plain = re.compile(rb"[ !#-\[\]-~]*+").fullmatch
# What a strict JSON parser takes inside a string: no control characters, no lone surrogates.
_STRING = re.compile(
    rb'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}'
    rb"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))*+"
)


class Template:
    """What stands around the text, as the upstream sends it and as it is passed on."""

    __slots__ = ("_after", "_before", "_end", "_least", "_start", "_told_after", "_told_before")

    def __init__(self, before: bytes, after: bytes, told_before: bytes, told_after: bytes) -> None:
        self._before = before
        self._after = after
        self._told_before = told_before
        self._told_after = told_after
        self._start = len(before)
        self._end = -len(after)
        self._least = len(before) + len(after)

    def told(self, block: bytes) -> bytes | None:
        """Return the block as it is passed on, None if it is not of this form."""
        if not (block.startswith(self._before) and block.endswith(self._after)) or len(block) < self._least:
            return None
        text = block[self._start : self._end]
        if not _is_plain(text) and not _is_text(text):
            return None
        return self._told_before + text + self._told_after


def learnt(block: bytes, probe: bytes, rebuild: Callable[[bytes], bytes]) -> Template | None:
    """Return the template of a block that can be rebuilt, None if it has no hole that can be proved.

    `probe` is the inside of a JSON string that metadata may not hold. `rebuild` changes no state.
    """
    holes = list(_HOLE.finditer(block))
    if len(holes) != 1:
        return None
    start, end = holes[0].span(1)
    before, after = block[:start], block[end:]
    parts = rebuild(before + probe + after).split(probe)
    return Template(before, after, *parts) if len(parts) == 2 else None


def _is_text(text: bytes) -> bool:
    if not _STRING.fullmatch(text):
        return False
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False
