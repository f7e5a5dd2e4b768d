"""Lists in OpenAI's form: which part is asked for, and how it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.errors import InvalidRequest
from arriero.memory.library.records import Page
from arriero.server.routes.ops import json_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

MAX_LIMIT = 100
DEFAULT_LIMIT = 20


def asked_page(request: Request, *, default: int = DEFAULT_LIMIT, most: int = MAX_LIMIT) -> Page:
    """Return which part of a list a query asks for. Raises InvalidRequest."""
    query = request.query_params
    limit = query.get("limit", str(default))
    if not limit.isascii() or not limit.isdigit() or len(limit) > 9 or not 1 <= int(limit) <= most:
        raise InvalidRequest(f"limit is a whole number from 1 to {most}", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest('order is "asc" or "desc"', param="order")
    return Page(
        limit=int(limit),
        after=query.get("after") or None,
        before=query.get("before") or None,
        is_descending=order == "desc",
    )


def list_response(items: Sequence[dict[str, object]], *, has_more: bool) -> Response:
    """Answer with a part of a list."""
    return json_response(
        {
            "object": "list",
            "data": items,
            "first_id": items[0]["id"] if items else None,
            "last_id": items[-1]["id"] if items else None,
            "has_more": has_more,
        }
    )


def cut(items: Sequence[dict[str, object]], page: Page) -> tuple[Sequence[dict[str, object]], bool]:
    """Return a part of a whole list, whose order is the asked one, and whether there is more of it.

    Raises InvalidRequest.
    """
    begin, end = 0, len(items)
    if page.after is not None:
        begin = _place(items, page.after, "after") + 1
    if page.before is not None:
        end = _place(items, page.before, "before")
    part = items[begin:end]
    if page.before is not None and page.after is None:
        return part[-page.limit :], len(part) > page.limit
    return part[: page.limit], len(part) > page.limit


def _place(items: Sequence[dict[str, object]], id: str, param: str) -> int:
    for index, item in enumerate(items):
        if item["id"] == id:
            return index
    raise InvalidRequest(f"{param}: there is no {id[:80]} in this list", param=param)
