"""A whole JSON answer of an upstream, rebuilt by the shape of its route.

What is not the shape of the route is no answer: it is never passed on as it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from arriero.guard import shapes
from arriero.guard.failure import UpstreamFailed, said_error, told_error
from arriero.guard.routes import Route

if TYPE_CHECKING:
    from arriero.guard.shapes import Shape, Telling
    from arriero.guard.template import Forms

# With the shape of each answer, the member without which it is none.
_ANSWERS: dict[Route, tuple[Shape, str]] = {
    Route.CHAT: (shapes.COMPLETION, "choices"),
    Route.COMPLETIONS: (shapes.COMPLETION, "choices"),
    Route.RESPONSES: (shapes.RESPONSE, "output"),
    Route.EMBEDDINGS: (shapes.EMBEDDINGS, "data"),
    Route.RERANK: (shapes.RERANK, "results"),
    Route.TOKENIZE: (shapes.TOKENIZE, "count"),
    Route.MODELS: (shapes.MODELS, "data"),
}
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def rewritten_answer(route: Route, body: bytes, telling: Telling, forms: Forms | None = None) -> bytes:
    """Rebuild a successful answer; an empty one stays empty. Raises UpstreamFailed.

    forms: those of this route's answers with this `telling`, which grow.
    """
    if not body:
        return b""
    if forms is None:
        return _rebuilt(route, body, telling)
    if (found := forms.find(body)) is not None:
        return found[1]
    told = _rebuilt(route, body, telling)
    forms.learn(body, lambda probed: _rebuilt(route, probed, telling))
    return told


def _rebuilt(route: Route, body: bytes, telling: Telling) -> bytes:
    shape, due = _ANSWERS[route]
    try:
        body.isascii() or body.decode()
        members = _OBJECT.decode(body)
        said = said_error(members)
        if said is None and due in members:
            return bytes(shape.told(members, telling))
    except (ValueError, msgspec.DecodeError, RecursionError) as exc:
        raise UpstreamFailed("the upstream's answer is not valid JSON") from exc
    if said is not None:
        raise told_error(said, telling.names)
    raise UpstreamFailed("the upstream's answer is not one of this route")
