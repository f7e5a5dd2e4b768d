"""The constraint of tool calls, asked token by token: which texts it lets through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arriero.core import Constraint
from arriero.errors import InvalidRequest
from arriero.grammar import constraint as constraints
from arriero.grammar.call_format import HERMES, LLAMA, MISTRAL, CallFormat
from arriero.grammar.matcher import Compiler, fill_masks
from arriero.grammar.tools import arguments_schema, possible_calls, required_calls
from arriero.grammar.vocabulary import TokenTable

EOS, MARK, END_MARK, WORD = 256, 257, 258, 259
NAMES = [b"<eos>", b"[TOOL_CALLS]", b"</tool_call>", b"<tool_call>"]
TABLE = TokenTable(
    [bytes([byte]) for byte in range(256)] + NAMES,
    {EOS, MARK, END_MARK},
    {EOS},
    lambda text: [*text.encode()],
)
COMPILER = Compiler(TABLE)
"""Its tokens are bytes, two special marks, and one mark that is a word like any other."""


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


TOOLS = {"get": closed(city={"type": "string"}), "get_all": closed(count={"type": "integer"})}
GET = ("get", '{"city":"a"}')
ALL = ("get_all", '{"count":3}')


def passes(constraint: Constraint, *parts: str | int) -> bool:
    """Tell whether the constraint lets a text of these parts, and then its end, through."""
    matcher = COMPILER.matcher(constraint)
    masks = np.zeros((1, (TABLE.size + 31) // 32), np.int32)
    tokens = [token for part in parts for token in ([part] if isinstance(part, int) else part.encode())]
    for token in tokens:
        fill_masks([matcher], masks)
        if not np.unpackbits(masks.view(np.uint8), bitorder="little")[token]:
            return False
        matcher.accept(token)
    return matcher.may_end


@pytest.mark.parametrize("form", [HERMES, MISTRAL, LLAMA])
def test_required_calls_are_calls_and_nothing_else(form: CallFormat) -> None:
    """One call of any tool passes; text, another name and arguments of another tool do not."""
    constraint = required_calls(TOOLS, form, {}, parallel=True)

    assert passes(constraint, form.written([GET]))
    assert passes(constraint, form.written([ALL]))
    for text in (
        "",
        "Hello",
        "Hello " + form.written([GET]),
        form.written([GET])[:-1],
        form.written([GET]) + " ",
        form.written([("put", GET[1])]),
        form.written([("get_all", GET[1])]),
        form.written([("get", '{"city":"a","b":1}')]),
        form.written([("get", '{"city": "a"}')]),
        form.written([("get", "{}")]),
    ):
        assert not passes(constraint, text), text


@pytest.mark.parametrize(("form", "many"), [(HERMES, True), (MISTRAL, True), (LLAMA, False)])
def test_several_calls_pass_where_they_may_be_parallel(form: CallFormat, many: bool) -> None:
    """Several calls need a form that has a mark between them, and a caller who allows them."""
    text = form.written([GET, ALL, GET])

    assert passes(required_calls(TOOLS, form, {}, parallel=True), text) is many
    assert not passes(required_calls(TOOLS, form, {}, parallel=False), text)


@pytest.mark.parametrize("form", [HERMES, MISTRAL])
def test_possible_calls_may_follow_text(form: CallFormat) -> None:
    """Text, calls, and calls after text pass; what looks like a call must be one."""
    constraint = possible_calls(TOOLS, form, {}, parallel=True)

    for text in ("", "Hello {[<", form.mark[:-1], form.written([GET, ALL]), "Well. " + form.written([GET])):
        assert passes(constraint, text), text
    for text in (
        form.mark,
        f"The mark is {form.mark}, you see",
        form.written([("put", "{}")]),
        form.written([GET]) + " Done.",
    ):
        assert not passes(constraint, text), text


def test_calls_without_a_mark_are_told_by_the_first_characters() -> None:
    """Later in an answer the same characters are text."""
    constraint = possible_calls(TOOLS, LLAMA, {}, parallel=True)

    for text in ("", '{"name', '{"name":"x"}', 'So: {"name": "put"', LLAMA.written([GET])):
        assert passes(constraint, text), text
    for text in ('{"name": "put"', LLAMA.written([GET]) + " Done."):
        assert not passes(constraint, text), text


def test_a_mark_may_be_a_special_token() -> None:
    """Then that token begins the calls, its name as text does not, and text cannot be taken for a call."""
    special = {"[TOOL_CALLS]": MARK}
    visible = MISTRAL.written([GET]).removeprefix("[TOOL_CALLS]")
    required = required_calls(TOOLS, MISTRAL, special, parallel=True)
    possible = possible_calls(TOOLS, MISTRAL, special, parallel=True)

    assert passes(required, MARK, visible)
    assert not passes(required, "[TOOL_CALLS]", visible)
    assert passes(possible, MARK, visible)
    assert passes(possible, "Well.", MARK, visible)
    assert passes(possible, "[TOOL_CALLS]")
    assert not passes(possible, visible)
    assert not passes(possible, MARK)
    assert not passes(possible, MARK, visible, MARK)


def test_marks_may_be_special_on_either_side() -> None:
    """Each mark is taken for what it is in the vocabulary."""
    special = {"</tool_call>": END_MARK}
    call = '<tool_call>\n{"name": "get", "arguments": {"city":"a"}}\n'
    constraint = required_calls(TOOLS, HERMES, special, parallel=True)

    assert passes(constraint, call, END_MARK)
    assert passes(constraint, call, END_MARK, "\n", call, END_MARK)
    assert not passes(constraint, call, "</tool_call>")


def test_a_mark_may_be_one_token_of_text() -> None:
    """A word of the vocabulary that is the mark begins a call, also right after text."""
    rest = HERMES.written([GET]).removeprefix("<tool_call>")
    constraint = possible_calls(TOOLS, HERMES, {}, parallel=True)

    assert passes(constraint, "Well. ", WORD, rest)
    assert not passes(constraint, "Well. ", WORD, " or not")


@pytest.mark.parametrize("form", [HERMES, MISTRAL])
def test_an_answer_may_have_a_schema_beside_tools(form: CallFormat) -> None:
    """Without a call the answer conforms; a member called `name` is not taken for a call."""
    answer = Constraint(constraints.any_object().kind, '{"type":"object","required":["name"]}')
    constraint = possible_calls(TOOLS, form, {}, parallel=False, answer=answer)

    for text in ('{"name":"<tool_call>[TOOL_CALLS]"}', form.written([GET])):
        assert passes(constraint, text), text
    for text in ("Hello", '{"a":1}', form.written([("put", "{}")])):
        assert not passes(constraint, text), text


@pytest.mark.parametrize(
    ("form", "answer"), [(HERMES, constraints.regex("a+")), (LLAMA, constraints.any_object())]
)
def test_what_cannot_be_told_from_a_call_is_refused(form: CallFormat, answer: Constraint) -> None:
    """Only JSON can stand beside calls, and only beside those that a mark begins."""
    with pytest.raises(InvalidRequest) as caught:
        possible_calls(TOOLS, form, {}, parallel=False, answer=answer)

    assert caught.value.param == "tools"


def test_names_that_begin_alike_are_told_apart() -> None:
    """Each of many tools can be called, with its own arguments."""
    tools = {f"f{'x' * n}": closed(**{f"a{n}": {"type": "null"}}) for n in range(64)}
    constraint = required_calls(tools, HERMES, {}, parallel=False)

    for n in (0, 1, 63):
        assert passes(constraint, HERMES.written([(f"f{'x' * n}", f'{{"a{n}":null}}')]))
        assert not passes(constraint, HERMES.written([(f"f{'x' * n}", f'{{"a{n + 1}":null}}')]))


@pytest.mark.parametrize(
    ("parameters", "additional"),
    [
        (None, False),
        ({}, False),
        ({"properties": {"a": {"type": "string"}}}, False),
        ({"type": "object", "properties": {}, "required": [], "$defs": {}, "title": "T"}, False),
        ({"properties": {}, "additionalProperties": True}, None),
        ({"type": "object"}, None),
    ],
)
def test_arguments_are_those_that_a_tool_names(parameters: object, additional: bool | None) -> None:
    """Where only `properties` speak of the arguments there are no others; else the schema decides."""
    schema = arguments_schema(parameters, where="p")

    assert schema["type"] == "object"
    assert schema.get("additionalProperties") is additional


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"type": "array"}, "p.type"),
        ({"type": ["object", "null"]}, "p.type"),
        ([1], "p"),
        ({"properties": {"a": {"uniqueItems": True}}}, "p.properties.a.uniqueItems"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused(parameters: object, param: str) -> None:
    """The path of the keyword is told."""
    with pytest.raises(InvalidRequest) as caught:
        arguments_schema(parameters, where="p")

    assert caught.value.param == param
