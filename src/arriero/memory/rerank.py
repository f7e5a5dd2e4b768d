"""A second ranking, by a model that reads query and passage together; where it fails, the first one stands.

A failure is counted, and logged when it begins and when it is over. It never fails a recall.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from arriero.errors import ArrieroError, Unavailable
from arriero.memory.splitter import with_headings

if TYPE_CHECKING:
    from arriero.config.memory import RerankConfig
    from arriero.memory.fusion import Ranked

logger = logging.getLogger(__name__)


class Reranker(Protocol):
    """Judges how well texts answer a query; higher is better."""

    async def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """Return one finite score for each text, in their order. Raises ServiceError, RequestError."""
        ...


class Reranking:
    """One memory's use of a reranker.

    rerankers: those that run, by the names of their models; they may change while this one lives.
    outcomes: how many rankings were judged anew (`done`), and how many were not (`failed`).
    """

    def __init__(self, memory: str, rerankers: Mapping[str, Reranker]) -> None:
        self._memory = memory
        self._rerankers = rerankers
        self._is_failing = False
        self.outcomes: Counter[str] = Counter()

    async def ranking(
        self, config: RerankConfig, query: str, ranked: Sequence[Ranked], *, min_score: float | None = None
    ) -> list[Ranked]:
        """Return the candidates as the reranker orders them, then the others; all as they were if it fails.

        min_score: of the reranker's scores. Who has less, or none, is left out.
        """
        if not ranked:
            return []
        candidates, others = ranked[: config.candidates], ranked[config.candidates :]
        try:
            scores = await self._scores(config, query, candidates)
        except (ArrieroError, TimeoutError) as exc:
            self._note_failure(config, exc)
            return list(ranked)
        self._note_success(config)
        judged = sorted(zip(candidates, scores, strict=True), key=lambda pair: -pair[1])
        ordered = [msgspec.structs.replace(one, rerank_score=score) for one, score in judged]
        least = config.min_score if min_score is None else min_score
        if least is None:
            return [*ordered, *others]
        return ordered[: sum(score >= least for _, score in judged)]

    async def _scores(self, config: RerankConfig, query: str, ranked: Sequence[Ranked]) -> Sequence[float]:
        reranker = self._rerankers.get(config.model)
        if reranker is None:
            raise Unavailable(f"the model {config.model} is not there")
        async with asyncio.timeout(config.timeout_s):
            scores = await reranker.scores(query, [with_headings(one.hit.chunk) for one in ranked])
        return list(map(_relevance, scores)) if config.logits else scores

    def _note_failure(self, config: RerankConfig, failure: Exception) -> None:
        self.outcomes["failed"] += 1
        if not self._is_failing:
            self._is_failing = True
            why = str(failure) or f"no answer within {config.timeout_s:g} s"
            logger.warning("memory %s recalls without its reranker %s: %s", self._memory, config.model, why)

    def _note_success(self, config: RerankConfig) -> None:
        self.outcomes["done"] += 1
        if self._is_failing:
            self._is_failing = False
            logger.info("memory %s recalls with its reranker %s again", self._memory, config.model)


def _relevance(logit: float) -> float:
    """Return the probability that a logit stands for, without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))
