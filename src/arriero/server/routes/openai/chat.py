"""POST /v1/chat/completions: a chat on a model, through its template, or on a task, through its texts."""

from __future__ import annotations

import time
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from arriero.core import GenerateRequest
from arriero.errors import InvalidRequest
from arriero.guard.routes import Route
from arriero.server.context import context_of, principal_of
from arriero.server.long_json import drained, long_response
from arriero.server.record import note_target
from arriero.server.routes.openai.answer import AnswerReader, DeltaWriter, Event, file_citations, message
from arriero.server.routes.openai.choices import Choice, generations, interleaved, usage_object
from arriero.server.routes.openai.logprobs import chat_logprobs, chat_token
from arriero.server.routes.openai.parameters import read_parameters, sampling
from arriero.server.routes.openai.response_format import asked_constraint
from arriero.server.routes.openai.stream import ChunkTemplate, event_stream
from arriero.server.routes.openai.tools import ToolMembers, ToolUse, tool_use
from arriero.server.routes.ops import json_response
from arriero.server.streaming import answered
from arriero.server.trace import traceparent
from arriero.tasks.bounds import Asked
from arriero.tasks.sampling_overrides import DEFAULT_SAMPLING
from arriero.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from arriero.core import Constraint, Delta
    from arriero.server.context import ModelLike
    from arriero.server.gate import Lane
    from arriero.server.record import Meter


NULL, NOTHING = b"null", b"{}"
BEGIN = b'{"role":"assistant","content":""}'
BEGIN_WITH_TOOLS = b'{"role":"assistant","content":null}'
"""Null, because clients join the pieces: the content of an answer that only calls stays null."""


class ChatRequest(ToolMembers, kw_only=True):
    """The body."""

    route: ClassVar[Route] = Route.CHAT
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, Meta(ge=0)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include_reasoning: bool = False

    @property
    def token_limit(self) -> int | None:
        """The bound on completion tokens; the newer member wins."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def num_logprobs(self) -> int | None:
        """The number of alternatives; None = no log probabilities. Raises InvalidRequest."""
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs:
            raise InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
        return None


async def create(request: Request) -> Response | ASGIApp:
    """Answer a chat, whole or as a stream."""
    body = await read_parameters(request, ChatRequest)
    principal = principal_of(request)
    context = context_of(request)
    target = context.model_or_task(principal, body.model)
    lane = context.lane(principal, target if isinstance(target, Task) else None)
    record = note_target(request, target, body.messages)
    generate, tools = await _request(target, body, principal.tenant)
    trace = traceparent(request.headers.raw)
    streams = generations(target, [generate], body.num_choices, trace=trace)
    meter = record.meter([generate], num_choices=body.num_choices)
    readers = [AnswerReader(tools.parser() if tools else None, body.include_reasoning) for _ in streams]
    if not body.stream:
        return await answered(request, _whole(lane, streams, readers, meter, body))
    chunks = ChatChunks(body, readers)
    return event_stream(lane, streams, chunks, meter, include_usage=body.include_usage)


async def _request(
    target: ModelLike | Task, body: ChatRequest, tenant: str
) -> tuple[GenerateRequest, ToolUse | None]:
    constraint = await asked_constraint(body)
    if isinstance(target, Task):
        return await _task_request(target, body, constraint, tenant), None
    tools = await tool_use(body, target, constraint)
    # Stop sequences end free text only, so that what must match a constraint is whole.
    free_text = tools.free_text if tools else constraint is None
    request = GenerateRequest(
        prompt=await target.render_chat(body.messages, tools=tools.shown if tools else None),
        sampling=sampling(body, DEFAULT_SAMPLING, num_tokens=target.info.num_tokens),
        max_tokens=body.token_limit,
        stop_sequences=(*body.stop_sequences, *target.chat_stop_sequences) if free_text else (),
        tenant=tenant,
        logprobs=body.num_logprobs,
        continued=True,
        min_tokens=body.min_tokens,
        ignore_eos=body.ignore_eos,
        constraint=tools.constraint if tools else constraint,
    )
    return request, tools


async def _task_request(
    task: Task, body: ChatRequest, constraint: Constraint | None, tenant: str
) -> GenerateRequest:
    body.refuse_on_task()
    if body.offered_tools:
        raise InvalidRequest("a task takes no tools", param="tools")
    asked = Asked(
        sampling=sampling(body, task.sampling, num_tokens=task.model.info.num_tokens),
        max_tokens=body.token_limit,
        stop_sequences=body.stop_sequences,
        logprobs=body.num_logprobs,
        constraint=constraint,
    )
    return await task.request(body.messages, tenant=tenant, asked=asked)


async def _whole(
    lane: Lane,
    streams: list[AsyncIterator[Delta]],
    readers: list[AnswerReader],
    meter: Meter,
    body: ChatRequest,
) -> Response:
    choices = [Choice() for _ in streams]
    events: list[list[Event]] = [[] for _ in streams]
    async with lane.place(), aclosing(interleaved(streams)) as deltas:
        async for index, delta in deltas:
            choices[index].add(delta)
            events[index] += readers[index].read(delta)
            meter.add(index, delta)
    said = _identity("chat.completion", body.model)
    said["choices"] = [
        {
            "index": index,
            "message": _annotated(message(events[index]), choice),
            "logprobs": _logprobs(choice) if body.logprobs else None,
            "finish_reason": readers[index].finish_reason(choice.finish_reason),
        }
        for index, choice in enumerate(choices)
    ]
    said["usage"] = usage_object(meter.told())
    return await long_response(said) if body.logprobs else json_response(said)


def _logprobs(choice: Choice) -> dict[str, Any]:
    return {"content": map(chat_token, drained(choice.logprobs)), "refusal": None}


def _annotated(said: dict[str, Any], choice: Choice) -> dict[str, Any]:
    if choice.citations:
        said["annotations"] = file_citations(choice.citations)
    return said


def _identity(kind: str, model: str) -> dict[str, Any]:
    id = f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": id, "object": kind, "created": int(time.time()), "model": model}


class ChatChunks:
    """Writes the events of a chat. The first of each choice also tells the role."""

    def __init__(self, body: ChatRequest, readers: list[AnswerReader]) -> None:
        said = _identity("chat.completion.chunk", body.model)
        self._template = ChunkTemplate(
            id=said["id"],
            kind=said["object"],
            created=said["created"],
            model=body.model,
            include_usage=body.include_usage,
        )
        self._readers = readers
        self._writers = [DeltaWriter() for _ in readers]
        self._begun: set[int] = set()
        self._with_logprobs = bool(body.logprobs)

    def piece(self, index: int, delta: Delta) -> bytes:
        reader, writer = self._readers[index], self._writers[index]
        chunks: list[bytes] = []
        if index not in self._begun:
            self._begun.add(index)
            chunks.append(self._chunk(index, BEGIN_WITH_TOOLS if reader.may_call else BEGIN))
        said = [writer.delta(event) for event in reader.read(delta)]
        logprobs = self._logprobs(delta)
        if logprobs != NULL and not said:
            said = [NOTHING]
        for one in said:
            chunks.append(self._chunk(index, one, logprobs=logprobs))
            logprobs = NULL
        if delta.citations:
            cited = msgspec.json.encode({"annotations": file_citations(delta.citations)})
            chunks.append(self._chunk(index, cited))
        if delta.finish_reason is not None:
            reason = b'"%b"' % reader.finish_reason(delta.finish_reason).encode()
            chunks.append(self._chunk(index, NOTHING, finish_reason=reason))
        return b"".join(chunks)

    def _logprobs(self, delta: Delta) -> bytes:
        if not self._with_logprobs or not delta.logprobs:
            return NULL
        return msgspec.json.encode(chat_logprobs(delta.logprobs))

    def usage(self, total: dict[str, object]) -> bytes:
        return self._template.usage(total)

    def _chunk(
        self, index: int, said: bytes, *, logprobs: bytes = NULL, finish_reason: bytes = NULL
    ) -> bytes:
        choice = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}'
        return self._template.chunk(choice % (index, said, logprobs, finish_reason))
