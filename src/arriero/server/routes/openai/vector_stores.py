"""/v1/vector_stores: memories in OpenAI's forms, the configured ones and those that callers make.

A configured memory is used by whom its grants allow; one that a caller made by that caller, and by admins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from arriero.access.principal import may
from arriero.errors import InvalidRequest
from arriero.memory.filter_json import read_filter
from arriero.memory.library.library import NewAttachment
from arriero.memory.library.records import FileCounts
from arriero.memory.passage import Query, standing
from arriero.server.body import decoded, read_json, read_json_bytes
from arriero.server.context import context_of, principal_of
from arriero.server.routes.openai.files import RESOURCE, access
from arriero.server.routes.openai.paging import asked_page, cut, list_response
from arriero.server.routes.openai.vector_store_forms import (
    NewFile,
    NewStore,
    RankingOptions,
    Search,
    StoreChange,
    attributes_of,
    cutting_of,
    file_of,
    memory_object,
    metadata_of,
    result_object,
    score_of,
    store_object,
)
from arriero.server.routes.ops import json_response
from arriero.server.streaming import answered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from arriero.memory.library.library import Library
    from arriero.memory.library.records import VectorStore
    from arriero.memory.memory import Memory
    from arriero.memory.passage import Passage


class StoreAccess(NamedTuple):
    """A store that the caller may use. made: None = a configured memory."""

    library: Library
    id: str
    made: VectorStore | None


async def store_access(request: Request, action: str) -> StoreAccess:
    """Return the store of the path, to "read" or to "write".

    Raises UnknownName, Forbidden, NotSupported, Unavailable.
    """
    id = request.path_params["store"]
    context, principal = context_of(request), principal_of(request)
    if id in context.runtime.memories and may(principal, "read", f"memory/{id}"):
        context.memory(principal, id, action)
        return StoreAccess(await context.runtime.door.library(), id, None)
    library, tenant = await access(request, action)
    return StoreAccess(library, id, await library.store(id, tenant))


async def new_attachments(request: Request, files: Sequence[NewFile]) -> list[NewAttachment]:
    """Return files to be attached, one for each id. Raises UnknownName, InvalidRequest."""
    library, tenant = await access(request, "read")
    return [
        NewAttachment(
            await library.files.get(one.file_id, tenant),
            attributes_of(one.attributes),
            cutting_of(one.chunking_strategy),
        )
        for one in {one.file_id: one for one in files}.values()
    ]


async def create(request: Request) -> Response:
    """Make a vector store, and attach files to it."""
    library, _ = await access(request, "write")
    asked = decoded(await read_json_bytes(request) or b"{}", NewStore)
    files = [NewFile(id, None, asked.chunking_strategy) for id in asked.file_ids]
    attachments = await new_attachments(request, files)
    made = await library.make_store(
        principal_of(request).tenant,
        name=asked.name or "",
        description=asked.description,
        metadata=metadata_of(asked.metadata),
        days=None if asked.expires_after is None else asked.expires_after.days,
    )
    if attachments:
        await library.attach(made.id, attachments)
    return json_response(await _described(request, StoreAccess(library, made.id, made)))


async def listing(request: Request) -> Response:
    """List the configured memories and the vector stores that the caller may see, by their age."""
    context, principal = context_of(request), principal_of(request)
    page = asked_page(request)
    library = await context.runtime.door.library()
    made: dict[str, VectorStore] = {}
    if may(principal, "read", RESOURCE):
        library, tenant = await access(request, "read")
        made = {store.id: store for store in await library.stores(tenant)}
    ages = {id: store.created_at for id, store in made.items()}
    ages |= {name: float(context.started_at) for name in context.memory_names(principal)}
    ordered = sorted(ages, key=lambda id: (ages[id], id), reverse=page.is_descending)
    part, has_more = cut([{"id": id} for id in ordered], page)
    ids = [str(one["id"]) for one in part]
    items = [await _described(request, StoreAccess(library, id, made.get(id))) for id in ids]
    return list_response(items, has_more=has_more)


async def one(request: Request) -> Response:
    """Describe a vector store."""
    return json_response(await _described(request, await store_access(request, "read")))


async def update(request: Request) -> Response:
    """Change name, metadata and expiry of a vector store that a caller made."""
    library, id, made = await store_access(request, "write")
    asked = await read_json(request, StoreChange)
    if made is None:
        raise _is_configured(id, "is not changed")
    changes: dict[str, object] = {}
    if asked.name is not msgspec.UNSET:
        changes["name"] = asked.name or ""
    if asked.metadata is not msgspec.UNSET:
        changes["metadata"] = metadata_of(asked.metadata)
    if asked.expires_after is not msgspec.UNSET:
        changes["days"] = None if asked.expires_after is None else asked.expires_after.days
        if library.is_expired(made):
            raise InvalidRequest(f"the vector store {id} has expired", param="expires_after")
    changed = await library.change_store(id, changes)
    return json_response(await _described(request, StoreAccess(library, id, changed)))


async def delete(request: Request) -> Response:
    """Remove a vector store that a caller made; its files stay."""
    library, id, made = await store_access(request, "write")
    if made is None:
        raise _is_configured(id, "is not deleted")
    await library.remove_store(id)
    return json_response({"id": id, "object": "vector_store.deleted", "deleted": True})


async def search(request: Request) -> Response:
    """Answer the chunks that answer a query best."""
    library, id, _ = await store_access(request, "read")
    asked = await read_json(request, Search)
    return await answered(request, _searched(request, library, id, asked))


async def _searched(request: Request, library: Library, id: str, asked: Search) -> Response:
    async with context_of(request).lane(principal_of(request)).place(), library.memory(id) as memory:
        passages = await _found(memory, asked)
    results = [
        result_object(passage, file_id=file_id, file_name=name)
        for passage in passages
        for file_id, name in [file_of(passage.name, passage.document_id)]
    ]
    return json_response(
        {
            "object": "vector_store.search_results.page",
            "search_query": list(asked.queries),
            "data": results,
            "has_more": False,
            "next_page": None,
        }
    )


async def _found(memory: Memory, asked: Search) -> list[Passage]:
    """Return the best of what each query finds, each chunk once, with its best score."""
    options = asked.ranking_options or RankingOptions()
    where = None if asked.filters is None else read_filter(asked.filters, "filters")
    by_vector = options.ranker == "none"
    threshold = options.score_threshold or None
    reranks = memory.config.rerank is not None and not by_vector
    best: dict[tuple[str, int], Passage] = {}
    for text in asked.queries:
        query = Query(
            text,
            asked.max_num_results,
            mode="vector" if by_vector else None,
            where=where,
            min_score=None if reranks else threshold,
            rerank=reranks,
            min_rerank_score=threshold,
        )
        for passage in await memory.recall(query):
            place = (passage.document_id, passage.first)
            if place not in best or standing(passage) > standing(best[place]):
                best[place] = passage
    ordered = sorted(best.values(), key=standing, reverse=True)[: asked.max_num_results]
    return [passage for passage in ordered if score_of(passage) >= options.score_threshold]


async def _described(request: Request, store: StoreAccess) -> dict[str, object]:
    library, id, made = store
    counts = await library.counts(id)
    if made is not None:
        return store_object(
            made,
            counts,
            used_bytes=await library.lending.used_bytes(id),
            is_expired=library.is_expired(made),
        )
    held = await library.memories[id].store.counts()
    started_at = context_of(request).started_at
    return memory_object(
        id,
        # Documents come by other ways, too; what is held counts.
        FileCounts(counts.in_progress, held.documents, counts.failed, counts.cancelled),
        used_bytes=held.bytes,
        created_at=started_at,
        last_active_at=started_at,
    )


def _is_configured(id: str, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"{id} is a memory of the configuration, which {what} by requests", param="vector_store_id"
    )
