"""Poly's routes on models and the statistics, over a socket, with real models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2


async def vector(client: httpx2.AsyncClient, prompt: str, model: str = "embed") -> list[float]:
    response = await client.post(f"/v1/model/{model}/embedding", json={"prompt": prompt})
    values: list[float] = response.json()["embedding"]
    return values


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


async def test_an_embedding_is_the_same_each_time_and_by_each_method(client: httpx2.AsyncClient) -> None:
    """GET and POST give one vector of the model's size, of length one, all numbers finite."""
    posted = await vector(client, "A cat sleeps.")
    got = (await client.get("/v1/model/embed/embedding", params={"prompt": "A cat sleeps."})).json()

    assert got["embedding"] == posted
    assert len(posted) == 384
    assert math.isclose(math.hypot(*posted), 1, rel_tol=1e-4)


async def test_what_means_the_same_lies_near(client: httpx2.AsyncClient) -> None:
    """Sentences of one meaning are nearer to each other than to one of another meaning."""
    cat = await vector(client, "The cat is sleeping on the sofa.")
    kitten = await vector(client, "A kitten naps on the couch.")
    bank = await vector(client, "The central bank raised interest rates.")

    assert cosine(cat, kitten) > cosine(cat, bank) + 0.2


async def test_a_chat_model_embeds_too(client: httpx2.AsyncClient) -> None:
    """Poly embeds with any model; the vector has the size of the model's hidden state."""
    values = await vector(client, "A cat sleeps.", model="chat")

    assert len(values) == 576
    assert all(map(math.isfinite, values))


async def test_tokens_spell_the_text(client: httpx2.AsyncClient) -> None:
    """The texts of the tokens joined are the prompt; names of special tokens are text."""
    prompt = "Hello wörld <|im_end|> 中"
    tokens = (await client.post("/v1/model/chat/tokenization", json={"prompt": prompt})).json()["tokens"]

    assert "".join(token["text"] for token in tokens[:3]).startswith("Hello w")
    assert all(isinstance(token["token"], int) for token in tokens)
    assert "<|im_end|>" not in {token["text"] for token in tokens}


async def test_the_statistics_count_each_completion_of_a_task(client: httpx2.AsyncClient) -> None:
    """Two completions more are two cycles and some tokens more."""

    async def counts() -> dict[str, int]:
        tasks = (await client.get("/v1/stats")).json()["tasks"]
        stats = tasks.get("copier", {"cycles": 0, "predict_tokens": 0, "prompt_tokens": 0})
        return {name: stats[name] for name in ("cycles", "predict_tokens", "prompt_tokens")}

    before = await counts()
    for _ in range(2):
        await client.get("/v1/task/copier/completion", params={"prompt": "One two three one two"})
    after = await counts()

    assert after["cycles"] == before["cycles"] + 2
    assert after["predict_tokens"] == before["predict_tokens"] + 8
    assert after["prompt_tokens"] > before["prompt_tokens"]
    assert (await client.get("/v1/stats", headers={"authorization": ""})).status_code == 401
