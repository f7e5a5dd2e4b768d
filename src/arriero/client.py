"""An async client of Arriero's own routes: lists, statistics, streams, chat, embeddings, tokens.

Turns every failure into the error tree, so that callers see the same classes as in process. Knows
nothing of how the server is built; the OpenAI routes have their own official client.
"""

from __future__ import annotations

import asyncio
import errno
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from arriero.core import Token
from arriero.errors import (
    ArrieroError,
    ContextOverflow,
    EngineError,
    Forbidden,
    InvalidRequest,
    NotSupported,
    Overloaded,
    PayloadTooLarge,
    PrivateTokenFound,
    RequestError,
    ServiceError,
    Unauthorized,
    Unavailable,
    UnknownName,
)
from arriero.sse import Decoder

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from types import TracebackType

DEFAULT_URL = "http://127.0.0.1:3000"
TIMEOUT = httpx2.Timeout(10.0, read=None)
"""A first token may take as long as the prompt is long, so reading has no deadline."""
CHAT_PROTOCOL = Subprotocol("arriero.v1")
"""The JSON form of the chat socket."""
STOP_S = 10.0
"""How long a stopped answer may take to end before the socket is closed."""

REFUSED = f"[Errno {errno.ECONNREFUSED}]"
"""How the system begins its reason when nobody listens at an address."""
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""How the library of TLS begins its reason to go no further."""
ACCEPT = "application/json, application/problem+json, text/event-stream"

T = TypeVar("T")

NOT_FOUND = re.compile(r"(\w+) not found: (.+)")

BY_STATUS: dict[int, type[RequestError] | type[ServiceError]] = {
    401: Unauthorized,
    403: Forbidden,
    413: PayloadTooLarge,
    429: Overloaded,
    501: NotSupported,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
BY_CODE: dict[str, type[RequestError] | type[ServiceError]] = {
    kind.code: kind
    for kind in (
        ContextOverflow,
        EngineError,
        Forbidden,
        InvalidRequest,
        NotSupported,
        Overloaded,
        PayloadTooLarge,
        PrivateTokenFound,
        Unauthorized,
        Unavailable,
    )
}
"""The server's words for its errors; they say more than the status does."""


class ErrorBody(msgspec.Struct):
    """The members of problem details and of OpenAI's error object that the client reads."""

    message: str = ""
    detail: str = ""
    title: str = ""
    code: str = ""
    error: ErrorBody | None = None


class Duration(msgspec.Struct, frozen=True):
    """Seconds and the nanoseconds beyond them."""

    secs: int = 0
    nanos: int = 0

    @property
    def seconds(self) -> float:
        return self.secs + self.nanos / 1e9


class TaskStats(msgspec.Struct, frozen=True):
    """What one task has done since the server started. `cycles` counts its completions."""

    cycles: int = 0
    prompt_tokens: int = 0
    predict_tokens: int = 0
    prompt_duration: Duration = Duration()
    predict_duration: Duration = Duration()


class IngestJob(msgspec.Struct, frozen=True):
    """How far a document is on its way into a memory; `state` ends as done, failed or cancelled."""

    id: str
    name: str
    state: str
    chunks_done: int = 0
    chunks_total: int = 0
    outcome: str | None = None
    error: str | None = None

    @property
    def is_ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class Client:
    """One server. Use as `async with Client(url) as client`; safe for many requests at once."""

    def __init__(
        self, url: str = DEFAULT_URL, *, api_key: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """Speak to the server at `url`. tls: whom to trust there, and who we are; None = the usual."""
        self.url = url.rstrip("/")
        self._tls = tls
        self._headers = {"accept": ACCEPT}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        # To read the certificate authorities takes longer than most requests; only TLS wants them.
        verify = self._tls or not self.url.lower().startswith("http:")
        self._http = httpx2.AsyncClient(
            base_url=self.url, headers=self._headers, timeout=TIMEOUT, verify=verify
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def models(self) -> list[str]:
        """Return the names of the models, remote ones too."""
        return list(await self._get("/v1/status", "models", dict[str, Any]))

    async def tasks(self) -> list[str]:
        """Return the names of the tasks."""
        return await self._get("/v1/task", "tasks", list[str])

    async def stats(self) -> dict[str, TaskStats]:
        """Return what each task has done; a task without completions may be absent."""
        return await self._get("/v1/stats", "tasks", dict[str, TaskStats])

    async def completion(self, task: str, prompt: str) -> str:
        """Return the whole answer of a task to one prompt."""
        return await self._post(f"/v1/task/{quoted(task)}/completion", prompt, "text", str)

    async def embed(self, model: str, text: str) -> list[float]:
        """Return the vector of a text."""
        return await self._post(f"/v1/model/{quoted(model)}/embedding", text, "embedding", list[float])

    async def tokenize(self, model: str, text: str) -> list[Token]:
        """Return the tokens of a text."""
        return await self._post(f"/v1/model/{quoted(model)}/tokenization", text, "tokens", list[Token])

    async def memories(self) -> list[str]:
        """Return the names of the memories."""
        return await self._get("/v1/memory", "memories", list[str])

    async def recall(self, memory: str, prompt: str, n: int = 1) -> list[str]:
        """Return the texts of a memory that answer a prompt best."""
        body = {"prompt": prompt, "n": n}
        return await self._send("POST", f"/v1/memory/{quoted(memory)}", "chunks", list[str], json=body)

    async def ingest(self, memory: str, name: str, data: bytes) -> str:
        """Send a document, which is kept for certain when this returns; return the id of its job.

        Raises Overloaded while too many wait.
        """
        path = f"/v1/memory/{quoted(memory)}"
        asked = {"name": name, "wait": "false"}
        headers = {"content-type": "text/plain"}  # unless the bytes or the name say otherwise
        return await self._send("PUT", path, "job", str, params=asked, content=data, headers=headers)

    async def ingest_job(self, memory: str, id: str) -> IngestJob:
        """Return how far a document is."""
        path = f"/v1/memory/{quoted(memory)}/jobs/{quoted(id)}"
        return await self._send("GET", path, None, IngestJob)

    async def stream(self, task: str, prompt: str) -> AsyncGenerator[str, None]:
        """Yield the pieces of a task's answer to one prompt. Closing the iterator stops the work."""
        path = f"/v1/task/{quoted(task)}/live"
        decoder = Decoder()
        try:
            async with self._http.stream("GET", path, params={"prompt": prompt}) as response:
                if response.is_error:
                    raise failure(response.status_code, await response.aread())
                async for data in response.aiter_bytes():
                    for event in decoder.feed(data):
                        if event.event == "error":
                            raise failure(500, event.data.encode())
                        if event.data:
                            yield event.data
        except (httpx2.TransportError, OSError) as exc:  # errors of TLS come as they are
            raise unreachable(self.url, exc) from exc

    @asynccontextmanager
    async def chat(self, task: str) -> AsyncIterator[Chat]:
        """Open a conversation with a task; its turns are kept until the block ends."""
        url = socket_url(self.url, f"/v1/task/{quoted(task)}/chat")
        try:
            connection = await connect(
                url,
                additional_headers=self._headers,
                subprotocols=[CHAT_PROTOCOL],
                max_size=None,
                proxy=None,
                ssl=(self._tls or True) if url.startswith("wss:") else None,
            )
        except InvalidStatus as exc:
            raise failure(exc.response.status_code, bytes(exc.response.body or b"")) from exc
        except (InvalidHandshake, OSError) as exc:
            raise unreachable(self.url, exc) from exc
        async with connection:
            if connection.subprotocol != CHAT_PROTOCOL:
                raise ServiceError(f"{url} does not speak {CHAT_PROTOCOL}; is this Arriero?")
            yield Chat(connection)

    async def _get(self, path: str, member: str, kind: type[T]) -> T:
        return await self._send("GET", path, member, kind)

    async def _post(self, path: str, prompt: str, member: str, kind: type[T]) -> T:
        return await self._send("POST", path, member, kind, json={"prompt": prompt})

    async def _send(self, method: str, path: str, member: str | None, kind: type[T], **asked: Any) -> T:
        """Ask, and return one member of the answer, or the whole of it."""
        try:
            response = await self._http.request(method, path, **asked)
        except (httpx2.TransportError, OSError) as exc:  # errors of TLS come as they are
            raise unreachable(self.url, exc) from exc
        if response.is_error:
            raise failure(response.status_code, response.content)
        return decoded(response.content, member, kind, url=f"{self.url}{path}")


class Frame(msgspec.Struct, frozen=True):
    """What the server says in a conversation: `delta`, `usage`, then `stop`; or `error`."""

    type: str
    text: str = ""
    code: str = ""
    message: str = ""


class Chat:
    """A conversation over one socket, one answer at a time. Owns the socket's reading side."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._answering = False

    async def answer(self, prompt: str) -> AsyncGenerator[str, None]:
        """Send the next prompt and yield the pieces of its answer; the conversation outlives an error.

        Closing the iterator stops the answer, and the turn is forgotten. Raises Unavailable
        when the socket closes in the middle.
        """
        await self._send({"prompt": prompt})
        self._answering = True
        try:
            while (frame := await self._receive()).type != "stop":
                if frame.type == "error":
                    raise failure_of(frame.code, 500, frame.message)
                if frame.text:
                    yield frame.text
        finally:
            if self._answering:
                await self._stop()

    async def _stop(self) -> None:
        """Stop the answer and skip what is still on its way."""
        try:
            async with asyncio.timeout(STOP_S):
                await self._send({"stop": True})
                while self._answering:
                    await self._receive()
        except (TimeoutError, Unavailable):
            await self._connection.close()

    async def _send(self, said: dict[str, object]) -> None:
        try:
            await self._connection.send(msgspec.json.encode(said).decode())
        except ConnectionClosed as exc:
            raise closed(exc) from exc

    async def _receive(self) -> Frame:
        try:
            frame = msgspec.json.decode(await self._connection.recv(), type=Frame)
        except ConnectionClosed as exc:
            self._answering = False
            raise closed(exc) from exc
        if frame.type in ("stop", "error"):
            self._answering = False
        return frame


def quoted(name: str) -> str:
    """Return a name as one path segment."""
    return quote(name, safe="")


def socket_url(url: str, path: str) -> str:
    """Return the WebSocket address of a path on the server at `url`."""
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, parts.path + path, "", ""))


def decoded(body: bytes, member: str | None, kind: type[T], *, url: str) -> T:
    """Return one member of a JSON object, or all of it. Raises ServiceError when it has another form."""
    try:
        if member is None:
            return msgspec.json.decode(body, type=kind)
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(members[member], type=kind)
    except (msgspec.DecodeError, KeyError) as exc:
        raise ServiceError(f"{url} does not answer like Arriero: {exc}") from exc


def failure(status: int, body: bytes) -> ArrieroError:
    """Return the error that a refused request stands for, from its status and body of any dialect."""
    said = error_body(body)
    said = said.error or said
    message = said.message or said.detail or said.title or body.decode(errors="replace").strip()
    return failure_of(said.code, status, message[:2000] or f"the server answered with status {status}")


def failure_of(code: str, status: int, message: str) -> ArrieroError:
    """Return the error of a code, or else of a status."""
    if found := NOT_FOUND.fullmatch(message):
        return UnknownName(found[1], found[2])
    kind = BY_CODE.get(code) or BY_STATUS.get(status)
    fallback = ServiceError if status >= 500 else InvalidRequest
    return (kind or fallback)(message)


def error_body(body: bytes) -> ErrorBody:
    """Read an error object of either form; an empty one stands for plain text."""
    try:
        return msgspec.json.decode(body, type=ErrorBody)
    except msgspec.DecodeError:
        return ErrorBody()


def unreachable(url: str, cause: Exception) -> ServiceError:
    """Return the error for a server that does not answer, or stops answering, or is not to be trusted."""
    if UNTRUSTED in str(cause):
        return ServiceError(f"{url} is not to be trusted: {cause}")
    if any(REFUSED in str(reason) for reason in causes(cause)):
        return Unavailable(f"no answer from {url}: no server listens there")
    return Unavailable(f"no answer from {url}: {str(cause) or type(cause).__name__}")


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, what it was raised from, and so on."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def closed(cause: ConnectionClosed) -> Unavailable:
    """Return the error for a conversation that the server, or the network, ended."""
    reason = cause.rcvd.reason if cause.rcvd is not None else ""
    return Unavailable(f"the conversation was closed: {reason or 'the server is gone'}")
