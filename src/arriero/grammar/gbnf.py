"""Translates a grammar in llama.cpp's GBNF into llguidance's Lark dialect, token by token.

A GBNF grammar speaks of single characters, and any of its rules may end where another begins. So each
character becomes a terminal of its own: exact, but slower than terminals as long as words, as a
grammar in Lark would have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from arriero.errors import InvalidRequest

ANY = "/(?s:.)/"
"""Any one character, also the end of a line."""

TOKENS = re.compile(
    r"""
      (?P<space>   \s+ | \#[^\n]* )
    | (?P<rule>    (?P<name> [A-Za-z0-9_-]+ ) \s* ::= )
    | (?P<word>    [A-Za-z0-9_-]+ )
    | (?P<literal> "(?P<text> (?: \\. | [^"\\] )* )" )
    | (?P<set>     \[ (?P<not> \^? ) (?P<chars> (?: \\. | [^\]\\] )* ) \] )
    | (?P<repeat>  [*+?] | \{ \s* \d* \s* (?: , \s* \d* \s* )? \} )
    | (?P<open>    \( )
    | (?P<close>   \) )
    | (?P<or>      \| )
    | (?P<any>     \. )
    """,
    re.VERBOSE | re.DOTALL,
)
CHARACTERS = re.compile(r"\\x(\w\w)|\\u(\w{4})|\\U(\w{8})|\\(.)|(.)", re.DOTALL)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", **{char: char for char in '"\\[]-^./'}}
ITEMS = {"word", "literal", "set", "close", "any"}
"""What a repetition may follow."""


def to_lark(text: str, *, where: str = "gbnf") -> str:
    """Return the grammar in Lark; its rule `start` is `root`. Raises InvalidRequest."""
    return _Translation(text, where).result()


class _Translation:
    def __init__(self, text: str, where: str) -> None:
        self._text = text
        self._where = where
        self._line, self._written = 1, 0
        names = [found["name"] for found in self._tokens() if found.lastgroup == "rule"]
        self._rules = {name: f"r{index}" for index, name in enumerate(names)}

    def result(self) -> str:
        if "root" not in self._rules:
            raise self._refusal("there is no rule root")
        return "".join(self._parts())[1:] + f"\nstart: {self._rules['root']}\n"

    def _parts(self) -> Iterator[str]:
        depth, before = 0, ""
        for found in self._tokens():
            kind = found.lastgroup or ""
            depth += (kind == "open") - (kind == "close")
            if depth < 0 or (kind == "rule" and depth):
                raise self._refusal("parentheses do not match")
            if kind == "repeat" and before not in ITEMS:
                raise self._refusal(f"nothing to repeat before {found[0]}")
            if kind != "rule" and not before:
                raise self._refusal("must begin with a rule: name ::= ...")
            yield self._part(kind, found)
            before = kind
        if depth:
            raise self._refusal("parentheses do not match")

    def _part(self, kind: str, found: re.Match[str]) -> str:
        match kind:
            case "rule":
                return f"{self._new_line()}{self._rules[found['name']]}: "
            case "word":
                if found[0] not in self._rules:
                    raise self._refusal(f"there is no rule {found[0][:60]}")
                return f"{self._rules[found[0]]} "
            case "literal":
                return f"({' '.join(f'/{char}/' for char in self._characters(found['text']))}) "
            case "set":
                return self._set(found)
            case "repeat":
                return re.sub(r"\s|(?<=\{)(?=\s*,)", lambda gap: "" if gap[0] else "0", found[0]) + " "
            case "any":
                return f"{ANY} "
            case _:
                return f"{found[0]} "

    def _new_line(self) -> str:
        """Return line ends such that a rule stands on the line where it stood: messages name the line."""
        ends = "\n" * (self._line - self._written)
        self._written = self._line
        return ends or "\n"

    def _set(self, found: re.Match[str]) -> str:
        if not found["chars"]:
            if found["not"]:
                return f"{ANY} "
            raise self._refusal("an empty set of characters matches nothing")
        return f"/[{found['not']}{''.join(self._characters(found['chars'], keep='-'))}]/ "

    def _characters(self, text: str, *, keep: str = "") -> Iterator[str]:
        """Yield the characters of a literal or set, written so that they mean nothing else."""
        for found in CHARACTERS.finditer(text):
            code = found[1] or found[2] or found[3]
            if found[4] and found[4] not in ESCAPES:
                raise self._refusal(f"unknown escape \\{found[4]}")
            if found[5] and found[5] in keep and 0 < found.start() < len(text) - 1:
                yield found[5]
                continue
            try:
                number = (
                    int(code, 16) if code else ord(ESCAPES.get(found[4], found[4]) if found[4] else found[5])
                )
            except ValueError as exc:
                raise self._refusal(f"{found[0]} is no character") from exc
            if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
                raise self._refusal(f"{found[0]} is no character")
            yield f"\\x{{{number:x}}}"

    def _tokens(self) -> Iterator[re.Match[str]]:
        position, self._line = 0, 1
        while position < len(self._text):
            found = TOKENS.match(self._text, position)
            if found is None:
                raise self._refusal(f"cannot read {self._text[position : position + 20]!r}")
            position = found.end()
            if found.lastgroup != "space":
                yield found
            self._line += found[0].count("\n")

    def _refusal(self, reason: str) -> InvalidRequest:
        return InvalidRequest(f"{self._where}: line {self._line}: {reason}", param=self._where)
