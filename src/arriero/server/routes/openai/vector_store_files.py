"""/v1/vector_stores/ID/files and /file_batches: which files are in a memory, or on their way into it.

A configured memory also lists the documents that came by other ways: behind the files, by their ids.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from starlette.routing import Route

from arriero.errors import InvalidRequest, UnknownName
from arriero.memory.library.records import Page, Status, unknown
from arriero.server.body import read_json
from arriero.server.long_json import long_response
from arriero.server.routes.openai import files, vector_stores
from arriero.server.routes.openai.paging import asked_page, list_response
from arriero.server.routes.openai.vector_store_forms import (
    FileChange,
    NewBatch,
    NewFile,
    attachment_object,
    attributes_of,
    batch_object,
    document_object,
    file_of,
    own_chunking,
)
from arriero.server.routes.openai.vector_stores import new_attachments, store_access
from arriero.server.routes.ops import json_response
from arriero.server.streaming import answered

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from arriero.memory.library.library import Library
    from arriero.memory.library.records import Attachment, Batch
    from arriero.memory.memory import Memory
    from arriero.memory.records import Document

DOCUMENTS_AT_ONCE = 100


async def attach(request: Request) -> Response:
    """Attach a file; it is ingested from now on."""
    library, id, _ = await store_access(request, "write")
    new = await new_attachments(request, [await read_json(request, NewFile)])
    async with library.memory(id):  # what cannot be opened or has expired is told at once
        (one,) = await library.attach(id, new)
    return json_response(_object(library, one))


async def listing(request: Request) -> Response:
    """List the files of a store, the newest first."""
    library, id, _ = await store_access(request, "read")
    page, status = asked_page(request), _asked_status(request)
    if id in library.memories and status in (None, Status.COMPLETED):
        items, has_more = await _files_and_documents(library, id, page, status)
    else:
        attachments, has_more = await library.attachments(id, page, status=status)
        items = [_object(library, one) for one in attachments]
    return list_response(items, has_more=has_more)


async def _files_and_documents(
    library: Library, id: str, page: Page, status: Status | None
) -> tuple[list[dict[str, object]], bool]:
    """Return a part of what a configured memory holds, and whether there is more."""
    after, before = _document_id(page.after), _document_id(page.before)
    if before is not None and page.after is None:
        return await _before_document(library, id, page, status)
    attachments: list[Attachment] = []
    has_more = False
    if after is None:
        among_files = page if before is None else msgspec.structs.replace(page, before=None)
        attachments, has_more = await library.attachments(id, among_files, status=status)
    items = [_object(library, one) for one in attachments]
    if has_more or before != page.before:  # before a file there are no documents
        return items, has_more
    room = page.limit - len(items)
    async with aclosing(_documents(library.memories[id], after, before)) as documents:
        async for document in documents:
            if not room:
                return items, True
            items.append(_document_object(library, id, document))
            room -= 1
    return items, False


async def _before_document(
    library: Library, id: str, page: Page, status: Status | None
) -> tuple[list[dict[str, object]], bool]:
    """Return what stands right before a document; documents can only be read from the first on."""
    last: deque[Document] = deque(maxlen=page.limit + 1)
    async with aclosing(_documents(library.memories[id], None, page.before)) as documents:
        async for document in documents:
            last.append(document)
    items = [_document_object(library, id, document) for document in last]
    room = page.limit - len(items)
    if room < 0:
        return items[1:], True
    backward = Page(limit=room + 1, is_descending=not page.is_descending)
    attachments, _ = await library.attachments(id, backward, status=status)
    files = [_object(library, one) for one in attachments[:room]]
    return files[::-1] + items, len(attachments) > room


async def one(request: Request) -> Response:
    """Describe a file of a store."""
    library, id, _ = await store_access(request, "read")
    found = await _attachment(library, id, request)
    if found is not None:
        return json_response(_object(library, found))
    document = await _document(library.memories[id], request)
    return json_response(_document_object(library, id, document))


async def update(request: Request) -> Response:
    """Give a file other attributes; answers once searches go by them."""
    library, id, _ = await store_access(request, "write")
    asked = await read_json(request, FileChange)
    attributes = attributes_of(asked.attributes)
    found = await _attachment(library, id, request)
    if found is None:
        await _document(library.memories[id], request)
        message = "this document is no uploaded file; send it again with its new attributes"
        raise InvalidRequest(message, param="file_id")

    async def relabelled() -> Response:
        return json_response(_object(library, await library.relabel(found, attributes)))

    return await answered(request, relabelled())


async def delete(request: Request) -> Response:
    """Take a file out of a store; the file itself stays."""
    library, id, _ = await store_access(request, "write")
    found = await _attachment(library, id, request)
    file_id = request.path_params["file"]
    if found is not None:
        await library.attaching.detach(found)
    elif not await library.memories[id].delete(file_id):
        raise unknown("vector store file", file_id)
    return json_response({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})


async def content(request: Request) -> Response:
    """Answer the text of a file as it was cut."""
    library, id, _ = await store_access(request, "read")
    found = await _attachment(library, id, request)
    async with library.memory(id) as memory:
        document = found.document_id if found is not None else (await _document(memory, request)).id
        chunks = await memory.store.chunks(document)
    return await long_response(
        {
            "object": "vector_store.file_content.page",
            "data": ({"type": "text", "text": chunk.text} for chunk in chunks),
            "has_more": False,
            "next_page": None,
        }
    )


async def create_batch(request: Request) -> Response:
    """Attach several files."""
    library, id, _ = await store_access(request, "write")
    asked = await read_json(request, NewBatch)
    new = await new_attachments(request, asked.all_files())
    async with library.memory(id):
        batch = await library.attach_batch(id, new)
    return await _batch_response(library, batch)


async def batch(request: Request) -> Response:
    """Describe a batch."""
    library, id, _ = await store_access(request, "read")
    return await _batch_response(library, await _batch(library, id, request))


async def cancel_batch(request: Request) -> Response:
    """End what of a batch is still on its way."""
    library, id, _ = await store_access(request, "write")
    return await _batch_response(library, await library.cancel_batch(await _batch(library, id, request)))


async def batch_files(request: Request) -> Response:
    """List the files of a batch, the newest first."""
    library, id, _ = await store_access(request, "read")
    found = await _batch(library, id, request)
    page, status = asked_page(request), _asked_status(request)
    attachments, has_more = await library.attachments(id, page, status=status, batch=found.id)
    return list_response([_object(library, one) for one in attachments], has_more=has_more)


async def _batch(library: Library, store: str, request: Request) -> Batch:
    return await asyncio.to_thread(library.catalogue.batch, store, request.path_params["batch"])


async def _batch_response(library: Library, batch: Batch) -> Response:
    return json_response(batch_object(batch, await library.counts(batch.store, batch.id)))


async def _attachment(library: Library, store: str, request: Request) -> Attachment | None:
    """Return the attached file of the path; None where it may be a document of a configured memory.

    Raises UnknownName.
    """
    try:
        return await library.attachment(store, request.path_params["file"])
    except UnknownName:
        if store not in library.memories:
            raise
    return None


async def _document(memory: Memory, request: Request) -> Document:
    """Return the document of the path. Raises UnknownName."""
    id = request.path_params["file"]
    document = await memory.store.document(id)
    if document is None:
        raise unknown("vector store file", id)
    return document


def _document_id(id: str | None) -> str | None:
    """Return the id by which a list is cut if it is a document's, not a file's."""
    return None if id is None or id.startswith("file-") else id


async def _documents(memory: Memory, after: str | None, before: str | None) -> AsyncGenerator[Document, None]:
    """Yield the documents between two ids that are no attached files."""
    while part := await memory.store.documents(after=after, limit=DOCUMENTS_AT_ONCE):
        for document in part:
            if before is not None and document.id >= before:
                return
            if file_of(document.name, document.id)[0] == document.id:
                yield document
        after = part[-1].id


def _document_object(library: Library, store: str, document: Document) -> dict[str, object]:
    return document_object(document, store=store, default=_chunking(library.memories[store]))


def _object(library: Library, one: Attachment) -> dict[str, object]:
    return attachment_object(one, default=_chunking(library.memories.get(one.store)))


def _chunking(memory: Memory | None) -> dict[str, object]:
    """Return how a memory cuts what is cut in its own way; None = one that a caller made."""
    if memory is None:
        return own_chunking(None, 0, at_separators=False)
    config = memory.config
    return own_chunking(
        config.chunk_max_tokens, config.chunk_overlap, at_separators=config.cuts_at_separators
    )


def _asked_status(request: Request) -> Status | None:
    asked = request.query_params.get("filter")
    if not asked:
        return None
    try:
        return Status(asked)
    except ValueError:
        known = ", ".join(status.value for status in Status)
        raise InvalidRequest(f"filter is one of {known}", param="filter") from None


POST = ["POST"]
DELETE = ["DELETE"]

VECTOR_STORE_ROUTES: list[BaseRoute] = [
    Route("/files", files.listing),
    Route("/files", files.create, methods=POST),
    Route("/files/{file}", files.one),
    Route("/files/{file}", files.delete, methods=DELETE),
    Route("/files/{file}/content", files.content),
    Route("/vector_stores", vector_stores.listing),
    Route("/vector_stores", vector_stores.create, methods=POST),
    Route("/vector_stores/{store}", vector_stores.one),
    Route("/vector_stores/{store}", vector_stores.update, methods=POST),
    Route("/vector_stores/{store}", vector_stores.delete, methods=DELETE),
    Route("/vector_stores/{store}/search", vector_stores.search, methods=POST),
    Route("/vector_stores/{store}/files", listing),
    Route("/vector_stores/{store}/files", attach, methods=POST),
    Route("/vector_stores/{store}/files/{file}", one),
    Route("/vector_stores/{store}/files/{file}", update, methods=POST),
    Route("/vector_stores/{store}/files/{file}", delete, methods=DELETE),
    Route("/vector_stores/{store}/files/{file}/content", content),
    Route("/vector_stores/{store}/file_batches", create_batch, methods=POST),
    Route("/vector_stores/{store}/file_batches/{batch}", batch),
    Route("/vector_stores/{store}/file_batches/{batch}/cancel", cancel_batch, methods=POST),
    Route("/vector_stores/{store}/file_batches/{batch}/files", batch_files),
]
