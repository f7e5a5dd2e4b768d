"""A small vocabulary for tests: every byte, some longer pieces, a special token and two end tokens."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

import numpy as np

from arriero.core import Constraint
from arriero.errors import EngineError
from arriero.grammar.matcher import Compiler, Matcher, fill_masks
from arriero.grammar.vocabulary import TokenTable

MERGED = (
    *("yes", "no", "yester", "day", "true", "false", "null", "name", "age", " the", "ing", "ab", "abc", "bc"),
    *('{"', '":', '":"', '","', '"}', "}}", "[]", "{}", "],", "12", "00", "é", "日本", "\n\n", '"name":'),
)
PIECES = (*(bytes([byte]) for byte in range(256)), *(text.encode() for text in MERGED), b"")
SPECIAL = len(PIECES)
ENDS = (SPECIAL + 1, SPECIAL + 2)


LONGEST = re.compile(
    b"|".join(re.escape(text.encode()) for text in sorted(MERGED, key=len)[::-1]) + b"|.", re.DOTALL
)
IDS = {piece: token for token, piece in enumerate(PIECES) if piece}


def greedy(text: str) -> list[int]:
    """The longest pieces that fit, from left to right."""
    return [IDS[piece] for piece in LONGEST.findall(text.encode())]


@functools.cache
def small_table() -> TokenTable:
    return TokenTable((*PIECES, b"<special>", b"<end>", b"<end2>"), [SPECIAL], ENDS, greedy)


@functools.cache
def small_compiler() -> Compiler:
    return Compiler(small_table())


def matcher(constraint: Constraint, banned: Iterable[int] = ()) -> Matcher:
    return small_compiler().matcher(constraint, frozenset(banned))


def masks(matchers: list[Matcher]) -> tuple[list[set[int]], dict[int, EngineError]]:
    """What each matcher allows next, and why one allows nothing."""
    size = small_table().size
    out = np.full((len(matchers), (size + 31) // 32), -1, np.int32)
    failures = fill_masks(matchers, out)
    bits = np.unpackbits(out.view(np.uint8), axis=1, bitorder="little")
    return [set(np.flatnonzero(row).tolist()) for row in bits], failures


def allowed(matcher: Matcher) -> set[int]:
    """The tokens of one mask."""
    found, failures = masks([matcher])
    assert not failures
    return found[0]


def outcome(constraint: Constraint, text: str) -> str:
    """Say whether a text is whole, a part that may go on, or does not match. Byte by byte."""
    walker = matcher(constraint)
    try:
        for byte in text.encode():
            walker.accept(byte)
    except EngineError:
        return "no"
    return "whole" if walker.may_end else "part"
