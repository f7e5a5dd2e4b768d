"""A remote model as a memory asks it: `memory.rerank.Reranker` over the guard, so that its rules hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from arriero.guard.failure import UpstreamFailed
from arriero.guard.routes import Route
from arriero.guard.told import Whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.guard.forward import Guard


class _Result(msgspec.Struct):
    index: int
    relevance_score: float


class _Answer(msgspec.Struct):
    results: list[_Result]


_ANSWER = msgspec.json.Decoder(_Answer)


class RemoteReranker:
    """Asks the upstream on `/v1/rerank`. Holds nothing between two questions."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return how well each text answers the query. Raises what the guard raises."""
        asked = {
            "model": self._guard.policy.public_name,
            "query": query,
            "documents": list(texts),
            "top_n": len(texts),
        }
        told = await self._guard.forward(Route.RERANK, msgspec.json.encode(asked), ())
        assert isinstance(told, Whole)  # only a request for a stream is answered by one
        return _scores(told.body, len(texts))


def _scores(body: bytes, count: int) -> list[float]:
    """Return the scores in the order of the texts; every text must have one."""
    try:
        results = _ANSWER.decode(body).results
    except (msgspec.DecodeError, RecursionError) as exc:
        raise UpstreamFailed("the upstream's answer holds no scores") from exc
    scores = {result.index: result.relevance_score for result in results}
    if len(results) != count or scores.keys() != set(range(count)):
        raise UpstreamFailed(f"the upstream scored {len(results)} of {count} texts, or one of them twice")
    if not all(map(math.isfinite, scores.values())):
        raise UpstreamFailed("the upstream's scores are not finite")
    return [scores[index] for index in range(count)]
