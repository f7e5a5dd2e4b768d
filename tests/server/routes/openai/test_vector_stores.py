"""/v1/vector_stores with the official client and its helpers that poll."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from tests.guard.remote import guarded

from arriero.errors import Unavailable
from arriero.guard.reranker import RemoteReranker
from arriero.memory.job import Source
from arriero.testing.upstream import rerank, whole
from arriero.testing.word_embedder import WordEmbedder

CAT, DOG, SHIP = b"The cat sat on the mat.", b"A dog barks at night.", b"Ships sail on the sea."
STATIC = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}}
POLL: dict[str, int] = {"poll_interval_ms": 10}


async def stored(sdk: Any, store: str, name: str, data: bytes, **how: Any) -> Any:
    """Upload a file and attach it, until it is there."""
    file = await sdk.files.create(file=(name, data), purpose="assistants")
    return await sdk.vector_stores.files.create_and_poll(
        vector_store_id=store, file_id=file.id, **POLL, **how
    )


async def texts(sdk: Any, store: str, query: Any, **how: Any) -> list[str]:
    """Return the texts that a search finds."""
    found = await sdk.vector_stores.search(store, query=query, **how)
    return [result.content[0].text for result in found.data]


async def test_a_store_is_made_filled_searched_and_deleted(open_shelf: Any) -> None:
    """The whole life of a vector store, as OpenAI's documents tell it."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        made = await sdk.vector_stores.create(
            name="animals", metadata={"a": "b"}, expires_after={"anchor": "last_active_at", "days": 7}
        )
        attached = await stored(sdk, made.id, "cat.md", CAT, attributes={"legs": 4, "tame": True})
        await sdk.vector_stores.files.upload_and_poll(vector_store_id=made.id, file=("dog.txt", DOG), **POLL)
        shown = await sdk.vector_stores.retrieve(made.id)
        found = await sdk.vector_stores.search(made.id, query="where did the cat sit", max_num_results=1)
        content = await sdk.vector_stores.files.content(attached.id, vector_store_id=made.id)
        changed = await sdk.vector_stores.update(made.id, name="pets", metadata=None, expires_after=None)
        deleted = await sdk.vector_stores.delete(made.id)
        with pytest.raises(openai.NotFoundError) as gone:
            await sdk.vector_stores.retrieve(made.id)
        kept = [file.filename async for file in sdk.files.list(order="asc")]

    assert (made.name, made.metadata, made.status, made.file_counts.total) == (
        "animals",
        {"a": "b"},
        "completed",
        0,
    )
    assert made.expires_at == made.last_active_at + 7 * 86400  # type: ignore[operator]
    assert (attached.status, attached.last_error, attached.usage_bytes) == ("completed", None, len(CAT))
    assert attached.attributes == {"legs": 4, "tame": True}
    assert (shown.file_counts.completed, shown.file_counts.total) == (2, 2)
    assert shown.usage_bytes > 0
    (result,) = found.data
    assert (result.file_id, result.filename) == (attached.id, "cat.md")
    assert (result.content[0].text, result.attributes) == (CAT.decode(), attached.attributes)
    assert 0 < result.score <= 1
    assert [part.text for part in content.data] == [CAT.decode()]
    assert (changed.name, changed.metadata, changed.expires_after) == ("pets", {}, None)
    assert deleted.deleted
    assert gone.value.body["param"] == "vector_store_id"  # type: ignore[index]
    assert list((shelf.path / "vector_stores" / "stores").iterdir()) == []
    assert kept == ["cat.md", "dog.txt"]


async def test_files_go_in_as_a_batch(open_shelf: Any) -> None:
    """The client's helper uploads and waits; a file that cannot be read fails alone, and says why."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        store = (await sdk.vector_stores.create()).id
        batch = await sdk.vector_stores.file_batches.upload_and_poll(
            store,
            files=[
                ("a.txt", CAT),
                ("b.txt", DOG),
                ("c.png", b"\x89PNG\r\n"),
                ("d.pdf", b"no pdf"),
                ("e.txt", b""),
            ],
            **POLL,
        )
        files = {
            file.id: file
            async for file in sdk.vector_stores.file_batches.list_files(
                batch.id, vector_store_id=store, limit=2
            )
        }
        failed = await sdk.vector_stores.files.list(store, filter="failed")
        names = {file.id: file.filename async for file in sdk.files.list()}
        found = await texts(sdk, store, "dog")

    assert batch.status == "completed"
    assert batch.file_counts.to_dict() == {
        "in_progress": 0, "completed": 2, "failed": 3, "cancelled": 0, "total": 5,
    }  # fmt: skip
    assert sorted(names[id] for id in files) == ["a.txt", "b.txt", "c.png", "d.pdf", "e.txt"]
    assert {names[file.id]: file.last_error.code for file in failed.data} == {
        "c.png": "unsupported_file", "d.pdf": "invalid_file", "e.txt": "invalid_file",
    }  # fmt: skip
    assert found[0] == DOG.decode()


async def test_files_of_a_batch_may_differ(open_shelf: Any) -> None:
    """`files` gives each its own attributes and way of cutting; `file_ids` gives all the same."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        ids = [(await sdk.files.create(file=(f"{n}.txt", DOG), purpose="assistants")).id for n in range(3)]
        store = (await sdk.vector_stores.create(file_ids=ids[:1], chunking_strategy=STATIC)).id
        batch = await sdk.vector_stores.file_batches.create_and_poll(
            store,
            files=[
                {"file_id": ids[1], "attributes": {"n": 1}},
                {"file_id": ids[2], "chunking_strategy": STATIC},
            ],
            **POLL,
        )
        await sdk.vector_stores.files.poll(ids[0], vector_store_id=store, **POLL)
        shown = [await sdk.vector_stores.files.retrieve(id, vector_store_id=store) for id in ids]

    assert batch.file_counts.completed == 2
    assert [one.attributes for one in shown] == [{}, {"n": 1}, {}]
    assert [one.chunking_strategy.to_dict() for one in shown] == [
        STATIC,
        {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 0}},
        STATIC,
    ]


async def test_a_static_strategy_decides_the_chunks(open_shelf: Any) -> None:
    """A chunk has at most so many tokens, and repeats so many of the one before it."""
    text = " ".join(f"w{n}" for n in range(190))
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        store = (await sdk.vector_stores.create()).id
        counts = []
        for strategy in ({"type": "auto"}, STATIC):
            file = await stored(sdk, store, "a.txt", text.encode(), chunking_strategy=strategy)
            content = await sdk.vector_stores.files.content(file.id, vector_store_id=store)
            counts.append([len(part.text.split()) for part in content.data])

    assert counts == [[190], [90, 100, 20]]


async def test_searches_filter_and_bound(open_shelf: Any) -> None:
    """Attributes choose files; a threshold cuts by score; several queries are one list, each chunk once."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        store = (await sdk.vector_stores.create()).id
        await stored(sdk, store, "cat.txt", CAT, attributes={"year": 2023, "kind": "pet"})
        await stored(sdk, store, "dog.txt", DOG, attributes={"year": 2024, "kind": "pet"})
        await stored(sdk, store, "ship.txt", SHIP, attributes={"year": 2024, "kind": "thing"})
        newer = {"type": "gte", "key": "year", "value": 2024}
        pets = {"type": "eq", "key": "kind", "value": "pet"}
        both = {"type": "and", "filters": [newer, pets]}
        filtered = [
            sorted(await texts(sdk, store, "cat dog ship", filters=one)) for one in (newer, pets, both)
        ]
        exact = await sdk.vector_stores.search(
            store,
            query=CAT.decode(),
            ranking_options={"ranker": "none", "score_threshold": 0.9},
            rewrite_query=True,
        )
        several = await sdk.vector_stores.search(store, query=["cat mat", "dog night"], max_num_results=2)

    cat, dog, ship = CAT.decode(), DOG.decode(), SHIP.decode()
    assert filtered == [[dog, ship], [dog, cat], [dog]]
    assert [(one.filename, round(one.score, 4)) for one in exact.data] == [("cat.txt", 1.0)]
    assert {one.filename for one in several.data} == {"cat.txt", "dog.txt"}


JUDGED = """
rerank = { model = "judge", timeout_s = 5 }
[models.judge]
upstream = { urls = ["http://127.0.0.1:1"], model = "x" }
[vector_stores]
rerank = { model = "judge" }
"""


@pytest.mark.parametrize("store", ["n", None])
async def test_a_reranker_orders_and_scores_results(open_shelf: Any, store: str | None) -> None:
    """In configured and in made stores, but for the ranker `none`; the threshold is on the score told."""
    async with (
        guarded(rerank) as (guard, [upstream]),
        open_shelf(JUDGED, rerankers={"judge": RemoteReranker(guard)}) as shelf,
    ):
        sdk = await shelf.client()
        id = store or (await sdk.vector_stores.create()).id
        for name, said in (("a.txt", b"cat cat cat"), ("b.txt", b"an old grey cat"), ("c.txt", b"old dog")):
            await stored(sdk, id, name, said)

        async def told(**options: Any) -> list[tuple[str, float]]:
            found = await sdk.vector_stores.search(id, query="old grey cat", ranking_options=options)
            return [(one.filename, round(one.score, 2)) for one in found.data]

        every = await told()
        some = await told(ranker="auto", score_threshold=0.5)
        asked = len(upstream.requests)
        plain = await told(ranker="none")
        assert len(upstream.requests) == asked == 2
        upstream.scripts[:] = [whole({}, 500)]
        own = await told(score_threshold=0.9)

    assert (every[0], sorted(every[1:])) == (("b.txt", 1.0), [("a.txt", 0.33), ("c.txt", 0.33)])
    assert some == [("b.txt", 1.0)]
    assert plain[0][1] < 1
    assert own == [("b.txt", 1.0)]


async def test_a_page_of_results_has_its_form(open_shelf: Any) -> None:
    """Members that the client does not show are there, too."""
    async with open_shelf() as shelf:
        client = await shelf.plain()
        body = {"query": "x"}
        page = (await client.post("/v1/vector_stores/n/search", json=body)).json()

    assert page == {
        "object": "vector_store.search_results.page",
        "search_query": ["x"],
        "data": [],
        "has_more": False,
        "next_page": None,
    }


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"name": 3}, "name"),
        ("", {"color": "red"}, "color"),
        ("", {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ("", {"metadata": {"a": "x" * 513}}, "metadata.a"),
        ("", {"expires_after": {"anchor": "now", "days": 1}}, "expires_after.anchor"),
        ("", {"expires_after": {"anchor": "last_active_at", "days": 0}}, "expires_after.days"),
        ("/n", {"name": "other"}, "vector_store_id"),
        ("/n/files", {}, "file_id"),
        ("/n/files", {"file_id": "FILE", "attributes": {"a": None}}, "attributes[...]"),
        ("/n/files", {"file_id": "FILE", "attributes": {"x" * 65: 1}}, "attributes"),
        (
            "/n/files",
            {"file_id": "FILE", "chunking_strategy": {"type": "static", "static": {
                "max_chunk_size_tokens": 99, "chunk_overlap_tokens": 0}}},
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        (
            "/n/files",
            {"file_id": "FILE", "chunking_strategy": {"type": "static", "static": {
                "max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51}}},
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        ("/n/files", {"file_id": "FILE", "chunking_strategy": {"type": "best"}}, "chunking_strategy.type"),
        ("/n/file_batches", {}, "file_ids"),
        ("/n/file_batches", {"file_ids": []}, "file_ids"),
        ("/n/file_batches", {"file_ids": ["FILE"], "files": []}, "file_ids"),
        ("/n/search", {}, "query"),
        ("/n/search", {"query": []}, "query"),
        ("/n/search", {"query": "x", "max_num_results": 51}, "max_num_results"),
        ("/n/search", {"query": "x", "filters": {"type": "like"}}, "filters"),
        (
            "/n/search",
            {"query": "x", "ranking_options": {"score_threshold": 2}},
            "ranking_options.score_threshold",
        ),
        ("/n/search", {"query": "x", "ranking_options": {"ranker": "best"}}, "ranking_options.ranker"),
    ],
)  # fmt: skip
async def test_a_wrong_request_is_refused_by_name(open_shelf: Any, path: str, body: Any, param: str) -> None:
    """The error is OpenAI's and names the member; nothing is attached."""
    async with open_shelf() as shelf:
        client = await shelf.plain()
        form = {"files": {"file": ("a.txt", CAT)}, "data": {"purpose": "assistants"}}
        file = (await client.post("/v1/files", **form)).json()["id"]  # type: ignore[arg-type]
        if body.get("file_id") == "FILE":
            body = {**body, "file_id": file}
        response = await client.post(f"/v1/vector_stores{path}", json=body)
        files = (await client.get("/v1/vector_stores/n/files")).json()["data"]

    assert (response.status_code, response.json()["error"]["param"], files) == (400, param, [])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/vs_x"),
        ("POST", "/vs_x/search"),
        ("GET", "/n/files/file-x"),
        ("DELETE", "/n/files/file-x"),
        ("GET", "/n/files/file-x/content"),
        ("GET", "/n/file_batches/vsfb_x"),
        ("POST", "/n/file_batches/vsfb_x/cancel"),
        ("GET", "/n/file_batches/vsfb_x/files"),
    ],
)
async def test_what_is_not_there_is_not_found(open_shelf: Any, method: str, path: str) -> None:
    """Ids that nothing has are told, in OpenAI's form."""
    async with open_shelf() as shelf:
        client = await shelf.plain()
        json = {"query": "x"} if path.endswith("search") else None
        response = await client.request(method, f"/v1/vector_stores{path}", json=json)

    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_a_configured_memory_is_a_vector_store(open_shelf: Any) -> None:
    """Its documents are files, however they came; files attached to it are found by all its readers."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        await shelf.stage.memories["n"].ingest(Source(name="ship.txt", data=SHIP))
        attached = await stored(sdk, "n", "cat.txt", CAT)
        listed = [store.id async for store in sdk.vector_stores.list()]
        shown = await sdk.vector_stores.retrieve("n")
        files = [file async for file in sdk.vector_stores.files.list("n", limit=1)]
        (ship,) = (file for file in files if file.id != attached.id)
        content = await sdk.vector_stores.files.content(ship.id, vector_store_id="n")
        found = await (await shelf.client("other")).vector_stores.search("n", query="sea")
        with pytest.raises(openai.BadRequestError, match="no uploaded file"):
            await sdk.vector_stores.files.update(ship.id, vector_store_id="n", attributes={})
        with pytest.raises(openai.BadRequestError, match="configuration"):
            await sdk.vector_stores.delete("n")
        for file in files:
            await sdk.vector_stores.files.delete(file.id, vector_store_id="n")
        empty = await sdk.vector_stores.retrieve("n")

    assert listed == ["n"]
    assert (shown.file_counts.completed, shown.name) == (2, "n")
    assert [file.id for file in files] == [attached.id, ship.id]
    assert [part.text for part in content.data] == [SHIP.decode()]
    assert (found.data[0].file_id, found.data[0].filename) == (ship.id, "ship.txt")
    assert empty.file_counts.total == 0


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_files_and_documents_are_one_list(open_shelf: Any, order: Any) -> None:
    """In parts of any size, forward from any item and backward from any."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        for name in ("x", "y", "z"):
            await shelf.stage.memories["n"].ingest(Source(name=f"{name}.txt", data=SHIP))
            await stored(sdk, "n", f"{name}.txt", DOG)

        async def part(**bounds: Any) -> tuple[list[str], bool]:
            page = await sdk.vector_stores.files.list("n", order=order, **bounds)
            return [file.id for file in page.data], page.has_more

        every, _ = await part()
        assert [id.startswith("file-") for id in every] == [True] * 3 + [False] * 3
        assert await part(limit=6) == (every, False)
        for limit in (1, 4):
            assert await part(limit=limit) == (every[:limit], True)
            for place, id in enumerate(every[1:], 1):
                behind, ahead = every[place + 1 :], every[:place]
                assert await part(limit=limit, after=id) == (behind[:limit], len(behind) > limit)
                assert await part(limit=limit, before=id) == (ahead[-limit:], place > limit)
                between = every[1:place]
                expected = (between[:limit], len(between) > limit)
                assert await part(limit=limit, after=every[0], before=id) == expected


async def test_what_a_memory_loses_is_no_file_of_it_any_more(open_shelf: Any) -> None:
    """Clearing a configured memory by its own route is seen here; the files themselves stay."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        cat, dog = await stored(sdk, "n", "cat.txt", CAT), await stored(sdk, "n", "dog.txt", DOG)
        response = await (await shelf.plain()).delete("/v1/memory/n")
        with pytest.raises(openai.NotFoundError):
            await sdk.vector_stores.files.retrieve(cat.id, vector_store_id="n")
        files = [file.id async for file in sdk.vector_stores.files.list("n")]
        counts = (await sdk.vector_stores.retrieve("n")).file_counts
        kept = [file.id async for file in sdk.files.list(order="asc")]

    assert response.status_code == 200
    assert (files, counts.total, kept) == ([], 0, [cat.id, dog.id])


async def test_stores_are_listed_in_parts(open_shelf: Any) -> None:
    """The list goes by age, forwards and backwards, with the configured memory among them."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        made = [(await sdk.vector_stores.create(name=str(n))).id for n in range(4)]
        oldest = [store.id async for store in sdk.vector_stores.list(order="asc", limit=2)]
        newest = [store.id async for store in sdk.vector_stores.list(limit=2)]
        before = await sdk.vector_stores.list(order="asc", before=made[3], limit=2)

    assert oldest == newest[::-1]
    assert [id for id in oldest if id != "n"] == made
    assert [store.id for store in before.data if store.id != "n"] == made[1:3]


async def test_attributes_of_a_file_can_be_changed(open_shelf: Any) -> None:
    """Searches go by the new ones as soon as the change is answered."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        store = (await sdk.vector_stores.create()).id
        file = await stored(sdk, store, "cat.txt", CAT, attributes={"year": 2023})
        changed = await sdk.vector_stores.files.update(
            file.id, vector_store_id=store, attributes={"year": 2024}
        )
        by_year = [
            await texts(sdk, store, "cat", filters={"type": "eq", "key": "year", "value": year})
            for year in (2023, 2024)
        ]

    assert (changed.status, changed.attributes) == ("completed", {"year": 2024})
    assert by_year == [[], [CAT.decode()]]


async def test_a_deleted_file_is_in_no_store_any_more(open_shelf: Any) -> None:
    """Deleting a file takes it out of every store; taking it out of one leaves the file."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        stores = [(await sdk.vector_stores.create()).id for _ in range(2)]
        file = await sdk.files.create(file=("cat.txt", CAT), purpose="assistants")
        for store in (*stores, "n"):
            await sdk.vector_stores.files.create_and_poll(vector_store_id=store, file_id=file.id, **POLL)
        await sdk.vector_stores.files.delete(file.id, vector_store_id=stores[0])
        first = [await texts(sdk, store, "cat") for store in (*stores, "n")]
        await sdk.files.delete(file.id)
        second = [await texts(sdk, store, "cat") for store in (*stores, "n")]
        counts = [(await sdk.vector_stores.retrieve(store)).file_counts.total for store in (*stores, "n")]

    assert first == [[], [CAT.decode()], [CAT.decode()]]
    assert second == [[], [], []]
    assert counts == [0, 0, 0]


async def test_stores_are_their_tenants(open_shelf: Any) -> None:
    """Another key can do nothing with a store, nor attach a file that is not its own; an admin can."""
    async with open_shelf() as shelf:
        sdk, other = await shelf.client(), await shelf.client("other")
        admin = await shelf.granted(admin=True)
        store = (await sdk.vector_stores.create()).id
        theirs = (await other.vector_stores.create()).id
        file = await stored(sdk, store, "cat.txt", CAT)
        asked = [
            lambda: other.vector_stores.retrieve(store),
            lambda: other.vector_stores.update(store, name="mine"),
            lambda: other.vector_stores.delete(store),
            lambda: other.vector_stores.search(store, query="cat"),
            lambda: other.vector_stores.files.list(store),
            lambda: other.vector_stores.files.retrieve(file.id, vector_store_id=store),
            lambda: other.vector_stores.files.content(file.id, vector_store_id=store),
            lambda: other.vector_stores.files.delete(file.id, vector_store_id=store),
            lambda: other.vector_stores.files.create(theirs, file_id=file.id),
            lambda: other.vector_stores.file_batches.create(theirs, file_ids=[file.id]),
        ]
        for ask in asked:
            with pytest.raises(openai.NotFoundError):
                await ask()
        seen = [[one.id async for one in client.vector_stores.list()] for client in (sdk, other, admin)]
        found = await texts(admin, store, "cat")

    assert [set(ids) for ids in seen] == [{"n", store}, {"n", theirs}, {"n", store, theirs}]
    assert found == [CAT.decode()]


@pytest.mark.parametrize(
    ("grants", "can_list", "can_read", "can_write", "can_make"),
    [
        ({"memories": ()}, [], 403, 403, 403),
        ({"memories": ("n",)}, ["n"], 200, 200, 403),
        ({"memories": ("n",), "writable_memories": ()}, ["n"], 200, 403, 403),
        ({"memories": ("vector_stores",)}, [], 404, 404, 200),
    ],
)
async def test_grants_decide(
    open_shelf: Any, grants: Any, can_list: list[str], can_read: int, can_write: int, can_make: int
) -> None:
    """A key uses the memories that it is granted; `vector_stores` among them lets it make its own."""

    async def status(asked: Any) -> int:
        try:
            await asked
        except openai.APIStatusError as exc:
            return exc.status_code
        return 200

    async with open_shelf() as shelf:
        await shelf.stage.memories["n"].ingest(Source(name="cat.txt", data=CAT))
        sdk = await shelf.granted(**grants)
        listed = [store.id async for store in sdk.vector_stores.list()]
        (document,) = await shelf.stage.memories["n"].store.documents()
        read = await status(sdk.vector_stores.search("n", query="cat"))
        written = await status(sdk.vector_stores.files.delete(document.id, vector_store_id="n"))
        made = await status(sdk.vector_stores.create())

    assert (listed, read, written, made) == (can_list, can_read, can_write, can_make)


async def test_a_restart_keeps_stores_and_goes_on(open_shelf: Any) -> None:
    """What was stored is found after a restart; what was on its way gets there."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        store = (await sdk.vector_stores.create(name="animals")).id
        cat = await stored(sdk, store, "cat.txt", CAT)
        dog = await sdk.files.create(file=("dog.txt", DOG), purpose="assistants")
        shelf.embedder.failures += [Unavailable("the model is away") for _ in range(50)]
        waiting = await sdk.vector_stores.files.create(store, file_id=dog.id)
        counts = (await sdk.vector_stores.retrieve(store)).file_counts
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        settled = await sdk.vector_stores.files.poll(dog.id, vector_store_id=store, **POLL)
        shown = await sdk.vector_stores.retrieve(store)
        found = await texts(sdk, store, ["cat", "dog"])

    assert (waiting.status, counts.in_progress, counts.completed) == ("in_progress", 1, 1)
    assert (settled.status, shown.name, shown.file_counts.completed) == ("completed", "animals", 2)
    assert sorted(found) == [DOG.decode(), CAT.decode()]
    assert cat.id != dog.id


async def test_a_batch_can_be_cancelled(open_shelf: Any) -> None:
    """What is not in the memory yet is cancelled and counted so; it can be attached again."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        store = (await sdk.vector_stores.create()).id
        ids = [(await sdk.files.create(file=(f"{n}.txt", DOG), purpose="assistants")).id for n in range(6)]
        shelf.embedder.failures += [Unavailable("the model is away") for _ in range(50)]
        batch = await sdk.vector_stores.file_batches.create(store, file_ids=ids)
        ended = await sdk.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
        listed = await sdk.vector_stores.files.list(store, filter="cancelled")
        shelf.embedder.failures.clear()
        again = await sdk.vector_stores.files.create_and_poll(vector_store_id=store, file_id=ids[0], **POLL)

    assert (batch.status, ended.status, ended.file_counts.cancelled) == ("in_progress", "cancelled", 6)
    assert {file.id for file in listed.data} == set(ids)
    assert again.status == "completed"


async def test_without_an_embedding_model_nothing_is_made(open_shelf: Any) -> None:
    """The answer names the key that says which model makes vectors."""
    for embedders in ({}, {"a": WordEmbedder(), "b": WordEmbedder()}):
        async with open_shelf(embedders=embedders) as shelf:
            with pytest.raises(openai.APIStatusError, match=r"vector_stores\.embedding_model") as refused:
                await (await shelf.client()).vector_stores.create()
        assert refused.value.status_code == 501


async def test_stores_are_bounded(open_shelf: Any) -> None:
    """One caller makes so many; another has room of its own."""
    async with open_shelf("[vector_stores]\nmax_stores = 1") as shelf:
        sdk, other = await shelf.client(), await shelf.client("other")
        await sdk.vector_stores.create()
        with pytest.raises(openai.BadRequestError, match="max_stores"):
            await sdk.vector_stores.create()
        assert (await other.vector_stores.create()).id
