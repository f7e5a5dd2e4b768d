"""Request bodies: read within the bound, decoded into msgspec Structs, refused by name.

OpenAI's and our own routes answer 400 for whatever is wrong with a body; Poly's routes answer 400 for
bad JSON and 422 for a missing or mistyped member, with Poly's words. Large bodies are read beside the event
loop; as their parser lets nobody else run before it is done, they may not be of too many parts.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from arriero.errors import InvalidRequest, PayloadTooLarge
from arriero.guard.body import LARGE_BYTES
from arriero.server.context import context_of
from arriero.server.errors import Unprocessable, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request

T = TypeVar("T")

MAX_PARTS = 100_000
"""Lists, objects and texts in a body: 50 ms of reading at worst. Numbers take a tenth as long."""

MISSING = re.compile(r"missing required field `([^`]+)`")
UNKNOWN = re.compile(r"unknown field `([^`]+)`")
UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
PLACE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")


async def read_body(request: Request) -> bytes:
    """Return the whole body, of JSON. Raises PayloadTooLarge before more than the bound has been read.

    Raises InvalidRequest for one of too many parts.
    """
    limit = context_of(request).max_body_bytes
    body = b"".join([piece async for piece in bounded_stream(request, limit)])
    if len(body) >= LARGE_BYTES:  # a smaller one has room for fewer
        await asyncio.to_thread(_require_few_parts, body)
    return body


async def beside(size: int, work: Callable[[], T]) -> T:
    """Do work on so many bytes or items; if they are many in a thread, beside the event loop."""
    return work() if size < LARGE_BYTES else await asyncio.to_thread(work)


def _require_few_parts(body: bytes) -> None:
    # What looks like parts stands in texts, nearly always when it is much.
    most_parts = body.count(b'"') // 2 + body.count(b"[") + body.count(b"{")
    if most_parts > MAX_PARTS and num_parts(body) > MAX_PARTS:
        raise InvalidRequest(f"the request body holds more than {MAX_PARTS} lists, objects and texts")


def num_parts(body: bytes) -> int:
    """Return how many lists, objects and texts, names of members among them, stand in JSON."""
    plain = np.frombuffer(body.replace(rb"\\", b"").replace(rb"\"", b""), np.uint8)
    quotes = plain == ord('"')
    is_inside = np.logical_xor.accumulate(quotes)
    brackets = (plain | 0x20) == ord("{")  # and "["
    return int(np.count_nonzero(quotes)) // 2 + int(np.count_nonzero(brackets & ~is_inside))


async def bounded_stream(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the body. Raises PayloadTooLarge before more than `limit` bytes have been read."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        yield piece


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"Failed to buffer the request body: length limit exceeded ({limit} bytes are allowed)"
    )


async def read_json_bytes(request: Request) -> bytes:
    """Return the body of a JSON request. Raises UnsupportedMediaType, PayloadTooLarge, InvalidRequest."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType("Expected request with `Content-Type: application/json`")
    if any(coding.lower() != "identity" for coding in request.headers.getlist("content-encoding")):
        raise UnsupportedMediaType("Expected request without `Content-Encoding`")
    return await read_body(request)


async def read_json(request: Request, kind: type[T]) -> T:
    """Return the body as a value of `kind`. Raises InvalidRequest whose `param` names the member."""
    body = await read_json_bytes(request)
    return await beside(len(body), partial(decoded, body, kind))


def decoded(body: bytes, kind: type[T]) -> T:
    """Return JSON as a value of `kind`. Raises InvalidRequest whose `param` names the member."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        message, param = described(exc)
        raise InvalidRequest(message, param=param) from exc
    except UNREADABLE as exc:
        raise InvalidRequest(f"the request body is not valid JSON: {exc}") from exc


async def read_poly_json(request: Request, kind: type[T]) -> T:
    """Return the body as a value of `kind`, refusing as Poly does."""
    try:
        body = await read_json_bytes(request)
        return await beside(len(body), partial(msgspec.json.decode, body, type=kind))
    except msgspec.ValidationError as exc:
        message, param = described(exc)
        text = f"Failed to deserialize the JSON body into the target type: {message}"
        raise Unprocessable(text, param=param) from exc
    except UNREADABLE as exc:
        raise InvalidRequest(f"Failed to parse the request body as JSON: {exc}") from exc


def described(exc: msgspec.ValidationError) -> tuple[str, str | None]:
    """Return the message and the member that a validation error is about.

    msgspec says "Object missing required field `x` - at `$.a`", "Expected `int`, got `str` - at `$.a[0]`".
    """
    text = str(exc)
    missing = MISSING.search(text)
    place = PLACE.search(text)
    where = place.group(1) if place else ""
    if missing:
        param = ".".join(part for part in (where, missing.group(1)) if part)
        return f"missing field `{param}`", param
    if unknown := UNKNOWN.search(text):
        param = ".".join(part for part in (where, unknown.group(1)) if part)
        return f"unknown member `{param}`", param
    message = PLACE.sub("", text)
    return (f"{where}: {message}", where) if where else (message, None)
