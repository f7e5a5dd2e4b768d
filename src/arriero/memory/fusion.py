"""One ranking out of two: what was found by meaning and what by words, by a weighted sum of scores. Pure.

1. Word scores count as shares of the best: a text without the words has 0.
2. Cosines are stretched from the last candidate (0) to the best (1): of unrelated texts they are not 0, and
   where they begin differs by the embedding model.
3. Who is not in a list gets nothing from it. Sums are scaled so that the first of both lists has 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from arriero.memory.records import Hit

if TYPE_CHECKING:
    from collections.abc import Sequence


USUAL_WEIGHTS = (0.6, 0.4)
"""Of meaning and of words, with a model that was made for embeddings."""
WEAK_WEIGHTS = (0.2, 0.8)
"""The same, with one that was not: its cosines tell little."""


class Ranked(msgspec.Struct, frozen=True):
    """A hit with the score that it is ranked by, and where each list had it, from 1.

    similarity: the cosine, for hits that were found by meaning.
    rerank_score: what a reranker gave it; None = it was not asked, or failed.
    """

    hit: Hit
    score: float
    vector_rank: int | None = None
    text_rank: int | None = None
    similarity: float | None = None
    rerank_score: float | None = None


def by_vector(hits: Sequence[Hit]) -> list[Ranked]:
    """Rank by meaning alone; the score is the cosine, at least 0."""
    return [
        Ranked(hit, max(0.0, hit.score), vector_rank=rank, similarity=hit.score)
        for rank, hit in enumerate(hits, 1)
    ]


def by_text(hits: Sequence[Hit]) -> list[Ranked]:
    """Rank by words alone; the score is the share of the best hit's."""
    best = max((hit.score for hit in hits), default=0.0)
    return [
        Ranked(hit, max(0.0, hit.score / best) if best > 0 else 0.0, text_rank=rank)
        for rank, hit in enumerate(hits, 1)
    ]


def fused(
    vector_hits: Sequence[Hit], text_hits: Sequence[Hit], *, vector_weight: float, text_weight: float
) -> list[Ranked]:
    """Rank by both; equal scores stay in the order of the heavier list."""
    by_meaning = {_key(one.hit): one for one in by_vector(vector_hits)}
    by_words = {_key(one.hit): one for one in by_text(text_hits)}
    cosines = _stretched([hit.score for hit in vector_hits])
    meaning = dict(zip(by_meaning, cosines, strict=True))
    most = vector_weight + text_weight or 1.0

    def ranked(key: tuple[str, int]) -> Ranked:
        one, other = by_meaning.get(key), by_words.get(key)
        found = one or other
        assert found is not None
        score = vector_weight * meaning.get(key, 0.0) + text_weight * (other.score if other else 0.0)
        return Ranked(
            found.hit,
            score / most,
            vector_rank=one.vector_rank if one else None,
            text_rank=other.text_rank if other else None,
            similarity=one.similarity if one else None,
        )

    first, second = (by_words, by_meaning) if text_weight >= vector_weight else (by_meaning, by_words)
    return sorted(map(ranked, {**first, **second}), key=lambda one: -one.score)


def _stretched(scores: Sequence[float]) -> list[float]:
    """Return scores from 0 for the least to 1 for the best; all alike are best."""
    least, best = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - least) / (best - least) if best > least else 1.0 for score in scores]


def _key(hit: Hit) -> tuple[str, int]:
    return hit.document.id, hit.chunk.ordinal
