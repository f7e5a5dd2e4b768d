"""The learnt form of an upstream's common answers and events: equal bytes around holes of known kinds.

A block is taken only if its bytes equal the learnt ones around every hole and each hole holds what its
kind allows: the inside of one strict JSON string, a plain id that is surely clean, a whole number. Then
nothing else differs from a block that was rebuilt in full, and the learnt result stands around the holes.

Learning proves that a hole is such a place: a block with probes in all holes is rebuilt in full, and every
probe must come through untouched; those of texts hold the upstream's own names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import msgspec

from arriero.guard.names import PLAIN_ID, Names

MAX_FORMS = 8
MAX_BYTES = 64 << 10
"""Of a block that a form is learnt of."""
_MAX_HOLES = 32
_MAX_PATTERN_BYTES = 4 << 10
"""Of a form that is also kept as one pattern, which takes long to make."""
_RELEARN = 16
"""When there are as many forms as may be, one in so many unknown blocks is learnt in the place of another."""
_FIRST_NUMBER = 7_304_119_000_000
_HOLE = re.compile(
    rb'"(?:content|text|reasoning|reasoning_content|arguments)": ?"(?P<text>(?:[^"\\]++|\\.)*)"'
    rb'|"id": ?"(?P<id>[A-Za-z0-9_-]{1,64})"'
    rb'|"(?:created|[a-z]+_tokens)": ?(?P<number>[0-9]{1,15})(?=[,}])'
)
_NUMBER = re.compile(rb"(?:0|[1-9][0-9]{0,14})(?=[,}])")
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
# What a strict JSON parser takes inside a string: no control characters, no lone surrogates.
_STRING = re.compile(
    rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}'
    rb"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))*"
)


class Kind(Enum):
    """What a hole holds."""

    TEXT = "text"
    ID = "id"
    NUMBER = "number"

    __hash__ = object.__hash__  # members are looked up for each hole


_HOLES = {
    Kind.TEXT: rb'([^"]*+)',
    Kind.ID: rb"([A-Za-z0-9_-]{1,64}+)",
    Kind.NUMBER: rb"(0|[1-9][0-9]{0,14}+)",
}


class Template:
    """A form with one hole, that of a text: the common events of one stream."""

    __slots__ = ("_after", "_before", "_end", "_least", "_most", "_start", "_told_after", "_told_before")

    def __init__(
        self, before: bytes, after: bytes, told_before: bytes, told_after: bytes, *, max_bytes: int
    ) -> None:
        """Begin. max_bytes: of a block."""
        self._before = before
        self._after = after
        self._told_before = told_before
        self._told_after = told_after
        self._start = len(before)
        self._end = -len(after)
        self._least = len(before) + len(after)
        self._most = max_bytes

    def told(self, block: bytes) -> bytes | None:
        """Return the block as it is passed on, None if it is not of this form."""
        if not (block.startswith(self._before) and block.endswith(self._after)):
            return None
        if not self._least <= len(block) <= self._most:
            return None
        text = block[self._start : self._end]
        if text.translate(None, _PLAIN) and not _is_text(text):
            return None
        return self._told_before + text + self._told_after

    def told_all(self, blocks: list[bytes]) -> bytes | None:
        """Return several blocks, given without their blank lines; None if any of them is not of this form."""
        before, after, start, end = self._before, self._after[:-2], self._start, self._end + 2
        texts = []
        for block in blocks:
            if not (block.startswith(before) and block.endswith(after)) or len(block) + 2 < self._least:
                return None
            texts.append(block[start:end])
        if b"".join(texts).translate(None, _PLAIN) and not all(map(_is_text, texts)):
            return None
        return self._told_before + (self._told_after + self._told_before).join(texts) + self._told_after


class _Part(NamedTuple):
    """A hole and what follows it."""

    kind: Kind
    after: bytes
    told_after: bytes


class Form:
    """What stands around the holes, as the upstream sends it and as it is passed on.

    is_plain: whether another event of this form changes nothing in the progress of its stream.
    """

    __slots__ = ("_before", "_ids", "_parts", "_pattern", "_texts", "_told", "_told_before", "is_plain")

    def __init__(self, before: bytes, told_before: bytes, parts: list[_Part]) -> None:
        self.is_plain = False
        self._before = before
        self._told_before = told_before
        self._parts = parts
        self._texts = [index for index, part in enumerate(parts) if part.kind is Kind.TEXT]
        self._ids = [index for index, part in enumerate(parts) if part.kind is Kind.ID]
        self._pattern = _pattern(before, parts)
        tails = [part.told_after.replace(b"%", b"%%") for part in parts]
        self._told = b"%b".join([told_before.replace(b"%", b"%%"), *tails])

    def told(self, block: bytes, names: Names) -> bytes | None:
        """Return the block as it is passed on, None if it is not of this form."""
        found = None if self._pattern is None else self._pattern.fullmatch(block)
        if found is None:  # a text with quotes in it, or another form
            return self._told_by_holes(block, names)
        holes = found.groups()
        for index in self._texts:
            if holes[index].translate(None, _PLAIN) and not _is_text(holes[index]):
                return None
        for index in self._ids:
            if not names.is_clean_id(holes[index]):
                return None
        return self._told % holes

    def _told_by_holes(self, block: bytes, names: Names) -> bytes | None:
        holes = self._holes(block, names)
        if holes is None:
            return None
        told = [self._told_before]
        for (start, end), part in zip(holes, self._parts, strict=True):
            told += block[start:end], part.told_after
        return b"".join(told)

    def narrowed(self, block: bytes, names: Names, max_bytes: int) -> Template | None:
        """Return the form of blocks that differ from this one in their text only; None if it has not one."""
        holes = self._holes(block, names)
        texts = [index for index, part in enumerate(self._parts) if part.kind is Kind.TEXT]
        if holes is None or len(texts) != 1:
            return None
        told = [self._told_before]
        before, after = b"", b""
        for index, ((start, end), part) in enumerate(zip(holes, self._parts, strict=True)):
            if index == texts[0]:
                before, after = block[:start], block[end:]
                told_before, told = b"".join(told), []
            else:
                told.append(block[start:end])
            told.append(part.told_after)
        return Template(before, after, told_before, b"".join(told), max_bytes=max_bytes)

    def _holes(self, block: bytes, names: Names) -> list[tuple[int, int]] | None:
        if not block.startswith(self._before):
            return None
        place = len(self._before)
        holes = []
        for kind, after, _ in self._parts:
            end = _ENDS[kind](block, place, names)
            if end < 0 or not block.startswith(after, end):
                return None
            holes.append((place, end))
            place = end + len(after)
        return holes if place == len(block) else None


class Forms:
    """The forms of one kind of answer, that which was met last first. Owns them."""

    __slots__ = ("_forms", "_names", "_unknown")

    def __init__(self, names: Names) -> None:
        self._names = names
        self._forms: list[Form] = []
        self._unknown = 0

    def find(self, block: bytes) -> tuple[Form, bytes] | None:
        """Return the form of a block, and the block as it is passed on; None if it has no learnt form."""
        for index, form in enumerate(self._forms):
            told = form.told(block, self._names)
            if told is not None:
                if index:
                    self._forms.insert(0, self._forms.pop(index))
                return form, told
        return None

    def narrowed(self, form: Form, block: bytes, max_bytes: int) -> Template | None:
        """As `Form.narrowed`."""
        return form.narrowed(block, self._names, max_bytes)

    def learn(self, block: bytes, rebuild: Callable[[bytes], bytes]) -> Form | None:
        """Learn the form of a rebuilt block, None if it has none; `rebuild` changes no state."""
        self._unknown += 1
        is_full = len(self._forms) >= MAX_FORMS
        if len(block) > MAX_BYTES or (is_full and self._unknown % _RELEARN):
            return None
        form = learnt(block, self._names, rebuild)
        if form is not None:
            self._forms = [form, *self._forms][:MAX_FORMS]
        return form


def learnt(block: bytes, names: Names, rebuild: Callable[[bytes], bytes]) -> Form | None:
    """Return the form of a block that can be rebuilt, None if it has no holes that can be proved."""
    kinds: list[Kind] = []
    probes: list[bytes] = []
    fixed: list[bytes] = []
    place = 0
    for hole in _HOLE.finditer(block):
        kind = Kind(hole.lastgroup)
        start, end = hole.span(kind.value)
        probes.append(_probe(kind, len(kinds), names))
        kinds.append(kind)
        fixed.append(block[place:start])
        place = end
    if not 1 <= len(kinds) <= _MAX_HOLES:
        return None
    fixed.append(block[place:])
    probed = b"".join(piece for pair in zip(fixed, [*probes, b""], strict=True) for piece in pair)
    told = _around(rebuild(probed), probes)
    if told is None:
        return None
    return Form(fixed[0], told[0], [_Part(*part) for part in zip(kinds, fixed[1:], told[1:], strict=True)])


def _pattern(before: bytes, parts: list[_Part]) -> re.Pattern[bytes] | None:
    """Return a form as one pattern with a group for each hole; what texts hold is looked at afterwards."""
    pieces = [re.escape(before)]
    for part in parts:
        pieces += _HOLES[part.kind], re.escape(part.after)
    pattern = b"".join(pieces)
    return re.compile(pattern) if len(pattern) <= _MAX_PATTERN_BYTES else None


def _probe(kind: Kind, index: int, names: Names) -> bytes:
    match kind:
        case Kind.TEXT:
            return msgspec.json.encode(f"probe {index} {names.untold}")[1:-1]
        case Kind.ID:
            return b"probe-%02d-" % index
        case Kind.NUMBER:
            return b"%d" % (_FIRST_NUMBER + index)


def _around(told: bytes, probes: list[bytes]) -> list[bytes] | None:
    """Return what stands around the probes, each of which must be there once, in order."""
    around = []
    for probe in probes:
        before, found, told = told.partition(probe)
        if not found or probe in told:
            return None
        around.append(before)
    return [*around, told]


def _end_of_text(block: bytes, place: int, names: Names) -> int:
    end = block.find(b'"', place)
    if end < 0 or not block[place:end].translate(None, _PLAIN):
        return end
    found = _STRING.match(block, place)
    return found.end() if found is not None and _is_text(found[0]) else -1


def _end_of_id(block: bytes, place: int, names: Names) -> int:
    found = PLAIN_ID.match(block, place)
    return found.end() if found is not None and names.is_clean_id(found[0]) else -1


def _end_of_number(block: bytes, place: int, names: Names) -> int:
    found = _NUMBER.match(block, place)
    return -1 if found is None else found.end()


# Each returns where a hole that begins at a place ends, -1 if it does not hold what it must.
_ENDS: dict[Kind, Callable[[bytes, int, Names], int]] = {
    Kind.TEXT: _end_of_text,
    Kind.ID: _end_of_id,
    Kind.NUMBER: _end_of_number,
}


def _is_text(text: bytes) -> bool:
    """Say whether the bytes are the inside of one strict JSON string."""
    if not _STRING.fullmatch(text):
        return False
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False
