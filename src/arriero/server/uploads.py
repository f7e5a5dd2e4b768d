"""Documents as they are sent: a raw body, or the parts of a form; to the sources that a memory takes."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from arriero.errors import InvalidRequest, PayloadTooLarge, UnreadableDocument
from arriero.extract.detect import format_of
from arriero.memory.job import Source
from arriero.memory.records import Attribute, comparable
from arriero.server.body import beside, bounded_stream
from arriero.server.errors import UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.datastructures import FormData
    from starlette.requests import Request

MULTIPART = "multipart/form-data"
UNSAID = ("application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
"""Types that say nothing of a document; the last is what curl sends with any data."""
MAX_FILES = 100
MAX_FIELDS = 20
FIELD_BYTES = 64 * 1024
MAX_ATTRIBUTES = 64
QUOTED_NAME = re.compile(r'filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
PLAIN_NAME = re.compile(r"filename=([^;\s\"]+)", re.IGNORECASE)
ENCODED_NAME = re.compile(r"filename\*=utf-8''([^;\s]+)", re.IGNORECASE)


def is_form(request: Request) -> bool:
    """Whether the body is a form with files."""
    return _media_type(request) == MULTIPART


async def raw_source(request: Request, *, max_bytes: int) -> Source:
    """Return the document in the body; its name is `?name=`, the content disposition's, or its digest.

    Raises UnsupportedMediaType, PayloadTooLarge, InvalidRequest.
    """
    query = request.query_params
    name = query.get("name") or file_name(request.headers.get("content-disposition", ""))
    media_type = _accepted(request.headers.get("content-type"), name)
    data = b"".join([piece async for piece in bounded_stream(request, max_bytes)])
    return Source(
        name=name or await _own_name(data),
        data=data,
        media_type=media_type,
        title=query.get("title", ""),
        attributes=attributes_of(query.get("attributes")),
    )


async def form_sources(request: Request, *, max_bytes: int) -> list[Source]:
    """Return the files of a form; its fields `title` and `attributes` are of all of them.

    Raises UnsupportedMediaType, PayloadTooLarge, InvalidRequest.
    """
    form = await read_form(request, max_bytes + FIELD_BYTES)
    try:
        title, attributes = form.get("title"), form.get("attributes")
        fields = attributes_of(attributes if isinstance(attributes, str) else None)
        files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
        if not files:
            raise InvalidRequest("the form has no file", param="file")
        sources = []
        for file in files:
            media_type = _accepted(file.content_type, file.filename)
            data = await file.read()
            sources.append(
                Source(
                    name=file.filename or await _own_name(data),
                    data=data,
                    media_type=media_type,
                    title=title if isinstance(title, str) else "",
                    attributes=fields,
                )
            )
        return sources
    finally:
        await form.close()


async def read_form(request: Request, limit: int) -> FormData:
    """Return a form of at most `limit` bytes, to be closed. Raises PayloadTooLarge, InvalidRequest."""
    if not is_form(request):
        raise InvalidRequest(f"the body must be a form: Content-Type: {MULTIPART}")
    stream: AsyncGenerator[bytes, None] = bounded_stream(request, limit)
    parser = MultiPartParser(
        request.headers, stream, max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=FIELD_BYTES
    )
    try:
        return await parser.parse()
    except MultiPartException as exc:
        raise InvalidRequest(f"the form cannot be read: {exc.message}") from exc
    except PayloadTooLarge:
        raise
    except ValueError as exc:
        raise InvalidRequest("the form cannot be read") from exc


def attributes_of(text: str | None) -> dict[str, Attribute]:
    """Return attributes out of a JSON object. Raises InvalidRequest."""
    if not text:
        return {}
    try:
        found = comparable(msgspec.json.decode(text.encode(errors="replace"), type=dict[str, Attribute]))
    except (msgspec.DecodeError, RecursionError, OverflowError) as exc:
        raise InvalidRequest(f"attributes: {exc}", param="attributes") from exc
    if len(found) > MAX_ATTRIBUTES or any(not key or len(key) > 256 for key in found):
        raise InvalidRequest(
            f"attributes: at most {MAX_ATTRIBUTES}, with names of 1 to 256 characters", param="attributes"
        )
    return found


def file_name(disposition: str) -> str:
    """Return the file name of a content disposition; "" when there is none."""
    if found := ENCODED_NAME.search(disposition):
        return unquote(found[1])
    if found := QUOTED_NAME.search(disposition):
        return re.sub(r"\\(.)", r"\1", found[1])
    return found[1] if (found := PLAIN_NAME.search(disposition)) else ""


def _accepted(media_type: str | None, name: str | None) -> str | None:
    """Return the media type to go by; None = the name says. Raises UnsupportedMediaType."""
    plain = (media_type or "").partition(";")[0].strip().lower()
    if not plain or plain in UNSAID:
        if name and "." in name:
            return None
        raise UnsupportedMediaType("say what the document is: a content type, or a name with an ending")
    if not plain.startswith("text/") and format_of(plain) is None:
        raise UnsupportedMediaType(f"documents of type {plain[:80]} are not read")
    return media_type


def refused(error: UnreadableDocument) -> Exception:
    """Return the error to answer with: a format that is not read is a wrong media type."""
    return UnsupportedMediaType(error.message) if error.reason == "unsupported" else error


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _own_name(data: bytes) -> str:
    digest = await beside(len(data), partial(hashlib.sha256, data))
    return f"sha256:{digest.hexdigest()}"
