"""OpenAI's official client against a real model and a task on it."""

from __future__ import annotations

import base64
import math
import struct
from typing import TYPE_CHECKING, Any

import openai
import pytest

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionMessageParam

TARGETS = pytest.mark.parametrize("target", ["chat", "task/assistant"])
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Name a river in Europe."}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 16}
YES = 10539
"""The token of "Yes" in SmolLM2's vocabulary."""


@TARGETS
async def test_a_streamed_chat_is_the_whole_one(official: AsyncOpenAI, target: str) -> None:
    """From the second time on the pieces of a greedy chat are its text; usage and reason are told."""
    create = official.chat.completions.create
    await create(model=target, messages=MESSAGES, **GREEDY)
    whole = await create(model=target, messages=MESSAGES, **GREEDY)
    stream = await create(
        model=target, messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = [chunk async for chunk in stream]
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]

    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert 0 < whole.usage.completion_tokens <= 16
    assert "".join(pieces) == whole.choices[0].message.content != ""
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


@TARGETS
async def test_a_seed_repeats_a_chat(official: AsyncOpenAI, target: str) -> None:
    """The same seed gives the same text on an idle engine, another seed another one."""
    asked: dict[str, Any] = {"temperature": 1.5, "max_tokens": 12, "messages": MESSAGES, "model": target}
    texts = [
        (await official.chat.completions.create(seed=seed, **asked)).choices[0].message.content
        for seed in (7, 7, 7, 8)
    ]

    assert texts[1] == texts[2] != texts[3]


@TARGETS
async def test_several_choices_of_one_chat_differ(official: AsyncOpenAI, target: str) -> None:
    """n=2 gives two choices with their own dice, and counts the tokens of both."""
    chat = await official.chat.completions.create(
        model=target, messages=MESSAGES, n=2, seed=1, temperature=1.5, max_tokens=8
    )

    assert [choice.index for choice in chat.choices] == [0, 1]
    assert chat.choices[0].message.content != chat.choices[1].message.content
    assert chat.usage is not None
    assert 8 < chat.usage.completion_tokens <= 16


@TARGETS
async def test_a_stop_sequence_ends_a_chat_unseen(official: AsyncOpenAI, target: str) -> None:
    """What comes before the stop sequence is the answer; the sequence itself is not shown."""
    create = official.chat.completions.create
    free = (await create(model=target, messages=MESSAGES, **GREEDY)).choices[0].message.content or ""
    word = free.split()[2]
    stopped = (await create(model=target, messages=MESSAGES, stop=[f" {word}"], **GREEDY)).choices[0]

    assert stopped.finish_reason == "stop"
    assert word not in (stopped.message.content or "")


@TARGETS
async def test_logit_bias_and_logprobs_speak_of_tokens(official: AsyncOpenAI, target: str) -> None:
    """A bias of 100 forces a token; its log probability comes with the alternatives asked for."""
    chat = await official.chat.completions.create(
        model=target,
        messages=MESSAGES,
        logit_bias={str(YES): 100},
        logprobs=True,
        top_logprobs=3,
        **{**GREEDY, "max_tokens": 2},
    )
    choice = chat.choices[0]

    assert choice.message.content == "YesYes"
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert [token.token for token in choice.logprobs.content] == ["Yes", "Yes"]
    assert all(len(token.top_logprobs) == 3 for token in choice.logprobs.content)
    assert all(token.logprob <= 0 for token in choice.logprobs.content)


async def test_a_completion_echoes_with_logprobs(official: AsyncOpenAI) -> None:
    """echo shows the prompt before the text, and logprobs cover both; the first token has none."""
    said = await official.completions.create(
        model="chat", prompt="One two three", echo=True, logprobs=2, max_tokens=3, temperature=0
    )
    choice = said.choices[0]

    assert choice.text.startswith("One two three")
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.token_logprobs is not None
    assert len(choice.logprobs.token_logprobs) == len(choice.logprobs.tokens) == 6
    assert all(value is None or value <= 0 for value in choice.logprobs.token_logprobs)
    assert choice.logprobs.text_offset == [0, 3, 7, 13, *choice.logprobs.text_offset[4:]]  # type: ignore[index]


async def test_a_prompt_of_tokens_is_the_prompt_of_their_text(official: AsyncOpenAI) -> None:
    """Text, tokens, and lists of both complete alike; a task takes text."""
    text = "The capital of France is"
    listed = await official.post("/tokenize", body={"model": "chat", "text": text}, cast_to=dict[str, Any])
    tokens = [token["token"] for token in listed["tokens"]]
    by_text = await official.completions.create(model="chat", prompt=[text, text], **GREEDY)
    by_tokens = await official.completions.create(model="chat", prompt=tokens, **GREEDY)

    assert " Paris" in by_tokens.choices[0].text
    assert [" Paris" in choice.text for choice in by_text.choices] == [True, True]
    with pytest.raises(openai.BadRequestError, match="task takes text"):
        await official.completions.create(model="task/assistant", prompt=tokens, **GREEDY)


async def test_embeddings_come_as_numbers_and_as_base64(official: AsyncOpenAI) -> None:
    """Both encodings hold the same vectors, in the order of the inputs; usage is told."""
    inputs = ["A cat.", "A dog."]
    floats = await official.embeddings.create(model="embed", input=inputs, encoding_format="float")
    coded = await official.post(
        "/embeddings",
        body={"model": "embed", "input": inputs, "encoding_format": "base64"},
        cast_to=dict[str, Any],
    )
    unpacked = [struct.unpack("<384f", base64.b64decode(one["embedding"])) for one in coded["data"]]

    assert [one.index for one in floats.data] == [0, 1]
    for one, other in zip(floats.data, unpacked, strict=True):
        assert all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(one.embedding, other, strict=True))
    assert floats.usage.prompt_tokens > 0


async def test_models_and_tasks_are_listed(official: AsyncOpenAI) -> None:
    """Every id of the list can be retrieved; another one cannot."""
    ids = [model.id async for model in official.models.list()]

    assert ids[:2] == ["chat", "embed"]
    assert "task/assistant" in ids
    assert [(await official.models.retrieve(id)).id for id in ids] == ids
    with pytest.raises(openai.NotFoundError):
        await official.models.retrieve("nope")


@pytest.mark.parametrize(
    ("asked", "failure", "param"),
    [
        ({"model": "nope"}, openai.NotFoundError, "model"),
        ({"model": "task/nope"}, openai.NotFoundError, "model"),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, openai.BadRequestError, "messages"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"n": 0}, openai.BadRequestError, "n"),
        ({"stream": True, "messages": "x"}, openai.BadRequestError, "messages"),
    ],
)
async def test_a_refusal_names_its_member(
    official: AsyncOpenAI, asked: dict[str, Any], failure: type[openai.APIStatusError], param: str
) -> None:
    """The client raises its own class for the status, and knows which member was wrong."""
    with pytest.raises(failure) as refused:
        await official.chat.completions.create(**{"model": "chat", "messages": MESSAGES, **asked})

    assert refused.value.param == param
