"""Poly's routes on tasks, in Poly's wire forms: list, status, completion, live (SSE), chat, stats.

A stream on `live` ends when its body ends. `?end=true` asks for a last event `end` with the finish
reason and the usage; `?hidden=true` asks for what a task says before its bias prompt, as events of the
id `hidden`, if the task allows that. An error after the first piece is an event `error`. A browser's
EventSource connects again when a stream has ended, and names the id that it has seen: it is told to stop.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from arriero import sse
from arriero.errors import Forbidden
from arriero.server.collect import local_state
from arriero.server.context import context_of, principal_of
from arriero.server.errors import UpgradeRequired, accepts_json, problem
from arriero.server.rates import admit_turn
from arriero.server.record import note_target
from arriero.server.routes.ops import json_response
from arriero.server.routes.prompt import read_prompt
from arriero.server.streaming import EventStream, answered, closing
from arriero.server.trace import traceparent
from arriero.server.websocket import Chat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import HTTPConnection, Request
    from starlette.types import ASGIApp
    from starlette.websockets import WebSocket

    from arriero.core import Citation, Delta
    from arriero.errors import ArrieroError
    from arriero.server.gate import Lane
    from arriero.server.record import Meter
    from arriero.tasks.session import Session
    from arriero.tasks.task import Task

KEEP_ALIVE_S = 1.0
NO_TEXT = b"id:end\n\n"
"""What ends an answer without a piece: readers take the id, and have no event."""


async def names(request: Request) -> Response:
    """List the tasks."""
    return json_response({"tasks": context_of(request).task_names(principal_of(request))})


async def status(request: Request) -> Response:
    """Answer that the task exists."""
    _task(request)
    return json_response({"status": "ok"})


async def completion(request: Request) -> Response:
    """Answer the whole completion of one prompt."""
    session = _session(request)
    prompt = await read_prompt(request)
    if request.method == "HEAD":
        return Response(media_type="application/json")
    return await answered(request, _completed(_lane(request), session, prompt, _meter(request, prompt)))


async def _completed(lane: Lane, session: Session, prompt: str, meter: Meter) -> Response:
    async with lane.place(), closing(session.complete(prompt)) as deltas:
        texts: list[str] = []
        citations: tuple[Citation, ...] = ()
        async for delta in deltas:
            meter.add(0, delta)
            texts.append(delta.text)
            citations = delta.citations
    text = "".join(texts)
    return json_response({"text": text, "citations": citations} if citations else {"text": text})


async def live(request: Request) -> Response | ASGIApp:
    """Stream the completion of one prompt."""
    with_hidden = _asks_for_hidden(request)
    session = _session(request)
    if request.headers.get("last-event-id"):
        return Response(status_code=204)  # an answer is not made twice, and its reader connects no more
    prompt = await read_prompt(request)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    with_end = request.query_params.get("end") == "true"
    as_json = accepts_json(request)

    def failed(error: ArrieroError) -> bytes:
        text = problem(error).decode() if as_json else error.message
        return sse.encode(sse.ServerSentEvent(text, event="error"))

    meter = _meter(request, prompt)
    events = _events(_lane(request), session, prompt, meter, with_end=with_end, with_hidden=with_hidden)
    return EventStream(events, failed=failed, keep_alive_s=KEEP_ALIVE_S)


def _asks_for_hidden(request: Request) -> bool:
    """Whether hidden text is wanted. Raises Forbidden when the task does not show it."""
    task = _task(request)
    wanted = request.query_params.get("hidden") == "true"
    if wanted and not task.config.show_hidden:
        raise Forbidden(f"the task {task.name} does not show its hidden text")
    return wanted


async def _events(
    lane: Lane, session: Session, prompt: str, meter: Meter, *, with_end: bool, with_hidden: bool
) -> AsyncGenerator[bytes, None]:
    pieces, hidden = Pieces(), Pieces("hidden")
    is_silent = True
    async with lane.place(), closing(session.complete(prompt)) as deltas:
        async for delta in deltas:
            meter.add(0, delta)
            if with_hidden and (event := hidden.encode(delta.hidden)):
                is_silent = False
                yield event
            if event := pieces.encode(delta.text):
                is_silent = False
                yield event
            if with_end and delta.finish_reason is not None:
                yield end_event(delta)
    if is_silent:
        yield NO_TEXT


class Pieces:
    """Writes pieces of text as Poly's events. A CRLF cut between two pieces stays one line end."""

    def __init__(self, id: str = "token") -> None:
        self._id = id
        self._after_cr = False

    def encode(self, text: str) -> bytes:
        """Return the event of a piece; nothing for an empty one."""
        if self._after_cr:
            text = text.removeprefix("\n")
            self._after_cr = False
        if not text:
            return b""
        self._after_cr = text.endswith("\r")
        return sse.encode(sse.ServerSentEvent(text, id=self._id))


def end_event(delta: Delta) -> bytes:
    """Return the event `end` for the last delta."""
    said: dict[str, object] = {
        "finish_reason": delta.finish_reason,
        "stop_sequence": delta.stop_sequence,
        "usage": delta.usage,
    }
    if delta.citations:
        said["citations"] = delta.citations
    return sse.encode(sse.ServerSentEvent(msgspec.json.encode(said).decode(), event="end"))


async def chat(websocket: WebSocket) -> None:
    """Hold a conversation with one session over a socket."""
    session = _session(websocket)
    note_target(websocket, _task(websocket), None)
    context = context_of(websocket)
    shows_hidden = _task(websocket).config.show_hidden
    admit = partial(admit_turn, websocket, f"task/{websocket.path_params['task']}")
    await Chat(
        websocket, session, _lane(websocket), context.runtime.config, admit=admit, shows_hidden=shows_hidden
    ).run()


async def upgrade_required(request: Request) -> Response:
    """Refuse a plain request on the socket's path."""
    raise UpgradeRequired("Connection header did not include 'upgrade'")


async def stats(request: Request) -> Response:
    """Answer what each task has done, if it finished a completion, and the counters of each engine."""
    context = context_of(request)
    principal = principal_of(request)
    tasks = {name: context.task(principal, name) for name in context.task_names(principal)}
    models = {name: context.model(principal, name) for name in context.model_names(principal)}
    return json_response(
        {
            "tasks": {name: task.stats for name, task in tasks.items() if task.stats},
            "engine": {name: model.stats for name, model in models.items()},
            "models": {name: local_state(model) for name, model in models.items()},
        }
    )


def _task(connection: HTTPConnection) -> Task:
    return context_of(connection).task(principal_of(connection), connection.path_params["task"])


def _meter(connection: HTTPConnection, prompt: str) -> Meter:
    return note_target(connection, _task(connection), prompt).turn(prompt)


def _lane(connection: HTTPConnection) -> Lane:
    return context_of(connection).lane(principal_of(connection), _task(connection))


def _session(connection: HTTPConnection) -> Session:
    return _task(connection).start(principal_of(connection).tenant, traceparent(connection.headers.raw))
