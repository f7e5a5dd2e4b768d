"""Tool calls: what reaches the model, and the answers it gives, with the official client."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from tests.server.conftest import official_client

from arriero.core import ConstraintKind
from arriero.grammar.call_format import HERMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATH = "/v1/chat/completions"
USER: Any = [{"role": "user", "content": "Hi"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str, **members: Any) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": PARAMETERS, **members}}


TOOLS = [tool("get", description="Gets it.", strict=True), tool("put")]
BODY: dict[str, Any] = {"model": "m", "messages": USER, "tools": TOOLS}
CALLS = [("get", '{"city":"Paris"}'), ("put", '{"city":"\u00c5s"}')]
ASKED: dict[str, Any] = {"model": "m", "messages": USER, "tools": TOOLS}


@asynccontextmanager
async def official(serving: Any, model: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """Serve, and give the official client."""
    async with (
        serving(model) as client,
        official_client(client) as sdk,
    ):
        yield sdk


async def test_calls_come_whole(serving: Any, model_saying: Any) -> None:
    """Each call has an id of its own, the content is null, and the reason says that tools are called."""
    async with official(serving, model_saying(HERMES.written(CALLS))) as sdk:
        answer = await sdk.chat.completions.create(**ASKED)

    choice = answer.choices[0]
    calls = choice.message.tool_calls or []
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"
    assert [
        (call.function.name, call.function.arguments) for call in calls if call.type == "function"
    ] == CALLS
    assert len({call.id for call in calls}) == 2
    assert all(call.id.startswith("call_") for call in calls)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(HERMES.written(CALLS).encode())


async def test_calls_stream(serving: Any, model_saying: Any, events_of: Any) -> None:
    """A call begins with its id and name, pieces of its arguments follow, the reason comes last."""
    async with serving(model_saying("Wait. " + HERMES.written(CALLS))) as client:
        response = await client.post(PATH, json={**BODY, "stream": True})

    choices = [event["choices"][0] for event in events_of(response.text)[:-1]]
    deltas = [choice["delta"] for choice in choices]
    called = [call for delta in deltas for call in delta.get("tool_calls", [])]
    begun = [call for call in called if "id" in call]
    assert deltas[0] == {"role": "assistant", "content": None}
    assert "".join(delta.get("content") or "" for delta in deltas) == "Wait. "
    assert [(call["index"], call["type"], call["function"]) for call in begun] == [
        (0, "function", {"name": "get", "arguments": ""}),
        (1, "function", {"name": "put", "arguments": ""}),
    ]
    assert all(set(call) == {"index", "function"} for call in called if "id" not in call)
    for index, (_, arguments) in enumerate(CALLS):
        pieces = [call["function"]["arguments"] for call in called if call["index"] == index]
        assert len(pieces) > 10
        assert "".join(pieces) == arguments
    assert [choice["finish_reason"] for choice in choices[-2:]] == [None, "tool_calls"]
    assert deltas[-1] == {}


async def test_the_clients_stream_helper_collects_calls(serving: Any, model_saying: Any) -> None:
    """Its events and its final message hold the calls; the content stays null."""
    async with (
        official(serving, model_saying(HERMES.written(CALLS))) as sdk,
        sdk.chat.completions.stream(**ASKED, n=2) as stream,
    ):
        kinds = {event.type async for event in stream}
        final = await stream.get_final_completion()

    assert "tool_calls.function.arguments.delta" in kinds
    for choice in final.choices:
        calls = choice.message.tool_calls or []
        assert choice.message.content is None
        assert [(call.function.name, call.function.arguments) for call in calls] == CALLS


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["Hello", "A <tool_call is not one", ""])
async def test_an_answer_without_calls_is_text(
    serving: Any, model_saying: Any, events_of: Any, text: str, stream: bool
) -> None:
    """Tools that are not called leave a plain answer, also when it ends like the beginning of a call."""
    async with serving(model_saying(text)) as client:
        response = await client.post(PATH, json={**BODY, "stream": stream})

    if stream:
        choices = [event["choices"][0] for event in events_of(response.text)[:-1]]
        assert "".join(choice["delta"].get("content") or "" for choice in choices) == text
        assert choices[-1]["finish_reason"] == "stop"
    else:
        choice = response.json()["choices"][0]
        assert choice["message"] == {"role": "assistant", "content": text, "refusal": None}
        assert choice["finish_reason"] == "stop"


async def test_calls_that_are_cut_off_say_so(serving: Any, model_saying: Any) -> None:
    """At the token limit the reason is `length`, whatever has come of the calls."""
    async with serving(model_saying(HERMES.written(CALLS))) as client:
        response = await client.post(PATH, json={**BODY, "max_tokens": 60})

    choice = response.json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get"


async def test_log_probabilities_of_calls_are_told(serving: Any, model_saying: Any, events_of: Any) -> None:
    """Those of all tokens, also of the marks that are not shown, whole and streamed alike."""
    text = HERMES.written(CALLS)
    async with serving(model_saying(text)) as client:
        whole = await client.post(PATH, json={**BODY, "logprobs": True})
        stream = await client.post(PATH, json={**BODY, "logprobs": True, "stream": True})

    told = whole.json()["choices"][0]["logprobs"]["content"]
    streamed = [event["choices"][0]["logprobs"] for event in events_of(stream.text)[:-1]]
    assert bytes(byte for token in told for byte in token["bytes"]).decode() == text
    assert [token for one in streamed if one for token in one["content"]] == told


WORDS = {"text": "TEXT", "json": "answer:", "get": '"get\\"', "put": '"put\\"', "many": "call)*"}


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({}, "text get put many"),
        ({"tool_choice": "auto", "parallel_tool_calls": True}, "text get put many"),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, "text get put"),
        ({"tool_choice": "required"}, "get put many"),
        ({"tool_choice": "required", "parallel_tool_calls": False}, "get put"),
        ({"tool_choice": {"type": "function", "function": {"name": "put"}}}, "put"),
        ({"response_format": {"type": "json_object"}}, "json get put many"),
        ({"response_format": {"type": "json_object"}, "tool_choice": "required"}, "get put many"),
    ],
)
async def test_a_choice_of_tools_becomes_a_constraint(
    serving: Any, model_saying: Any, change: dict[str, Any], allowed: str
) -> None:
    """Text only with `auto`, several calls only where they may be parallel, one call of a named tool."""
    model = model_saying("x")
    async with serving(model) as client:
        assert (await client.post(PATH, json={**BODY, **change})).status_code == 200

    constraint = model.requests[0].constraint
    assert constraint.kind is ConstraintKind.LARK
    assert [key for key, word in WORDS.items() if word in constraint.source] == allowed.split()


async def test_stop_sequences_do_not_cut_required_calls(serving: Any, model_saying: Any) -> None:
    """Where text is possible they end it."""
    model = model_saying("x")
    async with serving(model) as client:
        for choice in ("auto", "required"):
            await client.post(PATH, json={**BODY, "stop": "y", "tool_choice": choice})

    assert [request.stop_sequences for request in model.requests] == [("y", "<stop>"), ()]


async def test_tools_stand_in_the_prompt(serving: Any, model_saying: Any) -> None:
    """The model is told of its tools, but not when it may call none."""
    model = model_saying("x")
    async with serving(model) as client:
        await client.post(PATH, json=BODY)
        await client.post(PATH, json={**BODY, "tool_choice": "none"})

    told, untold = (bytes(token for token in fed if token < 256).decode() for fed in model.fed)
    assert '"description": "Gets it."' in told
    assert "get" not in untold
    assert model.requests[1].constraint is None


async def test_results_of_calls_go_back(serving: Any, model_saying: Any) -> None:
    """The client's own message objects and the results are rendered in the next prompt."""
    model = model_saying(HERMES.written(CALLS[:1]), "Rain.")
    async with official(serving, model) as sdk:
        first = (await sdk.chat.completions.create(**ASKED)).choices[0].message
        calls = first.tool_calls or []
        result = {"role": "tool", "tool_call_id": calls[0].id, "content": json.dumps({"sky": "grey"})}
        messages = [*USER, first, result]
        second = await sdk.chat.completions.create(model="m", messages=messages, tools=TOOLS)

    prompt = bytes(token for token in model.fed[1] if token < 256).decode()
    assert second.choices[0].message.content == "Rain."
    assert '<tool_call>\n{"name": "get", "arguments": {"city": "Paris"}}\n</tool_call>' in prompt
    assert '<tool_response>\n{"sky": "grey"}\n</tool_response>' in prompt


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    ({"tools": [tool("a b")]}, "tools[0].function.name"),
    ({"tools": [tool("")]}, "tools[0].function.name"),
    ({"tools": [tool("a" * 65)]}, "tools[0].function.name"),
    ({"tools": [tool("a"), tool("b"), tool("a")]}, "tools[2].function.name"),
    ({"tools": [tool("a", parameters=[])]}, "tools[0].function.parameters"),
    ({"tools": [tool("a", parameters={"type": "array"})]}, "tools[0].function.parameters.type"),
    (
        {"tools": [tool("a"), tool("b", parameters={"properties": {"x": {"uniqueItems": True}}})]},
        "tools[1].function.parameters.properties.x.uniqueItems",
    ),
    ({"tools": [tool(f"f{i}") for i in range(129)]}, "tools"),
    ({"tools": None, "tool_choice": "required"}, "tool_choice"),
    ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "any"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice.function.name"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"guided_regex": "a"}, "tools"),
    ({"model": "task/t"}, "tools"),
    ({"tool_choice": "none", "tools": [tool("a b")]}, "tools[0].function.name"),
]


async def test_bad_tools_are_refused(serving: Any, model_saying: Any) -> None:
    """400 naming the member; an empty list is no tools at all."""
    model = model_saying("x")
    async with serving(model) as client:
        for change, param in REFUSED:
            response = await client.post(PATH, json={**BODY, **change})

            assert response.status_code == 400, response.text
            assert response.json()["error"]["param"] == param
        assert model.requests == []
        assert (await client.post(PATH, json={**BODY, "tools": []})).status_code == 200
