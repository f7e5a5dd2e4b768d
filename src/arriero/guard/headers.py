"""Headers that pass, in both directions; all others are left out.

Nothing of the caller's framing, cookies or keys reaches an upstream, and nothing that an upstream says of
itself reaches a caller.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Header = tuple[bytes, bytes]

CROPPED = b"x-cropped"
"""Names the limits that were lowered: `x-cropped: max_tokens=128`."""

_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_SECONDS = re.compile(rb"[0-9]{1,5}")
_FIXED = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))


class Media(Enum):
    """What an answer is, by its content type; the value is how we call it."""

    JSON = b"application/json"
    EVENTS = b"text/event-stream"
    LINES = b"application/x-ndjson"
    OTHER = b""

    __hash__ = object.__hash__  # members are looked up for each answer


_UNBUFFERED = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_ANSWER_HEADERS: dict[Media, tuple[Header, ...]] = {
    Media.JSON: ((b"content-type", Media.JSON.value),),
    Media.EVENTS: ((b"content-type", Media.EVENTS.value), *_UNBUFFERED),
    Media.LINES: ((b"content-type", Media.LINES.value), *_UNBUFFERED),
    Media.OTHER: (),
}
_MEDIA = {media.value: media for media in Media if media is not Media.OTHER}


@lru_cache(maxsize=64)
def media_of(content_type: bytes) -> Media:
    """Return what a content type says, whatever its case and parameters."""
    return _MEDIA.get(content_type.partition(b";")[0].strip().lower(), Media.OTHER)


def upstream_headers(caller: Iterable[Header], *, stream: bool, authorization: bytes | None) -> list[Header]:
    """Return the headers of a request, less host and length; `authorization` is the upstream's own key."""
    headers = [*_FIXED, (b"accept", Media.EVENTS.value if stream else Media.JSON.value)]
    if authorization is not None:
        headers.append((b"authorization", authorization))
    traces = [value for name, value in caller if name.lower() == b"traceparent"]
    if len(traces) == 1 and _TRACE_PARENT.fullmatch(traces[0]):
        headers.append((b"traceparent", traces[0]))
    return headers


def answer_headers(upstream: Mapping[bytes, bytes], media: Media, *, cropped: str = "") -> tuple[Header, ...]:
    """Return the headers of an answer, less its length; the server's own come on top.

    upstream: the upstream's, by their names in small letters. cropped: `Checked.cropped`.
    """
    headers = _ANSWER_HEADERS[media]
    if cropped:
        headers = (*headers, (CROPPED, cropped.encode()))
    seconds = upstream.get(b"retry-after")
    return (
        headers
        if seconds is None or not _SECONDS.fullmatch(seconds)
        else (*headers, (b"retry-after", seconds))
    )
