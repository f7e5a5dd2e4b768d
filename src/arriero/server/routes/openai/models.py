"""GET /v1/models and /v1/models/{id}: every model, and every task as `task/NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.server.context import TASK_PREFIX, context_of, principal_of
from arriero.server.routes.ops import json_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from arriero.server.context import Context


async def listing(request: Request) -> Response:
    """List what can stand as `model` in a request."""
    context, principal = context_of(request), principal_of(request)
    ids = [*context.model_names(principal), *context.remote_names(principal)]
    ids += [TASK_PREFIX + name for name in context.task_names(principal)]
    return json_response({"object": "list", "data": [_model_object(context, id) for id in ids]})


async def one(request: Request) -> Response:
    """Describe one model or task."""
    context = context_of(request)
    id = request.path_params["id"]
    principal = principal_of(request)
    if id not in context.remote_names(principal):
        context.model_or_task(principal, id)
    return json_response(_model_object(context, id))


def _model_object(context: Context, id: str) -> dict[str, object]:
    return {"id": id, "object": "model", "created": context.started_at, "owned_by": "arriero"}
