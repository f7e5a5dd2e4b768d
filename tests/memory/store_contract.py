"""What every store promises, as tests over a fixture `store` that a subclass gives.

class TestMine(StoreContract):
    @pytest_asyncio.fixture
    async def store(self) -> AsyncIterator[Store]: ...   # empty, of IDENTITY
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from arriero.memory.filters import Comparison, Compound, OneOf
from arriero.memory.records import Chunk, Document, Identity, document_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from arriero.memory.filters import Filter
    from arriero.memory.records import Attribute, Hit
    from arriero.memory.store import Store

IDENTITY = Identity(embedder="contract", dimensions=4)

ODD_NAMES = (
    "/etc/passwd", "../up", "a\nb", "emoji 🦙", "Ünïcödé",
    "quote ' \" `", "100%", "_", "x" * 3000, "nul\0byte",
    "broken \udcff name",
)  # fmt: skip


def document(name: str, chunks: int = 1, attributes: Mapping[str, Attribute] | None = None) -> Document:
    """Return a document of this name that says the right number of chunks."""
    return Document(
        name=name,
        digest="ab" * 32,
        recipe="r1",
        title=f"Title of {name[:40]}",
        media_type="text/plain",
        size=123,
        created_at=1_700_000_000.5,
        num_chunks=chunks,
        num_tokens=7 * chunks,
        attributes=attributes or {},
    )


def pieces(*texts: str) -> list[Chunk]:
    """Return chunks of these texts."""
    return [Chunk(ordinal=place, text=text, start=place, end=place + 1) for place, text in enumerate(texts)]


def units(*rows: Sequence[float]) -> NDArray[np.float32]:
    """Return vectors of length 1 in the directions of these rows."""
    values = np.array(rows, dtype=np.float32).reshape(len(rows), 4)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def unit(*direction: float) -> NDArray[np.float32]:
    """Return the vector of length 1 in this direction."""
    row: NDArray[np.float32] = units(direction)[0]
    return row


async def put(store: Store, name: str, text: str = "word", **attributes: Any) -> Document:
    """Store a document of one chunk."""
    stored = document(name, 1, attributes)
    await store.replace(stored, pieces(text), units([1, 0, 0, 0]))
    return stored


def names(hits: Sequence[Hit]) -> list[str]:
    """Return the names of the documents that were found, in order of their names."""
    return sorted(hit.document.name for hit in hits)


PEOPLE: dict[str, dict[str, Attribute]] = {
    "ann": {"age": 30.0, "city": "Oslo", "paid": True},
    "bob": {"age": 40.0, "city": "Rome", "paid": False},
    "cyd": {"age": 30.5, "city": "oslo"},
    "dan": {"age": "30", "city": 5.0, "paid": 1.0},
    "eve": {},
}


def compare(key: str, operator: Any, value: Any) -> Comparison:
    """Return a comparison."""
    return Comparison(key=key, operator=operator, value=value)


def every(*filters: Filter) -> Compound:
    """Return the filter that all of these pass."""
    return Compound(operator="and", filters=filters)


def some(*filters: Filter) -> Compound:
    """Return the filter that one of these passes."""
    return Compound(operator="or", filters=filters)


FILTERS: list[tuple[Filter, str]] = [
    (compare("age", "eq", 30.0), "ann"),
    (compare("age", "eq", 30), "ann"),
    (compare("age", "eq", "30"), "dan"),
    (compare("age", "ne", 30.0), "bob cyd dan eve"),
    (compare("age", "gt", 30.0), "bob cyd"),
    (compare("age", "gte", 30.0), "ann bob cyd"),
    (compare("age", "lt", 30.5), "ann"),
    (compare("age", "lte", 30.5), "ann cyd"),
    (compare("age", "in", (30.0, "30")), "ann dan"),
    (compare("age", "in", ()), ""),
    (compare("age", "nin", (30.0, 40.0)), "cyd dan eve"),
    (compare("age", "nin", ()), "ann bob cyd dan eve"),
    (compare("city", "eq", "Oslo"), "ann"),
    (compare("paid", "eq", True), "ann"),
    (compare("paid", "eq", 1.0), "dan"),
    (compare("paid", "ne", True), "bob cyd dan eve"),
    (compare("paid", "in", (True, False)), "ann bob"),
    (compare("none", "eq", 1.0), ""),
    (compare("none", "ne", 1.0), "ann bob cyd dan eve"),
    (compare("none", "gt", 1.0), ""),
    (compare("none'; drop", "nin", ("x",)), "ann bob cyd dan eve"),
    (every(), "ann bob cyd dan eve"),
    (some(), ""),
    (every(compare("age", "gte", 30.0), compare("paid", "eq", True)), "ann"),
    (some(compare("city", "eq", "Rome"), compare("city", "eq", 5.0)), "bob dan"),
    (every(some(compare("age", "eq", 30.0), compare("age", "eq", 40.0)), compare("paid", "ne", True)), "bob"),
    (OneOf((document_id("ann"), document_id("eve"), "f" * 32, "no id")), "ann eve"),
    (OneOf(()), ""),
    (some(*[compare("age", "eq", float(number)) for number in range(800)]), "ann bob"),
]


class StoreContract:
    """The tests. Each begins with an empty store."""

    async def test_an_empty_memory_answers(self, store: Store) -> None:
        """Nothing is held, nothing is found, and nothing can be deleted."""
        assert store.identity == IDENTITY
        counts = await store.counts()
        assert (counts.documents, counts.chunks) == (0, 0)
        assert await store.documents() == []
        assert await store.document(document_id("x")) is None
        assert await store.chunks(document_id("x")) == []
        assert await store.nearest(unit(1, 0, 0, 0), limit=5) == []
        assert await store.matching("word", limit=5) == []
        assert await store.delete(document_id("x")) is False
        assert await store.clear() == 0

    async def test_a_document_comes_back_as_it_was_stored(self, store: Store) -> None:
        """Document, chunks, places, pages and sections are the same afterwards."""
        stored = document("manual.pdf", 2, {"lang": "de", "year": 1999.0, "draft": False})
        chunks = [
            Chunk(ordinal=0, text="one", start=0, end=3, num_tokens=1, page=None, section=()),
            Chunk(ordinal=1, text="two", start=3, end=6, num_tokens=2, page=4, section=("A", "B \udcff")),
        ]

        await store.replace(stored, chunks, units([1, 0, 0, 0], [0, 1, 0, 0]))

        assert await store.document(stored.id) == stored
        assert await store.documents() == [stored]
        assert await store.chunks(stored.id) == chunks
        hits = await store.nearest(unit(0, 1, 0, 0), limit=1)
        assert [(hit.document, hit.chunk) for hit in hits] == [(stored, chunks[1])]
        counts = await store.counts()
        assert (counts.documents, counts.chunks) == (1, 2)

    async def test_a_new_version_takes_the_place_of_the_old_one(self, store: Store) -> None:
        """Nothing of the old version is found, listed or counted."""
        await store.replace(document("d", 2), pieces("alpha", "beta"), units([1, 0, 0, 0], [0, 1, 0, 0]))
        second = document("d", 1, {"v": 2.0})

        await store.replace(second, pieces("gamma"), units([0, 0, 1, 0]))

        assert await store.documents() == [second]
        assert [hit.chunk.text for hit in await store.nearest(unit(1, 1, 1, 0), limit=9)] == ["gamma"]
        assert await store.matching("alpha beta", limit=9) == []
        assert [hit.chunk.text for hit in await store.matching("gamma", limit=9)] == ["gamma"]
        assert (await store.counts()).chunks == 1

    async def test_a_document_without_chunks_is_a_document(self, store: Store) -> None:
        """An empty text leaves a document that is listed and finds nothing."""
        await store.replace(document("empty", 0), [], np.empty((0, 4), dtype=np.float32))

        assert [found.name for found in await store.documents()] == ["empty"]
        assert await store.chunks(document_id("empty")) == []
        assert await store.delete(document_id("empty")) is True

    async def test_what_is_deleted_is_gone(self, store: Store) -> None:
        """A deleted document is not found; the others are."""
        await put(store, "a", "apple")
        await put(store, "b", "apple")

        assert await store.delete(document_id("a")) is True
        assert await store.delete(document_id("a")) is False

        assert names(await store.nearest(unit(1, 0, 0, 0), limit=9)) == ["b"]
        assert names(await store.matching("apple", limit=9)) == ["b"]
        assert await store.document(document_id("a")) is None

    async def test_a_cleared_memory_is_empty_and_usable(self, store: Store) -> None:
        """Clearing counts the documents that went; the next ones are found."""
        for name in "abc":
            await put(store, name)

        assert await store.clear() == 3

        assert await store.documents() == []
        assert await store.nearest(unit(1, 0, 0, 0), limit=9) == []
        assert await store.matching("word", limit=9) == []
        await put(store, "d")
        assert names(await store.nearest(unit(1, 0, 0, 0), limit=9)) == ["d"]

    async def test_documents_are_listed_in_pages(self, store: Store) -> None:
        """Each document comes once, in the order of the ids, whatever the size of the page."""
        for number in range(7):
            await put(store, f"d{number}", group=float(number % 2))
        listed: list[str] = []
        while page := await store.documents(after=listed[-1] if listed else None, limit=3):
            listed += [found.id for found in page]

        assert listed == sorted(document_id(f"d{number}") for number in range(7))
        odd = await store.documents(limit=2, where=compare("group", "eq", 1.0))
        assert len(odd) == 2
        assert all(found.attributes == {"group": 1.0} for found in odd)
        assert await store.documents(limit=0) == []

    async def test_chunks_come_by_ordinal(self, store: Store) -> None:
        """Both ends are included, and the order does not depend on that of storing."""
        chunks = pieces("a", "b", "c", "d")
        await store.replace(document("d", 4), chunks[::-1], units(*[[1, 0, 0, 0]] * 4))

        assert await store.chunks(document_id("d")) == chunks
        assert await store.chunks(document_id("d"), first=1, last=2) == chunks[1:3]
        assert await store.chunks(document_id("d"), first=3) == chunks[3:]
        assert await store.chunks(document_id("d"), last=0) == chunks[:1]
        assert await store.chunks(document_id("d"), first=4) == []

    async def test_the_most_alike_come_first_with_their_cosines(self, store: Store) -> None:
        """Hits are ordered by cosine, which is exact, and at most `limit`."""
        angles = [0.0, 0.3, 0.6, 1.2, math.pi / 2, math.pi]
        vectors = units(*[[math.cos(angle), math.sin(angle), 0, 0] for angle in angles])
        await store.replace(document("d", 6), pieces(*"abcdef"), vectors)

        hits = await store.nearest(unit(1, 0, 0, 0), limit=10)
        first = await store.nearest(unit(1, 0, 0, 0), limit=2)

        assert [hit.chunk.text for hit in hits] == list("abcdef")
        assert [hit.score for hit in hits] == pytest.approx([math.cos(angle) for angle in angles], abs=1e-5)
        assert [hit.chunk.text for hit in first] == ["a", "b"]
        assert await store.nearest(unit(1, 0, 0, 0), limit=0) == []

    @pytest.mark.parametrize(("where", "expected"), FILTERS, ids=[str(n) for n in range(len(FILTERS))])
    async def test_filters_choose_documents(self, store: Store, where: Filter, expected: str) -> None:
        """A filter means the same in a list, a search by vector and a search by words."""
        for name, attributes in PEOPLE.items():
            await put(store, name, "person", **attributes)

        assert sorted(found.name for found in await store.documents(where=where)) == expected.split()
        assert names(await store.nearest(unit(1, 0, 0, 0), limit=9, where=where)) == expected.split()
        assert names(await store.matching("person", limit=9, where=where)) == expected.split()

    async def test_words_find_their_chunks(self, store: Store) -> None:
        """More and rarer words score higher; case and endings do not matter."""
        texts = ["the llama walks", "a llama and an alpaca walk", "the mule carries", "nothing here"]
        await store.replace(document("d", 4), pieces(*texts), units(*[[1, 0, 0, 0]] * 4))

        hits = await store.matching("Alpaca LLAMAS", limit=9)

        assert [hit.chunk.ordinal for hit in hits] == [1, 0]
        assert hits[0].score > hits[1].score
        assert [hit.chunk.ordinal for hit in await store.matching("llama", limit=1)] == [0]
        assert await store.matching("llama", limit=0) == []
        assert await store.matching("zebra", limit=9) == []

    @pytest.mark.parametrize(
        ("text", "query"),
        [
            ("東京都庁の猫", "東京"),
            ("東京都庁の猫", "猫"),
            ("東京都庁の猫", "都庁の猫はどこ"),
            ("我爱北京天安门", "天安门"),
            ("한국어 문서입니다", "문서"),
            ("สวัสดีชาวโลก", "ชาวโลก"),
            ("Ein Übergrößenträger", "übergrößenträger"),
            ("Ελληνικά κείμενα", "ΚΕΊΜΕΝΑ"),
            ("русский текст", "Текст"),
            ("نص عربي طويل", "عربي"),
            ("mixed 東京 text", "text"),
        ],
    )
    async def test_words_of_every_script_are_found(self, store: Store, text: str, query: str) -> None:
        """Scripts without blanks are searched as well as those with."""
        await put(store, "other", "unrelated latin words, 別の文")
        await put(store, "d", text)

        hits = await store.matching(query, limit=9)

        assert [hit.document.name for hit in hits][:1] == ["d"]

    @pytest.mark.parametrize(
        "query",
        ["", " ", '"', "\0", "a\0word", "AND OR NOT", "NEAR(a b)", "text:word", "word*", "(", "-word",
         "^word", "'; drop table chunk; --", "🦙", "\udcff", "+", "a" * 100_000,
         "word " * 20_000, '"' * 100_000, "the of and"],
    )  # fmt: skip
    async def test_any_text_is_a_query(self, store: Store, query: str) -> None:
        """No text of a query is syntax or an error."""
        await put(store, "d", "some word")

        hits = await store.matching(query, limit=9)

        assert names(hits) == (["d"] if "word" in query else [])

    @pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
    async def test_any_text_is_a_name(self, store: Store, name: str) -> None:
        """A name may hold any character."""
        stored = await put(store, name, "text \0 with 🦙", key="välue\n", **{"odd key '\"": 1.0})

        assert await store.document(document_id(name)) == stored
        assert [chunk.text for chunk in await store.chunks(stored.id)] == ["text \0 with 🦙"]
        assert names(await store.nearest(unit(1, 0, 0, 0), limit=1)) == [name]
        assert await store.delete(stored.id) is True

    @pytest.mark.parametrize(
        "vectors",
        [
            np.ones((1, 3), dtype=np.float32),
            np.ones((2, 4), dtype=np.float32) / 2,
            np.array([[math.nan, 0, 0, 1]], dtype=np.float32),
            np.array([[math.inf, 0, 0, 0]], dtype=np.float32),
        ],
        ids=["dimensions", "count", "nan", "infinity"],
    )
    async def test_wrong_vectors_are_refused(self, store: Store, vectors: NDArray[np.float32]) -> None:
        """Vectors of another shape or that are not numbers leave the old version in place."""
        kept = await put(store, "d", "kept")

        with pytest.raises(ValueError):
            await store.replace(document("d"), pieces("new"), vectors)

        assert await store.documents() == [kept]
        assert names(await store.matching("kept", limit=1)) == ["d"]
