"""POST /v1/completions: the prompt as it is, with echo, logprobs and token-array prompts.

The text of a prompt stays text unless `special` is true (our extension); a token array is taken as
it is, without a begin token. On a task the prompt is one input of the task.
"""

from __future__ import annotations

import time
import uuid
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from arriero.core import GenerateRequest, Span
from arriero.errors import InvalidRequest
from arriero.guard.routes import Route
from arriero.server.body import beside
from arriero.server.context import context_of, principal_of
from arriero.server.long_json import long_response
from arriero.server.record import note_target
from arriero.server.routes.models import check_tokens
from arriero.server.routes.openai.choices import Choice, generations, interleaved, usage_object
from arriero.server.routes.openai.inputs import Input, read_inputs
from arriero.server.routes.openai.logprobs import CompletionLogprobs
from arriero.server.routes.openai.parameters import UNSUPPORTED, Parameters, read_parameters, sampling
from arriero.server.routes.openai.response_format import asked_constraint
from arriero.server.routes.openai.stream import ChunkTemplate, event_stream
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

MAX_PROMPTS = 128
DEFAULT_MAX_TOKENS = 16
"""OpenAI's default for this route."""

NO_TOOLS: dict[str, tuple[object, ...]] = {"tool_choice": (None, "none", "auto"), "tools": (None, [])}

Prompt = str | list[int]


class CompletionRequest(Parameters, kw_only=True):
    """The body."""

    route: ClassVar[Route] = Route.COMPLETIONS
    unsupported: ClassVar[dict[str, tuple[object, ...]]] = UNSUPPORTED | NO_TOOLS
    prompt: Input
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    special: bool = False

    @property
    def token_limit(self) -> int:
        """The bound on completion tokens."""
        return DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens


async def create(request: Request) -> Response | ASGIApp:
    """Complete one or several prompts, whole or as a stream."""
    body = await read_parameters(request, CompletionRequest)
    principal = principal_of(request)
    context = context_of(request)
    target = context.model_or_task(principal, body.model)
    lane = context.lane(principal, target if isinstance(target, Task) else None)
    record = note_target(request, target, body.prompt)
    prompts = await read_inputs(body.prompt, param="prompt", max_length=MAX_PROMPTS)
    if len(prompts) * body.num_choices > MAX_PROMPTS:
        raise InvalidRequest(f"n times the number of prompts is above {MAX_PROMPTS}", param="n")
    if not isinstance(target, Task):
        await beside(sum(map(len, prompts)), partial(_check_tokens, prompts, target))
    constraint = await asked_constraint(body)
    requests = [await _request(target, prompt, body, constraint, principal.tenant) for prompt in prompts]
    echoes = [await _echo(target, prompt, body) for prompt in prompts for _ in range(body.num_choices)]
    trace = traceparent(request.headers.raw)
    streams = generations(target, requests, body.num_choices, trace=trace)
    meter = record.meter(requests, num_choices=body.num_choices)
    if not body.stream:
        return await answered(request, _whole(lane, streams, echoes, meter, body))
    chunks = CompletionChunks(body, echoes)
    return event_stream(lane, streams, chunks, meter, include_usage=body.include_usage)


def _check_tokens(prompts: list[Prompt], model: ModelLike) -> None:
    for prompt in prompts:
        if not isinstance(prompt, str):
            check_tokens(prompt, model, param="prompt")


async def _request(
    target: ModelLike | Task,
    prompt: Prompt,
    body: CompletionRequest,
    constraint: Constraint | None,
    tenant: str,
) -> GenerateRequest:
    if isinstance(target, Task):
        return await _task_request(target, prompt, body, constraint, tenant)
    return GenerateRequest(
        prompt=(_span(prompt, body),),
        sampling=sampling(body, DEFAULT_SAMPLING, num_tokens=target.info.num_tokens),
        max_tokens=body.token_limit,
        stop_sequences=body.stop_sequences if constraint is None else (),
        tenant=tenant,
        logprobs=body.logprobs,
        prompt_logprobs=bool(body.echo) and body.logprobs is not None,
        add_bos=isinstance(prompt, str),
        min_tokens=body.min_tokens,
        ignore_eos=body.ignore_eos,
        constraint=constraint,
    )


def _span(prompt: Prompt, body: CompletionRequest) -> Span:
    if isinstance(prompt, str):
        return Span(text=prompt, special=body.special)
    return Span(tokens=tuple(prompt))


async def _task_request(
    task: Task, prompt: Prompt, body: CompletionRequest, constraint: Constraint | None, tenant: str
) -> GenerateRequest:
    if not isinstance(prompt, str):
        raise InvalidRequest("a task takes text, not token ids", param="prompt")
    body.refuse_on_task()
    if body.echo or body.special:
        name = "echo" if body.echo else "special"
        raise InvalidRequest(f"{name} is not possible on a task", param=name)
    asked = Asked(
        sampling=sampling(body, task.sampling, num_tokens=task.model.info.num_tokens),
        max_tokens=body.max_tokens,
        stop_sequences=body.stop_sequences,
        logprobs=body.logprobs,
        constraint=constraint,
    )
    return await task.request(prompt, tenant=tenant, asked=asked)


async def _echo(target: ModelLike | Task, prompt: Prompt, body: CompletionRequest) -> str:
    if not body.echo or isinstance(target, Task):
        return ""
    return prompt if isinstance(prompt, str) else await target.detokenize(prompt)


async def _whole(
    lane: Lane,
    streams: list[AsyncIterator[Delta]],
    echoes: list[str],
    meter: Meter,
    body: CompletionRequest,
) -> Response:
    choices = [Choice() for _ in streams]
    async with lane.place(), aclosing(interleaved(streams)) as deltas:
        async for index, delta in deltas:
            choices[index].add(delta)
            meter.add(index, delta)
    said = _identity(body.model)
    said["choices"] = [
        _choice_object(index, choice, echo, body)
        for index, (choice, echo) in enumerate(zip(choices, echoes, strict=True))
    ]
    said["usage"] = usage_object(meter.told())
    return json_response(said) if body.logprobs is None else await long_response(said)


def _choice_object(index: int, choice: Choice, echo: str, body: CompletionRequest) -> dict[str, Any]:
    return {
        "index": index,
        "text": echo + choice.text,
        "logprobs": None if body.logprobs is None else CompletionLogprobs().lists(choice.logprobs),
        "finish_reason": choice.finish_reason,
    }


def _identity(model: str) -> dict[str, Any]:
    id = f"cmpl-{uuid.uuid4().hex}"
    return {"id": id, "object": "text_completion", "created": int(time.time()), "model": model}


class CompletionChunks:
    """Writes the events of completions. The first of each choice begins with its echo."""

    def __init__(self, body: CompletionRequest, echoes: list[str]) -> None:
        said = _identity(body.model)
        self._template = ChunkTemplate(
            id=said["id"],
            kind=said["object"],
            created=said["created"],
            model=body.model,
            include_usage=body.include_usage,
        )
        self._echoes = dict(enumerate(echoes))
        self._logprobs = None if body.logprobs is None else [CompletionLogprobs() for _ in echoes]

    def piece(self, index: int, delta: Delta) -> bytes:
        text = self._echoes.pop(index, "") + delta.text
        has_logprobs = self._logprobs is not None and bool(delta.logprobs)
        if not text and not has_logprobs and delta.finish_reason is None:
            return b""
        reason = b"null" if delta.finish_reason is None else b'"%b"' % delta.finish_reason.value.encode()
        choice = b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}'
        said = (index, msgspec.json.encode(text), self._written_logprobs(index, delta), reason)
        return self._template.chunk(choice % said)

    def usage(self, total: dict[str, object]) -> bytes:
        return self._template.usage(total)

    def _written_logprobs(self, index: int, delta: Delta) -> bytes:
        if self._logprobs is None or not delta.logprobs:
            return b"null"
        return msgspec.json.encode(self._logprobs[index].encode(delta.logprobs))
