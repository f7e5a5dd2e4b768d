"""`/pokt/*` and OpenAI's client through a guard before a server that runs a real model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import httpx2
import openai
import pytest
from tests.flows.process import DEADLINE_S, KEY, Served, started

from arriero.guard.pokt import NAMES, canonical_hash
from arriero.testing.serving import client_of

GUARD = """
allowed_keys = ["caller"]
[models.pocket_network]
allow_logprobs = true
max_context = 512
max_tokens = 8
[models.pocket_network.upstream]
urls = ["{url}"]
model = "chat"
api_key = "{key}"
"""
TURN = {"role": "user", "content": "Say hello."}


@pytest.fixture(scope="module")
def guard(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The guard, in a process of its own."""
    config = tmp_path_factory.mktemp("pokt") / "guard.toml"
    config.write_text(GUARD.format(url=server.url, key=KEY))
    with started(config, {}) as served:
        yield served


@pytest.fixture
async def caller(guard: Served) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller of the guard."""
    headers = {"authorization": "Bearer caller"}
    async with client_of(guard.url, headers=headers, timeout=DEADLINE_S) as client:
        yield client


@pytest.fixture
async def guarded(guard: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client of the guard."""
    async with openai.AsyncOpenAI(
        base_url=f"{guard.url}/v1", api_key="caller", max_retries=0, timeout=DEADLINE_S
    ) as client:
        yield client


async def test_documents_of_a_local_model(client: httpx2.AsyncClient) -> None:
    """A server tells configuration and tokenizer of its model's file, each with the hash of what it tells."""
    answers = await asyncio.gather(*(client.get(f"/pokt/{name}") for name in NAMES))

    config, config_hash, tokenizer, tokenizer_hash = (answer.json() for answer in answers)
    assert config["config"]["model_type"] == "llama"
    assert config["config"]["max_position_embeddings"] == 512
    assert tokenizer["tokenizer"]["model"]["type"] == "BPE"
    assert config_hash == {"hash": canonical_hash(config)}
    assert tokenizer_hash == {"hash": canonical_hash(tokenizer)}


async def test_documents_through_a_guard(client: httpx2.AsyncClient, caller: httpx2.AsyncClient) -> None:
    """A guard tells its own public name and context, and the tokenizer of the server behind it."""
    config = await caller.get("/pokt/config")
    told, own = await caller.get("/pokt/tokenizer-hash"), await client.get("/pokt/tokenizer-hash")

    assert config.json()["config"]["model_name"] == "pocket_network"
    assert "llama" not in config.text
    assert told.json() == own.json()


async def test_client(guarded: openai.AsyncOpenAI) -> None:
    """Chats come whole and as streams, say the same, and bear the public name and the guard's limit."""
    whole = await guarded.chat.completions.create(model="pocket_network", messages=[TURN], temperature=0)
    stream = await guarded.chat.completions.create(
        model="pocket_network", messages=[TURN], temperature=0, stream=True
    )
    pieces = [piece async for piece in stream]

    said = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert said == whole.choices[0].message.content != ""
    assert {piece.model for piece in pieces} == {whole.model} == {"pocket_network"}
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 8
    assert [model.id async for model in guarded.models.list()] == ["pocket_network"]


async def test_likelihood_of_a_prompt(guarded: openai.AsyncOpenAI) -> None:
    """The test bench's request: tokens in, `echo` and `logprobs` out; the first token has none."""
    body = {"prompt": [504, 2365, 282], "echo": True, "logprobs": 5, "max_tokens": 1, "seed": 1234}
    answer = await guarded.completions.create(model="pocket_network", temperature=0, **body)

    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    first, *others = logprobs.token_logprobs
    assert first is None
    assert len(others) == 3
    assert all(logprob is not None and logprob < 0 for logprob in others)


async def test_faults(guarded: openai.AsyncOpenAI, server: Served) -> None:
    """A prompt beyond the context is the caller's fault, in words that tell nothing of the server."""
    with pytest.raises(openai.BadRequestError) as caught:
        await guarded.completions.create(model="pocket_network", prompt=[504] * 600)

    assert caught.value.code == "context_length_exceeded"
    assert server.url.rpartition(":")[2] not in json.dumps(caught.value.body)
    with pytest.raises(openai.NotFoundError):
        await guarded.completions.create(model="chat", prompt="x")
    with pytest.raises(openai.AuthenticationError):
        await guarded.with_options(api_key="x").completions.create(model="pocket_network", prompt="x")
