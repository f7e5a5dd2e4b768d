"""Routes for operators: liveness, readiness, version. They need no key and never wait for a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from arriero.server.context import context_of
from arriero.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request


def json_response(value: object, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def status(request: Request) -> Response:
    """Answer that the process is alive, in Poly's form. Also /livez."""
    return json_response({"status": "ok"})


async def ready(request: Request) -> Response:
    """Answer 200 when every model can serve, else 503 with how many cannot. Also /health."""
    unavailable = await context_of(request).num_unavailable()
    if unavailable:
        return json_response({"status": "unavailable", "unavailable_models": unavailable}, 503)
    return json_response({"status": "ok"})


async def version(request: Request) -> Response:
    """Answer which version this is."""
    return json_response({"version": __version__})
