"""A request body as its top-level members, read strictly, and written as they were spelt.

A body in the one canonical spelling (shortest escapes and numbers) is proved by writing it again: had a
name been there twice at any depth, what was read would be written shorter. Of any other body two parsers
must agree: the standard one reads the whole text and finds double names, numbers out of range and deep
nesting; msgspec cuts the same bytes into members and refuses lone surrogates. What is sent is put together
from what was read, so that an upstream's parser never sees bytes that were not read here.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn

import msgspec

from arriero.errors import InvalidRequest, PayloadTooLarge

MAX_DEPTH = 64
LARGE_BYTES = 256 << 10
"""Bodies from this size on are read in a thread: 4 MiB of small objects take half a second."""

_ANY = msgspec.json.Decoder()
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode


class Body(msgspec.Struct, eq=False):
    """The members of one request, in their order. Its one user may change them until they are sent.

    `values` is for reading. `_raws` holds their spellings, None where those are canonical.
    """

    values: dict[str, Any]
    _raws: dict[str, msgspec.Raw] | None
    most_bytes: int | None = None
    """A bound of `size` for all members together that were read and not set since; None = not known."""

    def get(self, name: str) -> Any:
        """Return a member's value; None if it is null or not there."""
        return self.values.get(name)

    def size(self, name: str) -> int:
        """Return how many bytes the text of a member has at most, once a tokenizer has normalised it.

        That is its spelling, or three times that: NFC makes up to three bytes of one that is not ASCII.
        An escape is as long as what may come of it.
        """
        if name not in self.values:
            return 0
        return _most_bytes(_encode(self.values[name]) if self._raws is None else bytes(self._raws[name]))

    def put(self, name: str, value: Any) -> None:
        """Set a member in its place, or add it at the end."""
        self.values[name] = value
        if self._raws is not None:
            self._raws[name] = msgspec.Raw(_encode(value))

    def drop(self, name: str) -> None:
        """Take a member out, if it is there."""
        self.values.pop(name, None)
        if self._raws is not None:
            self._raws.pop(name, None)

    def only(self, *names: str) -> Body:
        """Return a new body with those of the named members that are here."""
        kept = [name for name in names if name in self.values]
        raws = None if self._raws is None else {name: self._raws[name] for name in kept}
        return Body({name: self.values[name] for name in kept}, raws)

    def encoded(self) -> bytes:
        """Write the body: untouched members byte for byte, no whitespace between members."""
        return _encode(self.values if self._raws is None else self._raws)


def read_body(data: bytes, *, max_bytes: int) -> Body:
    """Read a body, whatever its content type says. Raises InvalidRequest, PayloadTooLarge."""
    if len(data) > max_bytes:
        raise PayloadTooLarge(f"the request body is longer than {max_bytes} bytes")
    try:
        values, raws = _read_canonical(data) or (_read_whole(data.decode()), _MEMBERS.decode(data))
    except RecursionError as exc:
        raise _too_deep() from exc
    except (ValueError, msgspec.DecodeError) as exc:  # not UTF-8, not JSON, thousands of digits
        raise InvalidRequest(f"the request body is not valid JSON: {exc}") from exc
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _require_shallow(values)
    return Body(values, raws, _most_bytes(data))


async def read_aside(data: bytes, *, max_bytes: int) -> Body:
    """Read a body as `read_body` does, a large one without holding up the event loop."""
    if len(data) < LARGE_BYTES:
        return read_body(data, max_bytes=max_bytes)
    return await asyncio.to_thread(read_body, data, max_bytes=max_bytes)


def _most_bytes(spelling: bytes) -> int:
    return len(spelling) if spelling.isascii() else 3 * len(spelling)


def _read_canonical(data: bytes) -> tuple[dict[str, Any], dict[str, msgspec.Raw] | None] | None:
    """Return values and spellings of a body that is canonical but for blanks, else None."""
    values = _ANY.decode(data)
    if type(values) is not dict:
        return None
    written = _encode(values)
    if written == data:
        return values, None
    if len(written) < len(data) and written == msgspec.json.format(data, indent=-1):
        return values, _MEMBERS.decode(data)
    return None


def _read_whole(text: str) -> dict[str, Any]:
    values = _WHOLE.decode(text)
    if not isinstance(values, dict):
        raise InvalidRequest("the request body must be a JSON object")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"the request body names a member twice: {twice[:64]}", param=twice[:64])
    return members


def _refused_constant(word: str) -> NoReturn:
    raise InvalidRequest(f"{word} is not a number in JSON")


def _finite(spelling: str) -> float:
    number = float(spelling)
    if not math.isfinite(number):
        raise InvalidRequest(f"the request body holds a number out of range: {spelling[:32]}")
    return number


def _require_shallow(values: dict[str, Any]) -> None:
    level: list[Any] = [values]
    for _ in range(MAX_DEPTH):
        members = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for inner in members for item in inner if isinstance(item, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"the request body is nested deeper than {MAX_DEPTH} levels")


_WHOLE = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refused_constant, parse_float=_finite)
