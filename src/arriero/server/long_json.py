"""Long answers as JSON: written a little at a time, with turns of the event loop in between, and sent so.

A thread would not help: the encoder lets nobody else run before it is done. Nor is an answer put together:
each copy of megabytes takes its time, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import msgspec
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")

AT_ONCE = 16
TURN_S = 0.002
"""Of each long answer in a turn of the loop; as many may be under way as there are places."""


async def long_response(value: object) -> Response:
    """Answer with JSON. An iterator stands for a list whose items are made as they are written."""
    writer = _Writer()
    await writer.write(value)
    return _Parts(writer.parts())


def drained(items: list[T]) -> Iterator[T]:
    """Yield the items of a list that nobody else uses, and let each go: all at once would take long, too."""
    items.reverse()
    while items:
        yield items.pop()


class _Writer:
    """Owns what is written; a part is what was written in one turn."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._pieces: list[bytes] = []
        self._began_at = monotonic()

    def parts(self) -> list[bytes]:
        """Return all that was written."""
        return [*self._parts, b"".join(self._pieces)]

    async def write(self, value: object) -> None:
        """Write a value; only in dictionaries and lists may iterators stand."""
        match value:
            case dict():
                await self._write_dict(value)
            case list():
                await self._write_list(value)
            case Iterator():
                await self._write_long_list(value)
            case _:
                self._pieces.append(msgspec.json.encode(value))

    async def _write_dict(self, members: dict[str, object]) -> None:
        self._pieces.append(b"{")
        for index, (name, member) in enumerate(members.items()):
            self._pieces += (b"," if index else b"", msgspec.json.encode(name), b":")
            await self.write(member)
        self._pieces.append(b"}")

    async def _write_list(self, items: list[object]) -> None:
        self._pieces.append(b"[")
        for index, item in enumerate(items):
            self._pieces.append(b"," if index else b"")
            await self.write(item)
        self._pieces.append(b"]")

    async def _write_long_list(self, items: Iterator[object]) -> None:
        before = b"["
        while few := list(islice(items, AT_ONCE)):
            self._pieces += (before, msgspec.json.encode(few)[1:-1])
            before = b","
            if monotonic() - self._began_at >= TURN_S:
                await self._turn()
        self._pieces.append(b"[]" if before == b"[" else b"]")

    async def _turn(self) -> None:
        self._parts.append(b"".join(self._pieces))
        self._pieces.clear()
        await asyncio.sleep(0)
        self._began_at = monotonic()


class _Parts(Response):
    media_type = "application/json"

    def __init__(self, parts: list[bytes]) -> None:
        super().__init__(headers={"content-length": str(sum(map(len, parts)))})
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(head)
        *first, last = self._parts
        for part in first:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": last})
