"""chat/completions with the official client, and its exact bytes where they matter."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from tests.server.conftest import official_client

from arriero.errors import EngineError
from arriero.sampling import FreqPresence, MinP, Repetition, Temperature, TopK, TopP
from arriero.testing.echo import BOS, EOS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

USER: Any = [{"role": "user", "content": "Hi"}]
BODY = {"model": "m", "messages": USER}
PATH = "/v1/chat/completions"


@asynccontextmanager
async def official(serving: Any, model: Any = None) -> AsyncIterator[openai.AsyncOpenAI]:
    """Serve, and give the official client."""
    async with (
        serving(model) as client,
        official_client(client) as sdk,
    ):
        yield sdk


async def test_an_answer_comes_whole(serving: Any, model_saying: Any) -> None:
    """Message, finish reason and usage; the prompt went through the model's template."""
    model = model_saying("Hello")
    async with official(serving, model) as sdk:
        answer = await sdk.chat.completions.create(model="m", messages=USER)

    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "m"
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (5, len(model.fed[0]) + 5)
    assert bytes(model.fed[0][1:]) == b"user: Hi\nassistant:"


async def test_an_answer_streams(serving: Any, model_saying: Any) -> None:
    """Deltas in order, the role once, the reason last, then the usage on request."""
    async with official(serving, model_saying("Hello")) as sdk:
        stream = await sdk.chat.completions.create(
            model="m", messages=USER, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello"
    assert [c.choices[0].delta.role for c in chunks if c.choices][:2] == ["assistant", None]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-2:] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1


async def test_a_stream_has_openais_bytes(serving: Any, model_saying: Any, events_of: Any) -> None:
    """Every event is one `data:` line with all of a chunk's members, and `[DONE]` ends it."""
    async with serving(model_saying('"\n')) as client:
        response = await client.post(PATH, json={**BODY, "stream": True})

    events = events_of(response.text)
    assert response.headers["content-type"] == "text/event-stream"
    assert [event["choices"][0] for event in events[:-1]] == [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        for delta, reason in (
            ({"role": "assistant", "content": ""}, None),
            ({"content": '"'}, None),
            ({"content": "\n"}, None),
            ({}, "stop"),
        )
    ]
    assert set(events[0]) == {"id", "object", "created", "model", "choices"}
    assert events[-1] == "[DONE]"


async def test_choices_run_side_by_side(serving: Any, model_saying: Any, events_of: Any) -> None:
    """n completions have their indices, distinct seeds, and share the prompt in the usage."""
    model = model_saying("a", "bc", "def")
    body = {**BODY, "n": 3, "seed": 7}
    async with serving(model) as client:
        whole = (await client.post(PATH, json=body)).json()
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        events = events_of((await client.post(PATH, json={**body, **stream})).text)

    texts = {choice["index"]: choice["message"]["content"] for choice in whole["choices"]}
    assert sorted(texts.values()) == ["a", "bc", "def"]
    assert list(texts) == [0, 1, 2]
    assert sorted(request.sampling.seed for request in model.requests[:3]) == [7, 8, 9]
    assert whole["usage"]["prompt_tokens"] == len(model.fed[0])
    assert whole["usage"]["completion_tokens"] == 6
    ends = [e["choices"][0]["index"] for e in events[:-2] if e["choices"][0]["finish_reason"]]
    assert sorted(ends) == [0, 1, 2]
    assert events[-2]["usage"]["completion_tokens"] == 9


async def test_log_probabilities_come_with_their_tokens(serving: Any, model_saying: Any) -> None:
    """Each token has its bytes and its alternatives, whole and streamed alike."""
    async with official(serving, model_saying("\u00e9")) as sdk:
        whole = await sdk.chat.completions.create(model="m", messages=USER, logprobs=True, top_logprobs=2)
        stream = await sdk.chat.completions.create(
            model="m", messages=USER, logprobs=True, top_logprobs=2, stream=True
        )
        pieces = [c.choices[0].logprobs async for c in stream if c.choices[0].logprobs]

    assert whole.choices[0].logprobs is not None
    tokens = whole.choices[0].logprobs.content or []
    assert [(t.token, t.logprob, t.bytes) for t in tokens] == [
        ("\ufffd", -0.5, [0xC3]),
        ("\ufffd", -0.5, [0xA9]),
    ]
    assert [(top.token, top.logprob) for top in tokens[0].top_logprobs] == [("x", -0.25), ("y", -3.0)]
    assert [t for piece in pieces for t in piece.content or []] == tokens


async def test_settings_reach_the_model(serving: Any, model_saying: Any) -> None:
    """Limits, stops, seed, bias and samplers stand in the request; the rest keeps its default."""
    model = model_saying("x")
    settings = {
        "max_tokens": 9,
        "max_completion_tokens": 3,
        "stop": ["a", "b"],
        "seed": -1,
        "logit_bias": {"5": -100},
        "temperature": 0,
        "presence_penalty": 1,
        "repeat_penalty": 1.1,
        "user": "someone",
        "metadata": {"ignored": "member"},
        "tools": [],
        "response_format": {"type": "text"},
    }
    async with serving(model) as client:
        assert (await client.post(PATH, json={**BODY, **settings})).status_code == 200

    request = model.requests[0]
    assert request.max_tokens == 3
    assert request.stop_sequences == ("a", "b", "<stop>")
    assert request.sampling.seed == 2**63 - 1
    assert request.sampling.logit_bias == ((5, -100),)
    assert request.sampling.chain == (
        Repetition(1.1),
        FreqPresence(0.0, 1.0),
        TopK(40),
        TopP(0.95),
        MinP(0.05),
        Temperature(0),
    )


@pytest.mark.parametrize("name", ["task/t", "t"])
async def test_a_task_is_a_model_too(serving: Any, model_saying: Any, name: str) -> None:
    """Its texts stand around each turn, its private tokens are refused, and it counts."""
    model = model_saying("x")
    messages = [*USER, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    private = [{"role": "user", "content": "|secret|"}]
    async with serving(model) as client:
        answer = (await client.post(PATH, json={"model": name, "messages": messages})).json()
        refused = (await client.post(PATH, json={"model": name, "messages": private})).json()
        stats = (await client.get("/v1/stats")).json()

    assert (answer["model"], answer["choices"][0]["message"]["content"]) == (name, "x")
    assert model.fed[0] == (BOS, *b"<Hi>b", EOS, *b"<c>")
    assert refused["error"]["code"] == "illegal_token"
    assert stats["tasks"]["t"]["cycles"] == 1


async def test_an_error_after_the_first_byte_is_an_event_without_done(
    serving: Any, model_saying: Any
) -> None:
    """The client raises; the bytes hold the error object and no `[DONE]`; not streamed it is a 500."""
    model = model_saying(EngineError("the engine died"))
    async with official(serving, model) as sdk:
        stream = await sdk.chat.completions.create(model="m", messages=USER, stream=True)
        with pytest.raises(openai.APIError, match="the engine died"):
            [chunk async for chunk in stream]
    async with serving(model) as client:
        streamed = await client.post(PATH, json={**BODY, "stream": True, "n": 2})
        whole = await client.post(PATH, json=BODY)

    said = '{"error":{"message":"the engine died","type":"server_error","param":null,"code":"engine_error"}}'
    assert streamed.text.endswith(f"data: {said}\n\n")
    assert "[DONE]" not in streamed.text
    assert (whole.status_code, whole.text) == (500, said)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_beyond_the_context_is_refused(serving: Any, model_saying: Any, stream: bool) -> None:
    """400 with OpenAI's code, also for a stream."""
    async with official(serving, model_saying("x", context_size=4)) as sdk:
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk.chat.completions.create(model="m", messages=USER, stream=stream)

    assert refused.value.code == "context_length_exceeded"


async def test_the_clients_error_classes_fit(serving: Any) -> None:
    """Unknown models and wrong keys are raised as what they are, with a request id."""
    async with official(serving) as sdk:
        with pytest.raises(openai.NotFoundError) as unknown:
            await sdk.chat.completions.create(model="nope", messages=USER)
        with pytest.raises(openai.AuthenticationError) as wrong:
            await sdk.with_options(api_key="bad").chat.completions.create(model="m", messages=USER)

    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert wrong.value.code == "invalid_api_key"
    assert wrong.value.request_id


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
    ({"messages": USER * 1025}, "messages"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"n": 1.5}, "n"),
    ({"seed": "1"}, "seed"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": [""]}, "stop[0]"),
    ({"stop": "x" * 257}, "stop"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, "logit_bias"),
    ({"logit_bias": {"258": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
    ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
    ({"logprobs": 5}, "logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"functions": [{}]}, "functions"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
]


async def test_what_is_not_served_names_what_is(serving: Any) -> None:
    """Members of OpenAI's former tool calls."""
    async with serving() as client:
        response = await client.post(PATH, json={**BODY, "functions": [{}]})

    assert response.json()["error"]["message"] == "functions is not supported with this value; use tools"


@pytest.mark.parametrize(("change", "param"), BAD)
async def test_a_bad_request_names_its_member(serving: Any, change: dict[str, Any], param: str) -> None:
    """400 with OpenAI's error object; nothing reaches the model."""
    body = {key: value for key, value in {**BODY, **change}.items() if value is not None}
    async with serving() as client:
        response = await client.post(PATH, json=body)

    assert response.status_code == 400, response.text
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["param"] == param
