"""A remote model that judges passages, behind its guard."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.guard.remote import SECRET, eventually, guarded

from arriero.errors import ArrieroError, Overloaded, UnknownName
from arriero.guard.failure import UpstreamFailed
from arriero.guard.reranker import RemoteReranker
from arriero.testing.upstream import Answer, End, rerank, whole

TEXTS = ["a ship at sea", "the cat sat down", "a cat"]


def results(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    """Return an answer with these indices and scores."""
    return {"results": [{"index": index, "relevance_score": score} for index, score in pairs]}


async def test_scores_come_in_the_order_of_the_texts() -> None:
    """Though the upstream answers best first; it is asked by its own name, for all texts."""
    async with guarded(rerank) as (guard, [upstream]):
        scores = await RemoteReranker(guard).scores("cat sat", TEXTS)

    assert scores == [0.0, 1.0, 0.5]
    (request,) = upstream.requests
    assert request.path == "/v1/rerank"
    assert request.json == {"model": SECRET, "query": "cat sat", "documents": TEXTS, "top_n": 3}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (whole(results((0, 1), (1, 0.5))), UpstreamFailed),
        (whole(results((0, 1), (1, 0.5), (1, 0.5))), UpstreamFailed),
        (whole(results((0, 1), (1, 0.5), (3, 0.5))), UpstreamFailed),
        (whole(results((0, 1), (1, 0.5), (2, "high"))), UpstreamFailed),
        (whole(results((0, 1), (1, 0.5), (-1, None))), UpstreamFailed),
        (whole(b'{"results":[{"index":0,"relevance_score":1e999}]}'), UpstreamFailed),
        (whole({"results": {}}), UpstreamFailed),
        (whole({"data": []}), UpstreamFailed),
        (whole(b""), UpstreamFailed),
        (whole(results((0, 1), (1, 0), (2, 1))).broken_off(90, End.RESET), UpstreamFailed),
        (whole({"error": {"message": "no"}}, 500), UpstreamFailed),
        (whole({"error": {"message": "wait"}}, 429), Overloaded),
        (whole({"error": {"message": "too long"}}, 400), ArrieroError),
    ],
)
async def test_what_is_no_score_for_each_text_is_a_failure(answer: Any, error: type[Exception]) -> None:
    """Missing, doubled and foreign scores, and what is no answer at all."""
    async with guarded(answer) as (guard, _):
        with pytest.raises(error):
            await RemoteReranker(guard).scores("cat", TEXTS)
        assert guard.num_running == 0


async def test_the_routes_of_the_model_hold() -> None:
    """A model that does not serve the route is not asked."""
    async with guarded(rerank, keys='routes = ["/v1/embeddings"]') as (guard, [upstream]):
        with pytest.raises(UnknownName):
            await RemoteReranker(guard).scores("cat", TEXTS)

    assert upstream.requests == []


async def test_who_gives_up_leaves_nothing_behind() -> None:
    """A question that is cancelled frees its place, and its connection is closed."""
    async with guarded(Answer((), End.STALL)) as (guard, [upstream]):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await RemoteReranker(guard).scores("cat", TEXTS)

        assert guard.num_running == 0
        await eventually(lambda: len(upstream.requests) == 1 and not upstream.open)
