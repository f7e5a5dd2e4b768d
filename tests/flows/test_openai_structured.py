"""Structured output and tool calls of a real model, asked with OpenAI's official client.

The model is small: its answers have the right form and valid values; they need not be wise.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import openai
import pytest
from pydantic import BaseModel

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionMessageFunctionToolCall

USER: Any = [{"role": "user", "content": "Anna, born in 1990, lives in Paris, with a cat and a dog."}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris and in Rome?"}]
ASKED: dict[str, Any] = {"model": "chat", "messages": USER, "temperature": 0, "max_tokens": 100}


class Pet(BaseModel):
    """Stands in another model, so that the schema has references."""

    kind: Literal["cat", "dog", "bird"]
    is_young: bool


class Person(BaseModel):
    """What the model is to find in the text."""

    born: int
    city: Literal["Paris", "Rome", "Berlin"]
    pet: Pet | None


def tool(name: str, **properties: Any) -> Any:
    parameters = {"type": "object", "properties": properties, "required": [*properties]}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


CITY = {"type": "string", "enum": ["Paris", "Rome"]}
TOOLS = [
    tool("get_weather", city=CITY, unit={"enum": ["celsius", "fahrenheit"]}),
    tool("get_time", city=CITY),
]
CALLING: dict[str, Any] = {"model": "chat", "messages": WEATHER, "tools": TOOLS, "temperature": 0}
MEMBERS = {"get_weather": {"city", "unit"}, "get_time": {"city"}}


def check_call(call: ChatCompletionMessageFunctionToolCall) -> None:
    """Assert that a call is one of a known tool, with arguments that conform to its schema."""
    arguments = json.loads(call.function.arguments)
    assert call.id.startswith("call_")
    assert set(arguments) == MEMBERS[call.function.name]
    assert arguments["city"] in ("Paris", "Rome")
    assert arguments.get("unit", "celsius") in ("celsius", "fahrenheit")


@pytest.mark.parametrize(("target", "kind"), [("chat", Person), ("task/assistant", Pet)])
async def test_the_parse_helper_gives_an_object(
    official: AsyncOpenAI, target: str, kind: type[BaseModel]
) -> None:
    """A pydantic model, its references and all, comes back as an object of that model."""
    said = await official.chat.completions.parse(response_format=kind, **{**ASKED, "model": target})

    assert isinstance(said.choices[0].message.parsed, kind)
    assert said.choices[0].finish_reason == "stop"


async def test_an_answer_that_is_cut_off_is_no_object(official: AsyncOpenAI) -> None:
    """The client is told that the token limit came first."""
    with pytest.raises(openai.LengthFinishReasonError):
        await official.chat.completions.parse(response_format=Person, **{**ASKED, "max_tokens": 5})


async def test_the_stream_helper_gives_an_object(official: AsyncOpenAI) -> None:
    """The pieces are the JSON text, compact, and the helper makes the object of it."""
    async with official.chat.completions.stream(response_format=Person, **ASKED) as stream:
        pieces = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()

    text = "".join(pieces)
    assert len(pieces) > 1
    assert final.choices[0].message.content == text
    assert final.choices[0].message.parsed == Person.model_validate_json(text)
    assert text == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


async def test_several_choices_all_conform(official: AsyncOpenAI) -> None:
    """n hot answers are n valid objects."""
    hot = {**ASKED, "temperature": 1.5, "seed": 3}
    said = await official.chat.completions.parse(response_format=Pet, n=3, **hot)

    assert [isinstance(choice.message.parsed, Pet) for choice in said.choices] == [True] * 3


async def test_a_json_object_is_an_object(official: AsyncOpenAI) -> None:
    """Any object; cut off it is reported as `length`, never as a success."""
    create = official.chat.completions.create
    short = await create(response_format={"type": "json_object"}, **{**ASKED, "max_tokens": 1})
    said = await create(response_format={"type": "json_object"}, **{**ASKED, "max_tokens": 40})
    choice = said.choices[0]

    assert short.choices[0].finish_reason == "length"
    assert (choice.message.content or "").startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content or ""), dict)


@pytest.mark.parametrize(
    ("extra", "allowed"),
    [
        ({"structured_outputs": {"choice": ["red", "green"]}}, ("red", "green")),
        ({"guided_regex": "r[ae]d|green"}, ("rad", "red", "green")),
        ({"grammar": 'root ::= "red" | "green"'}, ("red", "green")),
        ({"json_schema": {"enum": ["red", "green"]}}, ('"red"', '"green"')),
    ],
)
async def test_other_constraints_hold(
    official: AsyncOpenAI, extra: dict[str, Any], allowed: tuple[str, ...]
) -> None:
    """Chat and completions take the constraints that other servers know."""
    chat = await official.chat.completions.create(extra_body=extra, **ASKED)
    completion = await official.completions.create(
        model="chat", prompt="My favourite colour is", extra_body=extra, temperature=1.5, seed=1, n=2
    )

    assert chat.choices[0].message.content in allowed
    assert chat.choices[0].finish_reason == "stop"
    assert all(choice.text in allowed for choice in completion.choices)


async def test_a_constraint_that_does_not_compile_is_refused(official: AsyncOpenAI) -> None:
    """The engine's refusal is a 400, whole and streamed, and the engine goes on."""
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError):
            await official.chat.completions.create(extra_body={"guided_regex": "("}, stream=stream, **ASKED)

    again = await official.chat.completions.create(extra_body={"guided_regex": "a"}, **ASKED)
    assert again.choices[0].message.content == "a"


@pytest.mark.parametrize("tool_choice", ["required", {"type": "function", "function": {"name": "get_time"}}])
async def test_a_required_call_is_made(official: AsyncOpenAI, tool_choice: Any) -> None:
    """One call, of the named tool if one is named, whose arguments conform."""
    said = await official.chat.completions.create(
        tool_choice=tool_choice, parallel_tool_calls=False, max_tokens=80, **CALLING
    )
    choice = said.choices[0]
    (call,) = choice.message.tool_calls or []

    assert call.type == "function"
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert tool_choice == "required" or call.function.name == "get_time"
    check_call(call)


async def test_calls_may_be_parallel(official: AsyncOpenAI) -> None:
    """As many calls as the model likes, each valid; the last may be cut off by the token limit."""
    said = await official.chat.completions.create(
        tool_choice="required", max_tokens=60, **{**CALLING, "temperature": 1.2, "seed": 5}
    )
    choice = said.choices[0]
    calls = choice.message.tool_calls or []

    assert calls
    assert len({call.id for call in calls}) == len(calls)
    for call in calls if choice.finish_reason == "tool_calls" else calls[:-1]:
        assert call.type == "function"
        check_call(call)


async def test_an_automatic_choice_is_text_or_calls(official: AsyncOpenAI) -> None:
    """Either there is text, or there are valid calls and the reason says so."""
    said = await official.chat.completions.create(
        n=2, max_tokens=40, parallel_tool_calls=False, **{**CALLING, "temperature": 1.0, "seed": 1}
    )

    for choice in said.choices:
        calls = choice.message.tool_calls or []
        assert (choice.finish_reason == "tool_calls") <= bool(calls)
        assert calls or choice.message.content
        for call in calls if choice.finish_reason == "tool_calls" else []:
            assert call.type == "function"
            check_call(call)


async def test_arguments_stream(official: AsyncOpenAI) -> None:
    """The pieces of the arguments, put together, are those of a valid call."""
    asked = {**CALLING, "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 80}
    async with official.chat.completions.stream(**asked) as stream:
        pieces = [
            event.arguments_delta
            async for event in stream
            if event.type == "tool_calls.function.arguments.delta"
        ]
        final = await stream.get_final_completion()

    (call,) = final.choices[0].message.tool_calls or []
    assert len(pieces) > 1
    assert "".join(pieces) == call.function.arguments
    check_call(call)
    assert final.choices[0].finish_reason == "tool_calls"


async def test_a_result_goes_back_to_the_model(official: AsyncOpenAI) -> None:
    """A call, its result, and an answer in words, with the client's own objects."""
    asked = {**CALLING, "max_tokens": 32}
    call = (
        (await official.chat.completions.create(tool_choice="required", parallel_tool_calls=False, **asked))
        .choices[0]
        .message
    )
    (made,) = call.tool_calls or []
    result = {"role": "tool", "tool_call_id": made.id, "content": "It rains, 12 degrees."}
    answer = await official.chat.completions.create(
        tool_choice="none", **{**asked, "max_tokens": 8, "messages": [*WEATHER, call, result]}
    )

    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason in ("stop", "length")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": TOOLS, "model": "task/assistant"}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "array", "uniqueItems": True}},
                }
            },
            "response_format.json_schema.schema.uniqueItems",
        ),
    ],
)
async def test_what_cannot_be_honoured_is_refused(
    official: AsyncOpenAI, asked: dict[str, Any], param: str
) -> None:
    """The client knows which member, down to the keyword of a schema, was at fault."""
    with pytest.raises(openai.BadRequestError) as refused:
        await official.chat.completions.create(**{**ASKED, **asked})

    assert refused.value.param == param
