"""Who is asking: static keys as in Poly, read from the header or from `?api_key=`.

`may` is the one place that will know rights; holders of a static key may do everything. Tokens in
JWT form are refused until the access system exists.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, NamedTuple

from starlette.datastructures import Headers, QueryParams

from arriero.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from arriero.config.schema import AuthConfig


class Principal(NamedTuple):
    """Who is asking. `tenant` keys private caches; empty for the anonymous caller of a public server."""

    tenant: str = ""


ANONYMOUS = Principal()


class Keyring:
    """The keys that open the server. Holds digests only."""

    def __init__(self, keys: Iterable[str], *, public: bool = False, expects_jwt: bool = False) -> None:
        self._digests = tuple(_digest(key) for key in keys)
        self._public = public
        self._expects_jwt = expects_jwt

    @classmethod
    def from_config(cls, auth: AuthConfig) -> Keyring:
        """Return the keyring of a configuration."""
        return cls(auth.allowed_keys, public=auth.public, expects_jwt=auth.jwt_private_key is not None)

    def authenticate(self, headers: Headers, query: QueryParams) -> Principal:
        """Return who is asking. Raises Unauthorized with Poly's texts; a wrong key fails always.

        Where nobody has a key there is no wrong one: a public server with none ignores what it is sent.
        """
        if self._public and not (self._digests or self._expects_jwt):
            return ANONYMOUS
        token = _token(headers, query)
        if token is None:
            if self._public:
                return ANONYMOUS
            raise Unauthorized("no auth token provided and not a public server")
        digest = _digest(token)
        if self._holds(digest):
            return Principal(tenant=digest.hex()[:32])
        if self._expects_jwt:
            raise Unauthorized("invalid JWT token")
        raise Unauthorized("no acceptable auth token provided")

    def _holds(self, digest: bytes) -> bool:
        # All keys are compared, so that the time says nothing about which one matched.
        return sum([hmac.compare_digest(digest, known) for known in self._digests]) > 0


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def _token(headers: Headers, query: QueryParams) -> str | None:
    authorization = headers.get("authorization")
    if authorization is None:
        return query.get("api_key") or None
    if not authorization.startswith("Bearer "):
        raise Unauthorized("invalid bearer token")
    return authorization.removeprefix("Bearer ")


def may(principal: Principal, action: str, resource: str) -> bool:
    """Say whether a principal may do `action` to `resource` ("model/NAME", "task/NAME")."""
    return True


class Authenticate:
    """Middleware: puts the Principal into the scope's state, or raises Unauthorized."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        keyring: Keyring = scope["app"].state.context.keyring
        principal = keyring.authenticate(Headers(scope=scope), QueryParams(scope["query_string"]))
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)
