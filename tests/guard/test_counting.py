"""Prompts counted by asking a `/tokenize`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from arriero.errors import Unavailable
from arriero.guard.body import read_body
from arriero.guard.counting import LocalCounter, UpstreamCounter
from arriero.guard.policy import Policy
from arriero.guard.request import Checked, checked_request
from arriero.guard.routes import Route

POLICY = Policy(public_name="m", upstream_name="up", max_context=100)


def checked(route: Route = Route.COMPLETIONS, **members: Any) -> Checked:
    """Return a checked request."""
    body = read_body(msgspec.json.encode({"model": "m"} | members), max_bytes=1 << 20)
    return checked_request(route, body, POLICY)


class Tokenize:
    """Counts the letters of a prompt, and what it was asked."""

    def __init__(self, answer: Callable[[bytes], bytes | None] | None = None) -> None:
        self.asked: list[bytes] = []
        self._answer = answer

    def __call__(self, body: bytes) -> Awaitable[bytes | None]:
        return self._answered(body)

    async def _answered(self, body: bytes) -> bytes | None:
        self.asked.append(body)
        if self._answer is not None:
            return self._answer(body)
        return msgspec.json.encode({"count": len(msgspec.json.decode(body)["prompt"]), "tokens": []})


async def test_longest_decides() -> None:
    """Of several prompts the longest is the count."""
    tokenize = Tokenize()

    assert await UpstreamCounter(tokenize).count(checked(prompt=["ab", "abcd", "a"])) == 4
    assert len(tokenize.asked) == 3


async def test_kept() -> None:
    """A prompt is counted once, whatever else its request asks for."""
    tokenize = Tokenize()
    counter = UpstreamCounter(tokenize)
    for temperature in (0, 1):
        assert await counter.count(checked(prompt="abc", temperature=temperature)) == 3

    assert len(tokenize.asked) == 1


async def test_no_such_path() -> None:
    """An upstream that cannot count is not asked again at once."""
    tokenize = Tokenize(lambda _: None)
    counter = UpstreamCounter(tokenize)

    assert [await counter.count(checked(prompt="abc")) for _ in range(3)] == [None] * 3
    assert len(tokenize.asked) == 1


def _unavailable(_: bytes) -> bytes:
    raise Unavailable("gone")


@pytest.mark.parametrize(
    "answer",
    [lambda _: b"<html>", lambda _: b"{}", lambda _: b'{"count":"3"}', lambda _: b"\xff", _unavailable],
)
async def test_bad_answer(answer: Callable[[bytes], bytes]) -> None:
    """An answer that is no count is none, and is not kept."""
    tokenize = Tokenize(answer)
    counter = UpstreamCounter(tokenize)

    assert [await counter.count(checked(prompt="abc")) for _ in range(2)] == [None] * 2
    assert len(tokenize.asked) == 2


async def test_uncountable() -> None:
    """A request that `/tokenize` cannot count is not asked about."""
    tokenize = Tokenize()

    assert await UpstreamCounter(tokenize).count(checked(Route.RESPONSES, input="abc")) is None
    assert tokenize.asked == []


class Letters:
    """Counts letters in place of tokens; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def count(self, prompt: Any, *, enough: int) -> int:
        self.asked.append((prompt, enough))
        return 7


CHAT = [{"role": "user", "content": "hi"}]
PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    ("route", "members", "count"),
    [
        (Route.COMPLETIONS, {"prompt": "abc"}, 7),
        (Route.CHAT, {"messages": CHAT}, 7),
        (Route.CHAT, {"messages": CHAT, "chat_template_kwargs": {"enable_thinking": False}}, 7),
        (Route.CHAT, {"messages": CHAT, "tools": [TOOL]}, None),
        (Route.CHAT, {"messages": CHAT, "chat_template_kwargs": {"messages": []}}, None),
        (Route.CHAT, {"messages": CHAT, "continue_final_message": True}, None),
        (Route.CHAT, {"messages": PICTURE}, None),
        (Route.RESPONSES, {"input": "abc"}, 7),
    ],
)
async def test_counted_here(route: Route, members: dict[str, Any], count: int | None) -> None:
    """Plain text is counted here; tools, pictures and odd variables are left to the upstream."""
    counter: Any = Letters()

    assert await LocalCounter(counter, chats=True).count(checked(route, **members)) == count
    assert len(counter.asked) == (count is not None)


async def test_no_template() -> None:
    """Without a template no chat is counted here, but texts are."""
    counter: Any = Letters()
    local = LocalCounter(counter, chats=False)

    assert await local.count(checked(Route.CHAT, messages=CHAT)) is None
    assert await local.count(checked(prompt="abc", max_tokens=40)) == 7
    assert counter.asked[0][1] == 60  # that many fit without cropping
