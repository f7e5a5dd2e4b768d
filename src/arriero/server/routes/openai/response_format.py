"""What an answer must match: OpenAI's `response_format`, and what vLLM and llama.cpp call it.

A request has one constraint or none. What cannot be enforced is refused with the path of the keyword.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from arriero.errors import InvalidRequest
from arriero.grammar import constraint

if TYPE_CHECKING:
    from arriero.core import Constraint

Schema = dict[str, Any] | bool


class NamedSchema(msgspec.Struct):
    """`response_format.json_schema`. Whether `strict` or not, it is enforced."""

    schema: Schema
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct):
    """`response_format`. `schema` beside json_object is llama.cpp's."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None
    schema: Schema | None = None


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True):
    """vLLM's `structured_outputs`; at most one of the members is given."""

    json: Schema | str | None = None
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    disable_any_whitespace: bool | None = None


class ConstraintMembers(msgspec.Struct, kw_only=True):
    """The members of a request that say what its answer must match."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    json_schema: Schema | None = None
    grammar: str | None = None


async def asked_constraint(members: ConstraintMembers) -> Constraint | None:
    """Return the constraint that is asked for; checked in a thread, because a large one takes a while.

    Raises InvalidRequest for two of them, and for one that cannot be enforced.
    """
    asked = _asked(members)
    if len(asked) > 1:
        names = f"{asked[0].where} and {asked[1].where}"
        raise InvalidRequest(f"an answer can have one constraint, not {names}", param=asked[1].where)
    return await asyncio.to_thread(asked[0].made) if asked else None


class _Asked(msgspec.Struct):
    """A constraint that is asked for: what it is, the member that says so, and what makes it."""

    make: Callable[..., Constraint]
    where: str
    value: object

    def made(self) -> Constraint:
        return self.make(self.value, where=self.where)


def _asked(members: ConstraintMembers) -> list[_Asked]:
    return [
        *_of_format(members.response_format),
        *_of_structured(members.structured_outputs),
        *_given(_schema, "guided_json", members.guided_json),
        *_given(constraint.regex, "guided_regex", members.guided_regex),
        *_given(constraint.choice, "guided_choice", members.guided_choice),
        *_given(_grammar, "guided_grammar", members.guided_grammar or None),
        *_given(constraint.json_schema, "json_schema", members.json_schema),
        *_given(_grammar, "grammar", members.grammar or None),
    ]


def _given(make: Callable[..., Constraint], where: str, value: object) -> list[_Asked]:
    return [] if value is None else [_Asked(make, where, value)]


def _of_format(asked: ResponseFormat | None) -> list[_Asked]:
    where = "response_format"
    if asked is None or asked.type == "text":
        return []
    if asked.type == "json_object" and asked.schema is not None:
        return [_Asked(constraint.json_schema, f"{where}.schema", asked.schema)]
    if asked.type == "json_object":
        return [_Asked(_any_object, where, None)]
    if asked.json_schema is None:
        raise InvalidRequest(
            "response_format of type json_schema needs the member json_schema", param=f"{where}.json_schema"
        )
    return [_Asked(constraint.json_schema, f"{where}.json_schema.schema", asked.json_schema.schema)]


def _of_structured(asked: StructuredOutputs | None) -> list[_Asked]:
    if asked is None:
        return []
    where = "structured_outputs"
    return [
        *_given(_schema, f"{where}.json", asked.json),
        *_given(_any_object, f"{where}.json_object", asked.json_object or None),
        *_given(constraint.regex, f"{where}.regex", asked.regex),
        *_given(constraint.choice, f"{where}.choice", asked.choice),
        *_given(_grammar, f"{where}.grammar", asked.grammar),
    ]


def _any_object(_: object, *, where: str) -> Constraint:
    return constraint.any_object()


def _schema(value: Schema | str, *, where: str) -> Constraint:
    """Return the constraint of a schema that may be JSON text."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value, type=Schema)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise InvalidRequest(f"{where} is not a JSON Schema: {exc}", param=where) from exc
    return constraint.json_schema(value, where=where)


def _grammar(text: str, *, where: str) -> Constraint:
    """Return the constraint of a grammar: GBNF, whose rules are written `::=`, or Lark."""
    return (constraint.gbnf if "::=" in text else constraint.lark)(text, where=where)
