"""The guard of one remote model: a request goes in, an answer that may be told comes out.

    1. The request is checked, and fitted to its prompt's count where that decides (`request.py`).
    2. What was checked is sent (`replicas.py`); nothing else of the caller's request is.
    3. The answer is rewritten, whole (`answer.py`) or event by event (`stream.py`), or told as an error.

Owns the number of requests that are under way.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

from arriero.errors import Overloaded, RequestError
from arriero.guard.affinity import affinity_of
from arriero.guard.answer import rewritten_answer
from arriero.guard.body import LARGE_BYTES, read_aside
from arriero.guard.counting import UpstreamCounter
from arriero.guard.failure import UpstreamFailed, refusal, unserved
from arriero.guard.headers import Media, answer_headers, media_of, upstream_headers
from arriero.guard.names import Names
from arriero.guard.passage import Passage
from arriero.guard.replicas import Replicas
from arriero.guard.request import checked_request
from arriero.guard.routes import Route
from arriero.guard.settings import policy_of
from arriero.guard.shapes import Telling
from arriero.guard.stream import Framing, StreamRewriter
from arriero.guard.template import Forms
from arriero.guard.told import Stream, Whole, whole_body
from arriero.guard.upstream import Request, lines_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from arriero.config.remote import RemoteModelConfig
    from arriero.guard.body import Body
    from arriero.guard.passage import Outlet
    from arriero.guard.policy import Policy
    from arriero.guard.replicas import Reply
    from arriero.guard.request import Checked
    from arriero.guard.scan import Head, Header

    Count = Callable[[Checked], Awaitable[int | None]]

MAX_ANSWER_BYTES = 64 << 20
MAX_ERROR_BYTES = 64 << 10
_OK = 200
_NO_SUCH_PATH = (404, 405, 501)
_BUSY = (408, 429, 503)
_SERVER_ERRORS = 500
_PATHS = {route: route.value.encode() for route in Route}
_FRAMINGS = {Media.EVENTS: Framing.EVENTS, Media.LINES: Framing.LINES}


class Guard:
    """The one way to a remote model. `start` before the first request, `stop` after the last.

    count: counts a prompt here; None of it where only the upstream can.
    """

    def __init__(
        self,
        policy: Policy,
        replicas: Replicas,
        *,
        routes: Iterable[str],
        api_key: str | None = None,
        forward_headers: Sequence[str] = (),
        max_concurrent: int = 1024,
        count: Count | None = None,
    ) -> None:
        self.policy = policy
        self.replicas = replicas
        self._is_spread = replicas.num_upstreams > 1
        self._telling = Telling(Names(policy), policy.allow_logprobs)
        self._answers = {route: Forms(self._telling.names) for route in Route}
        self._streams = {route: Forms(self._telling.names) for route in Route}
        self._routes = frozenset(route for route in Route if route.value in set(routes))
        self._authorization = None if api_key is None else b"Bearer " + api_key.encode()
        self._forward_headers = frozenset(name.lower().encode() for name in forward_headers)
        self.passing_headers = self._forward_headers | {b"traceparent"}
        """Names of a caller's headers that the upstream may be told."""
        self._own_lines = {
            stream: lines_of(upstream_headers((), stream=stream, authorization=self._authorization))
            for stream in (False, True)
        }
        self._max_concurrent = max_concurrent
        self.actions: Counter[str] = Counter()
        """How many requests were refused, cropped, or lost members."""
        self._running = 0
        self._count = count
        self._upstream_counter = UpstreamCounter(self._tokenize)

    @classmethod
    def from_config(
        cls,
        name: str,
        model: RemoteModelConfig,
        *,
        max_body_bytes: int,
        count: Count | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Guard:
        """Return the guard of `[models.NAME]`. Needs a running event loop."""
        upstream = model.upstream
        return cls(
            policy_of(name, model, max_body_bytes=max_body_bytes),
            Replicas(upstream.addresses, model.timeouts, health_path=upstream.health_path, tls=tls),
            routes=model.routes,
            api_key=upstream.api_key,
            forward_headers=upstream.forward_headers,
            max_concurrent=model.max_concurrent,
            count=count,
        )

    @property
    def num_running(self) -> int:
        """Requests that are under way."""
        return self._running

    @property
    def num_connections(self) -> int:
        """Open connections to the upstreams."""
        return self.replicas.num_connections

    def start(self) -> None:
        """Begin to watch over the upstreams."""
        self.replicas.start()

    async def stop(self) -> None:
        """Cut all connections."""
        await self.replicas.stop()

    async def is_well(self) -> bool:
        """Ask the upstreams, within 3 s, whether any can serve."""
        return await self.replicas.is_well()

    async def forward(self, route: Route, body: bytes, headers: Iterable[Header]) -> Whole | Stream:
        """Answer a request. Raises what is wrong with it, or with the upstream, which no error names."""
        lowered = [(name.lower(), value) for name, value in headers]
        checked = self._entered(route, await self._read(route, body))
        answer: Whole | Stream | None = None
        try:
            answer = await self._answer(await self.fitted(checked), lowered)
        finally:
            if not isinstance(answer, Stream):
                self._running -= 1
        return answer

    def pass_on(self, route: Route, body: Body, headers: Sequence[Header], outlet: Outlet) -> Passage:
        """Answer a request through an outlet, without waiting where that can be.

        body: is used up. headers: of the caller, their names in small letters.
        Raises RequestError, Overloaded; the outlet hears of nothing then.
        """
        if route not in self._routes:
            raise unserved(route)
        passage = Passage(self, self._entered(route, body), headers, outlet)
        try:
            passage.begin()
        except BaseException:
            passage.cut()
            raise
        return passage

    async def _read(self, route: Route, body: bytes) -> Body:
        if route not in self._routes:
            raise unserved(route)
        try:
            return await read_aside(body, max_bytes=self.policy.max_body_bytes)
        except RequestError:
            self.actions["refused"] += 1
            raise

    def _entered(self, route: Route, body: Body) -> Checked:
        """Return the checked request, which has a place here until `leave`."""
        try:
            checked = checked_request(route, body, self.policy)
        except RequestError:
            self.actions["refused"] += 1
            raise
        if checked.dropped:
            self.actions["members_dropped"] += 1
        if checked.cropped:
            self.actions["cropped"] += 1
        if self._running >= self._max_concurrent:
            raise Overloaded(f"{self._running} requests are under way; try again later")
        self._running += 1
        return checked

    def leave(self) -> None:
        """One request fewer is under way."""
        self._running -= 1

    async def fitted(self, checked: Checked) -> Checked:
        """Return the request as its prompt lets it be, which is counted if need be."""
        if not checked.needs_prompt_count:
            return checked
        tokens = None if self._count is None else await self._count(checked)
        if tokens is None:
            tokens = await self._upstream_counter.count(checked)
        if tokens is None:
            return checked
        fitted = checked.fitted(tokens)
        if fitted.cropped and not checked.cropped:
            self.actions["cropped"] += 1
        return fitted

    async def reply(
        self,
        checked: Checked,
        headers: Sequence[Header],
        *,
        refused_by: int | None = None,
        fresh: bool = False,
    ) -> Reply:
        """Send, and return what has begun to come back."""
        request, affinity = self.request(checked, headers), self.affinity(checked)
        return await self.replicas.send(request, affinity, refused_by=refused_by, fresh=fresh)

    async def _answer(self, checked: Checked, headers: Sequence[Header]) -> Whole | Stream:
        reply = await self.reply(checked, headers)
        try:
            return await self._told(checked, reply)
        except BaseException:
            reply.close()
            raise

    async def _told(self, checked: Checked, reply: Reply) -> Whole | Stream:
        opened = self.opened(checked, reply.head)
        if isinstance(opened, int):
            return Whole(*await self.told_aside(checked, reply.head, await whole_body(reply, opened)))
        rewriter, headers = opened
        return Stream(checked.route, headers, reply=reply, rewriter=rewriter, left=self.leave)

    def affinity(self, checked: Checked) -> bytes | None:
        """Return what requests share that are best served by the same upstream."""
        return affinity_of(checked.route, checked.body) if self._is_spread else None

    def request(self, checked: Checked, headers: Sequence[Header]) -> Request:
        """Return what the upstream is sent. The names of headers are in small letters."""
        path = _PATHS[checked.route]
        if not headers or self.passing_headers.isdisjoint(dict(headers)):
            return Request(b"POST", path, self._own_lines[checked.stream], checked.body)
        sent = upstream_headers(headers, stream=checked.stream, authorization=self._authorization)
        known = {name for name, _ in sent}
        sent += [
            (name, value) for name, value in headers if name in self._forward_headers and name not in known
        ]
        return Request(b"POST", path, lines_of(sent), checked.body)

    def opened(self, checked: Checked, head: Head) -> int | tuple[StreamRewriter, tuple[Header, ...]]:
        """Return how a stream is rewritten, with its headers; of any other answer how long it may be."""
        if head.status != _OK:
            return MAX_ERROR_BYTES
        if not checked.stream:
            return MAX_ANSWER_BYTES
        media = media_of(head.get(b"content-type"))
        framing = _FRAMINGS.get(media)
        if framing is None:
            return MAX_ANSWER_BYTES
        rewriter = StreamRewriter(
            checked.route,
            self._telling,
            choices=checked.choices,
            framing=framing,
            forms=self._streams[checked.route],
        )
        return rewriter, answer_headers(head.headers, media, cropped=checked.cropped)

    def told_whole(self, checked: Checked, head: Head, body: bytes) -> tuple[tuple[Header, ...], bytes]:
        """Return headers and body of a whole answer. Raises what an upstream's refusal is told as."""
        if head.status != _OK:
            with_key = b"authorization" in self._forward_headers
            names, retry_after = self._telling.names, head.get(b"retry-after").decode("latin-1")
            raise refusal(head.status, body, names, retry_after, route=checked.route, is_callers_key=with_key)
        forms = self._answers[checked.route] if len(body) < LARGE_BYTES else None  # which are of this thread
        told = rewritten_answer(checked.route, body, self._telling, forms)
        return answer_headers(head.headers, Media.JSON, cropped=checked.cropped), told

    async def told_aside(self, checked: Checked, head: Head, body: bytes) -> tuple[tuple[Header, ...], bytes]:
        """As `told_whole`, of a large answer without holding up the event loop."""
        if len(body) < LARGE_BYTES:
            return self.told_whole(checked, head, body)
        return await asyncio.to_thread(self.told_whole, checked, head, body)

    async def get(self, path: str) -> bytes | None:
        """Return what the upstream says of itself at one of its own paths; None when it says nothing there.

        Nothing of it is rewritten. Raises Overloaded, Unavailable, UpstreamFailed, UpstreamTimeout.
        """
        reply = await self.replicas.send(Request(b"GET", path.encode(), self._own_lines[False]))
        with closing(reply):
            status = reply.head.status
            if status == _OK:
                return await whole_body(reply, MAX_ANSWER_BYTES)
            if status in _BUSY:
                raise Overloaded("the upstream has too much to do; try again later")
            if status >= _SERVER_ERRORS:
                raise UpstreamFailed("the upstream could not answer")
            return None

    async def _tokenize(self, body: bytes) -> bytes | None:
        request = Request(b"POST", Route.TOKENIZE.value.encode(), self._own_lines[False], body)
        reply = await self.replicas.send(request)
        with closing(reply):
            if reply.head.status in _NO_SUCH_PATH:
                return None
            if reply.head.status != _OK:
                raise UpstreamFailed("the upstream could not count a prompt")
            return await whole_body(reply, MAX_ANSWER_BYTES)
