"""Checks a grammar in llguidance's Lark dialect that others wrote, without understanding all of it.

It is cut into the tokens of llguidance's own lexer, which is enough to find what must not be there: special
tokens of the model, settings that would not be obeyed, and schemas that are not checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from arriero.errors import InvalidRequest
from arriero.grammar.native import COMPACT
from arriero.grammar.schema import checked_schema

TOKENS = re.compile(
    r"""
      (?P<comment> (?: \# | // ) [^\n]* )
    | (?P<string>  "(?: \\. | [^"\\\n] )*" )
    | (?P<regexp>  /(?: \\. | [^/\\] )+/ )
    | (?P<special> < )
    | (?P<json>    %json )
    | (?P<regex>   %regex )
    | (?P<options> %llguidance )
    | (?P<setting> temperature (?= \s* = ) )
    | (?P<word>    [A-Za-z_] [\w-]* )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
SPACE = re.compile(r"\s*")


def checked(text: str, *, where: str = "lark") -> str:
    """Return the grammar with its JSON Schemas as they are to be compiled. Raises InvalidRequest."""
    if text.lstrip().startswith("{"):
        raise InvalidRequest(f"{where}: must begin with a rule, not with {{", param=where)
    return "".join(_parts(text, where))


def _parts(text: str, where: str) -> Iterator[str]:
    position = 0
    while found := TOKENS.match(text, position):
        position = found.end()
        match found.lastgroup:
            case "special":
                raise _refusal(
                    text, found, where, "special tokens of the model, such as <name>, are not allowed"
                )
            case "setting":
                raise _refusal(text, found, where, "temperature is a parameter of the request, not of a rule")
            case "options":
                raise _refusal(text, found, where, "%llguidance is not allowed")
            case "json":
                value, position = _json(text, found, where)
                schema = checked_schema(value, where=f"{where}.%json")
                yield "%json " + json.dumps({**schema, "x-guidance": COMPACT})
            case "regex":
                value, position = _json(text, found, where)
                yield "%regex " + json.dumps(value)
            case _:
                yield found[0]


def _json(text: str, keyword: re.Match[str], where: str) -> tuple[object, int]:
    """Return the JSON object after a keyword and where it ends."""
    begin = SPACE.match(text, keyword.end()).end()  # type: ignore[union-attr]
    try:
        value, end = json.JSONDecoder().raw_decode(text, begin)
    except (ValueError, RecursionError) as exc:
        raise _refusal(text, keyword, where, f"{keyword[0]} must be followed by a JSON object") from exc
    if not isinstance(value, dict):
        raise _refusal(text, keyword, where, f"{keyword[0]} must be followed by a JSON object")
    return value, end


def _refusal(text: str, found: re.Match[str], where: str, reason: str) -> InvalidRequest:
    line = text.count("\n", 0, found.start()) + 1
    return InvalidRequest(f"{where}: line {line}: {reason}", param=where)
