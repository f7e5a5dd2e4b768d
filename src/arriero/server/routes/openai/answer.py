"""Reads what a model says in a chat: text, tool calls, hidden text; whole or as the pieces of a stream."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from arriero.core import FinishReason
from arriero.grammar.call_parser import Arguments, CallBegin, CallParser, Content

if TYPE_CHECKING:
    from arriero.core import Citation, Delta


class Reasoning(msgspec.Struct, frozen=True):
    """Text that a task hides, for callers who ask for it."""

    text: str


Event = Content | CallBegin | Arguments | Reasoning


class AnswerReader:
    """Turns the deltas of one choice into events. parser: None = there are no tools."""

    def __init__(self, parser: CallParser | None, include_reasoning: bool) -> None:
        self._parser = parser
        self._include_reasoning = include_reasoning

    @property
    def may_call(self) -> bool:
        """Whether there are tools to call."""
        return self._parser is not None

    def read(self, delta: Delta) -> Sequence[Event]:
        """Return what the next delta says."""
        if delta.hidden:
            return [Reasoning(delta.hidden)] if self._include_reasoning else []
        if self._parser is None:
            return [Content(delta.text)] if delta.text else []
        events = self._parser.feed(delta.text)
        return events if delta.finish_reason is None else [*events, *self._parser.finish()]

    def finish_reason(self, reason: FinishReason) -> str:
        """Return OpenAI's word for the end: `tool_calls` when the answer ended with a whole call."""
        is_called = self._parser is not None and self._parser.has_calls
        return "tool_calls" if is_called and reason is FinishReason.STOP else reason.value


def message(events: Sequence[Event]) -> dict[str, Any]:
    """Return the whole message; its content is null when there are only calls."""
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    reasoning: list[str] = []
    for event in events:
        match event:
            case Content(text):
                texts.append(text)
            case CallBegin(name):
                calls.append(call_object(name))
            case Arguments(text):
                calls[-1]["function"]["arguments"] += text
            case Reasoning(text):
                reasoning.append(text)
            case _:
                assert_never(event)
    content = "".join(texts)
    said: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else "")}
    said["refusal"] = None
    if reasoning:
        said["reasoning_content"] = "".join(reasoning)
    return {**said, "tool_calls": calls} if calls else said


def file_citations(citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """Return citations as OpenAI's annotations of an answer; `index` counts them."""
    return [
        {
            "type": "file_citation",
            "index": index,
            "file_id": citation.document_id,
            "filename": citation.name,
            "file_citation": msgspec.to_builtins(citation),
        }
        for index, citation in enumerate(citations)
    ]


class DeltaWriter:
    """Writes the events of one choice as OpenAI's deltas. Owns the index of the call."""

    def __init__(self) -> None:
        self._index = -1

    def delta(self, event: Event) -> bytes:
        """Return the delta of the next event, as JSON."""
        match event:
            case Content(text):
                return b'{"content":' + msgspec.json.encode(text) + b"}"
            case Reasoning(text):
                return b'{"reasoning_content":' + msgspec.json.encode(text) + b"}"
            case CallBegin(name):
                self._index += 1
                return self._call_delta(call_object(name))
            case Arguments(text):
                return self._call_delta({"function": {"arguments": text}})
            case _:
                assert_never(event)

    def _call_delta(self, said: dict[str, Any]) -> bytes:
        return msgspec.json.encode({"tool_calls": [{"index": self._index, **said}]})


def call_object(name: str) -> dict[str, Any]:
    """Return a call with an id of its own and no arguments yet."""
    id = f"call_{uuid.uuid4().hex[:24]}"
    return {"id": id, "type": "function", "function": {"name": name, "arguments": ""}}
