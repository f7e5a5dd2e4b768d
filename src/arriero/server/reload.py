"""Configurations that follow one another without a break: what comes is served by the newest one.

1. The file is read and checked. A faulty one is refused with the reason, and all stays as it was.
2. What it names is opened beside what runs; what is equal is shared (`runtime.Pieces`). A model that
   changed is loaded before the old one goes, so both need memory for a while.
3. The edge is given the new application, in one step.
4. The old one ends when its last request has; one that takes too long is ended.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

from arriero.errors import ArrieroError
from arriero.server.app import close_app, create_app
from arriero.server.direct import Direct
from arriero.server.edge.edge import Edge
from arriero.server.edge.limits import limits_of
from arriero.server.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.types import Receive, Scope, Send

    from arriero.config.schema import Config
    from arriero.server.context import Runtime

    Opener = Callable[[Config], AbstractAsyncContextManager[Runtime]]

logger = logging.getLogger(__name__)

LOOK_S = 0.1
"""How often an old generation is looked at."""
END_S = 5.0


class Generation:
    """One configuration that is served. Owns its application, and counts the requests in it."""

    def __init__(self, runtime: Runtime, standing: Standing) -> None:
        """Raises ConfigError when a file that the configuration names cannot be used."""
        self.config = runtime.config
        self.app = create_app(runtime, standing)
        self.direct = Direct(self.app.state.context, standing.observer, pressure=standing.pressure)
        self.opened = AsyncExitStack()
        """What it was made of, to be closed with it."""
        self._calls: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; the ASGI application of the edge."""
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        try:
            await self.app(scope, receive, send)
        finally:
            self._calls.discard(call)

    @property
    def num_running(self) -> int:
        """Requests, and sockets, that are not over."""
        return len(self._calls) + self.direct.num_running

    async def wait_idle(self, within_s: float) -> None:
        """Return when the last request is over; end those that take longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle()
        if self._calls:
            logger.warning("%d requests of an old configuration are ended", len(self._calls))
        for call in list(self._calls):
            call.cancel()
        self.direct.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._idle()

    async def _idle(self) -> None:
        while self.num_running:  # noqa: ASYNC110 - nothing tells of the end of a direct answer
            await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        """Let go of everything, once nothing runs."""
        self.direct.close()
        close_app(self.app)
        await self.opened.aclose()


class Serving:
    """What is served. Owns the generations; one reload at a time."""

    def __init__(self, opener: Opener, standing: Standing, first: Generation) -> None:
        self._opener = opener
        self._standing = standing
        self._newest = first
        self._retiring: set[asyncio.Task[None]] = set()
        standing.context = first.app.state.context
        self.edge = Edge(
            first,
            limits_of(first.config),
            first.direct.handlers,
            observer=standing.observer,
            on_sweep=standing.look,
        )
        standing.edge = self.edge

    @classmethod
    async def begin(cls, opener: Opener, standing: Standing, config: Config) -> Serving:
        """Open a configuration, to be served by the edge. Raises ConfigError, Unavailable."""
        return cls(opener, standing, await _opened(opener, standing, config))

    @property
    def config(self) -> Config:
        """The newest configuration."""
        return self._newest.config

    async def reload(self, reread: Callable[[], Config]) -> bool:
        """Serve what the file says now; say whether that could be done."""
        try:
            config = await asyncio.to_thread(reread)
            if config == self.config:
                logger.info("the configuration is as it was")
            else:
                self._succeed(await _opened(self._opener, self._standing, config))
        except ArrieroError as exc:
            self._standing.reloads["refused"] += 1
            logger.error("the configuration is refused, the old one stays: %s", exc.message)
            return False
        except Exception:
            self._standing.reloads["refused"] += 1
            logger.exception("the configuration could not be read again, the old one stays")
            return False
        self._standing.reloads["done"] += 1
        return True

    def _succeed(self, generation: Generation) -> None:
        old, self._newest = self._newest, generation
        for key in unchangeable(old.config, generation.config):
            logger.warning("%s has changed; this takes effect at the next start", key)
        telemetry = generation.config.telemetry
        logging.getLogger().setLevel(telemetry.log_level.upper())
        self._standing.observer.log.with_prompts = telemetry.log_prompts
        self._standing.context = generation.app.state.context
        self.edge.serve(generation, limits_of(generation.config), generation.direct.handlers)
        logger.info("a new configuration is served")
        job = asyncio.create_task(self._retire(old))
        self._retiring.add(job)
        job.add_done_callback(self._retiring.discard)

    async def _retire(self, old: Generation) -> None:
        try:
            await old.wait_idle(old.config.limits.chat_idle_timeout_s)
        finally:
            try:
                await old.close()
            except Exception:
                logger.exception("an old configuration was not closed in order")

    async def stop(self) -> None:
        """Close everything, once the edge has stopped."""
        for job in self._retiring:
            job.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._newest.close()
        self._standing.close()
        await self._standing.rates.wait_closed()


async def _opened(opener: Opener, standing: Standing, config: Config) -> Generation:
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(opener(config))
        generation = Generation(runtime, standing)
        generation.opened = stack.pop_all()
        return generation


def unchangeable(old: Config, new: Config) -> list[str]:
    """Return the keys that differ and cannot change while a server runs."""
    pairs = {
        "server.bind_address": (old.server.bind_address, new.server.bind_address),
        "server.tls": (old.server.tls is None, new.server.tls is None),
        "auth.usage_store": (old.auth.usage_store, new.auth.usage_store),
        "auth.shared_counters": (old.auth.shared_counters, new.auth.shared_counters),
        "telemetry.log_format": (old.telemetry.log_format, new.telemetry.log_format),
        "telemetry.otlp_endpoint": (old.telemetry.otlp_endpoint, new.telemetry.otlp_endpoint),
        "telemetry.otlp_service_name": (old.telemetry.otlp_service_name, new.telemetry.otlp_service_name),
        "telemetry.otlp_sample_ratio": (old.telemetry.otlp_sample_ratio, new.telemetry.otlp_sample_ratio),
        "telemetry.otlp_headers": (old.telemetry.otlp_headers, new.telemetry.otlp_headers),
    }
    return [key for key, (before, after) in pairs.items() if before != after]
