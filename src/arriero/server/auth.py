"""Where a key may stand in a request, and the middleware that finds out who is asking.

1. `Authorization: Bearer KEY`.  2. `x-api-key: KEY`.  3. `?api_key=KEY`, which Poly's clients need.
4. Of a WebSocket: the subprotocol `arriero.key.` + base64url of the key.  5. `?ticket=`, once.
Two that differ are refused: what stands before us may have checked the other one.
"""

from __future__ import annotations

import base64
import binascii
from time import monotonic
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, QueryParams

from arriero.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from arriero.access.keyring import Keyring
    from arriero.access.principal import Principal
    from arriero.access.tickets import Tickets

KEY_PROTOCOL = "arriero.key."
SCHEME = "Bearer "


def presented(headers: Headers, query: QueryParams, subprotocols: Iterable[str] = ()) -> str | None:
    """Return the one key that a request bears; None = it bears none. Raises Unauthorized."""
    keys = {*_in_headers(headers), *query.getlist("api_key"), *_in_subprotocols(subprotocols)} - {""}
    if len(keys) > 1:
        raise Unauthorized("different auth tokens provided at once")
    return next(iter(keys), None)


def _in_headers(headers: Headers) -> Iterator[str]:
    for value in headers.getlist("authorization"):
        if not value.startswith(SCHEME):
            raise Unauthorized("invalid bearer token")
        # A bearer of nothing bears a wrong key, not none.
        yield value.removeprefix(SCHEME) or " "
    yield from headers.getlist("x-api-key")


def _in_subprotocols(subprotocols: Iterable[str]) -> Iterator[str]:
    for name in subprotocols:
        if name.startswith(KEY_PROTOCOL):
            coded = name.removeprefix(KEY_PROTOCOL)
            try:
                yield base64.b64decode(coded + "=" * (-len(coded) % 4), b"-_", validate=True).decode()
            except (binascii.Error, UnicodeError) as exc:
                raise Unauthorized("invalid bearer token") from exc


class Authenticate:
    """Middleware: puts the Principal into the scope's state, or raises Unauthorized.

    An address that has failed too often gets RateLimited in its place; a good key is taken all the same.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["app"].state
        try:
            principal = await authenticated(scope, state.context.keyring, state.tickets)
        except Unauthorized:
            if (peer := scope.get("client")) is not None:
                per_minute = state.context.runtime.config.limits.max_auth_failures
                state.standing.auth_failures.note(peer[0], per_minute, monotonic())
            raise
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


async def authenticated(scope: Scope, keyring: Keyring, tickets: Tickets) -> Principal:
    """Return who is asking. Raises Unauthorized, Unavailable."""
    if keyring.is_open:
        return await keyring.identified(None)
    query = QueryParams(scope["query_string"])
    key = presented(Headers(scope=scope), query, scope.get("subprotocols", ()))
    offered = query.getlist("ticket")
    if not offered:
        return await keyring.identified(key)
    if key is not None or len(offered) > 1:
        raise Unauthorized("different auth tokens provided at once")
    return keyring.renewed(tickets.redeem(offered[0], scope["path"], monotonic()))
