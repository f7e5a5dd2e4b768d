"""Poly's bias language to a JSON Schema that means what its author meant.

Numbers have at most `max_decimals` decimals (default 0) and lie between `min` and `max`, both included.
Arrays may be empty unless `min_items` says otherwise; `max_items` is included. Objects have exactly the
`required` properties, in that order. `max_length` counts characters (Poly counted bytes).

A schema is in this language if it uses no other words; one with words of JSON Schema is that. Words that
both have mean what they mean here: add `$schema` to a schema that shall be JSON Schema all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from arriero.config.problem import hint
from arriero.grammar.budget import check_budget
from arriero.grammar.keywords import BIAS_WORDS, BLOCK, GENERAL
from arriero.grammar.refusal import Path, quoted, refusal, shown

WORDS = {
    "boolean": (),
    "null": (),
    "number": ("min", "max", "max_decimals"),
    "string": ("max_length", "enum"),
    "array": ("items", "min_items", "max_items"),
    "object": ("required", "properties"),
}
"""What each type may say of itself."""

REMARKS = frozenset({"title", "description"})
ALL_WORDS = frozenset({"type", *(word for words in WORDS.values() for word in words)}) | REMARKS
STANDARD_WORDS = (BLOCK | GENERAL | {"$schema", "$id", "$defs", "definitions"}) - ALL_WORDS
MAX_DECIMALS = 9


def is_bias(schema: object, *, where: str = "biaser.json_schema") -> bool:
    """Return whether a schema is in the bias language. Raises InvalidRequest for a mixture."""
    check_budget(schema, where=where)
    own: list[str] = []
    standard: list[str] = []
    for path, node in _nodes(schema, ()):
        words = _standard_words(node)
        standard += [shown(where, (*path, word)) for word in words]
        if isinstance(node, Mapping):
            own += [shown(where, (*path, word)) for word in node if word in BIAS_WORDS]
    if own and standard:
        raise refusal(
            where,
            (),
            f"{own[0]} is a word of the bias language, {standard[0]} one of JSON Schema; use one of them",
        )
    return not standard


def to_json_schema(bias: Mapping[str, Any], *, where: str = "biaser.json_schema") -> dict[str, Any]:
    """Return the JSON Schema of a schema in the bias language. Raises InvalidRequest."""
    check_budget(bias, where=where)
    return _Translation(where).schema(bias, ())


def _nodes(schema: object, path: Path) -> Iterator[tuple[Path, object]]:
    """Yield every schema inside a schema that may be in either language."""
    yield path, schema
    if not isinstance(schema, Mapping):
        return
    if "items" in schema:
        yield from _nodes(schema["items"], (*path, "items"))
    if isinstance(properties := schema.get("properties"), Mapping):
        for name, one in properties.items():
            yield from _nodes(one, (*path, "properties", name))


def _standard_words(node: object) -> list[str]:
    """Return the keys that only JSON Schema can have there."""
    if not isinstance(node, Mapping) or "type" not in node:
        return ["type"]
    words = [word for word in node if word in STANDARD_WORDS]
    if node["type"] == "integer" or isinstance(node["type"], (list, tuple)):
        words.append("type")
    return words


class _Translation:
    """The translation of one schema; `where` is what errors call it."""

    def __init__(self, where: str) -> None:
        self._where = where

    def schema(self, raw: object, path: Path) -> dict[str, Any]:
        """Return the JSON Schema of what stands at `path`."""
        if not isinstance(raw, Mapping):
            raise refusal(self._where, path, "must be a table with a type")
        kind = raw.get("type")
        if not isinstance(kind, str) or kind not in WORDS:
            known = f"; it is one of {', '.join(WORDS)}"
            what = "the type is missing" if kind is None else f"{quoted(str(kind))} is no type"
            raise refusal(self._where, (*path, "type"), what + hint(str(kind), list(WORDS), otherwise=known))
        self._check_words(raw, kind, path)
        match kind:
            case "number":
                return self._number(raw, path)
            case "string":
                return self._string(raw, path)
            case "array":
                return self._array(raw, path)
            case "object":
                return self._object(raw, path)
        return {"type": kind}

    def _check_words(self, raw: Mapping[str, Any], kind: str, path: Path) -> None:
        allowed = ["type", *WORDS[kind]]
        for word in raw:
            if word not in allowed and word not in REMARKS:
                otherwise = f"; it may have {', '.join(allowed)}"
                near = hint(word, allowed, otherwise=otherwise)
                raise refusal(self._where, (*path, word), f"not a word for type {kind}{near}")

    def _number(self, raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
        decimals = self._count(raw, "max_decimals", path) or 0
        if decimals > MAX_DECIMALS:
            raise refusal(self._where, (*path, "max_decimals"), f"at most {MAX_DECIMALS} are possible")
        least, most = self._limit(raw, "min", path), self._limit(raw, "max", path)
        step = Decimal(1).scaleb(-decimals)
        lower = None if least is None else math.ceil(least / step) * step
        upper = None if most is None else math.floor(most / step) * step
        if lower is not None and upper is not None and lower > upper:
            what = f"no number with at most {decimals} decimals lies between min and max"
            raise refusal(self._where, (*path, "max"), what)
        schema: dict[str, Any] = {"type": "number" if decimals else "integer"}
        if lower is not None:
            schema["minimum"] = _plain(lower)
        if upper is not None:
            schema["maximum"] = _plain(upper)
        if decimals:
            schema["multipleOf"] = _plain(step)
        return schema

    def _string(self, raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
        longest = self._count(raw, "max_length", path)
        if "enum" not in raw:
            return {"type": "string"} if longest is None else {"type": "string", "maxLength": longest}
        options = self._texts(raw["enum"], (*path, "enum"))
        short = [option for option in options if longest is None or len(option) <= longest]
        if not short:
            what = (
                "it is empty"
                if not options
                else f"every text is longer than max_length, {longest} characters"
            )
            raise refusal(self._where, (*path, "enum"), what)
        return {"type": "string", "enum": short}

    def _array(self, raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
        if "items" not in raw:
            raise refusal(self._where, path, "an array needs items")
        schema: dict[str, Any] = {"type": "array", "items": self.schema(raw["items"], (*path, "items"))}
        fewest = self._count(raw, "min_items", path)
        most = self._count(raw, "max_items", path)
        if most is not None and (fewest or 0) > most:
            raise refusal(self._where, (*path, "max_items"), "less than min_items")
        if fewest is not None:
            schema["minItems"] = fewest
        if most is not None:
            schema["maxItems"] = most
        return schema

    def _object(self, raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
        place = (*path, "properties")
        properties = raw.get("properties", {})
        if not isinstance(properties, Mapping):
            raise refusal(self._where, place, "must be a table")
        known = {name: self.schema(one, (*place, name)) for name, one in properties.items()}
        required = self._texts(raw.get("required", []), (*path, "required"))
        for name in required:
            if name not in known:
                near = hint(name, list(known), otherwise="")
                raise refusal(self._where, (*path, "required"), f"{quoted(name)} is not in properties{near}")
        return {
            "type": "object",
            "properties": {name: known[name] for name in required},
            "required": required,
            "additionalProperties": False,
        }

    def _count(self, raw: Mapping[str, Any], word: str, path: Path) -> int | None:
        value = raw.get(word)
        if word in raw and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise refusal(self._where, (*path, word), "must be a whole number, 0 or more")
        return value

    def _limit(self, raw: Mapping[str, Any], word: str, path: Path) -> Decimal | None:
        value = raw.get(word)
        if word in raw and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise refusal(self._where, (*path, word), "must be a number")
        if isinstance(value, (int, float)) and abs(value) >= 2**53:
            raise refusal(self._where, (*path, word), "must be between -2^53 and 2^53")
        return None if value is None else Decimal(repr(value))

    def _texts(self, raw: object, path: Path) -> list[str]:
        if not isinstance(raw, (list, tuple)) or not all(isinstance(one, str) for one in raw):
            raise refusal(self._where, path, "must be a list of texts")
        return list(dict.fromkeys(raw))


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
