"""Which origins browsers may call from, as headers: for the middleware, and for answers without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.middleware.cors import CORSMiddleware

from arriero.guard.headers import CROPPED

if TYPE_CHECKING:
    from arriero.config.schema import ServerConfig

    Header = tuple[bytes, bytes]

EXPOSED = [
    "x-request-id",
    "retry-after",
    CROPPED.decode(),
    *(f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")),
    *(f"x-ratelimit-{what}-tokens" for what in ("limit", "remaining", "reset")),
]
_VARY = (b"vary", b"Origin")


def cors_options(server: ServerConfig) -> dict[str, Any] | None:
    """Return the options of the middleware, None where there is none.

    Browsers are let in from the configured origins: absent = from anywhere, empty = from nowhere else.
    """
    origins = ["*"] if server.allowed_origins is None else list(server.allowed_origins)
    if not origins:
        return None
    return {
        "allow_origins": origins,
        "allow_methods": ["GET", "POST", "OPTIONS", "PUT", "DELETE"],
        "allow_headers": ["*"],
        "expose_headers": EXPOSED,
    }


class CorsHeaders:
    """What the middleware adds to the answer to a request that is no preflight."""

    def __init__(self, server: ServerConfig) -> None:
        options = cors_options(server)
        self._rules = None if options is None else CORSMiddleware(_nothing, **options)
        self._without_origin = [] if options is None else [_VARY]

    def of(self, origin: bytes | None) -> list[Header]:
        """Return the headers for a request with this `origin`."""
        if origin is None or self._rules is None:
            return self._without_origin
        headers = [
            (name.lower().encode(), value.encode()) for name, value in self._rules.simple_headers.items()
        ]
        if not self._rules.allow_all_origins and self._rules.is_allowed_origin(origin.decode("latin-1")):
            headers.append((b"access-control-allow-origin", origin))
        return [*headers, _VARY]


async def _nothing(*_: object) -> None:
    """Stand for the application, which is not asked."""
