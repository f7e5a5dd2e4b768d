"""Routes for operators."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from arriero.testing.upstream import Answer, End, Upstream, whole
from arriero.version import __version__


@pytest.mark.parametrize("path", ["/status", "/livez", "/health", "/readyz"])
async def test_health_needs_no_key(serving: Any, path: str) -> None:
    """A server whose models are ready answers 200."""
    async with serving() as client, httpx2.AsyncClient(base_url=client.base_url) as stranger:
        response = await stranger.get(path)

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_readiness_tells_of_models_that_cannot_serve(serving: Any, model_saying: Any) -> None:
    """503 with their number, while liveness stays."""
    model = model_saying("x")
    model.is_ready = False
    async with serving(model) as client:
        ready = await client.get("/readyz")
        alive = await client.get("/livez")

    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable", "unavailable_models": 1})
    assert alive.status_code == 200


async def test_the_version_is_told(serving: Any) -> None:
    """The version is the package's."""
    async with serving() as client:
        assert (await client.get("/version")).json() == {"version": __version__}


async def test_status_never_waits_for_a_place(serving: Any, model_saying: Any) -> None:
    """With every place taken by a stream, /status answers."""
    model = model_saying("xyz", hold_at=1)
    async with serving(model, "[server]\nmax_concurrent = 1") as client:
        running = asyncio.create_task(client.get("/v1/task/t/live", params={"prompt": "a"}))
        await model.held.wait()

        assert (await client.get("/status")).status_code == 200
        model.go.set()
        assert (await running).status_code == 200


@pytest.mark.slow
async def test_a_silent_upstream_is_given_up_in_time(serving: Any) -> None:
    """An upstream that says nothing keeps nobody waiting for its health longer than 3 s."""
    clock = asyncio.get_running_loop().time
    async with Upstream.of(whole(b""), health=Answer((), End.STALL)) as upstream:
        remote = f'[models.r]\n[models.r.upstream]\nurls = ["{upstream.url}"]\nmodel = "x"\n'
        async with serving(extra=remote) as client:
            asked_at = clock()
            responses = await asyncio.gather(
                *(client.get(path) for path in ("/health", "/readyz", "/health"))
            )

            assert clock() - asked_at < 5
            assert {response.status_code for response in responses} == {503}
            assert responses[0].json() == {"status": "unavailable", "unavailable_models": 1}
            assert upstream.health_checks == 1
