"""A guard before scripted upstreams, built from a configuration as a user writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from arriero.config.load import parse_config
from arriero.config.remote import TimeoutsConfig, UpstreamAddress
from arriero.guard.forward import Guard
from arriero.guard.routes import Route
from arriero.guard.told import Stream, Whole
from arriero.guard.upstream import Upstream as Client
from arriero.testing.upstream import Script, Upstream

SECRET = "org/Secret-Model-7B"
PATIENCE_S = 10.0


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds; fail when that takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0.002)


def client_of(upstream: Upstream, *, kept_s: float = 3.0, tls: Any = None, **timeouts: float) -> Client:
    """Return a client of a scripted upstream."""
    return Client(UpstreamAddress.parse(upstream.url), TimeoutsConfig(**timeouts), idle_s=kept_s, tls=tls)


@asynccontextmanager
async def guarded(
    *scripts: Script, keys: str = "", upstream_keys: str = "", replicas: int = 1, **options: Any
) -> AsyncIterator[tuple[Guard, list[Upstream]]]:
    """Give a guard with the public name `m`, and its upstreams, each with the same scripts."""
    async with AsyncExitStack() as stack:
        upstreams = [
            await stack.enter_async_context(Upstream.of(*scripts, **options)) for _ in range(replicas)
        ]
        guard = guard_of([upstream.url for upstream in upstreams], keys, upstream_keys)
        stack.push_async_callback(guard.stop)
        yield guard, upstreams


def guard_of(urls: list[str], keys: str = "", upstream_keys: str = "") -> Guard:
    """Return a guard with the public name `m`."""
    text = (
        f'[auth]\npublic = true\n[models.m]\n{keys}\n[models.m.upstream]\nurls = {urls}\nmodel = "{SECRET}"\n'
    )
    config = parse_config(text + upstream_keys, {})
    return Guard.from_config("m", config.remote_models["m"], max_body_bytes=config.server.max_body_bytes)


def chat_body(**members: Any) -> bytes:
    """Return a chat's body."""
    return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hello"}]} | members)


async def asked(guard: Guard, route: Route = Route.CHAT, **members: Any) -> Whole:
    """Return the whole answer to a chat."""
    answer = await guard.forward(route, chat_body(**members), [])
    assert isinstance(answer, Whole)
    return answer


async def streamed(guard: Guard, **members: Any) -> bytes:
    """Return all that the stream of a chat tells."""
    answer = await guard.forward(Route.CHAT, chat_body(stream=True, **members), [])
    assert isinstance(answer, Stream)
    told = b""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while piece := await answer.piece():
                told += piece
    finally:
        answer.close()
    return told
