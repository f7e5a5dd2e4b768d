"""Which requests are taken to begin alike."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from arriero.guard.affinity import affinity_of
from arriero.guard.routes import Route

SYSTEM = {"role": "system", "content": "Be brief."}
ASKS = {"role": "user", "content": "Who?"}
SAYS = {"role": "assistant", "content": "Me."}
MORE = {"role": "user", "content": "Why?"}


def affinity(route: Route, **members: Any) -> bytes | None:
    """Return the affinity of a body."""
    return affinity_of(route, msgspec.json.encode({"model": "m"} | members))


@pytest.mark.parametrize(
    ("route", "first", "second"),
    [
        (Route.CHAT, {"messages": [SYSTEM, ASKS]}, {"messages": [SYSTEM, ASKS, SAYS, MORE], "n": 2}),
        (Route.CHAT, {"messages": [ASKS]}, {"messages": [ASKS, SAYS, MORE]}),
        (Route.COMPLETIONS, {"prompt": "x" * 2000}, {"prompt": "x" * 2000 + "more"}),
        (Route.RESPONSES, {"input": [ASKS]}, {"input": [ASKS, SAYS, MORE]}),
    ],
)
def test_alike(route: Route, first: dict[str, Any], second: dict[str, Any]) -> None:
    """A later turn, or a longer prompt, begins as the first did."""
    assert affinity(route, **first) == affinity(route, **second) is not None


@pytest.mark.parametrize(
    ("route", "first", "second"),
    [
        (Route.CHAT, {"messages": [SYSTEM, ASKS]}, {"messages": [SYSTEM, MORE]}),
        (Route.CHAT, {"messages": [ASKS]}, {"messages": [SYSTEM, ASKS]}),
        (Route.COMPLETIONS, {"prompt": "x"}, {"prompt": "y"}),
        (Route.RESPONSES, {"input": "x"}, {"input": "y"}),
        (Route.RESPONSES, {"input": "x"}, {"input": "x", "instructions": "y"}),
    ],
)
def test_different(route: Route, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Another first question is another conversation, whatever the system message."""
    assert affinity(route, **first) != affinity(route, **second)


@pytest.mark.parametrize("messages", [[1], ["x"], [None, {"role": 3}], [{}]])
def test_odd_messages(messages: list[Any]) -> None:
    """Messages that the upstream will refuse have an affinity too."""
    assert affinity(Route.CHAT, messages=messages) is not None


def test_none() -> None:
    """Nothing of an embedding is kept."""
    assert affinity(Route.EMBEDDINGS, input="x") is None
