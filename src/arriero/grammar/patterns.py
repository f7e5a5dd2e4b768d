"""JSON Schema's regular expressions (ECMA-262 with the flag u) in the syntax of llguidance.

What means something else there is written out (`.`, `\\s`, `\\d`, `\\w`, sets); what cannot be
decided by an automaton (look-around, back references) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection

MAX_LENGTH = 10_000
MAX_GROUPS = 100

DIGIT = "0-9"
WORD = "0-9A-Za-z_"
SPACE = r"\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}"
CLASSES = {
    "d": f"[{DIGIT}]",
    "D": f"[^{DIGIT}]",
    "w": f"[{WORD}]",
    "W": f"[^{WORD}]",
    "s": f"[{SPACE}]",
    "S": f"[^{SPACE}]",
}
ANY_BUT_NEWLINE = r"[^\n\r\u{2028}\u{2029}]"
ANYTHING = r"[\u{0}-\u{10ffff}]"
CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
PUNCTUATION = frozenset("^$\\.*+?()[]{}|/-&~!\"#%',:;<=>@_` ")
"""What a backslash may stand before and mean the character itself."""

COUNT = re.compile(r"\{[0-9]{1,6}(?:,[0-9]{0,6})?\}")
LAST_COUNT = re.compile(r"\{([0-9]+),[0-9]*\}\Z")
"""A pattern is searched for: how often its last part is repeated does not matter, only the least."""
COUNTED_GROUP = re.compile(r"\)\{(?:[0-9]+,)?([0-9]+)\}")
PROPERTY = re.compile(r"[pP]\{[A-Za-z_]+(?:=[A-Za-z_]+)?\}")
HEX = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}")
LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9A-Fa-f]{2})")
GROUP = re.compile(r"\?(?::|P?<[A-Za-z_][A-Za-z0-9_]*>)")


def translated(pattern: str) -> str:
    """Return the pattern for llguidance. Raises ValueError with the reason."""
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    return LAST_COUNT.sub(r"{\1}", _Translation(pattern).result())


def repetitions(pattern: str) -> int:
    """Return how often a group of a translated pattern may be repeated by a count; 1 if there is none."""
    return max((int(found[1]) for found in COUNTED_GROUP.finditer(pattern)), default=1)


def other_than(words: Collection[str]) -> str:
    """Return a pattern of every text that is none of the words."""
    return f"^(?:{_other_than(sorted(set(words)))})$"


def literal(char: str) -> str:
    """Return the pattern of one character, also good inside a set."""
    return char if char.isalnum() and char.isascii() else f"\\u{{{ord(char):x}}}"


def _other_than(words: list[str]) -> str:
    first = dict.fromkeys(word[0] for word in words if word)
    options = [] if "" in words else [""]
    options += [literal(char) + f"(?:{_other_than(_rests(words, char))})" for char in first]
    options.append((f"[^{''.join(map(literal, first))}]" if first else ANYTHING) + f"{ANYTHING}*")
    return "|".join(options)


def _rests(words: list[str], char: str) -> list[str]:
    return [word[1:] for word in words if word.startswith(char)]


class _Translation:
    """One pass over a pattern. `at` is where the next unread character stands."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0

    def result(self) -> str:
        parts = []
        while self.at < len(self.pattern):
            parts.append(self._next())
        if self.depth:
            raise ValueError("a group that is not closed")
        return "".join(parts)

    def _next(self) -> str:
        match self._take():
            case "\\":
                return self._escape()
            case "[":
                return self._set()
            case "(":
                return self._group()
            case ")":
                self.depth -= 1
                if self.depth < 0:
                    raise ValueError("a group that is not opened")
                return ")"
            case "{":
                return self._count()
            case ".":
                return ANY_BUT_NEWLINE
            case char if char in "^$*+?|":
                return char
            case char:
                return literal(char)

    def _take(self) -> str:
        if self.at >= len(self.pattern):
            raise ValueError("it ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def _matched(self, expected: re.Pattern[str]) -> re.Match[str] | None:
        found = expected.match(self.pattern, self.at)
        if found:
            self.at = found.end()
        return found

    def _group(self) -> str:
        self.depth += 1
        if self.depth > MAX_GROUPS:
            raise ValueError(f"more than {MAX_GROUPS} groups in each other")
        if self._matched(GROUP) or not self.pattern.startswith("?", self.at):
            return "(?:"
        raise ValueError("look-around and flags such as (?=...), (?!...), (?i) cannot be enforced")

    def _count(self) -> str:
        self.at -= 1
        if found := self._matched(COUNT):
            return found[0]
        self.at += 1
        return literal("{")

    def _escape(self) -> str:
        """Return what a backslash and the next characters mean outside a set."""
        if self.pattern.startswith(tuple(CLASSES), self.at):
            return CLASSES[self._take()]
        if found := self._matched(PROPERTY):
            return f"\\{found[0]}"
        return literal(self._escaped_char())

    def _escaped_char(self) -> str:
        if found := self._matched(HEX):
            return self._code_point(int(found[1] or found[2] or found[3], 16))
        char = self._take()
        if char in CONTROLS:
            return CONTROLS[char]
        if char == "c" and self.pattern[self.at : self.at + 1].isalpha():
            return chr(ord(self._take()) % 32)
        if char in "123456789k":
            raise ValueError("back references cannot be enforced")
        if char in "bB":
            raise ValueError("word boundaries (\\b) cannot be enforced")
        if char not in PUNCTUATION:
            raise ValueError(f"\\{char} is not known")
        return char

    def _code_point(self, code: int) -> str:
        if 0xD800 <= code <= 0xDBFF and (low := self._matched(LOW_SURROGATE)):
            code = 0x10000 + ((code - 0xD800) << 10) + (int(low[1], 16) - 0xDC00)
        if code == 0 or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            raise ValueError(f"the character U+{code:04X} cannot stand in a text")
        return chr(code)

    def _set(self) -> str:
        """Return a set, with everything in it that could mean more to llguidance written as a number."""
        negated = self.pattern.startswith("^", self.at)
        self.at += negated
        parts = []
        while not self.pattern.startswith("]", self.at):
            parts.append(self._set_member())
        self.at += 1
        if not parts:
            if negated:
                return ANYTHING
            raise ValueError("the empty set [] matches nothing")
        return f"[{'^' if negated else ''}{''.join(parts)}]"

    def _set_member(self) -> str:
        first = self._set_atom()
        is_range = self.pattern.startswith("-", self.at) and not self.pattern.startswith("-]", self.at)
        if not is_range or len(first) != 1:
            return _in_set(first)
        self.at += 1
        last = self._set_atom()
        if len(last) != 1:
            return _in_set(first) + literal("-") + _in_set(last)
        if last < first:
            raise ValueError(f"the range {first}-{last} is the wrong way round")
        return f"{literal(first)}-{literal(last)}"

    def _set_atom(self) -> str:
        """Return one character, or a class as a set of its own (which is longer)."""
        if not self.pattern.startswith("\\", self.at):
            return self._take()
        self.at += 1
        if self.pattern.startswith("b", self.at):
            self.at += 1
            return "\b"
        if self.pattern.startswith(tuple(CLASSES), self.at):
            return CLASSES[self._take()]
        if found := self._matched(PROPERTY):
            return f"\\{found[0]}"
        return self._escaped_char()


def _in_set(atom: str) -> str:
    return literal(atom) if len(atom) == 1 else atom
