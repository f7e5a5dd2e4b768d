"""Routes for operators: liveness, readiness, version, metrics, status. They never wait for a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from arriero.access.principal import may
from arriero.errors import Forbidden
from arriero.metrics import Exposition
from arriero.server.auth import authenticated
from arriero.server.collect import counts_of, families, status_of
from arriero.server.context import context_of, principal_of
from arriero.server.errors import UnknownPath
from arriero.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request

    from arriero.server.standing import Standing


def json_response(value: object, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def status(request: Request) -> Response:
    """Answer that the process is alive, in Poly's form. Also /livez."""
    return json_response({"status": "ok"})


async def ready(request: Request) -> Response:
    """Answer 200 when every model can serve, else 503 with how many cannot. Also /health."""
    if standing_of(request).is_draining:
        return json_response({"status": "draining"}, 503)
    unavailable = await context_of(request).num_unavailable()
    if unavailable:
        return json_response({"status": "unavailable", "unavailable_models": unavailable}, 503)
    return json_response({"status": "ok"})


async def metrics(request: Request) -> Response:
    """Answer the metrics, to whom `telemetry.metrics` says."""
    context, standing = context_of(request), standing_of(request)
    allowed = context.runtime.config.telemetry.metrics
    if allowed != "public":
        principal = await authenticated(request.scope, context.keyring, standing.tickets)
        if allowed == "off":
            raise UnknownPath(f"no such path: {request.url.path}")
        if not may(principal, "admin", "server"):
            raise Forbidden("the metrics are for keys that may administrate")
    counts = await counts_of(context.runtime.memories)
    counted = standing.observer.counted
    exposition = Exposition(counted, lambda: families(standing, context, counts))
    body, media_type = exposition.text(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": media_type})


async def overview(request: Request) -> Response:
    """Answer how things stand with all that the key may use."""
    status = await status_of(standing_of(request), context_of(request), principal_of(request))
    return json_response(status)


def standing_of(request: Request) -> Standing:
    """Return what stays while configurations come and go."""
    standing: Standing = request.app.state.standing
    return standing


async def version(request: Request) -> Response:
    """Answer which version this is."""
    return json_response({"version": __version__})
