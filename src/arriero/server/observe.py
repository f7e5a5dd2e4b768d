"""What is seen of every request, once it has ended: counted, written to the log, charged to its key.

One place for all routes, for those that the edge answers directly, and for clients that leave early. The
figures of answers are named after those of other servers, so that their dashboards fit.
"""

from __future__ import annotations

import time
from itertools import pairwise
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.routing import Mount

from arriero.access.principal import Principal
from arriero.guard.failure import UpstreamFailed
from arriero.metrics import TOKEN_S, Count, Counter, Histogram, Series
from arriero.server.record import Record, added, record_of
from arriero.server.request_log import Line, RequestLog, moment
from arriero.server.tracing import tracer_of

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from starlette.requests import HTTPConnection

    from arriero.config.telemetry import TelemetryConfig
    from arriero.core import Usage
    from arriero.server.edge.exchange import Exchange
    from arriero.server.rates import Rates
    from arriero.server.record import Meter

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
OTHER = "other"
CLIENT_GONE = 499
"""What is said of an answer that nobody waited for."""
LEAST_ERROR = 400
NOBODY = Principal()


class _Served(NamedTuple):
    """What is counted of requests that ended alike."""

    requests: Count
    durations: Series


class _Answered(NamedTuple):
    """What is counted of a model's answers."""

    prompt_tokens: Count
    generation_tokens: Count
    latency: Series
    finished: dict[str, Count]
    """By the reason."""


class Observer:
    """Owns the counts of requests, their log, and their spans."""

    def __init__(self, telemetry: TelemetryConfig, rates: Rates | None = None) -> None:
        """Begin. Raises ConfigError when spans are wanted and cannot be made."""
        self.log = RequestLog(is_json=telemetry.log_format == "json", with_prompts=telemetry.log_prompts)
        self.tracer = tracer_of(telemetry)
        self._rates = rates
        labels = ("model",)
        self.requests = Counter("http_requests", "Requests, by route.", ("method", "route", "status"))
        self.errors = Counter("errors", "Requests that went wrong, by the code of the error.", ("code",))
        self.edge_refusals = Counter(
            "edge_refusals", "Requests and connections that the edge refused.", ("code",)
        )
        self.finished = Counter("request_success", "Completions that ended.", ("model", "finished_reason"))
        self.prompt_tokens = Counter("prompt_tokens", "Tokens of prompts.", labels)
        self.generation_tokens = Counter("generation_tokens", "Tokens of completions.", labels)
        self.durations = Histogram("http_request_duration_seconds", "From head to end.", ("route",))
        self.first_token = Histogram(
            "time_to_first_token_seconds", "From the request to its first token.", labels
        )
        self.between_tokens = Histogram(
            "inter_token_latency_seconds", "From one token to the next.", labels, TOKEN_S
        )
        self.latency = Histogram("e2e_request_latency_seconds", "From the request to its end.", labels)
        # Found once, as each request would look for them again.
        self._served: dict[tuple[str, str, int], _Served] = {}
        self._answered: dict[str, _Answered] = {}

    @property
    def counted(self) -> tuple[Counter | Histogram, ...]:
        """All that is counted here."""
        return tuple(one for one in vars(self).values() if isinstance(one, Counter | Histogram))

    def close(self) -> None:
        """Write what is left of the log, and send what is left of the spans."""
        self.log.write()
        if self.tracer is not None:
            self.tracer.close()

    # What the edge tells.

    @property
    def began(self) -> Callable[[Exchange], None] | None:
        """What is told of each request before anybody answers it, if anything is to be."""
        return None if self.tracer is None else self.tracer.begin

    def refused(self, status: int, code: str) -> None:
        """Take the news of a request, or a connection, that nobody else has seen."""
        self.edge_refusals.add((code,))
        if self.log.is_on:
            self.log.add(
                Line(
                    time=moment(time.time()),
                    id="",
                    method="",
                    route=OTHER,
                    status=status,
                    ms=0.0,
                    bytes=0,
                    outcome="error",
                    error=code,
                )
            )

    def ended(self, exchange: Exchange, scope: MutableMapping[str, Any]) -> None:
        """Take the news that the application has done with a request, or a socket."""
        state = scope["state"]
        record: Record = state.get("record") or Record()
        principal: Principal = state.get("principal", NOBODY)
        self.observe(
            exchange, route_of(scope), record, principal=principal, request_id=state.get("request_id", "")
        )

    def observe(
        self, exchange: Exchange, route: str, record: Record, *, principal: Principal, request_id: str
    ) -> None:
        """Count, log and charge one request."""
        now = monotonic()
        guarded = record.guarded
        if guarded is not None and record.is_streamed and guarded.has_failed:
            record.error = record.error or UpstreamFailed.code
        method = METHODS.get(exchange.method, OTHER)
        status = CLIENT_GONE if exchange.is_gone and not exchange.status else exchange.status
        served = self._served.get((method, route, status)) or self._serve(method, route, status)
        served.requests.value += 1
        served.durations.observe(now - exchange.began_at)
        if record.error:
            self.errors.add((record.error,))
        used = record.used() if guarded is None else guarded.used()
        if record.model:
            self._count_answer(exchange, record, used, now)
        if self._rates is not None and (used.prompt_tokens or used.completion_tokens):
            self._rates.charge(principal, used.prompt_tokens + used.completion_tokens)
        used = added(used, record.turns) if record.turns.completion_tokens else used
        if self.tracer is not None:
            self.tracer.end(
                exchange,
                route,
                record,
                method=method,
                status=status,
                used=used,
                request_id=request_id,
                ended_at=now,
            )
        if self.log.is_on:
            self._write(exchange, route, record, used, status, now, principal.name, request_id, method)

    def turned(self, record: Record, meter: Meter) -> None:
        """Count one turn of a socket, which is charged already."""
        used = meter.used()
        record.turns = added(record.turns, used)
        self._count_tokens(record.model, used)
        self._count_meter(record.model, meter, 0.0)

    def _count_answer(self, exchange: Exchange, record: Record, used: Usage, now: float) -> None:
        answered = self._count_tokens(record.model, used)
        for meter in record.meters:
            self._count_meter(record.model, meter, exchange.began_at)
        if record.guarded is not None:
            if reason := record.guarded.finish_reason:
                (answered.finished.get(reason) or self._finish(answered, record.model, reason)).value += 1
            if record.is_streamed:
                self._count_stream((record.model,), record.guarded.num_pieces, exchange, now)
        if not record.error:
            answered.latency.observe(now - exchange.began_at)

    def _count_tokens(self, model: str, used: Usage) -> _Answered:
        answered = self._answered.get(model) or self._answer(model)
        answered.prompt_tokens.value += used.prompt_tokens
        answered.generation_tokens.value += used.completion_tokens
        return answered

    def _serve(self, method: str, route: str, status: int) -> _Served:
        requests = self.requests.of((method, route, f"{status}"))
        served = self._served[method, route, status] = _Served(requests, self.durations.of((route,)))
        return served

    def _answer(self, model: str) -> _Answered:
        labels = (model,)
        answered = self._answered[model] = _Answered(
            self.prompt_tokens.of(labels), self.generation_tokens.of(labels), self.latency.of(labels), {}
        )
        return answered

    def _finish(self, answered: _Answered, model: str, reason: str) -> Count:
        count = answered.finished[reason] = self.finished.of((model, reason))
        return count

    def _count_meter(self, model: str, meter: Meter, began_at: float) -> None:
        labels = (model,)
        for reason in meter.finish_reasons:
            self.finished.add((model, reason))
        firsts = [stamps[0] for stamps in meter.stamps if stamps]
        if firsts:
            self.first_token.observe(labels, min(firsts) - (meter.began_at or began_at))
        between = self.between_tokens
        for stamps in meter.stamps:
            for before, after in pairwise(stamps):
                between.observe(labels, after - before)

    def _count_stream(self, labels: tuple[str], num_pieces: int, exchange: Exchange, now: float) -> None:
        """Count the pieces of an upstream's stream; between its tokens stands their mean."""
        if num_pieces > 0:
            self.first_token.observe(labels, exchange.first_byte_at - exchange.began_at)
        if (steps := num_pieces - 1) > 0:
            self.between_tokens.observe(labels, (now - exchange.first_byte_at) / steps, steps)

    def _write(
        self,
        exchange: Exchange,
        route: str,
        record: Record,
        used: Usage,
        status: int,
        now: float,
        key: str,
        request_id: str,
        method: str,
    ) -> None:
        began, first = exchange.began_at, exchange.first_byte_at
        self.log.add(
            Line(
                time=moment(time.time()),
                id=request_id,
                method=method,
                route=route,
                status=status,
                # To a digit; round(x, 1) takes long for it.
                ms=round(1e4 * (now - began)) / 10,
                ttfb_ms=round(1e4 * (first - began)) / 10 if first else None,
                bytes=exchange.sent_bytes,
                key=key,
                model=record.model,
                task=record.task,
                prompt_tokens=used.prompt_tokens,
                completion_tokens=used.completion_tokens,
                finish_reason=record.finish_reason,
                outcome=outcome(exchange, record, status),
                error=record.error,
                prompt=record.prompt if self.log.with_prompts else None,
            )
        )


def note_turn(connection: HTTPConnection, meter: Meter) -> None:
    """Count a turn of a socket that has ended."""
    observer: Observer = connection.app.state.observer
    observer.turned(record_of(connection), meter)


def outcome(exchange: Exchange, record: Record, status: int) -> str:
    """Say how an answer ended, as its client saw it."""
    if exchange.is_cut:
        return "cut"
    if exchange.is_gone:
        return "gone"
    return "error" if record.error or status >= LEAST_ERROR else "ok"


def route_of(scope: MutableMapping[str, Any]) -> str:
    """Return the path of the route that answered, with the names of its parameters in place of words."""
    route = scope.get("route")
    if route is None or isinstance(route, Mount):
        return OTHER
    path: str = scope.get("root_path", "") + route.path
    return path
