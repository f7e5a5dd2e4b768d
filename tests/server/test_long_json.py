"""Long answers: the JSON that the encoder would write, others served in between, whole over a socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from arriero.core import Token
from arriero.server.long_json import AT_ONCE, drained, long_response
from arriero.testing.serving import client_of, served

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

LONG = 100_000


async def written(value: object) -> tuple[int, list[bytes]]:
    """Return the length that the answer announces, and its parts."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        raise AssertionError("an answer asks for nothing")

    response = await long_response(value)
    await response({"type": "http"}, receive, send)
    head, *parts = messages
    assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]
    return int(dict(head["headers"])[b"content-length"]), [part["body"] for part in parts]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({}, {}),
        ({"a": iter(())}, {"a": []}),
        ({"a": [], "b": {"c": None}, 'é"': "é"}, {"a": [], "b": {"c": None}, 'é"': "é"}),
        ({"a": iter([1]), "b": 2}, {"a": [1], "b": 2}),
        ([{"a": map(str, range(3))}, iter("xy"), 1.5], [{"a": ["0", "1", "2"]}, ["x", "y"], 1.5]),
        ({"a": iter([Token("b", 7), [], {}])}, {"a": [{"text": "b", "token": 7}, [], {}]}),
        (iter(range(AT_ONCE)), list(range(AT_ONCE))),
        (iter(range(AT_ONCE + 1)), list(range(AT_ONCE + 1))),
    ],
)
async def test_iterators_are_written_as_lists(value: object, plain: object) -> None:
    """At any depth, empty or not; all else is written as ever, and the announced length is the true one."""
    length, parts = await written(value)

    assert json.loads(b"".join(parts)) == plain
    assert length == sum(map(len, parts))


async def test_others_are_served_while_a_long_list_is_written() -> None:
    """The loop turns many times before the answer is there, which comes in as many parts."""
    turns = 0

    async def turning() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(turning())
    _, parts = await written({"a": (f"item {number}" for number in range(LONG))})
    other.cancel()

    assert turns > 2
    assert len(parts) > 2
    assert len(json.loads(b"".join(parts))["a"]) == LONG


def test_what_is_written_goes() -> None:
    """The items come in their order, and each has left its list by then."""
    items = ["a", "b", "c"]
    left = [(item, len(items)) for item in drained(items)]

    assert left == [("a", 2), ("b", 1), ("c", 0)]


async def test_a_long_answer_comes_whole() -> None:
    """Megabytes arrive over a socket, with their length, and the connection serves on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response: Any = await long_response({"a": iter(range(LONG))})
        await response(scope, receive, send)

    async with served(app) as url, client_of(url) as client:
        answers = [await client.get("/") for _ in range(2)]

    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.json() == {"a": list(range(LONG))}
