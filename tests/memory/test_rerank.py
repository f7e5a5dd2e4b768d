"""A memory whose passages are judged again, by a model that reads query and passage together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from arriero.config.load import parse_config
from arriero.errors import InvalidRequest, Overloaded
from arriero.memory.job import Source
from arriero.memory.memory import Memory
from arriero.memory.open import open_memories
from arriero.memory.passage import Query
from arriero.testing.word_embedder import WordEmbedder

CONFIG = """
cache_path = "{path}"
[models.w]
url = "http://127.0.0.1:1/w.gguf"
[models.judge]
upstream = {{ urls = ["http://127.0.0.1:1"], model = "x" }}
[memories.n]
embedding_model = "w"
store = {{ hora = {{}} }}
chunking = "structure"
rerank = {{ model = "judge"{keys} }}
"""
QUERY = "cat dog one"
TEXTS = ("cat dog one", "cat dog two", "cat three")
"""In the order in which the memory by itself answers QUERY."""


class Judge:
    """A reranker by a table: a text scores what is told of its last word.

    failures: raised by the next calls, one each. asked: query and texts of each call.
    """

    def __init__(self, **scores: float) -> None:
        self.table = scores
        self.failures: list[Exception] = []
        self.asked: list[tuple[str, list[str]]] = []

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the score of each text."""
        self.asked.append((query, list(texts)))
        if self.failures:
            raise self.failures.pop(0)
        return [self.table[text.split()[-1]] for text in texts]


class Stuck:
    """A reranker that never answers."""

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Wait for ever."""
        await asyncio.Event().wait()
        return []


Opening = Callable[..., AbstractAsyncContextManager[Memory]]


@pytest.fixture
def opened(tmp_path: Path) -> Opening:
    """Open a memory that holds TEXTS, with this reranker and these keys of its table."""

    @asynccontextmanager
    async def opening(judge: Any, keys: str = "") -> AsyncIterator[Memory]:
        config = parse_config(CONFIG.format(path=tmp_path, keys=keys), {})
        given = {} if judge is None else {"judge": judge}
        async with open_memories(config, {"w": WordEmbedder()}, given) as memories:
            for text in TEXTS:
                await memories["n"].ingest(Source(name=text, data=text.encode()))
            yield memories["n"]

    return opening


async def found(memory: Memory, **options: Any) -> list[tuple[str, float | None]]:
    """Recall; return the last word of each passage and what the reranker gave it."""
    passages = await memory.recall(Query(QUERY, **options))
    return [(passage.text.split()[-1], passage.rerank_score) for passage in passages]


SCORES = {"one": -1.5, "two": 0.2, "three": 0.9}


async def test_the_reranker_makes_the_order(opened: Opening) -> None:
    """Also of what the memory alone would not have answered; each passage tells both scores."""
    async with opened(judge := Judge(**SCORES)) as memory:
        own = await memory.recall(Query(QUERY, rerank=False))
        best = await memory.recall(Query(QUERY, limit=1))
        every = await found(memory)

    assert tuple(passage.text for passage in own) == TEXTS
    assert (best[0].text, best[0].score, best[0].rerank_score) == (TEXTS[2], own[2].score, 0.9)
    assert every == [("three", 0.9), ("two", 0.2), ("one", -1.5)]
    assert judge.asked == [(QUERY, list(TEXTS))] * 2
    assert memory.reranking.outcomes == {"done": 2}


@pytest.mark.parametrize(
    ("keys", "options", "expected"),
    [
        (", candidates = 2", {}, [("two", 0.2), ("one", -1.5), ("three", None)]),
        (", candidates = 1", {"limit": 1}, [("one", -1.5)]),
        (", min_score = 0.2", {}, [("three", 0.9), ("two", 0.2)]),
        (", candidates = 2, min_score = -2", {}, [("two", 0.2), ("one", -1.5)]),
        (", min_score = 0.2", {"min_rerank_score": 0.5}, [("three", 0.9)]),
        (", min_score = 0.2", {"min_rerank_score": -5.0}, [("three", 0.9), ("two", 0.2), ("one", -1.5)]),
        ("", {"min_score": 0.9}, [("one", -1.5)]),
        ("", {"limit": 0}, []),
    ],
)
async def test_how_many_are_judged_and_stay(
    opened: Opening, keys: str, options: dict[str, Any], expected: list[Any]
) -> None:
    """The candidates are judged and the others follow; each bound is on its own score."""
    async with opened(Judge(**SCORES), keys) as memory:
        assert await found(memory, **options) == expected


@pytest.mark.parametrize(
    ("logit", "score"), [(0.0, 0.5), (2.0, 0.8808), (-2.0, 0.1192), (1e9, 1.0), (-1e9, 0.0)]
)
async def test_logits_are_brought_between_0_and_1(opened: Opening, logit: float, score: float) -> None:
    """By the logistic function, however large they are."""
    async with opened(Judge(one=logit, two=-1e10, three=-1e10), ", logits = true") as memory:
        ((_, told),) = await found(memory, min_score=0.9)

    assert told == pytest.approx(score, abs=1e-4)


async def test_a_failure_leaves_the_own_order(opened: Opening, caplog: pytest.LogCaptureFixture) -> None:
    """The log tells once that it began and once that it is over; each recall is counted."""
    caplog.set_level(logging.INFO, "arriero.memory.rerank")
    own = [("one", None), ("two", None), ("three", None)]
    async with opened(judge := Judge(**SCORES), ", min_score = 0.5") as memory:
        judge.failures = [Overloaded("too much"), InvalidRequest("too long")]
        assert [await found(memory) for _ in range(2)] == [own, own]
        assert [await found(memory) for _ in range(2)] == [[("three", 0.9)]] * 2

    assert [record.getMessage() for record in caplog.records] == [
        "memory n recalls without its reranker judge: too much",
        "memory n recalls with its reranker judge again",
    ]
    assert memory.reranking.outcomes == {"failed": 2, "done": 2}


@pytest.mark.parametrize(
    ("judge", "reason"), [(Stuck(), "no answer within 0.01 s"), (None, "the model judge is not there")]
)
async def test_a_reranker_that_does_not_answer_is_not_waited_for(
    opened: Opening, caplog: pytest.LogCaptureFixture, judge: Any, reason: str
) -> None:
    """Nor is one that is not there."""
    async with opened(judge, ", timeout_s = 0.01") as memory:
        assert [text for text, _ in await found(memory)] == ["one", "two", "three"]

    assert reason in caplog.text


async def test_headings_are_judged_with_their_text(opened: Opening) -> None:
    """A text that says little by itself is read as it was embedded."""
    async with opened(judge := Judge(**SCORES, paws=1.0)) as memory:
        await memory.ingest(Source(name="a.md", data=b"# Animals\n\nAll\n\n## Cats\n\nfour paws"))
        judge.table["All"] = 0.0
        ((best, _), *_) = await found(memory, limit=1)

    assert best == "paws"
    assert any("Animals" in text and text.endswith("four paws") for text in judge.asked[0][1])


async def test_nothing_found_is_nothing_asked(opened: Opening) -> None:
    """Neither of an empty memory nor under a bound that nothing reaches."""
    async with opened(judge := Judge(**SCORES)) as memory:
        assert await found(memory, mode="vector", min_score=1.1) == []
        await memory.clear()
        assert await found(memory) == []

    assert judge.asked == []


async def test_merged_neighbours_have_the_best_of_their_scores(opened: Opening) -> None:
    """And stand where the best of them stood."""
    async with opened(judge := Judge(**SCORES)) as memory:
        judge.table |= {"low": 0.1, "high": 0.95}
        await memory.ingest(Source(name="b.md", data=b"# Cat\n\ncat low\n\n# Dog\n\ncat high"))
        first, second, *_ = await memory.recall(Query(QUERY, merge_neighbours=True))

    assert (first.rerank_score, first.first, first.last) == (0.95, 0, 1)
    assert (second.text, second.rerank_score) == (TEXTS[2], 0.9)
