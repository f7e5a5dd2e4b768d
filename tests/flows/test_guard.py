"""`arriero serve` with only a remote model, as a sidecar in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from tests.flows.process import DEADLINE_S, KEY, Served, started

from arriero.testing.upstream import Answer, End, Received, Upstream, chat, chat_stream, whole

SECRET = "org/Secret-Model-7B"
STREAM = chat_stream(*"Hello there", model=SECRET)
CONFIG = """
allowed_keys = ["{key}"]
[models.pocket_network]
max_tokens = 16
[models.pocket_network.upstream]
urls = ["{url}"]
model = "{secret}"
"""


def scripted(received: Received) -> Answer:
    """Answer a chat as its last message says."""
    match received.json["messages"][-1]["content"]:
        case "cut":
            return STREAM.broken_off(len(STREAM.bytes) - 60, End.RESET)
        case "hang":
            return Answer(STREAM.parts[:2], End.STALL)
        case _ if received.json.get("stream"):
            return STREAM
        case _:
            return whole(chat("Hello there", model=SECRET))


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    """The upstream, for all tests of this file."""
    async with Upstream.of(scripted) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def sidecar(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The sidecar before it."""
    config = tmp_path_factory.mktemp("guard") / "arriero.toml"
    config.write_text(CONFIG.format(key=KEY, url=upstream.url, secret=SECRET))
    with started(config, {}) as served:
        yield served


@pytest.fixture
async def client(sidecar: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client."""
    async with openai.AsyncOpenAI(
        base_url=f"{sidecar.url}/v1", api_key=KEY, max_retries=0, timeout=DEADLINE_S
    ) as client:
        yield client


async def said(client: openai.AsyncOpenAI, content: str) -> str:
    """Return what a stream says."""
    stream = await client.chat.completions.create(
        model="pocket_network", messages=[{"role": "user", "content": content}], stream=True
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_answers(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """Answers come whole and as streams, with the limit that was added; the list has the public name."""
    answer = await client.chat.completions.create(
        model="pocket_network", messages=[{"role": "user", "content": "x"}]
    )

    assert (answer.model, answer.choices[0].message.content) == ("pocket_network", "Hello there")
    assert await said(client, "x") == "Hello there"
    assert [model.id async for model in client.models.list()] == ["pocket_network"]
    assert upstream.requests[-1].json["max_tokens"] == 16


async def test_many_streams(client: openai.AsyncOpenAI) -> None:
    """Many streams at once are told whole, each to its own client."""
    assert await asyncio.gather(*(said(client, "x") for _ in range(64))) == ["Hello there"] * 64


async def test_broken_stream(client: openai.AsyncOpenAI) -> None:
    """OpenAI's client raises at the end of a stream that broke."""
    with pytest.raises(openai.APIError, match="broke off"):
        await said(client, "cut")


async def test_client_leaves(sidecar: Served, upstream: Upstream) -> None:
    """A client that leaves ends the work at the upstream."""
    upstream.gone.clear()
    body = {"model": "pocket_network", "messages": [{"role": "user", "content": "hang"}], "stream": True}
    async with (
        sidecar.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        await anext(response.aiter_raw())

    await asyncio.wait_for(upstream.gone.wait(), DEADLINE_S)


async def test_health(sidecar: Served) -> None:
    """The sidecar is well while its upstream is."""
    async with sidecar.client() as client:
        assert (await client.get("/health")).status_code == 200
