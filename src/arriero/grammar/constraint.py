"""Makes constraints out of what a caller may write. Pure checks; each raises InvalidRequest by name.

Everything written by others goes through here: what a `Constraint` holds is taken as checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from arriero.core import Constraint, ConstraintKind
from arriero.errors import InvalidRequest
from arriero.grammar import gbnf as gbnf_text
from arriero.grammar import lark as lark_text
from arriero.grammar.bias import to_json_schema
from arriero.grammar.native import check
from arriero.grammar.schema import checked_schema

MAX_CHARACTERS = 1 << 16
"""Of a regular expression, a grammar, or all texts of a choice."""
MAX_CHOICES = 10_000
MAX_SOURCE = 1 << 18
"""Characters of what is compiled in the end: a schema as JSON text, a GBNF grammar in Lark."""


def json_schema(schema: object, *, where: str = "json_schema") -> Constraint:
    """Return the constraint of a JSON value that conforms to a schema, written without spaces."""
    source = msgspec.json.encode(checked_schema(schema, where=where)).decode()
    _check_length(len(source), where, MAX_SOURCE)
    return Constraint(ConstraintKind.JSON_SCHEMA, source)


def any_object() -> Constraint:
    """Return the constraint of any JSON object."""
    return Constraint(ConstraintKind.JSON_SCHEMA, '{"type":"object"}')


def bias(schema: Mapping[str, Any], *, where: str = "biaser.json_schema") -> Constraint:
    """Return the constraint of a JSON value that conforms to a schema in the bias language."""
    return json_schema(to_json_schema(schema, where=where), where=where)


def regex(pattern: str, *, where: str = "regex") -> Constraint:
    """Return the constraint of a text that a regular expression matches from its first to its last byte."""
    return _checked(ConstraintKind.REGEX, _text(pattern, where), where)


def lark(text: str, *, where: str = "lark") -> Constraint:
    """Return the constraint of a grammar in llguidance's Lark dialect; `start` is what the text must be."""
    return _checked(ConstraintKind.LARK, lark_text.checked(_text(text, where), where=where), where)


def gbnf(text: str, *, where: str = "gbnf") -> Constraint:
    """Return the constraint of a grammar in llama.cpp's GBNF; `root` is what the text must be."""
    source = gbnf_text.to_lark(_text(text, where), where=where)
    _check_length(len(source), where, MAX_SOURCE)
    return _checked(ConstraintKind.LARK, source, where)


def choice(options: Sequence[str], *, where: str = "choice") -> Constraint:
    """Return the constraint of a text that is exactly one of `options`."""
    if isinstance(options, str) or not isinstance(options, Sequence) or not options:
        raise InvalidRequest(f"{where}: must be a list of at least one text", param=where)
    if len(options) > MAX_CHOICES:
        raise InvalidRequest(f"{where}: {len(options)} texts, at most {MAX_CHOICES} are allowed", param=where)
    texts = [_text(option, f"{where}[{index}]") for index, option in enumerate(options)]
    _check_length(sum(map(len, texts)), where)
    return Constraint(ConstraintKind.REGEX, "|".join(map(_literal, dict.fromkeys(texts))))


def _checked(kind: ConstraintKind, source: str, where: str) -> Constraint:
    constraint = Constraint(kind, source)
    check(constraint, where=where)
    return constraint


def _text(text: object, where: str) -> str:
    if not isinstance(text, str):
        raise InvalidRequest(f"{where}: must be a text", param=where)
    _check_length(len(text), where)
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidRequest(f"{where}: text with an unpaired surrogate", param=where)
    return text


def _check_length(length: int, where: str, most: int = MAX_CHARACTERS) -> None:
    if length > most:
        raise InvalidRequest(
            f"{where}: {length} characters to compile, at most {most} are allowed", param=where
        )


def _literal(text: str) -> str:
    """Return the regular expression of a text: all but letters and digits written as numbers."""
    return re.sub(r"[^A-Za-z0-9]", lambda char: f"\\x{{{ord(char[0]):x}}}", text)
