"""Keeps the names of special tokens in a caller's text apart from those that a template writes.

A template joins both into one string, so the caller's are replaced by marks before rendering and put
back after it, as spans in which special tokens stay text. Pure; knows nothing of Jinja.

What is marked in each text of the caller:
1. Every occurrence of a special token's name.
2. The edges: an end that could begin a name, a beginning that could end one, and so could become
   a name together with what the template puts beside it. If no name came of it, an edge goes back
   into the text around it, so that an innocent text is tokenized as if nothing had been done.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from os.path import commonprefix

from arriero.core import Span
from arriero.errors import InvalidRequest

MARKS = (0xF0000, 0x10FFFD)
"""Code points for marks: the planes for private use. Those in use by the caller are left out."""
_MARK = re.compile(f"[{chr(MARKS[0])}-{chr(MARKS[1])}]")


class SpecialNames:
    """The names of a vocabulary's special tokens, arranged for searching. Immutable."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(name for name in names if name)
        self._pattern = re.compile(_any_of(self.names)) if self.names else None
        self._longest = max(map(len, self.names), default=0)
        self._forward = sorted(self.names)
        self._backward = sorted(name[::-1] for name in self.names)

    def occurrences(self, text: str) -> list[tuple[int, int]]:
        """Return where names stand in the text, from left to right, the longest first, none overlapping."""
        return [match.span() for match in self._pattern.finditer(text)] if self._pattern else []

    def all_occurrences(self, text: str) -> list[tuple[int, int]]:
        """Return where names stand in the text, also those that overlap; of each start the longest."""
        found: list[tuple[int, int]] = []
        match = self._pattern.search(text) if self._pattern else None
        while match and self._pattern:
            found.append(match.span())
            match = self._pattern.search(text, match.start() + 1)
        return found

    def touched(self, occurrences: Sequence[tuple[int, int]], start: int, end: int) -> bool:
        """Say whether one of these occurrences (sorted) shares a character with the range."""
        first = bisect_left(occurrences, (start - self._longest, 0))
        last = bisect_left(occurrences, (end, 0))
        return any(stop > start for _, stop in occurrences[first:last])

    def head(self, text: str) -> int:
        """Return how many characters at the beginning of the text could end a name."""
        return _longest_overlap(text[: self._longest][::-1], self._backward)

    def tail(self, text: str) -> int:
        """Return how many characters at the end of the text could begin a name."""
        return _longest_overlap(text[-self._longest :] if self._longest else "", self._forward)


class Marks:
    """The marks of one prompt. `marked` first, for every text of the caller; then `spans`, once."""

    def __init__(self, names: SpecialNames, values: object) -> None:
        """Prepare marks that occur nowhere in `values`, nested texts that will stand in the prompt."""
        self._names = names
        used = {mark for text in _texts(values) for mark in _MARK.findall(text)}
        self._free = (chr(code) for code in range(MARKS[0], MARKS[1] + 1) if chr(code) not in used)
        self._mark_of: dict[str, str] = {}
        self._text_of: dict[str, str] = {}

    def marked(self, value: object) -> object:
        """Return the value with every text in it marked; lists and mappings are walked through."""
        match value:
            case str():
                return self._marked_text(value)
            case Mapping():
                return {self.marked(key): self.marked(item) for key, item in value.items()}
            case Sequence() if not isinstance(value, bytes | bytearray):
                return [self.marked(item) for item in value]
            case _:
                return value

    def spans(self, rendered: str) -> tuple[Span, ...]:
        """Return the rendered prompt with what was marked put back in spans of its own."""
        segments = self._segments(rendered)
        if len(segments) == 1:
            return (Span(text=rendered, special=True),)
        formed = self._names.all_occurrences("".join(segments))
        kinds: list[tuple[bool, str]] = []
        end = 0
        for index, text in enumerate(segments):
            start, end = end, end + len(text)
            template = index % 2 == 0 or not self._names.touched(formed, start, end)
            kinds.append((template, text))
        grouped = groupby((kind for kind in kinds if kind[1]), key=lambda kind: kind[0])
        return tuple(Span(text="".join(text for _, text in group), special=kind) for kind, group in grouped)

    def _marked_text(self, text: str) -> str:
        pieces: list[str] = []
        end = 0
        for start, stop in self._names.occurrences(text):
            pieces += [text[end:start], self._mark(text[start:stop])]
            end = stop
        pieces.append(text[end:])
        if len(pieces) == 1:
            return self._edges_marked(text, head=True, tail=True)
        pieces[0] = self._edges_marked(pieces[0], head=True, tail=False)
        pieces[-1] = self._edges_marked(pieces[-1], head=False, tail=True)
        return "".join(pieces)

    def _edges_marked(self, text: str, *, head: bool, tail: bool) -> str:
        """Mark the edges inside the outer white space, which a template may trim away."""
        core = text.strip()
        before, _, after = text.partition(core) if core else (text, "", "")
        start = self._names.head(core) if head else 0
        stop = len(core) - (self._names.tail(core) if tail else 0)
        if start > stop:
            marked = self._mark(core)
        else:
            marked = self._mark(core[:start]) + core[start:stop] + self._mark(core[stop:])
        return before + marked + after

    def _mark(self, text: str) -> str:
        if not text:
            return ""
        if text not in self._mark_of:
            mark = next(self._free, None)
            if mark is None:
                raise InvalidRequest("the text uses up all characters for private use", param="messages")
            self._mark_of[text] = mark
            self._text_of[mark] = text
        return self._mark_of[text]

    def _segments(self, rendered: str) -> list[str]:
        """Return alternating texts: the template's (even places) and what was marked (odd places)."""
        segments = [""]
        end = 0
        for match in _MARK.finditer(rendered):
            if (text := self._text_of.get(match.group())) is not None:
                segments[-1] += rendered[end : match.start()]
                segments += [text, ""]
                end = match.end()
        segments[-1] += rendered[end:]
        return segments


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for key, item in value.items():
                yield from _texts(key)
                yield from _texts(item)
        case Sequence() if not isinstance(value, bytes | bytearray):
            for item in value:
                yield from _texts(item)
        case _:
            return


def _longest_overlap(text: str, ordered: Sequence[str]) -> int:
    """Return the length of the longest end of the text that begins, but is not all of, a name of the list."""
    for start in range(len(text)):
        end = text[start:]
        place = bisect_left(ordered, end + "\0")
        if place < len(ordered) and ordered[place].startswith(end):
            return len(end)
    return 0


def _any_of(names: Iterable[str]) -> str:
    """Return a regular expression for any of the names, the longest first, as a tree of prefixes.

    A flat alternation of thousands of names would try each of them at every `<` of a text.
    """
    by_first: dict[str, list[str]] = {}
    for name in names:
        by_first.setdefault(name[:1], []).append(name)
    optional = by_first.pop("", None) is not None
    branches = []
    for group in by_first.values():
        prefix = commonprefix(group)  # noqa: RUF071 - these are no paths
        branches.append(re.escape(prefix) + _any_of({name[len(prefix) :] for name in group}))
    return f"(?:{'|'.join(branches)}){'?' if optional else ''}" if branches else ""
