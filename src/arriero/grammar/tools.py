"""The constraint of an answer that may call tools: which calls, in which form, beside which text.

Arguments always conform to their tool's schema, names are always those of tools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from arriero.core import Constraint, ConstraintKind
from arriero.errors import InvalidRequest
from arriero.grammar.call_format import HEAD, CallFormat, split_special
from arriero.grammar.native import COMPACT
from arriero.grammar.schema import checked_schema

NO_PARAMETERS = {"type": "object", "properties": {}}
PLAIN_KEYWORDS = {"$defs", "$schema", "description", "properties", "required", "title", "type"}
"""Of a schema of these alone, only `properties` speaks of the members."""

Schemas = Mapping[str, dict[str, Any]]
"""Name of each tool to the schema of its arguments."""


def arguments_schema(parameters: object, *, where: str) -> dict[str, Any]:
    """Return the schema of a tool's arguments: of an object, closed where only `properties` speak of it.

    Raises InvalidRequest naming what cannot be enforced.
    """
    parameters = parameters or NO_PARAMETERS
    if not isinstance(parameters, Mapping):
        raise InvalidRequest(f"{where} must be a JSON Schema of an object", param=where)
    schema = {"type": "object", **parameters}
    if schema["type"] != "object":
        raise InvalidRequest(f"{where}.type must be 'object'", param=f"{where}.type")
    if "properties" in schema and schema.keys() <= PLAIN_KEYWORDS:
        schema["additionalProperties"] = False
    return checked_schema(schema, where=where)


def required_calls(
    tools: Schemas, form: CallFormat, special: Mapping[str, int], *, parallel: bool
) -> Constraint:
    """Return the constraint of an answer that is one call, or several where `parallel`, and nothing else.

    special: ids of the special tokens among the marks of the form; all other marks are text.
    """
    begin = _lark(form.begin, special)
    return _constraint(f"start: {begin} calls", _calls(tools, form, special, parallel))


def possible_calls(
    tools: Schemas,
    form: CallFormat,
    special: Mapping[str, int],
    *,
    parallel: bool,
    answer: Constraint | None = None,
) -> Constraint:
    """Return the constraint of an answer that is free text, calls, or calls after text.

    answer: what an answer without calls must match in place of free text; a JSON Schema.
    """
    calls = _calls(tools, form, special, parallel)
    if answer is not None:
        value = f"answer: %json {_json_object(_answer_schema(answer, form))}"
        return _constraint(f"start: answer | {_lark(form.begin, special)} calls", value, calls)
    mark, rest = form.mark, _lark(form.begin.removeprefix(form.mark), special)
    if not mark:
        return _constraint("start: TEXT | calls", _text_unlike(form.opening(()), at_start=True), calls)
    if mark in special:
        text = _text_unlike(form.opening(special))
        return _constraint(f"start: TEXT | TEXT {_lark(mark, special)} {rest} calls", text, calls)
    marked = f"marked[lazy]: /(?s:.*)/ {json.dumps(mark)}"
    return _constraint(f"start: TEXT | marked {rest} calls", _text_unlike(mark), marked, calls)


def _constraint(*rules: str) -> Constraint:
    return Constraint(ConstraintKind.LARK, "\n".join(rules))


def _calls(tools: Schemas, form: CallFormat, special: Mapping[str, int], parallel: bool) -> str:
    """Return the rules of the calls after the first mark: `calls` and what it consists of."""
    more = f" ({_lark(form.separator, special)} call)*" if parallel and form.separator is not None else ""
    names = " | ".join(f"call_{index}" for index in range(len(tools)))
    rules = [
        f"calls: call{more} {_lark(form.end, special)}",
        f'call: {json.dumps(HEAD)} ({names}) "}}"',
    ]
    for index, (name, schema) in enumerate(tools.items()):
        rules.append(f"call_{index}: {json.dumps(name + form.middle)} %json {_json_object(schema)}")
    return "\n".join(rules)


def _text_unlike(text: str, *, at_start: bool = False) -> str:
    """Return the terminal TEXT: whatever does not hold, or does not begin with, a text."""
    before = "" if at_start else "/(?s:.*)/ "
    return f"TEXT: /(?s:.*)/ & ~({before}{json.dumps(text)} /(?s:.*)/)"


def _lark(text: str, special: Mapping[str, int]) -> str:
    """Return the terms for a text with special tokens in it; nothing for an empty one."""
    pieces = split_special(text, special)
    return " ".join(f"<[{special[piece]}]>" if piece in special else json.dumps(piece) for piece in pieces)


def _answer_schema(answer: Constraint, form: CallFormat) -> dict[str, Any]:
    """Return the schema of an answer, which must be JSON that no mark of the form can begin."""
    schema = json.loads(answer.source) if answer.kind is ConstraintKind.JSON_SCHEMA and form.mark else None
    if not isinstance(schema, dict):
        raise InvalidRequest(
            "this model cannot have these tools beside this constraint; say tool_choice 'none' or 'required'",
            param="tools",
        )
    return schema


def _json_object(schema: Mapping[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": COMPACT})
