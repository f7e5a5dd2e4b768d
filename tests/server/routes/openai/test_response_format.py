"""response_format and the members that other servers have for it: what reaches the model, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arriero.core import Constraint, ConstraintKind

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    COMPLETIONS: {"model": "m", "prompt": "Hi"},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
BAD = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
NAMED = {"name": "answer", "schema": SCHEMA, "strict": True, "description": "An answer."}


async def constraint_of(serving: Any, model: Any, path: str, change: dict[str, Any]) -> Constraint | None:
    """Return the constraint that a request brings to the model."""
    async with serving(model) as client:
        response = await client.post(path, json={**BODIES[path], **change})

    assert response.status_code == 200, response.text
    constraint: Constraint | None = model.requests[0].constraint
    return constraint


@pytest.mark.parametrize(
    "change",
    [
        {"response_format": {"type": "json_schema", "json_schema": NAMED}},
        {"response_format": {"type": "json_schema", "json_schema": {**NAMED, "strict": False}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": json.dumps(SCHEMA)}, "response_format": {"type": "text"}},
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
        {"json_schema": SCHEMA, "grammar": ""},
    ],
)
async def test_a_schema_reaches_the_model(serving: Any, model_saying: Any, change: dict[str, Any]) -> None:
    """Whatever the member is called, and whether strict or not, the schema is enforced."""
    constraint = await constraint_of(serving, model_saying("{}"), CHAT, change)

    assert constraint is not None
    assert constraint.kind is ConstraintKind.JSON_SCHEMA
    assert list(json.loads(constraint.source)["properties"]) == ["a"]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"response_format": {"type": "json_object"}}, ConstraintKind.JSON_SCHEMA, '"object"'),
        ({"structured_outputs": {"json_object": True}}, ConstraintKind.JSON_SCHEMA, '"object"'),
        ({"structured_outputs": {"regex": "a+"}}, ConstraintKind.REGEX, "a+"),
        ({"guided_regex": "a+"}, ConstraintKind.REGEX, "a+"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, None, "yes"),
        ({"guided_choice": ["yes", "no"]}, None, "yes"),
        ({"structured_outputs": {"grammar": 'start: "yes"'}}, ConstraintKind.LARK, 'start: "yes"'),
        ({"guided_grammar": 'root ::= "yes"'}, ConstraintKind.LARK, "start:"),
        ({"grammar": 'root ::= "yes"'}, ConstraintKind.LARK, "start:"),
    ],
)
async def test_other_constraints_reach_the_model(
    serving: Any, model_saying: Any, change: dict[str, Any], kind: ConstraintKind | None, words: str
) -> None:
    """Any object, a regular expression, a choice, and grammars in Lark and in GBNF."""
    constraint = await constraint_of(serving, model_saying("{}"), CHAT, change)

    assert constraint is not None
    assert constraint.kind is (kind or constraint.kind)
    assert words in constraint.source
    assert "::=" not in constraint.source


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"response_format": {"type": "text"}},
        {"response_format": None, "grammar": "", "guided_json": None},
    ],
)
async def test_free_text_has_no_constraint(
    serving: Any, model_saying: Any, path: str, change: dict[str, Any]
) -> None:
    """Members that ask for nothing change nothing."""
    assert await constraint_of(serving, model_saying("x"), path, change) is None


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("target", ["m", "task/t"])
async def test_models_and_tasks_take_a_constraint(
    serving: Any, model_saying: Any, path: str, target: str
) -> None:
    """Both routes do; a task that has a constraint of its own is another matter."""
    change = {"model": target, "guided_regex": "a+"}
    constraint = await constraint_of(serving, model_saying("a"), path, change)

    assert constraint == Constraint(ConstraintKind.REGEX, "a+")


@pytest.mark.parametrize("path", BODIES)
async def test_stop_sequences_end_free_text_only(serving: Any, model_saying: Any, path: str) -> None:
    """They cannot cut an answer that must match something."""
    model = model_saying("a")
    async with serving(model) as client:
        for change in ({"stop": "x"}, {"stop": "x", "guided_regex": "a"}):
            assert (await client.post(path, json={**BODIES[path], **change})).status_code == 200

    assert "x" in model.requests[0].stop_sequences
    assert model.requests[1].stop_sequences == ()


BAD_SCHEMA = "properties.a.uniqueItems"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": BAD}}},
        f"response_format.json_schema.schema.{BAD_SCHEMA}",
    ),
    ({"structured_outputs": {"json": BAD}}, f"structured_outputs.json.{BAD_SCHEMA}"),
    ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
    ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs.regex"),
    ({"guided_json": BAD}, f"guided_json.{BAD_SCHEMA}"),
    ({"guided_json": "{"}, "guided_json"),
    ({"guided_json": "[]"}, "guided_json"),
    ({"guided_choice": []}, "guided_choice"),
    ({"guided_choice": "yes"}, "guided_choice"),
    ({"json_schema": BAD}, f"json_schema.{BAD_SCHEMA}"),
    ({"json_schema": {}, "grammar": "x"}, "grammar"),
    ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
]


async def test_what_cannot_be_enforced_is_refused(serving: Any, model_saying: Any) -> None:
    """400 with the path of the keyword or the member; nothing reaches the model."""
    model = model_saying("x")
    async with serving(model) as client:
        for path, body in BODIES.items():
            for change, param in REFUSED:
                response = await client.post(path, json={**body, **change})

                assert response.status_code == 400, response.text
                assert response.json()["error"]["param"] == param

    assert model.requests == []
