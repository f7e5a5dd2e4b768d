"""POST /v1/chat/completions: a chat on a model, through its template, or on a task, through its texts."""

from __future__ import annotations

import time
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from arriero.core import GenerateRequest
from arriero.errors import InvalidRequest
from arriero.server.context import context_of, principal_of
from arriero.server.routes.openai.choices import Choice, UsageCount, generations, interleaved
from arriero.server.routes.openai.logprobs import chat_logprobs
from arriero.server.routes.openai.parameters import Parameters, read_parameters, sampling
from arriero.server.routes.openai.stream import ChunkTemplate, event_stream
from arriero.server.routes.ops import json_response
from arriero.server.streaming import answered
from arriero.tasks.bounds import Asked
from arriero.tasks.sampling_overrides import DEFAULT_SAMPLING
from arriero.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from arriero.core import Delta
    from arriero.server.context import ModelLike
    from arriero.server.gate import Gate


class ChatRequest(Parameters, kw_only=True):
    """The body."""

    messages: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, Meta(ge=0)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None

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
    gate = context_of(request).gate
    target = context_of(request).model_or_task(principal, body.model)
    generate = await _request(target, body, principal.tenant)
    streams = generations(target, [generate], body.num_choices)
    if not body.stream:
        return await answered(request, _whole(gate, streams, body))
    chunks = ChatChunks(body)
    return event_stream(gate, streams, chunks, num_choices=body.num_choices, include_usage=body.include_usage)


async def _request(target: ModelLike | Task, body: ChatRequest, tenant: str) -> GenerateRequest:
    if isinstance(target, Task):
        body.refuse_on_task()
        asked = Asked(
            sampling=sampling(body, target.sampling, num_tokens=target.model.info.num_tokens),
            max_tokens=body.token_limit,
            stop_sequences=body.stop_sequences,
            logprobs=body.num_logprobs,
        )
        return await target.request(body.messages, tenant=tenant, asked=asked)
    return GenerateRequest(
        prompt=await target.render_chat(body.messages),
        sampling=sampling(body, DEFAULT_SAMPLING, num_tokens=target.info.num_tokens),
        max_tokens=body.token_limit,
        stop_sequences=(*body.stop_sequences, *target.chat_stop_sequences),
        tenant=tenant,
        logprobs=body.num_logprobs,
        continued=True,
        min_tokens=body.min_tokens,
        ignore_eos=body.ignore_eos,
    )


async def _whole(gate: Gate, streams: list[AsyncIterator[Delta]], body: ChatRequest) -> Response:
    choices = [Choice() for _ in streams]
    count = UsageCount(body.num_choices)
    async with gate.place(), aclosing(interleaved(streams)) as deltas:
        async for index, delta in deltas:
            choices[index].add(delta)
            count.add(index, delta)
    said = _identity("chat.completion", body.model)
    said["choices"] = [_choice_object(index, choice, body) for index, choice in enumerate(choices)]
    return json_response({**said, "usage": count.total()})


def _choice_object(index: int, choice: Choice, body: ChatRequest) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": choice.text, "refusal": None},
        "logprobs": chat_logprobs(choice.logprobs) if body.logprobs else None,
        "finish_reason": choice.finish_reason,
    }


def _identity(kind: str, model: str) -> dict[str, Any]:
    id = f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": id, "object": kind, "created": int(time.time()), "model": model}


class ChatChunks:
    """Writes the events of a chat. The first of each choice also tells the role."""

    def __init__(self, body: ChatRequest) -> None:
        said = _identity("chat.completion.chunk", body.model)
        self._template = ChunkTemplate(
            id=said["id"],
            kind=said["object"],
            created=said["created"],
            model=body.model,
            include_usage=body.include_usage,
        )
        self._begun: set[int] = set()
        self._with_logprobs = bool(body.logprobs)

    def piece(self, index: int, delta: Delta) -> bytes:
        events = b""
        if index not in self._begun:
            self._begun.add(index)
            events = self._chunk(index, b'{"role":"assistant","content":""}')
        if delta.text or (delta.logprobs and self._with_logprobs):
            text = b'{"content":' + msgspec.json.encode(delta.text) + b"}"
            events += self._chunk(index, text, logprobs=self._logprobs(delta))
        if delta.finish_reason is not None:
            events += self._chunk(index, b"{}", finish_reason=b'"%b"' % delta.finish_reason.value.encode())
        return events

    def usage(self, total: dict[str, object]) -> bytes:
        return self._template.usage(total)

    def _logprobs(self, delta: Delta) -> bytes:
        return msgspec.json.encode(chat_logprobs(delta.logprobs)) if self._with_logprobs else b"null"

    def _chunk(
        self, index: int, said: bytes, *, logprobs: bytes = b"null", finish_reason: bytes = b"null"
    ) -> bytes:
        choice = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}'
        return self._template.chunk(choice % (index, said, logprobs, finish_reason))
