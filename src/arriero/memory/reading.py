"""Bytes of a document to its text: a little plain text is read here, all else in a shut-in process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.extract import plain
from arriero.extract.detect import Format, charset_of, detect
from arriero.extract.extract import extract
from arriero.extract.limits import Limits

if TYPE_CHECKING:
    from arriero.extract.document import Document

SMALL_BYTES = 1024
"""Up to here a text is read sooner than a process is started."""


async def read(data: bytes, *, name: str, media_type: str | None) -> Document:
    """Return the text of a document with its structure. Raises UnreadableDocument, Unavailable."""
    if len(data) <= SMALL_BYTES and detect(data, name=name, media_type=media_type) is Format.PLAIN:
        return plain.read(data, Format.PLAIN, charset_of(media_type), Limits())
    return await extract(data, name=name, media_type=media_type)
