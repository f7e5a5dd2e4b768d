"""A memory over the store inside the server: documents in, passages out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from arriero.config.load import parse_config
from arriero.core import Embeddings
from arriero.errors import ConfigError, InvalidRequest, PayloadTooLarge, ServiceError, UnreadableDocument
from arriero.memory.filters import Comparison
from arriero.memory.job import Outcome, Source
from arriero.memory.memory import Memory
from arriero.memory.open import open_memories
from arriero.memory.passage import Query
from arriero.memory.records import document_id
from arriero.testing.word_embedder import WordEmbedder

CONFIG = """
cache_path = "{path}"
[models.w]
url = "http://127.0.0.1:1/w.gguf"
[memories.n]
embedding_model = "w"
store = {{ embedded = {{}} }}
{extra}
"""


class Opened:
    """Opens memories over a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.embedder = WordEmbedder()
        self._open: list[object] = []

    async def __call__(self, extra: str = "") -> Memory:
        config = parse_config(CONFIG.format(path=self.path, extra=extra), {})
        opening = open_memories(config, {"w": self.embedder})
        self._open.append(opening)
        return (await opening.__aenter__())["n"]

    async def close(self) -> None:
        """Close what is open."""
        while self._open:
            await self._open.pop().__aexit__(None, None, None)  # type: ignore[attr-defined]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """Open the memory `n` with these lines in its table; close it in the end."""
    opened = Opened(tmp_path)
    yield opened
    await opened.close()


def text(name: str, said: str, **attributes: str | float | bool) -> Source:
    """Return a text document."""
    return Source(name=name, data=said.encode(), attributes=attributes)


async def texts(memory: Memory, query: str, **options: object) -> list[str]:
    """Recall texts."""
    return [passage.text for passage in await memory.recall(Query(query, **options))]  # type: ignore[arg-type]


CAT, DOG, SHIP = "The cat sat on the mat.", "A dog barks at night.", "Ships sail on the sea."


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
async def test_the_right_passage_is_first(opened: Opened, mode: str) -> None:
    """In every mode; as many as are asked for, and none for no query."""
    memory = await opened()
    for name, said in (("a", CAT), ("b", DOG), ("c", SHIP)):
        assert await memory.ingest(text(name, said)) is Outcome.STORED

    assert (await texts(memory, DOG, mode=mode))[0] == DOG
    assert await texts(memory, DOG, mode=mode, limit=1) == [DOG]
    assert await texts(memory, DOG, mode=mode, limit=0) == []
    assert await texts(memory, " \n", mode=mode) == []


@pytest.mark.parametrize(
    ("keys", "embeds", "weighed"),
    [
        ("", True, (0.6, 0.4)),
        ("", False, (0.2, 0.8)),
        ("text_weight = 0.3", True, (0.6, 0.3)),
        ("vector_weight = 0\ntext_weight = 1", False, (0, 1)),
    ],
)
async def test_the_weights_follow_the_embedding_model(
    opened: Opened, keys: str, embeds: bool, weighed: tuple[float, float]
) -> None:
    """The cosines of one that was not made for embeddings count little, unless the configuration says so."""
    opened.embedder.info = msgspec.structs.replace(opened.embedder.info, embeds=embeds)
    memory = await opened(keys)
    for name, said in (("a", CAT), ("b", DOG)):
        await memory.ingest(text(name, said))

    first, last = await memory.recall(Query("barks cat sat on the mat", limit=2))

    by_meaning, by_words = weighed
    most = by_meaning + by_words
    assert (first.text, first.score, last.text) == (CAT, pytest.approx(1.0), DOG)
    alone = (await memory.recall(Query("barks cat sat on the mat", limit=2, mode="text")))[1].score
    assert last.score == pytest.approx(by_words * alone / most)


async def test_a_passage_tells_its_source(opened: Opened) -> None:
    """Document, title, section, places, ranks and attributes."""
    memory = await opened()
    await memory.ingest(
        Source(name="g.md", data=b"# Guide\n\nIntro.\n\n## Dogs\n\nThey bark.\n", attributes={"lang": "en"})
    )

    [passage] = await memory.recall(Query("bark", limit=1))

    assert (passage.name, passage.title, passage.section) == ("g.md", "Guide", ("Guide", "Dogs"))
    assert (passage.document_id, passage.attributes) == (document_id("g.md"), {"lang": "en"})
    assert (passage.vector_rank, passage.text_rank, passage.score) == (1, 1, 1.0)
    chunks = await memory.store.chunks(passage.document_id)
    assert [(chunk.start, chunk.end) for chunk in chunks][1] == (passage.start, passage.end)


async def test_headings_are_embedded_and_not_stored(opened: Opened) -> None:
    """What is embedded begins with the prefix and the headings; the chunk's text is the document's."""
    memory = await opened('chunk_prefix = "passage: "\nchunk_max_tokens = 4')
    await memory.ingest(Source(name="g.md", data=b"# Guide\n\nOne two.\n\nThree four five.\n"))

    assert opened.embedder.batches == [["passage: Guide\n\nOne two.", "passage: Guide\nThree four five."]]
    assert await texts(memory, "three", mode="text") == ["Three four five."]


async def test_a_document_is_stored_once_and_replaced_whole(opened: Opened) -> None:
    """By bytes, recipe, title and attributes; a new version leaves nothing of the former one."""
    memory = await opened()

    assert await memory.ingest(text("a", CAT)) is Outcome.STORED
    assert await memory.ingest(text("a", CAT)) is Outcome.UNCHANGED
    assert await memory.ingest(text("a", CAT, lang="en")) is Outcome.REPLACED
    assert await memory.ingest(text("a", DOG)) is Outcome.REPLACED
    assert await texts(memory, "cat mat dog") == [DOG]
    await opened.close()
    assert await (await opened()).ingest(text("a", DOG)) is Outcome.UNCHANGED
    await opened.close()
    assert await (await opened("chunk_max_tokens = 3")).ingest(text("a", DOG)) is Outcome.REPLACED


async def test_recall_is_bounded_by_score_filter_and_limit(opened: Opened) -> None:
    """The memory's own minimum holds unless the query brings one."""
    memory = await opened('min_score = 0.9\nrecall = "vector"')
    await memory.ingest(text("a", CAT, year=2020))
    await memory.ingest(text("b", CAT + " Again.", year=2024))

    assert await texts(memory, CAT) == [CAT, CAT + " Again."]
    assert await texts(memory, SHIP) == []
    assert len(await texts(memory, SHIP, min_score=0.0)) == 2
    assert await texts(memory, CAT, where=Comparison("year", "gt", 2021.0)) == [CAT + " Again."]
    with pytest.raises(InvalidRequest, match="from 0 to 1000"):
        await texts(memory, CAT, limit=1001)


async def test_a_query_longer_than_the_model_reads_is_answered(opened: Opened) -> None:
    """It is embedded in parts."""
    opened.embedder = WordEmbedder(context_size=16)
    memory = await opened()
    await memory.ingest(text("a", CAT))
    await memory.ingest(text("b", DOG))

    assert (await texts(memory, "dog barks night " * 200, mode="vector"))[0] == DOG
    assert len(opened.embedder.batches[-1]) == 8


async def test_a_document_on_its_way_can_be_deleted(opened: Opened) -> None:
    """There was one, whether it was stored by then or not; nothing of it comes afterwards."""
    memory = await opened()
    job = await memory.submit(text("a", CAT))

    assert await memory.delete(document_id("a"))
    await memory.jobs.ended(job.id)
    assert await texts(memory, CAT) == []


async def test_deleting_and_clearing(opened: Opened) -> None:
    """One document, and all."""
    memory = await opened()
    for name, said in (("a", CAT), ("b", DOG), ("c", SHIP)):
        await memory.ingest(text(name, said))

    assert await memory.delete(document_id("a"))
    assert not await memory.delete(document_id("a"))
    assert sorted(await texts(memory, CAT)) == sorted([DOG, SHIP])
    assert await memory.clear() == 2
    assert await texts(memory, CAT) == []


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (text("", CAT), InvalidRequest),
        (text("x" * 1025, CAT), InvalidRequest),
        (text("a", "x" * 101), PayloadTooLarge),
        (text("a", ""), UnreadableDocument),
        (text("a", " \n"), UnreadableDocument),
        (Source(name="a", data=b"\x7fELF\x00"), UnreadableDocument),
        (Source(name="a.pdf", data=b"no pdf"), UnreadableDocument),
        (text("third", CAT), InvalidRequest),
    ],
)
async def test_what_cannot_be_ingested_is_refused(
    opened: Opened, source: Source, kind: type[Exception]
) -> None:
    """With its reason, and nothing stored."""
    memory = await opened("max_document_bytes = 100\nmax_documents = 2")
    await memory.ingest(text("one", DOG))
    await memory.ingest(text("two", SHIP))

    with pytest.raises(kind):
        await memory.ingest(source)

    assert (await memory.store.counts()).documents == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
async def test_a_vector_that_is_none_fails_the_document(opened: Opened, value: float) -> None:
    """NaN, infinity and zero; what was stored under the name stays."""

    class Poisoned(WordEmbedder):
        poison = False

        async def embed(self, inputs: object, *, normalize: bool | None = None) -> Embeddings:
            found = await super().embed(inputs, normalize=normalize)  # type: ignore[arg-type]
            bad = np.full(64, value, "<f4").tobytes()
            return Embeddings((*found.vectors[:-1], bad), 1) if self.poison else found

    opened.embedder = embedder = Poisoned()
    memory = await opened("chunk_max_tokens = 7")
    await memory.ingest(text("a", CAT))
    embedder.poison = True

    with pytest.raises(ServiceError, match="has no vector for the text"):
        await memory.ingest(text("a", f"{DOG} {SHIP}"))

    embedder.poison = False
    assert await texts(memory, CAT) == [CAT]


async def test_another_embedding_model_is_noticed(opened: Opened) -> None:
    """At opening, by its vectors; and by what the configuration says of them."""
    await opened()
    await opened.close()
    opened.embedder = WordEmbedder(dimensions=32)

    with pytest.raises(ConfigError):
        await opened()
    with pytest.raises(ConfigError, match=r"memories\.n\.dimensions: 99, but the vectors of w have 32"):
        await opened("dimensions = 99")


async def test_a_document_taken_on_survives_a_restart(opened: Opened) -> None:
    """It is stored by the next process, and found."""
    job = await (await opened()).submit(text("a", CAT))
    await opened.close()

    memory = await opened()
    await memory.jobs.finished(job.id)

    assert await texts(memory, CAT) == [CAT]
