"""What went wrong at an upstream, in words that tell nothing of it.

A caller's fault stays a caller's fault; so is a key that was the caller's own, and a route that the upstream
need not have. Any other key, path or model that it does not accept is the operator's, and so a failure of
the upstream to the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from arriero.errors import (
    ArrieroError,
    ContextOverflow,
    Forbidden,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    RequestError,
    ServiceError,
    Unauthorized,
    UnknownName,
)
from arriero.guard.routes import Route

if TYPE_CHECKING:
    from arriero.guard.names import Names

_MAX_RETRY_AFTER_S = 600
_CALLERS_FAULT = (400, 409, 422)
_EVERYWHERE = (Route.CHAT, Route.COMPLETIONS)
"""Routes that every upstream has."""


class UpstreamFailed(ServiceError):
    """The upstream cannot be reached, broke off, or answered what cannot be understood."""

    code = "upstream_failed"


class UpstreamTimeout(ServiceError):
    """The upstream did not answer in time."""

    code = "upstream_timeout"


def unserved(route: Route) -> UnknownName:
    """Return the error for a route that a model does not serve."""
    return UnknownName("route of this model", route.value, param="model")


def refusal(
    status: int,
    body: bytes,
    names: Names,
    retry_after: str = "",
    *,
    route: Route = Route.CHAT,
    is_callers_key: bool = False,
) -> ArrieroError:
    """Return the error for an answer of an upstream that is no success, redirects among them.

    is_callers_key: the upstream was shown the caller's key, not ours.
    """
    match status:
        case 401 if is_callers_key:
            return Unauthorized("the upstream does not accept the key")
        case 403 if is_callers_key:
            return Forbidden("the upstream does not let the key do this")
        case 404 | 405 | 501 if route not in _EVERYWHERE:
            return unserved(route)
        case 413:
            return PayloadTooLarge("the request is too large for the upstream")
        case 429 | 503:
            return Overloaded(
                "the upstream is overloaded; try again later", retry_after_s=_seconds(retry_after)
            )
        case 408 | 504:
            return UpstreamTimeout("the upstream did not answer in time")
        case _ if status in _CALLERS_FAULT:
            return _callers_fault(body, names)
        case _:
            return UpstreamFailed(f"the upstream failed with status {status}")


def said_error(answer: dict[str, msgspec.Raw]) -> msgspec.Raw | None:
    """Return the error that an answer or an event tells, whatever its status was; else None."""
    said = answer.get("error")
    if said is not None and bytes(said) not in (b"null", b"false", b'""', b"{}"):
        return said
    if bytes(answer.get("object", b"")) == b'"error"' or bytes(answer.get("type", b"")) == b'"error"':
        return msgspec.Raw(msgspec.json.encode(answer))
    return None


def told_error(said: msgspec.Raw, names: Names) -> ArrieroError:
    """Return the error that stands in a stream or in an answer with a good status."""
    message, _, _ = _parts(msgspec.json.decode(said))
    return UpstreamFailed(names.clean_message(message) or "the upstream failed")


def error_object(error: ArrieroError, *, kind: str = "") -> bytes:
    """Write the inside of OpenAI's error form, for a stream whose status has been sent."""
    param = error.param if isinstance(error, RequestError) else None
    said = {"message": error.message, "type": kind or _kind(error), "param": param, "code": error.code}
    return msgspec.json.encode(said)


def _kind(error: ArrieroError) -> str:
    return "invalid_request_error" if isinstance(error, RequestError) else "server_error"


def _callers_fault(body: bytes, names: Names) -> ArrieroError:
    try:
        message, param, code = _parts(msgspec.json.decode(body))
    except (ValueError, msgspec.DecodeError, RecursionError):
        message, param, code = "", None, None
    message = names.clean_message(message) or "the upstream refused the request"
    param = None if param is None else names.clean_message(param)
    if code == ContextOverflow.code or "maximum context length" in message:
        return ContextOverflow(message, param=param)
    return InvalidRequest(message, param=param)


def _parts(answer: Any) -> tuple[str, str | None, str | None]:
    """Return message, param and code of OpenAI's error form, vLLM's flat one, and FastAPI's `detail`."""
    said = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(said, dict):
        return (said if isinstance(said, str) else ""), None, None
    message = said.get("message", said.get("detail", ""))
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode()
    return message, _text(said.get("param")), _text(said.get("code"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(retry_after: str) -> int:
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 6:
        return min(max(int(retry_after), 1), _MAX_RETRY_AFTER_S)
    return 1
