"""Poly's memory routes and our own, over a memory with a real store."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from arriero.config.load import parse_config
from arriero.config.schema import Config
from arriero.errors import Unavailable
from arriero.memory.memory import Memory
from arriero.memory.open import open_memories
from arriero.memory.records import document_id
from arriero.server.serve import edge_of
from arriero.testing.serving import client_of
from arriero.testing.word_embedder import WordEmbedder

CONFIG = """
[auth]
allowed_keys = ["sesame"]
[models.w]
url = "http://127.0.0.1:1/w.gguf"
[memories.n]
embedding_model = "w"
store = { hora = {} }
chunking = "structure"
max_document_bytes = 2000
max_queued_documents = 3
[memories.other]
embedding_model = "w"
store = { hora = {} }
"""
CAT, DOG, SHIP = "The cat sat on the mat.", "A dog barks at night.", "Ships sail on the sea."
HUGE = f'{{"a": {10**400}}}'
TEXT = {"content-type": "text/plain"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"accept": "application/json"}


@dataclass(frozen=True)
class Stage:
    """What the server under test serves."""

    config: Config
    memories: Mapping[str, Memory]
    models: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Any] = field(default_factory=dict)
    guards: Mapping[str, Any] = field(default_factory=dict)
    pokt: None = None


class Served:
    """The embedding model and a client of the server."""

    def __init__(self, embedder: WordEmbedder, client: httpx2.AsyncClient) -> None:
        self.embedder = embedder
        self.client = client

    async def put(self, said: str | bytes, name: str = "", **query: str) -> httpx2.Response:
        """Store a text, which must go well."""
        params = {"name": name, **query} if name else query
        response = await self.client.put("/v1/memory/n", content=said, headers=TEXT, params=params)
        assert response.status_code in (200, 202), response.text
        return response

    async def chunks(self, prompt: str, **query: Any) -> list[str]:
        """Recall in Poly's form."""
        response = await self.client.get("/v1/memory/n", params={"prompt": prompt, **query})
        found: list[str] = response.json()["chunks"]
        return found


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Served]:
    """Serve two memories while the block runs."""
    config = parse_config(f'cache_path = "{path}"\n{CONFIG}', {})
    embedder = WordEmbedder()
    async with open_memories(config, {"w": embedder}) as memories:
        edge = edge_of(Stage(config, memories))  # type: ignore[arg-type]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await edge.start(listener)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            headers = {"authorization": "Bearer sesame"}
            try:
                async with client_of(url, headers=headers) as client:
                    yield Served(embedder, client)
            finally:
                await edge.stop(0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    """A server of the memories `n` and `other`."""
    async with serving(tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
async def lasting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A server for requests that change nothing."""
    async with serving(tmp_path_factory.mktemp("lasting")) as served:
        yield served


async def test_memories_are_listed(server: Served) -> None:
    """Poly's form."""
    assert (await server.client.get("/v1/memory")).json() == {"memories": ["n", "other"]}


async def test_texts_are_stored_and_recalled_in_polys_form(server: Served) -> None:
    """PUT answers {}; recall answers the best first, one unless told; POST and GET are the same."""
    for said in (CAT, DOG, SHIP):
        response = await server.put(said)
        assert (response.status_code, response.json()) == (200, {})

    assert await server.chunks(DOG) == [DOG]
    assert len(await server.chunks(DOG, n=2)) == 2
    assert await server.chunks(DOG, n=0) == []
    posted = await server.client.post("/v1/memory/n", json={"prompt": DOG, "n": 2, "extra": 1})
    assert posted.json() == {"chunks": await server.chunks(DOG, n=2)}
    assert (await server.client.delete("/v1/memory/n")).json() == {}
    assert await server.chunks(DOG) == []


async def test_the_same_text_is_stored_once(server: Served) -> None:
    """Without a name the bytes are the name."""
    await server.put(CAT)
    await server.put(CAT)

    found = (await server.client.get("/v1/memory/n/documents")).json()
    assert found["counts"]["documents"] == 1
    assert found["documents"][0]["name"].startswith("sha256:")


@pytest.mark.parametrize(
    ("method", "path", "request_", "status", "text"),
    [
        ("GET", "nope", {"params": {"prompt": "x"}}, 404, "memory not found: nope"),
        ("POST", "nope", {"json": {"prompt": "x"}}, 404, "memory not found: nope"),
        ("PUT", "nope", {"content": "x", "headers": TEXT}, 404, "memory not found: nope"),
        ("DELETE", "nope", {}, 404, "memory not found: nope"),
        ("GET", "n", {}, 400, "Failed to deserialize query string: missing field `prompt`"),
        ("GET", "n", {"params": {"prompt": "x", "n": "-1"}}, 400, "n is a whole number from 0 to 1000"),
        ("POST", "n", {"json": {}}, 422, "missing field `prompt`"),
        ("POST", "n", {"json": {"prompt": "x", "n": "2"}}, 422, "n: Expected `int`"),
        ("POST", "n", {"content": "{", "headers": {"content-type": "application/json"}}, 400, "as JSON"),
        ("POST", "n", {"content": "x", "headers": TEXT}, 415, "application/json"),
        ("PUT", "n", {"content": "x"}, 415, "say what the document is"),
        (
            "PUT",
            "n",
            {"content": "x", "headers": {"content-type": "image/png"}},
            415,
            "image/png are not read",
        ),
        ("PUT", "n", {"content": "x", "headers": FORM}, 415, "say what the document is"),
        ("PUT", "n", {"content": "x", "headers": FORM, "params": {"name": "a.pdf"}}, 422, "PDF"),
        ("PUT", "n", {"content": b"GIF89a", "headers": TEXT}, 415, "an image"),
        ("PUT", "n", {"content": b"x", "headers": {"content-type": "application/pdf"}}, 422, "PDF"),
        (
            "PUT",
            "n",
            {"content": b"\xff\xfe\xff x", "headers": {"content-type": "text/plain; charset=utf-8"}},
            422,
            "",
        ),
        ("PUT", "n", {"content": "", "headers": TEXT}, 422, "empty"),
        ("PUT", "n", {"content": "x" * 2001, "headers": TEXT}, 413, "2000 bytes are allowed"),
        (
            "PUT",
            "n",
            {"content": "x", "headers": TEXT, "params": {"wait": "no"}},
            400,
            "wait is true or false",
        ),
        ("PUT", "n", {"content": "x", "headers": TEXT, "params": {"attributes": "[1]"}}, 400, "object"),
        ("PUT", "n", {"content": "x", "headers": TEXT, "params": {"attributes": "{"}}, 400, "attributes: "),
        ("PUT", "n", {"content": "x", "headers": TEXT, "params": {"attributes": HUGE}}, 400, "attributes: "),
        ("GET", "n/documents/nope", {}, 404, "document not found: nope"),
        ("DELETE", "n/documents/nope", {}, 404, "document not found: nope"),
        ("GET", "n/documents", {"params": {"limit": "x"}}, 400, "limit is a whole number"),
        ("GET", "n/jobs/nope", {}, 404, "job not found: nope"),
        ("DELETE", "n/jobs/nope", {}, 404, "job not found: nope"),
        ("POST", "n/recall", {"json": {"query": "x", "where": {"type": "x"}}}, 400, "where.type"),
        ("POST", "n/recall", {"json": {"query": "x", "mode": "magic"}}, 400, "mode"),
        ("POST", "n/recall", {"json": {"query": "x", "min_score": 7}}, 400, "min_score"),
        ("POST", "n/recall", {"json": {"query": "x", "filter": {}}}, 400, "`filter`"),
    ],
)
async def test_what_is_wrong_is_refused(
    lasting: Served, method: str, path: str, request_: dict[str, Any], status: int, text: str
) -> None:
    """With the status of Poly's table and a word on what is wrong; the server is alive afterwards."""
    response = await lasting.client.request(method, f"/v1/memory/{path}", **request_)

    assert (response.status_code, text in response.text) == (status, True), response.text
    assert (await lasting.client.get("/status")).status_code == 200


async def test_a_stranger_learns_nothing(server: Served) -> None:
    """Without a key every route answers 401, whether the memory exists or not."""
    async with client_of(server.client.base_url) as stranger:
        for path in ("n", "nope", "n/documents", "n/jobs", "n/recall"):
            assert (await stranger.get(f"/v1/memory/{path}")).status_code == 401


async def test_without_waiting_there_is_a_job(server: Served) -> None:
    """202 with its id; it is followed to its end."""
    response = await server.put(CAT, "a.txt", wait="false")

    job = response.json()["job"]
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/memory/n/jobs/{job}"
    await server.put(CAT, "a.txt")  # the same document on its way is the same job
    told = (await server.client.get(response.headers["location"])).json()
    assert (told["name"], told["outcome"], told["chunks_total"]) == ("a.txt", "stored", 1)
    assert told in (await server.client.get("/v1/memory/n/jobs")).json()["jobs"]
    assert await server.chunks(CAT) == [CAT]


async def test_documents_are_listed_shown_and_deleted(server: Served) -> None:
    """Page by page; each with its chunks; the ETag is the digest."""
    attributes = '{"year":2024,"share":0.5,"far":9007199254740993}'
    for name, said in (("a", CAT), ("b", DOG), ("c", SHIP)):
        await server.put(said, name, title=name.upper(), attributes=attributes)

    first = (await server.client.get("/v1/memory/n/documents", params={"limit": 2})).json()
    rest = (
        await server.client.get("/v1/memory/n/documents", params={"after": first["after"], "limit": 2})
    ).json()
    assert sorted(one["name"] for one in first["documents"] + rest["documents"]) == ["a", "b", "c"]
    assert (rest["after"], rest["counts"]["chunks"]) == (None, 3)
    path = f"/v1/memory/n/documents/{document_id('a')}"
    shown = await server.client.get(path)
    assert shown.json()["title"] == "A"
    told = str(shown.json()["attributes"])
    assert told == "{'year': 2024, 'share': 0.5, 'far': 9007199254740992.0}", (
        "not more exact than it compares"
    )
    assert shown.headers["etag"] == f'"{shown.json()["digest"]}"'
    assert [chunk["text"] for chunk in (await server.client.get(f"{path}/chunks")).json()["chunks"]] == [CAT]
    assert (await server.client.delete(path)).json() == {}
    assert (await server.client.get(path)).status_code == 404


async def test_recall_tells_sources(server: Served) -> None:
    """Passages with score, document, section and offsets; by filter; neighbours as one."""
    await server.put(
        "# Pets\n\n## Cats\n\nCats sleep.\n\n## Dogs\n\nDogs bark.\n", "pets.md", attributes='{"y": 1}'
    )
    await server.put(SHIP, "ship.txt")

    body = {"query": "dogs bark", "limit": 5, "where": {"type": "eq", "key": "y", "value": 1}}
    found = (await server.client.post("/v1/memory/n/recall", json=body)).json()["passages"]
    apart = {**body, "merge_neighbours": False, "limit": 1, "mode": "text"}
    [dogs] = (await server.client.post("/v1/memory/n/recall", json=apart)).json()["passages"]

    assert len(found) == 1
    assert "Cats sleep." in found[0]["text"]
    assert "Dogs bark." in found[0]["text"]
    assert (dogs["name"], dogs["title"], dogs["section"]) == ("pets.md", "Pets", ["Pets", "Dogs"])
    assert dogs["text"] == "Dogs\n\nDogs bark."
    assert dogs["end"] - dogs["start"] == len(dogs["text"])


async def test_a_form_stores_its_files(server: Served) -> None:
    """All of them; one that fails fails alone, and shows."""
    files = [
        ("file", ("a.txt", CAT.encode(), "text/plain")),
        ("file", ("b.pdf", b"no pdf %PDF-", "text/plain")),
        ("file", ("c.md", b"# Ships\n\nThey sail.", "application/octet-stream")),
    ]

    good = await server.client.put("/v1/memory/n", files=[files[0]], data={"attributes": '{"k": true}'})
    mixed = await server.client.put("/v1/memory/n", files=[files[0], files[2]])
    bad = await server.client.put("/v1/memory/n", files=[("file", ("x.png", b"\x89PNG", "image/png"))])
    empty = await server.client.put(
        "/v1/memory/n", content=b"--x--", headers={"content-type": "multipart/form-data; boundary=x"}
    )

    assert (good.status_code, good.json()) == (200, {})
    assert [(job["name"], job["state"]) for job in mixed.json()["jobs"]] == [
        ("a.txt", "done"),
        ("c.md", "done"),
    ]
    assert (bad.status_code, empty.status_code) == (415, 400)
    assert await server.chunks("ships sail") == ["Ships\n\nThey sail."]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="a b.txt"', "a b.txt"),
        ("attachment; filename=a.txt", "a.txt"),
        ("attachment; filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
    ],
)
async def test_the_content_disposition_names_a_document(server: Served, disposition: str, name: str) -> None:
    """In each of its forms."""
    headers = {**TEXT, "content-disposition": disposition}
    await server.client.put("/v1/memory/n", content=CAT, headers=headers)

    found = (await server.client.get("/v1/memory/n/documents")).json()["documents"]
    assert [one["name"] for one in found] == [name]


async def test_a_full_queue_answers_429(server: Served) -> None:
    """With a word on when to come back; and a model that is away answers 503, while the document is kept."""
    server.embedder.failures = [Unavailable("the model restarts")] * 1000
    waited = await server.client.put("/v1/memory/n", content=CAT, headers=TEXT)
    for name in "ab":
        await server.put(DOG, name, wait="false")

    refused = await server.client.put("/v1/memory/n", content=SHIP, headers={**TEXT, **JSON})

    assert waited.status_code == 503
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert msgspec.json.decode(refused.content)["code"] == "queue_full"
    cancelled = [job["id"] for job in (await server.client.get("/v1/memory/n/jobs")).json()["jobs"]]
    for id in cancelled:
        assert (await server.client.delete(f"/v1/memory/n/jobs/{id}")).json()["state"] == "cancelled"
    server.embedder.failures = []
    await server.put(SHIP)
