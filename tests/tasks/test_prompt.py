"""What a task feeds to its model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from arriero.config.schema import TaskConfig
from arriero.core import Role, Span
from arriero.errors import InvalidRequest, PrivateTokenFound
from arriero.tasks.prompt import prelude_spans, replay_spans, turn_spans

TASK = TaskConfig(model="m", prelude="P", prefix="<u>", postfix="<a>", private_tokens=("<end>",))


def own(text: str, role: Role | None = None) -> Span:
    return Span(text=text, special=True, role=role)


def said(text: str, role: Role | None = None) -> Span:
    return Span(text=text, role=role)


def users(*spans: Span) -> tuple[Span, ...]:
    """A turn: the user's message begins with its first part."""
    return (msgspec.structs.replace(spans[0], role=Role.USER), *spans[1:])


@pytest.mark.parametrize(
    ("prelude", "expected"),
    [(None, ()), ("", ()), (" ", (Span(text=" ", special=True, shared=True, role=Role.SYSTEM),))],
)
def test_an_empty_prelude_is_none(prelude: str | None, expected: tuple[Span, ...]) -> None:
    """A prelude is trusted and shared; an absent or empty one feeds nothing."""
    assert prelude_spans(TaskConfig(model="m", prelude=prelude)) == expected


@pytest.mark.parametrize(
    ("config", "text", "recall", "expected"),
    [
        ({}, "hi", "", users(said("hi"))),
        ({}, "", "", ()),
        ({"prefix": "a"}, "hi", "", users(own("a"), said("hi"))),
        ({"postfix": "z"}, "hi", "", users(said("hi"), own("z"))),
        ({"prefix": "a", "postfix": "z"}, "", "", users(own("a"), own("z"))),
        ({"prefix": "a", "postfix": "z"}, " hi\n", "r", users(said("r"), own("a"), said(" hi\n"), own("z"))),
    ],
)
def test_a_turn_is_recall_prefix_text_postfix(
    config: dict[str, Any], text: str, recall: str, expected: tuple[Span, ...]
) -> None:
    """The parts stand in this order with nothing between; only the task's own texts are trusted."""
    assert turn_spans(TaskConfig(model="m", **config), text, recall=recall) == expected


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"private_tokens": ("<end>",)}, "<end>"),
        ({"private_tokens": ("<end>",)}, "a <end> b"),
        ({"private_tokens": ("x", "<end>")}, "<end>"),
        ({"private_tokens": ("x",)}, "axb"),
        ({"private_tokens": ("<end>",), "prefix": "a<e"}, "nd>"),
        ({"private_tokens": ("<end>",), "postfix": "d>"}, "a<en"),
        ({"private_tokens": ("<end>",), "prefix": "<e", "postfix": "d>"}, "n"),
    ],
)
def test_private_tokens_in_user_text_are_refused(config: dict[str, Any], text: str) -> None:
    """A private token is refused inside the text and where it is completed by prefix or postfix."""
    with pytest.raises(PrivateTokenFound, match=r"^illegal token encountered$"):
        turn_spans(TaskConfig(model="m", **config), text)


@pytest.mark.parametrize("text", ["", "<en", "<END>", "end>"])
def test_other_text_than_private_tokens_is_fed(text: str) -> None:
    """The task's own private tokens, parts of them and other spellings are no offence."""
    config = TaskConfig(model="m", prefix="<end>", postfix="<end>", private_tokens=("<end>",))

    assert own("<end>") in turn_spans(config, text)[-1:]


def user(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


def system(text: object) -> dict[str, object]:
    return {"role": "system", "content": text}


def assistant(text: object) -> dict[str, object]:
    return {"role": "assistant", "content": text}


def turn(text: str) -> list[Span]:
    return [own("<u>", Role.USER), said(text), own("<a>")]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user("hi")], turn("hi")),
        ([user([{"type": "text", "text": "hi"}])], turn("hi")),
        ([user("a"), user("b")], [*turn("a"), *turn("b")]),
        (
            [user("a"), assistant("b"), user("c")],
            [*turn("a"), said("b", Role.ASSISTANT), own("</s>"), *turn("c")],
        ),
        ([user("a"), assistant("</s>b")], [*turn("a"), said("</s>b", Role.ASSISTANT)]),
        ([user("a"), assistant("")], turn("a")),
        ([system("s"), user("a")], turn("s\n\na")),
        ([system("s"), {"role": "developer", "content": "d"}, user("a")], turn("s\n\nd\n\na")),
        (
            [user("a"), assistant("b"), system("s"), user("c")],
            [*turn("a"), said("b", Role.ASSISTANT), own("</s>"), *turn("s\n\nc")],
        ),
        ([system("s")], turn("s")),
    ],
)
def test_a_chat_is_replayed_as_turns(messages: list[dict[str, object]], expected: list[Span]) -> None:
    """User messages are turns, answers end with the end token, system messages lead the next input."""
    assert replay_spans(TASK, messages, end="</s>") == tuple(expected)


@pytest.mark.parametrize("message", [user("<end>"), system("<end>"), assistant("a<end>"), system("<en")])
def test_private_tokens_are_refused_in_every_message(message: dict[str, object]) -> None:
    """Whatever the caller sends is the caller's text, whoever is said to have written it."""
    task = TaskConfig(model="m", postfix="d>", private_tokens=("<end>",))

    with pytest.raises(PrivateTokenFound):
        replay_spans(task, [message], end="</s>")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "messages is empty"),
        ([user("a"), {"role": "tool", "content": "x"}], r"messages\[1\]\.role is 'tool'"),
        ([{"role": "assistant", "content": None, "tool_calls": [{}]}], r"messages\[0\]: .*tool calls"),
        ([user([{"type": "image_url"}])], r"messages\[0\]\.content\[0\]"),
    ],
)
def test_what_a_task_cannot_replay_is_refused(messages: list[dict[str, object]], words: str) -> None:
    """Tools, images and empty chats are refused by name."""
    with pytest.raises(InvalidRequest, match=words):
        replay_spans(TASK, messages, end="</s>")
