"""Holds requests to what their keys may use: admits them, tells what is left, takes the count of tokens.

A request that does work is counted; lists, health and the admin API are free. A socket's handshake is free
too: each of its turns is admitted by whoever answers it, with `admit`. While memory is full, none is let in.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from arriero.access.limits import Limiter
from arriero.access.principal import may
from arriero.access.shared import TIMEOUT_S, SharedCounts
from arriero.access.usage_store import UsageStore
from arriero.errors import Forbidden
from arriero.guard.headers import CROPPED

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from arriero.access.limits import Admission
    from arriero.access.principal import Principal
    from arriero.config.auth import AuthConfig
    from arriero.server.pressure import Pressure

FREE = frozenset(
    {
        "/version",
        "/metrics",
        "/openapi.json",
        "/v1/model",
        "/v1/task",
        "/v1/memory",
        "/v1/stats",
        "/v1/status",
        "/v1/tickets",
    }
)
FREE_BELOW = ("/v1/admin/", "/v1/models", "/pokt/")


class Rates:
    """Owns the counts of all keys, the file that keeps them, and the way to those of other servers.

    A request must be within both: the counts of this server, which cost nothing to look at and hold alone
    where the others cannot be had, and then those that servers share.
    """

    def __init__(self, auth: AuthConfig, *, shared_timeout_s: float = TIMEOUT_S) -> None:
        """Take up the counts that were kept. Raises ConfigError when the usage store cannot be used."""
        url, password = auth.shared_counters, auth.shared_counters_password
        self.shared = None if url is None else SharedCounts(url, password, timeout_s=shared_timeout_s)
        self._store = None if auth.usage_store is None else UsageStore(auth.usage_store)
        self._limiter = Limiter(
            None if self._store is None else self._store.load(time.time()),
            changed=None if self._store is None else self._store.note,
            charged=None if self.shared is None else self.shared.charge,
        )

    async def admit(self, principal: Principal) -> Admission:
        """Let a request in. The caller must end the admission. Raises RateLimited."""
        admission = self._limiter.admit(principal, time.time())
        if self.shared is None or not principal.limits.is_limiting:
            return admission
        try:
            admission.share = await self.shared.admit(principal)
        except BaseException:
            admission.withdraw()
            raise
        return admission

    def charge(self, principal: Principal, tokens: int) -> None:
        """Count the tokens of a prompt and a completion."""
        self._limiter.charge(principal, tokens, time.time())

    def close(self) -> None:
        """Keep the counts. What is still to be told to others is told by `wait_closed`."""
        if self._store is not None:
            self._store.close()
        if self.shared is not None:
            self.shared.close()

    async def wait_closed(self) -> None:
        """Return when others know all."""
        if self.shared is not None:
            await self.shared.wait_closed()


class Metered:
    """Middleware behind `Authenticate`: admits requests that do work.

    Adds `x-ratelimit-*`, and `x-cropped` where a request's limit was lowered.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_free(scope["path"]):
            await self._app(scope, receive, send)
            return
        if scope.get("method") != "DELETE":  # which makes room
            pressure: Pressure = scope["app"].state.standing.pressure
            pressure.check()
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rates: Rates = scope["app"].state.rates
        admission = await rates.admit(scope["state"]["principal"])

        async def telling_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(admission.headers())
                if cropped := scope["state"].get("cropped"):
                    headers[CROPPED.decode()] = cropped
            await send(message)

        try:
            await self._app(scope, receive, telling_send)
        finally:
            admission.end()


def is_free(path: str) -> bool:
    """Say whether requests to a path are not counted."""
    return path in FREE or path.startswith(FREE_BELOW)


async def admit_turn(websocket: HTTPConnection, resource: str) -> Admission:
    """Look at the bearer of a socket again, and let one turn in.

    Raises Unauthorized when the key is worth nothing any more, Forbidden, RateLimited, Overloaded.
    """
    state = websocket.app.state
    # A socket outlives configurations; who may still speak is the newest one's to say.
    context = state.standing.context or state.context
    principal = context.keyring.renewed(websocket.state.principal)
    if not may(principal, "use", resource):
        raise Forbidden(f"this key may not use {resource}")
    state.standing.pressure.check()
    rates: Rates = state.rates
    return await rates.admit(principal)


def charge(connection: HTTPConnection, tokens: int) -> None:
    """Count tokens that an answer has used; routes call it once the usage is known."""
    rates: Rates = connection.app.state.rates
    rates.charge(connection.state.principal, tokens)
