"""What the edge itself refuses: statuses, and the bodies of these answers in OpenAI's form."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec

from arriero.server.edge.answer import opening

if TYPE_CHECKING:
    from arriero.server.edge.exchange import Exchange


class Refused(Exception):
    """A request that no application sees. The connection closes after the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def bad_request(message: str) -> Refused:
    """The bytes are not one unambiguous request."""
    return Refused(400, "bad_request", message)


def misdirected(host: str) -> Refused:
    """The request is for another host."""
    return Refused(421, "misdirected_request", f"this server does not serve the host {host}")


def headers_too_large(message: str) -> Refused:
    """The head is over a limit."""
    return Refused(431, "headers_too_large", message)


def target_too_long(limit: int) -> Refused:
    """The target is over its limit."""
    return Refused(414, "target_too_long", f"the target of the request has more than {limit} bytes")


def expectation_failed() -> Refused:
    """The client expects what is not known."""
    return Refused(417, "expectation_failed", "the only expectation that is met is 100-continue")


def too_slow(what: str) -> Refused:
    """A part of the request did not come in time."""
    return Refused(408, "request_timeout", f"{what} did not come in time")


def no_room(message: str) -> Refused:
    """A limit of the whole server is reached."""
    return Refused(503, "overloaded", message)


def internal() -> Refused:
    """The application failed; the cause is in the log only."""
    return Refused(500, "internal", "internal error")


KINDS = {500: "server_error", 503: "unavailable_error"}
JSON = (b"content-type", b"application/json")


def error_body(refused: Refused) -> bytes:
    """Return OpenAI's error object."""
    kind = KINDS.get(refused.status, "invalid_request_error")
    said = {"message": refused.message, "type": kind, "param": None, "code": refused.code}
    return msgspec.json.encode({"error": said})


def refusal_headers(refused: Refused) -> list[tuple[bytes, bytes]]:
    """Return the headers of a refusal."""
    headers = [JSON, (b"x-request-id", uuid.uuid4().hex.encode())]
    return [*headers, (b"retry-after", b"1")] if refused.status == 503 else headers


def refusal(refused: Refused, common: bytes) -> bytes:
    """Return a whole answer, after which the connection closes."""
    body = error_body(refused)
    head = opening(
        refused.status,
        refusal_headers(refused),
        common=common,
        is_head=False,
        is_http11=True,
        stays_open=False,
        length=len(body),
    )
    return head.head + body


def answer(exchange: Exchange, refused: Refused) -> None:
    """Answer an exchange with a refusal; the connection closes."""
    headers = [*refusal_headers(refused), (b"connection", b"close")]
    exchange.respond(refused.status, headers, error_body(refused))


def fail(exchange: Exchange) -> None:
    """End an exchange whose handler failed: with 500, or cut if the answer is on its way."""
    if exchange.is_committed:
        exchange.abort()
    else:
        answer(exchange, internal())
