"""What a chat says, read from deltas: text, calls, hidden text, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from arriero.core import Delta, FinishReason
from arriero.grammar.call_format import HERMES
from arriero.grammar.call_parser import CallParser, Content
from arriero.server.routes.openai.answer import AnswerReader, DeltaWriter, Reasoning, message

CALL = HERMES.written([("f", '{"a":1}')])
THOUGHT = [
    Delta(hidden="Let me"),
    Delta(hidden=" see."),
    Delta(text="Yes"),
    Delta(finish_reason=FinishReason.STOP),
]


def read(reader: AnswerReader, deltas: Sequence[Delta]) -> list[object]:
    return [event for delta in deltas for event in reader.read(delta)]


def test_hidden_text_is_for_those_who_ask() -> None:
    """It comes beside the content, whole and in pieces; without being asked for it does not come."""
    told = AnswerReader(None, include_reasoning=True)
    events = [event for delta in THOUGHT for event in told.read(delta)]
    writer = DeltaWriter()

    assert events == [Reasoning("Let me"), Reasoning(" see."), Content("Yes")]
    assert message(events) == {
        "role": "assistant",
        "content": "Yes",
        "refusal": None,
        "reasoning_content": "Let me see.",
    }
    assert [msgspec.json.decode(writer.delta(event)) for event in events] == [
        {"reasoning_content": "Let me"},
        {"reasoning_content": " see."},
        {"content": "Yes"},
    ]
    assert read(AnswerReader(None, include_reasoning=False), THOUGHT) == [Content("Yes")]


@pytest.mark.parametrize(
    ("text", "reason", "expected"),
    [
        (CALL, FinishReason.STOP, "tool_calls"),
        (CALL, FinishReason.LENGTH, "length"),
        (CALL[:-20], FinishReason.STOP, "stop"),
        ("Hello", FinishReason.STOP, "stop"),
        ("Hello", FinishReason.LENGTH, "length"),
    ],
)
def test_the_reason_tells_of_calls_only_when_they_are_whole(
    text: str, reason: FinishReason, expected: str
) -> None:
    """A stop sequence or the token limit inside of a call is told as such."""
    reader = AnswerReader(CallParser(HERMES), include_reasoning=False)
    read(reader, [Delta(text=text), Delta(finish_reason=reason)])

    assert reader.finish_reason(reason) == expected


def test_an_empty_answer_has_empty_content() -> None:
    """Content is null only beside calls."""
    assert message([]) == {"role": "assistant", "content": "", "refusal": None}
