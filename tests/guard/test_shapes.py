"""Events and answers of every shape, and what of them may be told."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.guard.answer import rewritten_answer
from arriero.guard.names import Names
from arriero.guard.policy import Policy
from arriero.guard.routes import Route
from arriero.guard.shapes import Telling
from arriero.guard.stream import StreamRewriter

SECRET = "QX7/Zebra-42B"
WORDS = ("a", SECRET, f"x{SECRET}y", SECRET.lower(), SECRET.upper(), "Zebra-42B", 'q"\\/\n')
NAMES = ["model", "id", "object", "message", "error", "usage", "data", "root", "parent", "created", "host"]
NAMES += ["system_fingerprint", "item", "type", "metrics", "index", "finish_reason", "tool_calls", "role"]
NAMES += ["function", "logprobs", "prompt_logprobs", "status", "incomplete_details", "x", *WORDS]
RESPONSE = {"id": "r", "model": SECRET, "output": [{"type": "message", "content": [{"type": "output_text"}]}]}
EVENTS = {
    Route.CHAT: {
        "model": SECRET,
        "choices": [{"index": 0, "delta": {"content": "a", "tool_calls": [{"id": "c", "function": {}}]}}],
    },
    Route.COMPLETIONS: {"model": SECRET, "choices": [{"text": "a"}], "usage": {}},
    Route.RESPONSES: {"type": "response.created", "response": RESPONSE, "item": {}, "part": {}},
}


def shape(dice: random.Random, depth: int = 0) -> Any:
    """Any JSON, with an upstream's name in texts and in names of members."""
    match dice.randrange(6 if depth < 4 else 3):
        case 0:
            return dice.choice((None, True, 1, -0.5, 0))
        case 1 | 2:
            return dice.choice(WORDS)
        case 3:
            return [shape(dice, depth + 1) for _ in range(dice.randrange(4))]
        case _:
            return {name: shape(dice, depth + 1) for name in dice.sample(NAMES, dice.randrange(7))}


def disturbed(dice: random.Random, value: Any) -> Any:
    """An event with anything added to any of its objects, or put in place of a member."""
    if isinstance(value, list):
        return [disturbed(dice, item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: disturbed(dice, item) for name, item in value.items()}
    more = {name: shape(dice) for name in dice.sample(NAMES, dice.choice((0, 0, 0, 1, 2)))}
    return more | kept if dice.random() < 0.5 else kept | more


@pytest.mark.parametrize("route", EVENTS)
def test_no_shape_of_event_tells_the_name(route: Route) -> None:
    """Whatever an event looks like, the upstream's name stays inside."""
    dice = random.Random(11)
    telling = Telling(Names(Policy(public_name="p", upstream_name=SECRET)), logprobs=False)
    told_events = 0
    for number in range(1500):
        data = json.dumps(disturbed(dice, EVENTS[route]), ensure_ascii=number % 2 == 0)
        if number % 3 == 0:
            data = data.replace("/", "\\/").replace("Z", "\\u005a")

        out = StreamRewriter(route, telling).feed(f"data: {data}\n\n".encode())

        plain = out.replace(b"\\/", b"/").replace(b"\\u005a", b"Z").lower()
        assert b"zebra" not in plain
        told_events += b'"error"' not in out
    assert told_events > 300


ANSWERS = {
    Route.CHAT: {"model": SECRET, "choices": [{"message": {"role": "assistant", "content": "a"}}]},
    Route.RESPONSES: RESPONSE,
    Route.EMBEDDINGS: {"model": SECRET, "data": [{"embedding": [0.1]}]},
    Route.RERANK: {"model": SECRET, "results": [{"index": 0, "relevance_score": 1.0}]},
    Route.TOKENIZE: {"count": 1, "tokens": [1]},
    Route.MODELS: {"data": [{"id": SECRET, "root": SECRET, "parent": None}]},
}


@pytest.mark.parametrize("route", ANSWERS)
def test_no_shape_of_answer_tells_the_name(route: Route) -> None:
    """Whatever an answer or the error in its place looks like, the upstream's name stays inside."""
    dice = random.Random(12)
    telling = Telling(Names(Policy(public_name="p", upstream_name=SECRET)), logprobs=False)
    told_answers = 0
    for _ in range(400):
        body = json.dumps(disturbed(dice, ANSWERS[route])).encode()
        try:
            said = rewritten_answer(route, body, telling)
            told_answers += 1
        except ArrieroError as exc:
            said = exc.message.encode()

        assert b"zebra" not in said.replace(b"\\/", b"/").lower()
    assert told_answers > 100
