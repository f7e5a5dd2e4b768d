"""The answer of an upstream to a task's request, read as it comes: from its events to text that may be shown.

The guard has rewritten the events, and a stream that breaks ends with one that says so; here that becomes
an error. Stop sequences and private tokens are this side's, whatever the upstream makes of them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from arriero.core import FinishReason, Usage
from arriero.engine.text_filter import VisibleText
from arriero.errors import ArrieroError, EngineError
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.sse import Decoder, EventTooLong

_DONE = "[DONE]"


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    stop_reason: Any = None

    @property
    def said(self) -> str:
        """The text of either form, of a stream or of a whole answer."""
        message = self.delta or self.message
        return self.text or (message.content if message else None) or ""


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None


class _Error(msgspec.Struct):
    message: str = ""
    code: str | None = None


class _Chunk(msgspec.Struct):
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    error: _Error | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class Answer:
    """What has come of one answer.

    stops: end it. privates: are taken out of it; in a constrained one they are a failure.
    usage: None until the upstream has told it.
    is_cut: the upstream goes on after a stop sequence, so that it must be let go.
    """

    def __init__(self, stops: tuple[str, ...], privates: tuple[str, ...], *, constrained: bool) -> None:
        self.finish_reason: FinishReason | None = None
        self.stop_sequence: str | None = None
        self.usage: Usage | None = None
        self.is_cut = False
        self._stops = frozenset(stops)
        self._forbidden = frozenset(privates if constrained else ())
        self._visible = VisibleText((*stops, *self._forbidden), () if constrained else privates)
        self._events = Decoder()
        self._shown: list[str] = []

    @property
    def text(self) -> str:
        """All that was shown."""
        return "".join(self._shown)

    def feed(self, data: bytes) -> str:
        """Return the text that the next bytes of a stream make certain. Raises ServiceError."""
        try:
            events = self._events.feed(data)
        except EventTooLong as exc:
            raise UpstreamFailed("the upstream sent an event that is too long") from exc
        return "".join(self._told(event.data.encode()) for event in events if event.data != _DONE)

    def whole(self, body: bytes) -> str:
        """Return the text of an answer that did not come as a stream. Raises ServiceError."""
        return self._told(body)

    def end(self) -> str:
        """Return the text that was held back; nothing more comes. Raises ServiceError."""
        if self.stop_sequence is not None:
            return ""
        if self.finish_reason is None:
            raise UpstreamFailed("the upstream ended the answer before it was complete")
        return self._show(self._visible.flush().text)

    def _told(self, payload: bytes) -> str:
        try:
            chunk = _CHUNK.decode(payload)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise UpstreamFailed("the upstream sent what is no event of an answer") from exc
        if chunk.error is not None:
            raise _failure(chunk.error)
        if chunk.usage is not None:
            cached = chunk.usage.prompt_tokens_details or _Cached()
            usage = chunk.usage
            self.usage = Usage(usage.prompt_tokens, usage.completion_tokens, cached.cached_tokens or 0)
        return "".join(map(self._chosen, chunk.choices))

    def _chosen(self, choice: _Choice) -> str:
        text = self._filtered(choice.said)
        if choice.finish_reason is not None and self.stop_sequence is None:
            is_length = choice.finish_reason == FinishReason.LENGTH.value
            self.finish_reason = FinishReason.LENGTH if is_length else FinishReason.STOP
            if isinstance(choice.stop_reason, str) and choice.stop_reason in self._stops:
                text += self.end()
                self.stop_sequence = choice.stop_reason
        return text

    def _filtered(self, said: str) -> str:
        if self.stop_sequence is not None:
            self.is_cut = self.is_cut or bool(said)
            return ""
        text, found = self._visible.feed(said)
        if found in self._forbidden:
            raise EngineError("the answer cannot match its constraint without a private token")
        if found is not None:
            self.stop_sequence, self.finish_reason = found, FinishReason.STOP
        return self._show(text)

    def _show(self, text: str) -> str:
        self._shown.append(text)
        return text


def _failure(said: _Error) -> ArrieroError:
    kind = UpstreamTimeout if said.code == UpstreamTimeout.code else UpstreamFailed
    return kind(said.message or "the upstream failed")
