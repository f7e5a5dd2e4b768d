"""The place of a request in a trace, as the W3C's header `traceparent` writes it, and its span. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Value = str | int | float | tuple[str, ...]

TRACEPARENT = b"traceparent"
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 1
_ZEROS = (b"0" * 32, b"0" * 16)


class Trace(NamedTuple):
    """Which span tells of a request. parent_id: empty where the trace begins here."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes = b""

    @property
    def header(self) -> bytes:
        """The header that makes a request a child of this span."""
        return b"00-%b-%b-01" % (self.trace_id.hex().encode(), self.span_id.hex().encode())


@dataclass(frozen=True, slots=True)
class Span:
    """What is told of one request. Times in nanoseconds since 1970; first_token_ns: 0 = none came."""

    trace: Trace
    name: str
    began_ns: int
    ended_ns: int
    first_token_ns: int
    is_failed: bool
    attributes: Mapping[str, Value]


class Parent(NamedTuple):
    """The span of the caller, and whether it is recorded."""

    trace_id: bytes
    span_id: bytes
    is_sampled: bool


def parent_of(headers: list[tuple[bytes, bytes]]) -> Parent | None:
    """Return what the caller's header names; None without one, or with one that means nothing."""
    given = [value for name, value in headers if name == TRACEPARENT]
    found = _PARENT.fullmatch(given[0]) if len(given) == 1 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest) or trace_id == _ZEROS[0] or span_id == _ZEROS[1]:
        return None
    return Parent(
        bytes.fromhex(trace_id.decode()),
        bytes.fromhex(span_id.decode()),
        bool(int(flags, 16) & _SAMPLED),
    )


def traceparent(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the header with which others are asked for the caller; "" without one that means something."""
    if parent_of(headers) is None:
        return ""
    return next(value for name, value in headers if name == TRACEPARENT).decode("latin-1")


def trace_of(
    parent: Parent | None, *, is_chosen: Callable[[], bool], bits: Callable[[int], int]
) -> Trace | None:
    """Return the trace of a request; None when no span shall tell of it.

    is_chosen: asked where no caller has decided. bits: random ones, for names.
    """
    span_id = (bits(64) or 1).to_bytes(8, "big")
    if parent is not None:
        return Trace(parent.trace_id, span_id, parent.span_id) if parent.is_sampled else None
    return Trace((bits(128) or 1).to_bytes(16, "big"), span_id) if is_chosen() else None
