"""The only paths that the guard serves, compared byte for byte with the request's target.

Nothing is decoded, joined or normalised: a path in any other spelling is not a path of the guard. The
query is not part of the decision and is never sent on.
"""

from __future__ import annotations

from enum import Enum


class Route(Enum):
    """A route of the guard; the value is its path here and at the upstream."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    RESPONSES = "/v1/responses"
    EMBEDDINGS = "/v1/embeddings"
    RERANK = "/v1/rerank"
    MODELS = "/v1/models"
    TOKENIZE = "/tokenize"

    __hash__ = object.__hash__  # members are looked up in tables for each request

    @property
    def method(self) -> bytes:
        """The one method of the route. `/v1/models` is answered here and has no upstream."""
        return b"GET" if self is Route.MODELS else b"POST"


GENERATING = frozenset({Route.CHAT, Route.COMPLETIONS, Route.RESPONSES})

_ROUTES = {route.value.encode(): route for route in Route}


def route_of(target: bytes) -> Route | None:
    """Return the route of a request target as it stood on the request line, or None.

    `/tokenize` is among them; whether a model allows it is for `checked_request` to say.
    """
    return _ROUTES.get(target.partition(b"?")[0])
