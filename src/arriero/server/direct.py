"""OpenAI's routes for remote models, served from the edge without the application.

What comes out is what `routes/guard.py` would answer, byte for byte but for the request's own id. A
request that needs more than a key in `authorization`, is large, or is served by no guard is left to the
application.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from arriero.access.principal import Source
from arriero.errors import ArrieroError, Unavailable
from arriero.guard.body import LARGE_BYTES, read_body
from arriero.guard.headers import Media
from arriero.guard.routes import Route
from arriero.server.cors import CorsHeaders
from arriero.server.edge.head import MAX_FORMS
from arriero.server.errors import Internal, error_object, headers_of, wire_of
from arriero.server.model_name import model_name
from arriero.server.observe import Observer
from arriero.server.pressure import Pressure
from arriero.server.record import GuardedMeter, Record
from arriero.server.streaming import KEEP_ALIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arriero.access.principal import Principal
    from arriero.guard.body import Body
    from arriero.guard.forward import Guard
    from arriero.guard.passage import Passage
    from arriero.guard.scan import Header
    from arriero.server.context import Context
    from arriero.server.edge.exchange import Exchange

    Handler = Callable[[Exchange], bool]

KEEP_ALIVE_S = 10.0
_BEATS = 4
"""How often streams are looked at in `KEEP_ALIVE_S`."""
_SCHEME = b"Bearer "
NAMES = {route: route.value for route in Route}
_HARMLESS = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_MANY: bytes = b"\0"


class Direct:
    """The handlers. Owns the streams that are under way, and one timer for all of them."""

    def __init__(
        self,
        context: Context,
        observer: Observer | None = None,
        *,
        pressure: Pressure | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self.observer = observer or Observer(context.runtime.config.telemetry)
        self.num_running = 0
        self._pressure = pressure or Pressure()
        self._context = context
        self._cors = CorsHeaders(context.runtime.config.server)
        # Of the configuration's keys, which change never, by the header that bears them. How long a look into
        # a dict takes says nothing of its keys: their hashes are salted. The first look compares all keys.
        self._principals: dict[bytes, Principal] = {}
        self._askers: dict[bytes | None, _Asker] = {}
        """Those with such keys, by all that stands in the heads of their requests."""
        self._max_body_bytes = context.max_body_bytes
        self._is_alone = not (context.runtime.models or context.runtime.tasks)
        """Whether no model runs here that a request may be for."""
        self._random_bits = random.Random(os.urandom(32)).getrandbits  # names, no secrets
        self._beat_s = keep_alive_s / _BEATS
        self._streams: set[Answering] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def handlers(self) -> Mapping[bytes, Handler]:
        """For each path the handler of its POST requests; it says whether it took the request."""
        routes = (route for route in Route if route.method == b"POST")
        return {route.value.encode(): partial(self._take, route) for route in routes}

    def close(self) -> None:
        """End the timer."""
        self._streams.clear()
        if self._timer is not None:
            self._timer.cancel()

    def stop(self) -> None:
        """End the streams that are under way, as the end of the server does."""
        for stream in list(self._streams):
            stream.stop()

    def keep_alive(self, stream: Answering) -> None:
        """Write comments into the stream's silence until `forget`."""
        self._streams.add(stream)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._beat_s, self._beat)

    def forget(self, stream: Answering) -> None:
        """The stream has ended."""
        self._streams.discard(stream)

    def _beat(self) -> None:
        self._timer = None
        for stream in list(self._streams):
            stream.beat()
        if self._streams:
            self._timer = asyncio.get_running_loop().call_later(self._beat_s, self._beat)

    def _take(self, route: Route, exchange: Exchange) -> bool:
        # The application says so, or reads beside the loop.
        if self._pressure.is_full or len(exchange.body) >= LARGE_BYTES:
            return False
        asker = self._askers.get(exchange.form) or self._asker(exchange)
        if asker is None:
            return False
        # What is for a model here is read there, once.
        if not self._is_alone and self._guard(asker, model_name(exchange.body)) is None:
            return False
        try:
            body = read_body(exchange.body, max_bytes=self._max_body_bytes)
        except ArrieroError:  # the application says what is wrong with it
            return False
        name = body.values.get("model")
        if type(name) is not str:
            name = None
        guard = asker.guards.get(name) or self._guard(asker, name)
        if guard is None or len(exchange.body) > guard.policy.max_body_bytes:
            return False
        exchange.request_id = asker.request_id or b"%032x" % self._random_bits(128)
        meter = GuardedMeter(len(exchange.body))
        record = Record(guard.policy.public_name, guarded=meter)
        Answering(self, exchange, route, asker, record, meter).begin(guard, body)
        return True

    def _asker(self, exchange: Exchange) -> _Asker | None:
        """Return what the headers of a request say, None where the application must find out."""
        guards = self._context.runtime.guards
        seen = _Seen(exchange.headers)
        principal = self._principal(exchange, seen) if guards else None
        if principal is None:
            return None
        passing = frozenset[bytes]().union(*(guard.passing_headers for guard in guards.values()))
        asker = _Asker(
            principal,
            tuple(self._cors.of(seen.origin)),
            seen.request_id if seen.request_id and _HARMLESS.fullmatch(seen.request_id) else b"",
            [header for header in exchange.headers if header[0] in passing],
            {},
        )
        if principal.source is Source.CONFIG and exchange.form is not None:
            if len(self._askers) >= MAX_FORMS:
                self._askers.clear()
            self._askers[exchange.form] = asker
        return asker

    def _guard(self, asker: _Asker, name: str | None) -> Guard | None:
        try:
            guard = self._context.guard(asker.principal, name)
        except ArrieroError:
            return None
        if guard is not None and name == guard.policy.public_name:
            asker.guards[name] = guard
        return guard

    def _principal(self, exchange: Exchange, seen: _Seen) -> Principal | None:
        """Return who is asking, None where the application must find out, or limit what a key uses."""
        keyring = self._context.keyring
        key: str | None = None
        if not keyring.is_open:
            if exchange.query or seen.has_api_key or seen.authorization is _MANY:
                return None
            if seen.authorization is not None:
                if (principal := self._principals.get(seen.authorization)) is not None:
                    return principal
                if not seen.authorization.startswith(_SCHEME):
                    return None
                key = seen.authorization[len(_SCHEME) :].decode("latin-1")
        try:
            principal = keyring.identify(key)
        except ArrieroError:
            return None
        if principal.limits.is_limiting:
            return None
        if principal.source is Source.CONFIG and seen.authorization is not None:
            self._principals[seen.authorization] = principal
        return principal


class _Asker(NamedTuple):
    """What the headers of a request say."""

    principal: Principal
    own: tuple[Header, ...]
    """Headers for the answer."""
    request_id: bytes
    """The caller's, empty = none that can be used."""
    passing: list[Header]
    """Headers that an upstream may be told."""
    guards: dict[str | None, Guard]
    """What was asked for by the very name of a guard."""


class _Seen:
    """The headers that matter here, found in one pass."""

    __slots__ = ("authorization", "has_api_key", "origin", "request_id")

    def __init__(self, headers: list[Header]) -> None:
        self.authorization: bytes | None = None
        self.origin: bytes | None = None
        self.request_id: bytes | None = None
        self.has_api_key = False
        known = dict(headers)
        if len(known) == len(headers):
            self.authorization = known.get(b"authorization")
            self.origin = known.get(b"origin")
            self.request_id = known.get(b"x-request-id")
            self.has_api_key = b"x-api-key" in known
            return
        for name, value in headers:
            if name == b"authorization":
                self.authorization = value if self.authorization is None else _MANY
            elif name == b"x-request-id" and self.request_id is None:
                self.request_id = value
            elif name == b"origin" and self.origin is None:
                self.origin = value
            elif name == b"x-api-key":
                self.has_api_key = True


class Answering(msgspec.Struct, eq=False):
    """One request and the writing of its answer: the outlet of a passage."""

    _direct: Direct
    _exchange: Exchange
    _route: Route
    _asker: _Asker
    _record: Record
    _meter: GuardedMeter
    _passage: Passage | None = None
    _is_lines: bool = False
    _pieces_at_beat: int = 0
    _quiet_beats: int = 0

    def begin(self, guard: Guard, body: Body) -> None:
        """Send the request, or answer why not."""
        exchange = self._exchange
        record = self._record
        if self._direct.observer.log.with_prompts:  # else not to be kept for as long as a stream lasts
            record.prompt = exchange.body
        self._direct.num_running += 1
        try:
            self._passage = guard.pass_on(self._route, body, self._asker.passing, self)
        except ArrieroError as exc:
            self.refuse(exc)
            return
        exchange.body = b""  # what is sent has been written anew
        exchange.on_gone = self._gone
        exchange.on_stop = self.stop
        exchange.on_writable = self._passage.resume

    def beat(self) -> None:
        """Write a comment if nothing was written for several beats. Lines have no comments."""
        pieces = self._meter.num_pieces
        self._quiet_beats = self._quiet_beats + 1 if pieces == self._pieces_at_beat else 0
        self._pieces_at_beat = pieces
        if self._quiet_beats >= _BEATS and not self._is_lines:
            self._quiet_beats = 0
            if self._exchange.is_writable:
                self._exchange.write(KEEP_ALIVE)

    # The passage calls these.

    @property
    def is_writable(self) -> bool:
        return self._exchange.is_writable

    def answer(self, headers: tuple[Header, ...], body: bytes) -> None:
        self._meter.add(body)
        self._exchange.respond(200, headers + self._asker.own, body)
        self._ended()

    def refuse(self, error: Exception) -> None:
        known = error if isinstance(error, ArrieroError) else Internal("internal error")
        self._record.error = type(known).code
        status = wire_of(known).status
        headers = [(name.encode(), value.encode()) for name, value in headers_of(known).items()]
        headers.append((b"content-type", Media.JSON.value))
        self._exchange.respond(status, [*headers, *self._asker.own], error_object(known))
        self._ended()

    def start(self, headers: tuple[Header, ...]) -> None:
        self._is_lines = (b"content-type", Media.LINES.value) in headers
        self._record.is_streamed = True
        self._exchange.start(200, headers + self._asker.own)
        self._direct.keep_alive(self)

    def write(self, piece: bytes) -> bool:
        self._meter.add(piece)
        exchange = self._exchange
        exchange.write(piece)
        return exchange.is_writable

    def finish(self, piece: bytes) -> None:
        self._meter.add(piece)
        self._exchange.finish(piece)
        self._ended()

    # The exchange calls these.

    def _gone(self) -> None:
        if self._passage is not None:
            self._passage.cut()
        self._ended()

    def stop(self) -> None:
        """End the answer with an error."""
        if self._passage is not None:
            self._passage.fail(Unavailable("the server is shutting down"))

    def _ended(self) -> None:
        direct, exchange = self._direct, self._exchange
        if self._record.is_streamed:
            direct.forget(self)
        direct.num_running -= 1
        self._passage = None
        exchange.on_gone = exchange.on_stop = exchange.on_writable = None
        direct.observer.observe(
            exchange,
            NAMES[self._route],
            self._record,
            principal=self._asker.principal,
            request_id=exchange.request_id.decode("latin-1"),
        )
