"""Routes on memories: Poly's in Poly's wire forms, then our own on documents, jobs and recall.

`MEMORY_ROUTES` stand under /v1. A PUT answers once its document is stored; with `?wait=false` it answers
202 with the job as soon as the document is on the disk.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from arriero.errors import InvalidRequest, UnknownName, UnreadableDocument
from arriero.memory.filter_json import read_filter
from arriero.memory.memory import MAX_LIMIT
from arriero.memory.passage import Mode, Query
from arriero.server.body import read_json, read_poly_json
from arriero.server.context import context_of, principal_of
from arriero.server.routes.ops import json_response
from arriero.server.streaming import answered
from arriero.server.uploads import form_sources, is_form, raw_source, refused

if TYPE_CHECKING:
    from starlette.requests import Request

    from arriero.memory.job import Job, Source
    from arriero.memory.memory import Memory
    from arriero.memory.records import Document

MAX_PAGE = 1000
Limit = Annotated[int, Meta(ge=0, le=MAX_LIMIT)]


class PolyRecall(msgspec.Struct):
    """The body of Poly's POST."""

    prompt: str
    n: Limit = 1


class RecallRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of our own recall. Members that are absent are as the memory is configured."""

    query: str
    limit: Limit = 10
    mode: Mode | None = None
    where: Any = None
    min_score: Annotated[float, Meta(ge=0, le=1)] | None = None
    merge_neighbours: bool = True
    rerank: bool = True
    min_rerank_score: float | None = None


async def names(request: Request) -> Response:
    """List the memories."""
    return json_response({"memories": context_of(request).memory_names(principal_of(request))})


async def chunks(request: Request) -> Response:
    """Answer the texts of the best chunks, in Poly's form."""
    memory = _memory(request, "read")
    if request.method == "POST":
        asked = await read_poly_json(request, PolyRecall)
    else:
        asked = _asked(request)
    return await answered(request, _chunks(request, memory, Query(asked.prompt, asked.n)))


async def _chunks(request: Request, memory: Memory, query: Query) -> Response:
    async with context_of(request).lane(principal_of(request)).place():
        found = await memory.recall(query)
    return json_response({"chunks": [passage.text for passage in found]})


def _asked(request: Request) -> PolyRecall:
    prompt = request.query_params.get("prompt")
    if prompt is None:
        raise InvalidRequest("Failed to deserialize query string: missing field `prompt`", param="prompt")
    return PolyRecall(prompt, _number(request, "n", default=1, most=MAX_LIMIT))


async def store(request: Request) -> Response:
    """Take a document on, or the files of a form."""
    memory = _memory(request, "write")
    max_bytes = memory.config.max_document_bytes
    if is_form(request):
        sources = await form_sources(request, max_bytes=max_bytes)
    else:
        sources = [await raw_source(request, max_bytes=max_bytes)]
    wait = request.query_params.get("wait", "true")
    if wait not in ("true", "false"):
        raise InvalidRequest("wait is true or false", param="wait")
    try:
        return await _store(request, memory, sources, wait=wait == "true")
    except UnreadableDocument as exc:
        raise refused(exc) from exc


async def _store(request: Request, memory: Memory, sources: list[Source], *, wait: bool) -> Response:
    for source in sources:
        memory.check(source)
    jobs = [await memory.submit(source) for source in sources]
    if not wait:
        response = json_response({"jobs": jobs} if len(jobs) > 1 else {"job": jobs[0].id}, 202)
        response.headers["location"] = f"{request.url.path}/jobs/{jobs[0].id}"
        return response
    if len(jobs) == 1:
        return await answered(request, _stored(memory, jobs[0]))
    return await answered(request, _all_stored(memory, jobs))


async def _stored(memory: Memory, job: Job) -> Response:
    job = await memory.jobs.finished(job.id)
    response = json_response({})
    response.headers["x-arriero-document"] = job.document_id
    return response


async def _all_stored(memory: Memory, jobs: list[Job]) -> Response:
    """Answer with every job; a document that fails fails alone."""
    await asyncio.gather(*(memory.jobs.finished(job.id) for job in jobs), return_exceptions=True)
    return json_response({"jobs": [memory.jobs.job(job.id) for job in jobs]})


async def clear(request: Request) -> Response:
    """Forget everything."""
    await _memory(request, "write").clear()
    return json_response({})


async def documents(request: Request) -> Response:
    """List documents in the order of their ids, behind the id `after`, and the counts of the memory."""
    memory = _memory(request, "read")
    limit = _number(request, "limit", default=100, most=MAX_PAGE)
    after = request.query_params.get("after")
    found = await memory.store.documents(after=after, limit=limit)
    return json_response(
        {
            "documents": [_described(document) for document in found],
            "after": found[-1].id if len(found) == limit and found else None,
            "counts": await memory.store.counts(),
        }
    )


async def document(request: Request) -> Response:
    """Answer one document."""
    found = await _document(request, _memory(request, "read"))
    response = json_response(_described(found))
    response.headers["etag"] = f'"{found.digest}"'
    return response


async def document_chunks(request: Request) -> Response:
    """Answer the chunks of one document, from ordinal `first`, at most `limit` of them."""
    memory = _memory(request, "read")
    found = await _document(request, memory)
    first = _number(request, "first", default=0, most=found.num_chunks)
    limit = max(1, _number(request, "limit", default=100, most=MAX_PAGE))
    return json_response({"chunks": await memory.store.chunks(found.id, first=first, last=first + limit - 1)})


async def delete_document(request: Request) -> Response:
    """Forget one document."""
    memory = _memory(request, "write")
    if not await memory.delete(request.path_params["document"]):
        raise UnknownName("document", request.path_params["document"])
    return json_response({})


async def jobs(request: Request) -> Response:
    """List the jobs, newest first."""
    memory = _memory(request, "read")
    limit = _number(request, "limit", default=100, most=MAX_PAGE)
    return json_response({"jobs": memory.jobs.jobs()[:limit]})


async def job(request: Request) -> Response:
    """Answer one job."""
    return json_response(_memory(request, "read").jobs.job(request.path_params["job"]))


async def cancel_job(request: Request) -> Response:
    """End one job and answer how it ended."""
    return json_response(await _memory(request, "write").jobs.cancel(request.path_params["job"]))


async def recall(request: Request) -> Response:
    """Answer passages with their sources."""
    memory = _memory(request, "read")
    asked = await read_json(request, RecallRequest)
    query = Query(
        asked.query,
        asked.limit,
        mode=asked.mode,
        where=None if asked.where is None else read_filter(asked.where),
        min_score=asked.min_score,
        merge_neighbours=asked.merge_neighbours,
        rerank=asked.rerank,
        min_rerank_score=asked.min_rerank_score,
    )
    return await answered(request, _recalled(request, memory, query))


async def _recalled(request: Request, memory: Memory, query: Query) -> Response:
    async with context_of(request).lane(principal_of(request)).place():
        return json_response({"passages": await memory.recall(query)})


def _memory(request: Request, action: str) -> Memory:
    return context_of(request).memory(principal_of(request), request.path_params["memory"], action)


async def _document(request: Request, memory: Memory) -> Document:
    id = request.path_params["document"]
    found = await memory.store.document(id)
    if found is None:
        raise UnknownName("document", id)
    return found


def _described(document: Document) -> dict[str, object]:
    return {"id": document.id, **msgspec.structs.asdict(document)}


def _number(request: Request, name: str, *, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > most:
        raise InvalidRequest(f"{name} is a whole number from 0 to {most}", param=name)
    return int(text)


GET_POST = ["GET", "POST"]
DELETE = ["DELETE"]

MEMORY_ROUTES: list[BaseRoute] = [
    Route("/memory", names),
    Route("/memory/{memory}", chunks, methods=GET_POST),
    Route("/memory/{memory}", store, methods=["PUT"]),
    Route("/memory/{memory}", clear, methods=DELETE),
    Route("/memory/{memory}/recall", recall, methods=["POST"]),
    Route("/memory/{memory}/documents", documents),
    Route("/memory/{memory}/documents/{document}", document),
    Route("/memory/{memory}/documents/{document}", delete_document, methods=DELETE),
    Route("/memory/{memory}/documents/{document}/chunks", document_chunks),
    Route("/memory/{memory}/jobs", jobs),
    Route("/memory/{memory}/jobs/{job}", job),
    Route("/memory/{memory}/jobs/{job}", cancel_job, methods=DELETE),
]
