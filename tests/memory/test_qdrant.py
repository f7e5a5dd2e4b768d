"""The store on Qdrant, over real HTTP to a double of the server, or to the one that ARRIERO_QDRANT_URL names.

Of that one the collections `notes` and `old` are dropped; what needs failures stays with the double.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, models

from arriero.config.load import parse_config
from arriero.errors import ConfigError, Unavailable
from arriero.memory.filters import Comparison, Compound, Filter, matches
from arriero.memory.open import open_memories
from arriero.memory.passage import Query
from arriero.memory.qdrant import QdrantStore
from arriero.memory.records import Chunk, Document, Hit, Identity
from arriero.testing.qdrant import FakeQdrant
from arriero.testing.serving import served
from arriero.testing.word_embedder import WordEmbedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

IDENTITY = Identity("minilm", 3)
X, Y, Z = np.eye(3, dtype=np.float32)
POLY_NAMESPACE = uuid.UUID("067FB304-F9B1-4E74-8ACA-28051B8492AB")


@pytest.fixture
async def server() -> AsyncIterator[tuple[FakeQdrant, str]]:
    """A server and its address."""
    fake = FakeQdrant()
    async with served(fake.app) as url:
        yield fake, url


@pytest.fixture
async def url(server: tuple[FakeQdrant, str]) -> str:
    """The address of a server without our collections."""
    named = os.environ.get("ARRIERO_QDRANT_URL")
    if named is None:
        return server[1]
    client = AsyncQdrantClient(url=named)
    for collection in ("notes", "old"):
        await client.delete_collection(collection)
    await client.close()
    return named


@pytest.fixture
async def store(url: str) -> AsyncIterator[QdrantStore]:
    """A store on a collection of its own making."""
    store = await QdrantStore.open(url, "notes", IDENTITY)
    yield store
    await store.close()


def document(name: str, **values: Any) -> Document:
    return Document(name=name, digest="d", **values)


def chunks(*texts: str) -> list[Chunk]:
    return [Chunk(ordinal=i, text=text, end=len(text)) for i, text in enumerate(texts)]


def rows(*vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack(vectors)


def texts(hits: list[Hit]) -> list[str]:
    return [hit.chunk.text for hit in hits]


async def test_what_is_stored_is_found_by_meaning_and_by_words(store: QdrantStore) -> None:
    """Hits carry their document, chunk and score."""
    await store.replace(document("a", title="A"), chunks("red fox", "blue whale"), rows(X, Y))
    await store.replace(document("b"), chunks("green tree"), rows(Z))
    near = await store.nearest(np.array([0.8, 0.6, 0], np.float32), limit=2)
    words = await store.matching('the WHALE "AND (', limit=5)

    assert texts(near) == ["red fox", "blue whale"]
    assert [round(hit.score, 3) for hit in near] == [0.8, 0.6]
    assert (near[0].document.title, near[0].chunk.end) == ("A", 7)
    assert texts(words) == ["blue whale"]


async def test_a_new_version_takes_the_place_of_the_old_one(store: QdrantStore) -> None:
    """No chunk of the old version is found, listed or counted."""
    await store.replace(document("a"), chunks("one", "two", "three"), rows(X, Y, Z))
    await store.replace(document("a", title="new"), chunks("two"), rows(Y))

    assert texts(await store.nearest(X, limit=9)) == ["two"]
    assert [chunk.text for chunk in await store.chunks(document("a").id)] == ["two"]
    assert (await store.counts()).chunks == 1
    assert [one.title for one in await store.documents()] == ["new"]


async def test_points_are_polys(store: QdrantStore, url: str) -> None:
    """The first chunk of a text has the id and the payload that Poly would give it; no text is lost."""
    await store.replace(document("a"), chunks("same", "same"), rows(X, X))
    await store.replace(document("b"), chunks("same"), rows(X))
    client = AsyncQdrantClient(url=url, check_compatibility=False)
    (point,) = await client.retrieve("notes", [str(uuid.uuid5(POLY_NAMESPACE, "same"))])
    await client.close()

    assert point.payload is not None
    assert point.payload["text"] == "same"
    assert (await store.counts()).chunks == 3


async def test_a_collection_of_poly_is_searched(url: str) -> None:
    """Its points are found with their text as it is, beside new ones; clearing takes them all."""
    client = AsyncQdrantClient(url=url, check_compatibility=False)
    await client.create_collection(
        "old", vectors_config=models.VectorParams(size=3, distance=models.Distance.COSINE)
    )
    point = models.PointStruct(
        id=str(uuid.uuid5(POLY_NAMESPACE, 'a "quote"')), vector=[1, 0, 0], payload={"text": 'a "quote"'}
    )
    await client.upsert("old", [point])
    store = await QdrantStore.open(url, "old", IDENTITY)
    await store.replace(document("new"), chunks("new text"), rows(Y))

    assert texts(await store.nearest(X, limit=2)) == ['a "quote"', "new text"]
    assert await store.matching("quote", limit=2) == []
    assert await store.clear() == 1
    assert await store.nearest(X, limit=2) == []
    await store.close()
    await client.close()


NUMBERED = Comparison("n", "gte", 2.0)


FILTERS: list[tuple[Filter, set[str]]] = [
    (Comparison("kind", "eq", "x"), {"a", "b"}),
    (Comparison("kind", "ne", "x"), {"c", "d"}),
    (Comparison("kind", "in", ("y", "z")), {"c"}),
    (Comparison("kind", "in", ()), set()),
    (Comparison("kind", "nin", ("x", "y")), {"d"}),
    (Comparison("kind", "gt", "x"), {"c"}),
    (Comparison("n", "eq", 2.0), {"b"}),
    (Comparison("n", "lt", 2.0), {"a"}),
    (Comparison("flag", "eq", True), {"b"}),
    (Comparison("flag", "eq", 1.0), set()),
    (Comparison('odd "key".x', "eq", "v"), {"d"}),
    (Compound("and", (Comparison("kind", "eq", "x"), NUMBERED)), {"b"}),
    (Compound("or", (Comparison("kind", "eq", "y"), NUMBERED)), {"b", "c"}),
]


async def test_filters(store: QdrantStore) -> None:
    """Every comparison means here what it means elsewhere; documents and chunks are filtered alike."""
    attributes: dict[str, Any] = {
        "a": {"kind": "x", "n": 1.0},
        "b": {"kind": "x", "n": 2.0, "flag": True},
        "c": {"kind": "y"},
        "d": {'odd "key".x': "v"},
    }
    documents = {name: document(name, attributes=values) for name, values in attributes.items()}
    for name in documents:
        await store.replace(documents[name], chunks(name), rows(X))

    for where, found in FILTERS:
        assert {name for name in documents if matches(where, documents[name])} == found, where
        assert {one.name for one in await store.documents(where=where)} == found, where
        assert {hit.document.name for hit in await store.nearest(X, limit=9, where=where)} == found, where


async def test_documents_are_listed_in_pages(store: QdrantStore) -> None:
    """Pages follow each other in the order of the ids; nothing is listed twice or left out."""
    for n in range(7):
        await store.replace(document(f"d{n}"), chunks(str(n)), rows(X))
    listed: list[str] = []
    while page := await store.documents(after=listed[-1] if listed else None, limit=3):
        assert len(page) <= 3
        listed += [one.id for one in page]

    assert listed == sorted(document(f"d{n}").id for n in range(7))


async def test_a_deleted_document_is_gone(store: QdrantStore) -> None:
    """With all of its chunks; a second time there is nothing to delete, and no id is an error."""
    await store.replace(document("a"), chunks("one"), rows(X))

    assert await store.delete(document("a").id)
    assert not await store.delete(document("a").id)
    assert not await store.delete("no such id")
    assert await store.nearest(X, limit=1) == []
    assert (await store.counts()).chunks == 0


@pytest.mark.parametrize("answered", range(8))
async def test_a_broken_off_replacement_leaves_the_old_version(
    server: tuple[FakeQdrant, str], answered: int
) -> None:
    """At whatever request the server goes: the old version or the new one is there, whole and alone."""
    fake, url = server
    store = await QdrantStore.open(url, "notes", IDENTITY)
    await store.replace(document("a", title="old"), chunks("one", "two"), rows(X, Y))
    fake.refuse_after, fake.refuse_with = answered, 503
    broke_off = False
    try:
        await store.replace(document("a", title="new"), chunks("three", "four"), rows(X, Y))
    except Unavailable:
        broke_off = True
    fake.refuse_with = None
    await store.close()
    again = await QdrantStore.open(url, "notes", IDENTITY)
    (found,) = await again.documents()
    expected = {"old": ["one", "two"], "new": ["three", "four"]}[found.title]

    assert broke_off is (answered < 6)
    assert texts(await again.nearest(np.array([0.8, 0.6, 0], np.float32), limit=9)) == expected
    assert (await again.counts()).chunks == 2
    await again.close()


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (Identity("minilm", 4), "collection notes holds vectors of 3 numbers, the model minilm makes 4"),
        (Identity("other", 3), "collection notes holds vectors of the model minilm, not of other"),
    ],
)
async def test_vectors_of_another_model_are_refused(
    store: QdrantStore, url: str, identity: Identity, message: str
) -> None:
    """At the start, with what to do about it."""
    with pytest.raises(ConfigError, match=message):
        await QdrantStore.open(url, "notes", identity)


async def test_a_server_that_refuses_or_is_gone(server: tuple[FakeQdrant, str], unused_tcp_port: int) -> None:
    """Errors say what the server said, or that there is none; a missing key is told."""
    fake, url = server
    fake.api_key = "k"
    with pytest.raises(Unavailable, match=r"Qdrant refused with 401: .*API key"):
        await QdrantStore.open(url, "notes", IDENTITY)
    with pytest.raises(Unavailable, match="Qdrant cannot be reached"):
        await QdrantStore.open(f"http://127.0.0.1:{unused_tcp_port}", "notes", IDENTITY)
    store = await QdrantStore.open(url, "notes", IDENTITY, api_key="k")
    assert await store.documents() == []
    await store.close()


async def test_a_server_that_is_down_does_not_stop_the_start(
    tmp_path: Path, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The memory opens, says in the log that it is unavailable and where its server is, and answers so."""
    config = parse_config(
        f"""
        models.w.url = "http://127.0.0.1:1/w.gguf"
        [memories.n]
        embedding_model = "w"
        store.qdrant = {{ url = "http://me:pw@127.0.0.1:{unused_tcp_port}", collection = "notes" }}
        """,
        {"ARRIERO_CACHE_PATH": str(tmp_path)},
    )
    async with open_memories(config, {"w": WordEmbedder()}) as memories:
        with pytest.raises(Unavailable, match="Qdrant cannot be reached"):
            await memories["n"].recall(Query("cats"))

    assert f"memory n is unavailable until its store at 127.0.0.1:{unused_tcp_port} is back" in caplog.text


@pytest.mark.parametrize("vectors", [np.zeros((1, 4), np.float32), np.full((1, 3), np.nan, np.float32)])
async def test_vectors_that_cannot_be_stored_are_refused(
    store: QdrantStore, vectors: NDArray[np.float32]
) -> None:
    """Of another length, or not finite: nothing is stored."""
    with pytest.raises(ValueError, match="expected 1 finite vectors of 3 numbers"):
        await store.replace(document("a"), chunks("one"), vectors)
    assert await store.documents() == []
