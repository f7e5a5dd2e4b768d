"""What a recall answers: passages, which are chunks, or neighbouring chunks as one. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Literal

import msgspec

from arriero.memory.filters import Filter
from arriero.memory.fusion import Ranked
from arriero.memory.records import Attribute

Mode = Literal["hybrid", "vector", "text"]


class Query(msgspec.Struct, frozen=True):
    """What to recall. None = as the memory is configured.

    min_score: of `Passage.score`, so its meaning is the mode's. Who has less never reaches the reranker.
    rerank: False = not by the memory's reranker, if it has one.
    min_rerank_score: of `Passage.rerank_score`; nothing where the reranker failed.
    merge_neighbours: chunks that follow each other become one passage; there may be fewer than `limit`.
    """

    text: str
    limit: int = 10
    mode: Mode | None = None
    where: Filter | None = None
    min_score: float | None = None
    merge_neighbours: bool = False
    rerank: bool = True
    min_rerank_score: float | None = None


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A recalled text and where it stands.

    score: how it was found: in hybrid mode 1 for the first by meaning and by words alike; in vector mode the
        cosine; in text mode the share of the best passage's. Of merged chunks it is the best one's, as are
        the other scores and the ranks.
    rerank_score: the reranker's, by which passages are then ordered; None without one, and when it failed.
    start, end: characters of the document's text. first, last: ordinals of its chunks.
    """

    text: str
    score: float
    rerank_score: float | None = None
    document_id: str
    name: str
    title: str
    page: int | None
    section: tuple[str, ...]
    start: int
    end: int
    first: int
    last: int
    similarity: float | None = None
    vector_rank: int | None = None
    text_rank: int | None = None
    attributes: Mapping[str, Attribute] = {}


def standing(one: Ranked | Passage) -> tuple[float, float]:
    """Return by what hits are compared; who was judged by a reranker stands before who was not."""
    return -math.inf if one.rerank_score is None else one.rerank_score, one.score


def chosen(ranked: Sequence[Ranked], *, limit: int, min_score: float) -> list[Ranked]:
    """Return the best, one of each text."""
    seen: set[str] = set()
    best: list[Ranked] = []
    for one in ranked:
        words = " ".join(one.hit.chunk.text.split())
        if len(best) == limit or one.score < min_score:
            break
        if words not in seen:
            seen.add(words)
            best.append(one)
    return best


def passages(ranked: Sequence[Ranked], *, merge_neighbours: bool) -> list[Passage]:
    """Return the passages of ranked chunks, in their order."""
    runs = _runs(ranked) if merge_neighbours else [[one] for one in ranked]
    return [_joined(run) for run in runs]


def _runs(ranked: Sequence[Ranked]) -> list[list[Ranked]]:
    """Group chunks that follow each other in their document; groups in the order of the ranking."""
    order = sorted(ranked, key=lambda one: (one.hit.document.id, one.hit.chunk.ordinal))

    def run(numbered: tuple[int, Ranked]) -> tuple[str, int]:
        index, one = numbered
        return one.hit.document.id, one.hit.chunk.ordinal - index

    runs = [[one for _, one in group] for _, group in groupby(enumerate(order), run)]
    place = {id(one): index for index, one in enumerate(ranked)}
    return sorted(runs, key=lambda group: min(place[id(one)] for one in group))


def _joined(run: Sequence[Ranked]) -> Passage:
    best = max(run, key=standing)
    first, last = run[0].hit, run[-1].hit
    return Passage(
        text=_text(run),
        score=best.score,
        rerank_score=best.rerank_score,
        document_id=first.document.id,
        name=first.document.name,
        title=first.document.title,
        page=first.chunk.page,
        section=first.chunk.section,
        start=first.chunk.start,
        end=last.chunk.end,
        first=first.chunk.ordinal,
        last=last.chunk.ordinal,
        similarity=best.similarity,
        vector_rank=best.vector_rank,
        text_rank=best.text_rank,
        attributes=first.document.attributes,
    )


def _text(run: Sequence[Ranked]) -> str:
    """Join texts. What overlaps is taken once; white space that was between two is put back in its kind."""
    text = run[0].hit.chunk.text
    for before, one in pairwise(run):
        chunk = one.hit.chunk
        gap = chunk.start - before.hit.chunk.end
        if gap < 0:
            text += _beyond(text, chunk.text, -gap)
        else:
            text += ("", "\n", "\n\n")[min(gap, 2)] + chunk.text
    return text


def _beyond(text: str, following: str, overlap: int) -> str:
    """Return what a text adds to the one before it; filters may have made their overlap shorter."""
    for size in range(min(overlap, len(text), len(following)), 0, -1):
        if text.endswith(following[:size]):
            return following[size:]
    return "\n" + following
