"""The store on Qdrant against recorded exchanges: what it asks, and what a server answers, in its own forms.

The requests are the store's, recorded; the answers have the members that the server's API documents.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from arriero.errors import ConfigError, Unavailable
from arriero.memory.filters import Comparison
from arriero.memory.qdrant import QdrantStore
from arriero.memory.records import Chunk, Document, Identity
from arriero.testing.serving import served

if TYPE_CHECKING:
    from starlette.requests import Request

EXCHANGES = Path(__file__).with_name("qdrant_exchanges.jsonl")
IDENTITY = Identity("minilm", 3)
X, Y, _ = np.eye(3, dtype=np.float32)
EXISTS = "GET /collections/notes/exists"
VERSION = {"title": "qdrant - vector search engine", "version": "1.17.1", "commit": "0123abc"}


class Exchange(msgspec.Struct):
    """A request, its answer, and the answer's status.

    A text that begins with `$` stands for any text, the same one in the whole recording.
    """

    ask: str
    answer: Any
    body: Any = None
    status: int = 200
    headers: dict[str, str] = {}


def recorded() -> list[Exchange]:
    return msgspec.json.Decoder(Exchange).decode_lines(EXCHANGES.read_bytes())


class RecordedServer:
    """Answers what is recorded, as long as it is asked what is recorded, in that order."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self.left = deque(exchanges)
        self.fault = ""
        self._known: dict[str, str] = {}
        methods = ["GET", "PUT", "POST", "DELETE"]
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])

    async def _answer(self, request: Request) -> Response:
        ask = f"{request.method} {request.url.path}" + f"?{request.url.query}" * bool(request.url.query)
        body = msgspec.json.decode(await request.body() or b"null")
        exchange = self.left.popleft() if self.left else Exchange("nothing more", None)
        if exchange.ask != ask or not self._agree(exchange.body, body):
            self.fault = self.fault or f"expected {exchange.ask} {exchange.body}, was asked {ask} {body}"
            return Response(status_code=500)
        if isinstance(exchange.answer, str):
            return Response(exchange.answer, exchange.status, exchange.headers)
        answer = msgspec.json.encode(self._filled(exchange.answer))
        return Response(answer, exchange.status, exchange.headers, "application/json")

    def _agree(self, recorded: Any, said: Any) -> bool:
        if isinstance(recorded, str) and recorded.startswith("$"):
            return isinstance(said, str) and self._known.setdefault(recorded, said) == said
        if isinstance(recorded, dict) and isinstance(said, dict):
            agree = (self._agree(recorded[key], said.get(key)) for key in recorded)
            return recorded.keys() == said.keys() and all(agree)
        if isinstance(recorded, list) and isinstance(said, list):
            return len(recorded) == len(said) and all(map(self._agree, recorded, said))
        return bool(recorded == said)

    def _filled(self, recorded: Any) -> Any:
        if isinstance(recorded, dict):
            return {key: self._filled(value) for key, value in recorded.items()}
        if isinstance(recorded, list):
            return [self._filled(value) for value in recorded]
        return self._known.get(recorded, recorded) if isinstance(recorded, str) else recorded


async def test_a_life_of_a_collection() -> None:
    """It is made, filled, searched, listed and emptied with these requests; such answers are understood."""
    server = RecordedServer(recorded())
    async with served(server.app) as url:
        store = await QdrantStore.open(url, "notes", IDENTITY)
        document = Document(name="a", digest="d", title="A", attributes={"year": 2024.0})
        chunks = [Chunk(ordinal=0, text="red fox", end=7), Chunk(ordinal=1, text="blue whale", end=18)]
        await store.replace(document, chunks, np.stack([X, Y]))
        near = await store.nearest(X, limit=2, where=Comparison("year", "gte", 2020.0))
        words = await store.matching("whale", limit=2)
        listed = await store.documents()
        held = await store.chunks(document.id)
        counts = await store.counts()
        deleted = await store.delete(document.id)
        cleared = await store.clear()
        await store.close()

    assert server.fault == ""
    assert not server.left
    assert [(hit.chunk.text, round(hit.score, 3)) for hit in near] == [("red fox", 1.0), ("blue whale", 0.0)]
    assert [(hit.chunk.text, hit.document.title) for hit in words] == [("blue whale", "A")]
    assert listed == [document]
    assert held == chunks
    assert (counts.documents, counts.chunks, deleted, cleared) == (1, 2, True, 0)


REFUSALS = [
    (401, "Must provide an API key or an Authorization bearer token", "401: Must provide an API key"),
    (403, {"status": {"error": "Forbidden: only read access"}, "time": 1e-05}, "403: Forbidden: only read"),
    (404, "", "404: Not Found"),
    (429, {"status": {"error": "Rate limit exceeded"}, "time": 0.0}, "429: Rate limit exceeded"),
    (
        400,
        {"status": {"error": "Wrong input: Vector dimension error: expected dim: 4, got 3"}, "time": 0.001},
        "400: Wrong input: Vector dimension error: expected dim: 4, got 3",
    ),
]


async def refusal_of(exists: Exchange) -> str:
    """Return how a memory tells that its server answers so when it is asked for the collection."""
    server = RecordedServer([Exchange("GET /", VERSION), exists])
    async with served(server.app) as url:
        with pytest.raises(Unavailable) as caught:
            await QdrantStore.open(url, "notes", IDENTITY)
    assert server.fault == ""
    return str(caught.value)


@pytest.mark.parametrize(("status", "answer", "told"), REFUSALS)
@pytest.mark.parametrize("headers", [{}, {"retry-after": "7"}], ids=["", "retry"])
async def test_refusals_are_told_in_the_servers_words(
    status: int, answer: Any, told: str, headers: dict[str, str]
) -> None:
    """Whether they come as JSON, as plain text or as nothing."""
    said = await refusal_of(Exchange(EXISTS, answer, status=status, headers=headers))

    assert said.startswith(f"Qdrant refused with {told}")
    assert "{" not in said


async def test_another_server_at_that_address() -> None:
    """A page in place of an answer is told as what it is."""
    assert await refusal_of(Exchange(EXISTS, "<html>")) == (
        "what answers at the address of Qdrant is no Qdrant server"
    )


async def test_a_collection_of_other_dimensions() -> None:
    """The way out is told; nothing is written."""
    exchanges = recorded()
    described = next(one for one in exchanges if one.ask == "GET /collections/notes")
    described.answer["result"]["config"]["params"]["vectors"]["size"] = 4
    there = {"result": {"exists": True}, "status": "ok", "time": 2e-06}
    server = RecordedServer([Exchange("GET /", VERSION), Exchange(EXISTS, there), described])
    async with served(server.app) as url:
        with pytest.raises(ConfigError, match="vectors of 4 numbers, the model minilm makes 3: name another"):
            await QdrantStore.open(url, "notes", IDENTITY)

    assert (server.fault, len(server.left)) == ("", 0)
