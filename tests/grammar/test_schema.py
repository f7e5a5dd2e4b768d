"""JSON Schema to the part of it that is enforced."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from arriero.errors import InvalidRequest
from arriero.grammar.schema import checked_schema

USER = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def nested(levels: int) -> Any:
    """Return a schema with so many arrays in each other."""
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, {}),
        ({"title": "T", "description": "D", "default": 1, "x-order": 3, "$comment": "c"}, {}),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "null"}, {"type": "null"}),
        ({"type": ["string", "null"], "maxLength": 3}, {"type": ["string", "null"], "maxLength": 3}),
        ({"type": ["integer", "number"]}, {"type": "number"}),
        ({"type": "string", "uniqueItems": True}, {"type": "string"}),
        ({"type": "array", "uniqueItems": False, "maxItems": 2.0}, {"type": "array", "maxItems": 2}),
        ({"enum": ["a", 1.0, None]}, {"enum": ["a", 1, None]}),
        ({"type": "integer", "format": "int32"}, {"type": "integer"}),
        (
            {"type": "number", "minimum": 1, "exclusiveMinimum": True, "maximum": 9},
            {"type": "number", "minimum": 1.00000000000001, "maximum": 9},
        ),
        (
            {"items": [{"type": "null"}], "additionalItems": False},
            {"prefixItems": [{"type": "null"}], "items": False},
        ),
        (
            {"type": "object", "unevaluatedProperties": False},
            {"type": "object", "additionalProperties": False},
        ),
        ({"type": "object", "propertyNames": {"type": "string"}}, {"type": "object"}),
        (
            {"type": "object", "propertyNames": {"enum": ["a"]}, "additionalProperties": {"type": "null"}},
            {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "null"}]},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        ({"not": {"not": {"type": "null"}}}, {"type": "null"}),
        (
            {"$ref": "#/$defs/u", "$defs": {"u": USER, "unused": {"uniqueItems": True}}},
            {"$ref": "#/$defs/0", "$defs": {"0": USER}},
        ),
        (
            {"$ref": "#u", "$defs": {"u": {"$anchor": "u", **USER}}},
            {"$ref": "#/$defs/0", "$defs": {"0": USER}},
        ),
    ],
)
def test_rewritten(schema: Any, expected: Any) -> None:
    """A schema becomes the equivalent one with the few keywords that are enforced."""
    assert checked_schema(schema) == expected


def test_a_tagged_union_needs_no_negation() -> None:
    """Branches of oneOf that a required constant tells apart become anyOf, also behind references."""
    cat = {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]}
    dog = {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"]}
    schema = {
        "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
        "discriminator": {"propertyName": "kind"},
        "$defs": {"cat": cat, "dog": dog},
    }

    assert checked_schema(schema) == {
        "anyOf": [{"$ref": "#/$defs/0"}, {"$ref": "#/$defs/1"}],
        "$defs": {"0": cat, "1": dog},
    }


@pytest.mark.parametrize(
    ("schema", "param"),
    [
        (
            {"properties": {"a": {"type": "array", "uniqueItems": True}}},
            "json_schema.properties.a.uniqueItems",
        ),
        ({"contains": {"type": "null"}}, "json_schema.contains"),
        ({"$dynamicRef": "#a"}, "json_schema.$dynamicRef"),
        ({"$ref": "https://example.com/s.json"}, "json_schema.$ref"),
        ({"$ref": "#/$defs/none"}, "json_schema.$ref"),
        ({"$ref": 3}, "json_schema.$ref"),
        ({"$schema": "https://example.com/mine"}, "json_schema.$schema"),
        ({"allOf": [{}, {"pattern": "(?=a)b"}]}, "json_schema.allOf[1].pattern"),
        ({"pattern": "(a)\\1"}, "json_schema.pattern"),
        ({"pattern": "^(a b?){0,99}$", "maxLength": 5000}, "json_schema.maxLength"),
        ({"format": "iri"}, "json_schema.format"),
        ({"format": "datetime"}, "json_schema.format"),
        ({"type": "text"}, "json_schema.type"),
        ({"type": 1}, "json_schema.type"),
        ({"minlength": 3}, "json_schema.minlength"),
        ({"type": "integer", "min": 3}, "json_schema.min"),
        ({"minItems": 10_000_000}, "json_schema.minItems"),
        ({"maxItems": -1}, "json_schema.maxItems"),
        ({"minLength": True}, "json_schema.minLength"),
        ({"maximum": 10**30}, "json_schema.maximum"),
        ({"maximum": "9"}, "json_schema.maximum"),
        ({"const": 12345678901234567890}, "json_schema.const"),
        ({"multipleOf": 0}, "json_schema.multipleOf"),
        ({"multipleOf": 0.123456789012}, "json_schema.multipleOf"),
        ({"minProperties": 2}, "json_schema.minProperties"),
        ({"required": ["a", 3]}, "json_schema.required[1]"),
        ({"properties": {"a\x01": True}}, "json_schema"),
        ({"const": "a\0"}, "json_schema.const"),
        ({"enum": ["\ud800"]}, "json_schema.enum[0]"),
        ({"enum": "abc"}, "json_schema.enum"),
        ({"anyOf": {}}, "json_schema.anyOf"),
        ({"properties": []}, "json_schema.properties"),
        ({"items": "string"}, "json_schema.items"),
        ({"not": {"pattern": "a+"}}, "json_schema.not.pattern"),
        ({"not": {"type": "integer"}}, "json_schema.not.type"),
        ({"not": {"multipleOf": 1}}, "json_schema.not.multipleOf"),
        ({"oneOf": [{"format": "uri"}, {"maxLength": 3}]}, "json_schema.oneOf[0].format"),
        (
            {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False},
            "json_schema.unevaluatedProperties",
        ),
        ({"$defs": {"a": {"$id": "b", "$ref": "#/c"}}}, "json_schema.$defs.a.$id"),
        (False, "json_schema"),
        ({"enum": []}, "json_schema"),
        ("string", "json_schema"),
        (float("nan"), "json_schema"),
        ({"const": b"x"}, "json_schema.const"),
        ({3: True}, "json_schema"),
    ],
)
def test_refused_by_name_and_place(schema: Any, param: str) -> None:
    """What cannot be enforced is refused, and the error names where it stands."""
    with pytest.raises(InvalidRequest) as caught:
        checked_schema(schema)

    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    ],
)
def test_recursion_without_an_end(schema: Any) -> None:
    """A schema that only refers to itself has no finite value and is refused."""
    with pytest.raises(InvalidRequest, match="never end"):
        checked_schema(schema)


def test_recursion_with_an_end() -> None:
    """A list that may end refers to itself."""
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}

    assert checked_schema(schema) == schema


def hostile() -> dict[str, Any]:
    """Return schemas that are made to cost much."""
    chain = {f"d{number}": {"allOf": [{"$ref": f"#/$defs/d{number + 1}"}]} for number in range(4000)}
    doubling = {f"d{number}": {"oneOf": [{"$ref": f"#/$defs/d{number + 1}"}] * 2} for number in range(40)}
    links = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(9000)}
    return {
        "depth": nested(100_000),
        "enum": {"enum": list(range(1_000_000))},
        "properties": {"properties": {f"p{number}": {} for number in range(100_000)}},
        "some properties": {"properties": {f"p{number}": {} for number in range(9_000)}},
        "text": {"const": "x" * 10_000_000},
        "negations": {"$defs": {**chain, "d4000": {"type": "null"}}, "not": {"$ref": "#/$defs/d0"}},
        "doubling": {"$defs": {**doubling, "d40": {"type": "null"}}, "$ref": "#/$defs/d0"},
        "endless links": {"$defs": {**links, "d9000": {"$ref": "#/$defs/d0"}}, "$ref": "#/$defs/d0"},
        "choices": {"oneOf": [{"maxLength": number} for number in range(3_000)]},
        "number": {"const": 10**4000},
        "pattern": {"pattern": "(" * 60_000},
        "name": {"y" * 100_000: {"type": "nul"}, "type": "nul"},
    }


@pytest.mark.parametrize("name", list(hostile()))
def test_hostile_schemas_are_refused_soon(name: str) -> None:
    """A bomb ends in one short error, far within the second that a request may take."""
    schema = hostile()[name]
    started = time.process_time()

    with pytest.raises(InvalidRequest) as caught:
        checked_schema(schema)

    assert time.process_time() - started < 1
    assert len(caught.value.message) < 400


def test_what_common_tools_write_is_accepted() -> None:
    """The schemas of pydantic and zod go through."""
    pydantic = {
        "$defs": {"Color": {"enum": ["red", "blue"], "title": "Color", "type": "string"}},
        "properties": {
            "id": {"format": "uuid", "title": "Id", "type": "string"},
            "born": {"format": "date-time", "title": "Born", "type": "string"},
            "mail": {"anyOf": [{"format": "email", "type": "string"}, {"type": "null"}], "default": None},
            "age": {"exclusiveMinimum": 0, "maximum": 150, "type": "integer"},
            "score": {"default": 0.5, "minimum": 0, "maximum": 1, "type": "number"},
            "colors": {"items": {"$ref": "#/$defs/Color"}, "maxItems": 3, "type": "array"},
            "point": {"maxItems": 2, "minItems": 2, "prefixItems": [{"type": "number"}, {"type": "number"}]},
            "code": {"pattern": "^[A-Z]{3}\\d+$", "type": "string"},
            "extra": {"additionalProperties": {"type": "integer"}, "type": "object"},
        },
        "required": ["id", "born", "age", "code"],
        "title": "Model",
        "type": "object",
    }
    zod = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "map": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {}},
            "n": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991},
        },
        "required": ["map", "n"],
        "additionalProperties": False,
    }

    assert json.dumps(checked_schema(pydantic))
    assert list(checked_schema(zod)["properties"]) == ["map", "n"]
