"""What becomes known of one request while it is answered, for the log, the metrics and the key's account.

Whoever learns something writes it here; `observe.py` reads it once, when the answer has ended. Nothing is
done for each delta but what `Meter.add` does.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from arriero.core import Usage
from arriero.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from starlette.requests import HTTPConnection

    from arriero.core import Delta, Embedder, GenerateRequest, Model, Span
    from arriero.errors import ArrieroError

BYTES_OF_TOKEN = 4
"""Of a prompt whose tokens nobody has told."""
TAIL = 4096
"""Bytes of the last piece but one that are looked at."""
_USAGE = b'"usage":'
_PROMPT_TOKENS = re.compile(rb'"(?:prompt|input)_tokens": ?([0-9]{1,15})')
_COMPLETION_TOKENS = re.compile(rb'"(?:completion|output)_tokens": ?([0-9]{1,15})')
_ERROR, _ERROR_EVENT = b'{"error":', b"event: error\n"
_FINISHED = b'"finish_reason":"'  # as guards write it
_FINISH = re.compile(_FINISHED + rb'([a-z_]{1,20})"')
# What nearly all answers end with, in one look. There is no object between the two members.
_USUAL_END = re.compile(
    _FINISH.pattern + rb'[^{]*"usage":{"prompt_tokens":([0-9]{1,15}),(?:"total_tokens":[0-9]{1,15},)?'
    rb'"completion_tokens":([0-9]{1,15})[,}]'
)
NOTHING = Usage()
FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_FINISH_WORDS = {reason.encode(): reason for reason in FINISH_REASONS}


class Meter:
    """Counts the completions of one request, told by their deltas.

    num_choices: completions of each prompt; the prompt counts once.
    prompt_size: bytes of all prompts, from which their tokens are estimated while nobody has told them.
    """

    __slots__ = (
        "_num_choices",
        "_prompt_size",
        "began_at",
        "finish_reasons",
        "stamps",
        "tokens",
        "usages",
    )

    def __init__(
        self,
        num_completions: int = 1,
        *,
        num_choices: int = 1,
        prompt_size: int = 0,
        began_at: float | None = None,
    ) -> None:
        self.began_at = began_at
        """When its prompt came, if that is not when the request did."""
        self.stamps: list[list[float]] = [[] for _ in range(num_completions)]
        """When the deltas of each completion came, on the monotonic clock."""
        self.tokens = [0] * num_completions
        self.usages: list[Usage | None] = [None] * num_completions
        self.finish_reasons: list[str] = []
        self._num_choices = num_choices
        self._prompt_size = prompt_size

    def add(self, index: int, delta: Delta) -> None:
        """Take the next delta of a completion."""
        self.stamps[index].append(monotonic())
        # Models that run elsewhere do not tell tokens: a piece of text stands for one.
        self.tokens[index] += delta.tokens or (1 if delta.text else 0)
        if delta.finish_reason is not None:
            self.finish_reasons.append(delta.finish_reason.value)
            self.usages[index] = delta.usage

    @property
    def is_complete(self) -> bool:
        """Whether every completion has come to its end."""
        return len(self.finish_reasons) == len(self.stamps)

    def told(self) -> Usage:
        """Return what the finished completions have used."""
        prompt = cached = completion = 0
        for index, usage in enumerate(self.usages):
            if usage is not None:
                completion += usage.completion_tokens
                if index % self._num_choices == 0:
                    prompt += usage.prompt_tokens
                    cached += usage.cached_tokens
        return Usage(prompt, completion, cached)

    def used(self) -> Usage:
        """Return what was used up to now: as told, else as many tokens as came, after an estimated prompt."""
        told = self.told()
        unfinished = sum(
            tokens for tokens, usage in zip(self.tokens, self.usages, strict=True) if usage is None
        )
        if told.prompt_tokens or not any(self.stamps):
            return Usage(told.prompt_tokens, told.completion_tokens + unfinished, told.cached_tokens)
        return Usage(_estimated(self._prompt_size), told.completion_tokens + unfinished)

    @property
    def num_tokens(self) -> int:
        """All tokens that were used up to now."""
        used = self.used()
        return used.prompt_tokens + used.completion_tokens


class GuardedMeter(msgspec.Struct, eq=False, gc=False):
    """Counts an answer of an upstream by its pieces, as they are told; what it tells is read at the end."""

    _prompt_size: int
    num_pieces: int = 0
    _before: bytes = b""
    _last: bytes = b""
    _read: int = 0
    _usage: Usage = NOTHING
    _finish_reason: str = ""

    def add(self, piece: bytes) -> None:
        """Take a piece of a stream, or a whole answer."""
        self.num_pieces += 1
        self._before, self._last = self._last, piece

    @property
    def finish_reason(self) -> str:
        """How the answer ended, in the upstream's word; empty when that cannot be seen."""
        if self._read != self.num_pieces:
            self._look()
        return self._finish_reason

    @property
    def has_failed(self) -> bool:
        """Whether the answer ends with the event, or the line, of an error. No text of an answer looks so."""
        return _ERROR in self._last or _ERROR_EVENT in self._last

    def used(self) -> Usage:
        """Return the usage as it was told, else an estimate by the pieces that came."""
        if self._read != self.num_pieces:
            self._look()
        return self._usage

    def _look(self) -> None:
        """Read the last pieces, once. A quote in a text is escaped, so no text passes for these members."""
        self._read = self.num_pieces
        tail = self._before[-TAIL:] + self._last if self._before else self._last
        start = tail.rfind(_FINISHED)
        found = None if start < 0 else _USUAL_END.match(tail, start)
        if found is not None and tail.find(_USAGE, found.end()) < 0:
            self._usage = Usage(int(found[2]), int(found[3]))
        else:
            self._usage = _told_usage(tail) or Usage(_estimated(self._prompt_size), self.num_pieces)
            found = None if start < 0 else _FINISH.match(tail, start)
        self._finish_reason = "" if found is None else _FINISH_WORDS.get(found[1], "")


def _told_usage(tail: bytes) -> Usage | None:
    start = tail.rfind(_USAGE)
    prompt = _PROMPT_TOKENS.search(tail, start) if start >= 0 else None
    if prompt is None:
        return None
    completion = _COMPLETION_TOKENS.search(tail, start)
    return Usage(int(prompt[1]), int(completion[1]) if completion else 0)


class Record(msgspec.Struct, eq=False):
    """One request. `model` and `task` are names of the configuration, never the caller's words."""

    model: str = ""
    task: str = ""
    prompt: Any = None
    """What was asked, where prompts are logged."""
    error: str = ""
    """The code of what went wrong, also in the middle of a stream."""
    is_streamed: bool = False
    meters: list[Meter] = []
    guarded: GuardedMeter | None = None
    extra: Usage = NOTHING
    """What is used beside completions: by embeddings."""
    turns: Usage = NOTHING
    """Of a socket: its earlier turns, which are counted and charged already."""

    def meter(self, requests: Sequence[GenerateRequest], *, num_choices: int = 1) -> Meter:
        """Return the count of the completions of these requests."""
        size = sum(_size(span) for request in requests for span in request.prompt)
        meter = Meter(len(requests) * num_choices, num_choices=num_choices, prompt_size=size)
        self.meters.append(meter)
        return meter

    def turn(self, prompt: str) -> Meter:
        """Return the count of the one completion of an input."""
        meter = Meter(prompt_size=len(prompt))
        self.meters.append(meter)
        return meter

    def used(self) -> Usage:
        """Return the tokens of the request up to now, without those of earlier turns."""
        if self.guarded is not None:
            return self.guarded.used()
        used = self.extra
        for meter in self.meters:
            used = added(used, meter.used())
        return used

    @property
    def finish_reason(self) -> str:
        """How the answer ended; of several completions the last."""
        if self.guarded is not None:
            return self.guarded.finish_reason
        reasons = self.meters[-1].finish_reasons if self.meters else ()
        return reasons[-1] if reasons else ""

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """How its completions ended, as far as that is known."""
        if self.guarded is not None:
            return (self.guarded.finish_reason,) if self.guarded.finish_reason else ()
        return tuple(reason for meter in self.meters for reason in meter.finish_reasons)

    @property
    def first_token_at(self) -> float:
        """When the first delta came, on the monotonic clock; 0 = none, or not upon the request itself."""
        meters = [meter for meter in self.meters if meter.began_at is None]
        return min((stamps[0] for meter in meters for stamps in meter.stamps if stamps), default=0.0)

    @property
    def has_streamed_upstream(self) -> bool:
        """Whether an upstream's answer was passed on as it came."""
        return self.guarded is not None and self.is_streamed and self.guarded.num_pieces > 0


def added(one: Usage, other: Usage) -> Usage:
    """Return the sum of two usages."""
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
    )


def record_in(scope: MutableMapping[str, Any]) -> Record:
    """Return the record of a request."""
    state = scope.setdefault("state", {})
    record: Record | None = state.get("record")
    if record is None:
        record = state["record"] = Record()
    return record


def record_of(connection: HTTPConnection) -> Record:
    """Return the record of a request."""
    return record_in(connection.scope)


def note_target(connection: HTTPConnection, target: Model | Embedder | Task, prompt: Any) -> Record:
    """Write down what answers a request; return its record."""
    if not isinstance(target, Task):
        return note_model(connection, target.name, prompt)
    record = note_model(connection, target.model.name, prompt)
    record.task = target.name
    return record


def note_model(connection: HTTPConnection, name: str, prompt: Any) -> Record:
    """Write down the public name of the model that answers a request; return its record."""
    record = record_of(connection)
    record.model = name
    record.prompt = prompt
    return record


def note_error(scope: MutableMapping[str, Any], error: ArrieroError) -> None:
    """Write down what went wrong, by the code of its class: an upstream's own words are not counted."""
    record_in(scope).error = type(error).code


def _size(span: Span) -> int:
    return len(span.text) + BYTES_OF_TOKEN * len(span.tokens)


def _estimated(size: int) -> int:
    return -(-size // BYTES_OF_TOKEN)
