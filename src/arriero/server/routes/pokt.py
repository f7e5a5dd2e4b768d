"""`/pokt/*`: the configuration and the tokenizer of one model, as the Pocket network asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from arriero.server.context import context_of, principal_of

if TYPE_CHECKING:
    from starlette.requests import Request


async def document(request: Request) -> Response:
    """Answer with one of the four documents; they are made once."""
    source = context_of(request).pokt(principal_of(request))
    return Response(await source.answer(request.path_params["name"]), media_type="application/json")
