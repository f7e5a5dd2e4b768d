"""One session over one socket, in two forms.

Plain text, as Poly: a text frame is a prompt, each delta is a text frame, an empty frame ends the
turn; an error is the frame `[error: ...]` before the empty one. Subprotocol `arriero.v1`: the client
sends `{"prompt": "..."}` or `{"stop": true}`; it gets frames of type `delta`, then `citations` if a memory
gave something, `usage` and `stop`, or `error`. With `"hidden": true` beside the prompt it gets frames of
type `hidden` first, where the task allows that. Both forms: one answer at a time, the socket stays open
after an error, a binary frame closes it, prompts sent meanwhile wait in a bounded queue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import msgspec
from starlette.websockets import WebSocketDisconnect, WebSocketState

from arriero.core import Usage
from arriero.errors import ArrieroError, Forbidden, InvalidRequest, Unauthorized
from arriero.server.errors import Internal, param_of
from arriero.server.observe import note_turn
from arriero.server.record import Meter
from arriero.server.streaming import closing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.websockets import WebSocket

    from arriero.access.limits import Admission
    from arriero.config.schema import Config
    from arriero.core import Delta
    from arriero.server.gate import Lane
    from arriero.tasks.session import Session

logger = logging.getLogger(__name__)

JSON_PROTOCOL = "arriero.v1"
TEXT_PROTOCOL = "arriero.text"
"""The plain form by name, for browsers that bear their key in a subprotocol: one must be chosen."""
MAX_QUEUED = 16

GOING_AWAY = 1001
UNSUPPORTED_DATA = 1003
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013


class Said(msgspec.Struct):
    """What a client says: a prompt, whose hidden text it may ask for too, or to stop the running answer."""

    prompt: str | None = None
    stop: bool = False
    hidden: bool = False


class Frames(Protocol):
    """How one form of the socket writes and reads frames."""

    def said(self, frame: str) -> Said:
        """Return what a client's frame says. Raises InvalidRequest."""
        ...

    def delta(self, text: str) -> str: ...

    def hidden(self, text: str) -> str: ...

    def error(self, failure: ArrieroError) -> list[str]: ...

    def end(self, last: Delta | None) -> list[str]:
        """Return the frames that end a turn; `last` is None when the answer was stopped."""
        ...


class PlainFrames:
    """Poly's form."""

    def said(self, frame: str) -> Said:
        return Said(prompt=frame)

    def delta(self, text: str) -> str:
        return text

    def hidden(self, text: str) -> str:
        raise NotImplementedError("this form cannot ask for hidden text")

    def error(self, failure: ArrieroError) -> list[str]:
        return [f"[error: {failure.message}]", ""]

    def end(self, last: Delta | None) -> list[str]:
        return [""]


class JsonFrames:
    """The form of `arriero.v1`."""

    def said(self, frame: str) -> Said:
        try:
            said = msgspec.json.decode(frame, type=Said)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise InvalidRequest(f'expected {{"prompt": "..."}} or {{"stop": true}}: {exc}') from exc
        if said.prompt is None and not said.stop:
            raise InvalidRequest('expected {"prompt": "..."} or {"stop": true}', param="prompt")
        return said

    def delta(self, text: str) -> str:
        return _json({"type": "delta", "text": text})

    def hidden(self, text: str) -> str:
        return _json({"type": "hidden", "text": text})

    def error(self, failure: ArrieroError) -> list[str]:
        said = {"code": failure.code, "message": failure.message, "param": param_of(failure)}
        return [_json({"type": "error", **said})]

    def end(self, last: Delta | None) -> list[str]:
        if last is None:
            return [_json({"type": "stop", "finish_reason": "cancelled", "stop_sequence": None})]
        usage = msgspec.to_builtins(last.usage or Usage())
        cited = [_json({"type": "citations", "citations": last.citations})] if last.citations else []
        stop = {"finish_reason": last.finish_reason, "stop_sequence": last.stop_sequence}
        return [*cited, _json({"type": "usage", **usage}), _json({"type": "stop", **stop})]


def _json(frame: dict[str, object]) -> str:
    return msgspec.json.encode(frame).decode()


class Chat:
    """A conversation. Owns the socket: one job reads, one answers; when either ends, both do.

    admit: looks at the bearer's key again before each turn, and lets the turn in.
    shows_hidden: whether clients may ask for hidden text.
    """

    def __init__(
        self,
        websocket: WebSocket,
        session: Session,
        lane: Lane,
        config: Config,
        *,
        admit: Callable[[], Awaitable[Admission]],
        shows_hidden: bool = False,
    ) -> None:
        self._websocket = websocket
        self._session = session
        self._lane = lane
        self._config = config
        self._admit = admit
        self._shows_hidden = shows_hidden
        self._prompts: asyncio.Queue[tuple[int, Said]] = asyncio.Queue(MAX_QUEUED)
        self._num_prompts = 0
        self._num_stopped = 0
        self._frames: Frames = PlainFrames()

    async def run(self) -> None:
        """Hold the conversation until the client goes. Raises Forbidden before the handshake."""
        check_origin(self._websocket, self._config.server.allowed_origins)
        offered = self._websocket.scope.get("subprotocols", ())
        if JSON_PROTOCOL in offered:
            self._frames = JsonFrames()
        known = (name for name in (JSON_PROTOCOL, TEXT_PROTOCOL) if name in offered)
        await self._websocket.accept(next(known, None))
        jobs = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._answer())]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        except WebSocketDisconnect:
            return
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _read(self) -> None:
        """Take the client's frames; return when the conversation is over."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is None:
                await self._websocket.close(UNSUPPORTED_DATA, "text frames only")
                return
            try:
                self._take(message["text"])
            except InvalidRequest as failure:
                await self._send(self._frames.error(failure))
            except asyncio.QueueFull:
                await self._websocket.close(TRY_AGAIN_LATER, f"{MAX_QUEUED} prompts are waiting already")
                return

    def _take(self, frame: str) -> None:
        said = self._frames.said(frame)
        if said.prompt is None:
            self._num_stopped = self._num_prompts  # stops the answers to all prompts so far
        else:
            self._num_prompts += 1
            self._prompts.put_nowait((self._num_prompts, said))

    async def _answer(self) -> None:
        """Answer one prompt after the other; return when none came for the idle time."""
        while True:
            try:
                async with asyncio.timeout(self._config.limits.chat_idle_timeout_s):
                    number, said = await self._prompts.get()
            except TimeoutError:
                await self._websocket.close(GOING_AWAY, "idle for too long")
                return
            await self._turn(number, said)

    async def _turn(self, number: int, said: Said) -> None:
        try:
            ending = self._frames.end(await self._admitted(number, said))
        except Unauthorized as failure:
            await self._send(self._frames.error(failure))
            await self._websocket.close(POLICY_VIOLATION, "the key is worth nothing any more")
            raise WebSocketDisconnect(POLICY_VIOLATION) from failure
        except ArrieroError as failure:
            ending = self._frames.error(failure)
        except WebSocketDisconnect:
            raise
        except Exception as exc:
            if self._websocket.application_state is WebSocketState.DISCONNECTED:
                raise WebSocketDisconnect from exc  # the other job has closed the socket
            logger.exception("unexpected error in a chat")
            ending = self._frames.error(Internal("internal error"))
        await self._send(ending)

    async def _admitted(self, number: int, said: Said) -> Delta | None:
        admission = await self._admit()
        meter = Meter(prompt_size=len(said.prompt or ""), began_at=time.monotonic())
        try:
            return await self._stream(number, said, meter)
        finally:
            admission.charge(meter.num_tokens, time.time())
            admission.end()
            note_turn(self._websocket, meter)

    async def _stream(self, number: int, said: Said, meter: Meter) -> Delta | None:
        """Send the deltas of one answer; return the last one, or None when the client stopped it.

        Raises Forbidden when hidden text is asked for that the task does not show.
        """
        last: Delta | None = None
        if number <= self._num_stopped:
            return None
        if said.hidden and not self._shows_hidden:
            raise Forbidden("this task does not show its hidden text")
        async with self._lane.place(), closing(self._session.complete(said.prompt or "")) as deltas:
            async for delta in deltas:
                if number <= self._num_stopped:
                    return None
                last = delta
                meter.add(0, delta)
                if said.hidden and delta.hidden:
                    await self._websocket.send_text(self._frames.hidden(delta.hidden))
                if delta.text:
                    await self._websocket.send_text(self._frames.delta(delta.text))
        return last

    async def _send(self, frames: list[str]) -> None:
        for frame in frames:
            await self._websocket.send_text(frame)


def check_origin(websocket: WebSocket, allowed: tuple[str, ...] | None) -> None:
    """Raise Forbidden for a page of a foreign origin; programs send no Origin, and may pass."""
    origin = websocket.headers.get("origin")
    if origin is None or allowed is None or "*" in allowed or origin in allowed:
        return
    if urlsplit(origin).netloc != websocket.headers.get("host"):
        raise Forbidden(f"pages of the origin {origin} may not use this socket")
