"""Learnt forms: what they take is what would have been rebuilt, byte for byte, and they take nothing else."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from tests.guard.guarded import UPSTREAM, policy

from arriero.errors import ArrieroError
from arriero.guard.answer import rewritten_answer
from arriero.guard.names import Names
from arriero.guard.routes import Route
from arriero.guard.shapes import Telling
from arriero.guard.stream import StreamRewriter
from arriero.guard.template import MAX_FORMS, Forms
from arriero.testing.upstream import chat, chat_chunk, event

TELLING = Telling(Names(policy(secrets=("10.0.0.7:8000",))), logprobs=False)
TEXTS = [
    "",
    "Hi",
    "Grüße 🫏",
    'a "quote" and \\ more',
    "\n\t\x01",
    UPSTREAM,
    '{"model":"x","id":"y"}',
    "\u2028\x7f",
]
IDS = ["chatcmpl-1", "x" * 64, "x" * 65, UPSTREAM, "Llama-3-1-8B", "a b", "ä", "", 'q"q', "10"]
NUMBERS: list[Any] = [0, 7, 10**14, 10**20, -1, 1.5, None, "7", True]


def answer(text: str, name: str, number: Any, **members: Any) -> bytes:
    """Return an answer with these values in its changing places."""
    told = chat(text, model=UPSTREAM) | {"id": name, "created": number} | members
    told["usage"] = {"prompt_tokens": number, "completion_tokens": 2, "total_tokens": 5}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def outcome(body: bytes, forms: Forms | None) -> bytes | str:
    """Return what is told of an answer, or of its failure."""
    try:
        return rewritten_answer(Route.CHAT, body, TELLING, forms)
    except ArrieroError as exc:
        return exc.message


def taught() -> Forms:
    """Return forms that know the usual answer."""
    forms = Forms(TELLING.names)
    rewritten_answer(Route.CHAT, answer("first", "chatcmpl-0", 1), TELLING, forms)
    return forms


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("number", NUMBERS)
def test_answer_is_told_as_if_nothing_were_learnt(text: str, name: str, number: Any) -> None:
    """Whatever stands in the changing places, the answer is the one that is rebuilt in full."""
    body = answer(text, name, number)

    assert outcome(body, taught()) == outcome(body, None)


def test_usual_answer_has_a_form() -> None:
    """An answer that differs in text, id and counts only is known."""
    assert taught().find(answer("second", "chatcmpl-ab12", 99)) is not None


@pytest.mark.parametrize(
    "members",
    [
        {"model": "other"},
        {"object": UPSTREAM},
        {"system_fingerprint": "fp_other"},
        {"error": {"message": UPSTREAM}},
        {"kv_transfer_params": {"host": UPSTREAM}},
        {"choices": []},
    ],
)
def test_other_members_are_rebuilt(members: dict[str, Any]) -> None:
    """An answer with anything else in it has no learnt form."""
    body = answer("x", "chatcmpl-1", 1, **members)

    assert taught().find(body) is None
    assert outcome(body, taught()) == outcome(body, None)


def test_any_damage_is_seen() -> None:
    """A byte that is changed, lost or added anywhere gives what it gives without learnt forms."""
    dice, body = random.Random(7), answer('tex\\"t ü', "chatcmpl-1", 17)
    for _ in range(3000):
        place, size = dice.randrange(len(body)), dice.randrange(2)
        damaged = (
            body[:place] + dice.choice([b"", b'"', b"\\", b"\xff", b"\n", b"7", b"}"]) + body[place + size :]
        )

        assert outcome(damaged, taught_once) == outcome(damaged, None), damaged


taught_once = taught()


def test_forms_are_few() -> None:
    """However many forms an upstream has, few are kept, and the last one met is known."""
    forms = Forms(TELLING.names)
    for number in range(200):
        rewritten_answer(Route.CHAT, answer("x", "y", 1, service_tier=f"tier{number}"), TELLING, forms)

    assert len(forms._forms) == MAX_FORMS


def chunk(text: str | None, index: int = 0, finish: str | None = None, name: str = "chatcmpl-1") -> bytes:
    """Return an event of a stream."""
    told = chat_chunk(text, model=UPSTREAM, finish=finish) | {"id": name}
    told["choices"][0]["index"] = index
    return event(told)


def told(forms: Forms | None, *events: bytes, choices: int = 1) -> bytes:
    """Return what a stream of these events tells."""
    rewriter = StreamRewriter(Route.CHAT, TELLING, choices=choices, forms=forms)
    return b"".join(rewriter.feed(one) for one in events)


def test_streams_share_what_they_learnt() -> None:
    """A stream tells the same whether or not others have taught its forms, finished ones and broken ones."""
    forms = Forms(TELLING.names)
    streams = [
        [
            chunk("a", name=name),
            chunk("b", name=name),
            chunk(None, finish="stop", name=name),
            event(b"[DONE]"),
        ]
        for name in ("chatcmpl-1", "chatcmpl-2", UPSTREAM)
    ]
    for events in [*streams, *streams]:
        assert told(forms, *events) == told(None, *events)
        assert told(forms, events[0], events[3]) == told(None, events[0], events[3])


def test_completion_too_many_is_seen_by_each_stream() -> None:
    """A form that a stream of several completions taught does not let another have one too many."""
    forms = Forms(TELLING.names)
    assert b'"error"' not in told(forms, chunk("a", index=1), chunk("b", index=1), choices=2)

    assert b'"error"' in told(forms, chunk("a", index=1))


def test_many_events_at_once() -> None:
    """Events that come together are told as those that come one by one."""
    events = [chunk(text) for text in ("a", "b", 'q"', "ü", "\\", "x" * 500)]

    assert told(None, *events[:2], b"".join(events)) == told(None, *events[:2], *events)
