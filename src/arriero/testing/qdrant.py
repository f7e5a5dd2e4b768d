"""A Qdrant server for tests: its REST interface over the client's own in-memory implementation.

What a collection answers is the client library's; here is only the wire, and failures on demand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import BaseModel, TypeAdapter
from qdrant_client import AsyncQdrantClient, models
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    Operation = Callable[[AsyncQdrantClient, str, Any], Awaitable[Any]]


class FakeQdrant:
    """One server.

    app: serve it with `arriero.testing.serving.served`.
    requests: what was asked, as `METHOD /path`.
    refuse_with: a status with which everything is refused; None = nothing is.
    refuse_after: the number of requests that are still answered before.
    api_key: the key that every request must carry; None = none.
    version: what it says of itself; None = it stands behind a gateway with a page of its own.
    """

    def __init__(self, *, api_key: str | None = None) -> None:
        self.requests: list[str] = []
        self.refuse_with: int | None = None
        self.refuse_after = 0
        self.api_key = api_key
        self.version: str | None = "1.20.0"
        self._client = AsyncQdrantClient(":memory:")
        routes = [self._route(key, operation) for key, operation in OPERATIONS.items()]
        self.app = Starlette(routes=[Route("/", self._tell_version), *routes])

    async def _tell_version(self, request: Request) -> Response:
        if self.version is None:
            return Response("<html>", media_type="text/html")
        return _json({"title": "qdrant - vector search engine", "version": self.version})

    def _route(self, key: tuple[str, str], operation: Operation) -> Route:
        method, path = key

        async def endpoint(request: Request) -> Response:
            return await self._answer(request, operation)

        return Route(path, endpoint, methods=[method])

    async def _answer(self, request: Request, operation: Operation) -> Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if self.api_key is not None and request.headers.get("api-key") != self.api_key:
            return _json({"status": {"error": "Must provide an API key"}}, 401)
        if self.refuse_with is not None:
            if self.refuse_after == 0:
                return _json({"status": {"error": "told to refuse"}}, self.refuse_with)
            self.refuse_after -= 1
        body = msgspec.json.decode(await request.body() or b"null")
        try:
            result = await operation(self._client, request.path_params.get("name", ""), body)
        except ValueError as exc:
            status = 404 if "not found" in str(exc) else 400
            return _json({"status": {"error": str(exc)}}, status)
        return _json({"result": _plain(result), "status": "ok", "time": 0.0})


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(one) for one in value] if isinstance(value, list) else value


async def _exists(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    return {"exists": await client.collection_exists(name)}


async def _describe(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    return await client.get_collection(name)


async def _create(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    asked = models.CreateCollection(**body)
    return await client.create_collection(
        name, vectors_config=asked.vectors, sparse_vectors_config=asked.sparse_vectors
    )


async def _index(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    return {"operation_id": 0, "status": "completed"}


async def _upsert(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    return await client.upsert(name, models.PointsList(**body).points)


async def _retrieve(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    asked = models.PointRequest(**body)
    payload = True if asked.with_payload is None else asked.with_payload
    return await client.retrieve(name, asked.ids, with_payload=payload)


async def _delete(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    selector: Any = TypeAdapter(models.PointsSelector).validate_python(body)
    return await client.delete(name, selector)


async def _query(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    asked = models.QueryRequest(**body)
    query: Any = asked.query
    return await client.query_points(
        name, query=query, using=asked.using, query_filter=asked.filter, limit=asked.limit or 10
    )


async def _scroll(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    asked = models.ScrollRequest(**body)
    points, following = await client.scroll(
        name, scroll_filter=asked.filter, limit=asked.limit or 10, offset=asked.offset
    )
    return {"points": _plain(points), "next_page_offset": following}


async def _count(client: AsyncQdrantClient, name: str, body: Any) -> Any:
    return await client.count(name, count_filter=models.CountRequest(**body).filter)


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/collections/{name}/exists"): _exists,
    ("GET", "/collections/{name}"): _describe,
    ("PUT", "/collections/{name}"): _create,
    ("PUT", "/collections/{name}/index"): _index,
    ("PUT", "/collections/{name}/points"): _upsert,
    ("POST", "/collections/{name}/points"): _retrieve,
    ("POST", "/collections/{name}/points/delete"): _delete,
    ("POST", "/collections/{name}/points/query"): _query,
    ("POST", "/collections/{name}/points/scroll"): _scroll,
    ("POST", "/collections/{name}/points/count"): _count,
}
