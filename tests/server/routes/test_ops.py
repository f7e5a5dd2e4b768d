"""Routes for operators."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import CONFIG, ScriptedModel, served, staged

from arriero.access.key_store import KeyStore, NewKey
from arriero.access.principal import Grants
from arriero.config.load import parse_config
from arriero.testing.serving import client_of
from arriero.testing.upstream import Answer, End, Upstream, whole
from arriero.version import __version__


@pytest.mark.parametrize("path", ["/status", "/livez", "/health", "/readyz"])
async def test_health_needs_no_key(serving: Any, path: str) -> None:
    """A server whose models are ready answers 200."""
    async with serving() as client, client_of(client.base_url) as stranger:
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


async def test_metrics_are_for_administrators(tmp_path: Path) -> None:
    """By default a stranger gets 401, a plain key 403, and a key that may administrate gets the text."""
    file = tmp_path / "keys.db"
    store = KeyStore(file)
    plain, admin = (store.create(NewKey("x", Grants(admin=admin)), 0.0)[1] for admin in (False, True))
    store.close()
    config = parse_config(CONFIG.replace("[auth]", f'[auth]\nkey_store = "{file}"'), {})
    stage = replace(staged(ScriptedModel("x")), config=config)
    async with served(stage) as url, client_of(url) as client:
        answers = [
            await client.get("/metrics", headers={"authorization": f"Bearer {key}"})
            for key in ("wrong", plain, admin)
        ]

    assert [answer.status_code for answer in answers] == [401, 403, 200]
    assert answers[-1].headers["content-type"].startswith("text/plain; version=")
    assert "arriero_build_info{" in answers[-1].text


@pytest.mark.parametrize(("allowed", "stranger", "known"), [("public", 200, 200), ("off", 401, 404)])
async def test_metrics_as_configured(serving: Any, allowed: str, stranger: int, known: int) -> None:
    """Open to all, or not there; whether they are not there a stranger cannot tell."""
    async with (
        serving(extra=f'[telemetry]\nmetrics = "{allowed}"\n') as client,
        client_of(client.base_url) as nobody,
    ):
        assert (await nobody.get("/metrics")).status_code == stranger
        assert (await client.get("/metrics")).status_code == known


async def test_the_status_page_shows_what_a_key_may_use(serving: Any, model_saying: Any) -> None:
    """Models with their states, upstreams with their circuits."""
    model = model_saying("x")
    model.is_ready = False
    async with Upstream.of(whole(b"")) as upstream:
        remote = f'[models.r]\n[models.r.upstream]\nurls = ["{upstream.url}"]\nmodel = "x"\n'
        async with serving(model, remote) as client:
            status = (await client.get("/v1/status")).json()

    assert (status["status"], status["version"]) == ("ok", __version__)
    assert {name: one["state"] for name, one in status["models"].items()} == {
        "m": "loading",
        "other": "ready",
        "r": "ready",
    }
    assert status["models"]["r"]["circuits"] == ["closed"]
    assert status["tasks"] == ["t"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/status"])
async def test_operators_never_wait_for_a_place(serving: Any, model_saying: Any, path: str) -> None:
    """With every place taken and the queue full, operators are answered."""
    model = model_saying("xyz", hold_at=1)
    limits = '[server]\nmax_concurrent = 1\n[limits]\nmax_waiting = 0\n[telemetry]\nmetrics = "public"\n'
    async with serving(model, limits) as client:
        running = asyncio.create_task(client.get("/v1/task/t/live", params={"prompt": "a"}))
        await model.held.wait()

        assert (await client.get("/v1/task/t/completion", params={"prompt": "a"})).status_code == 503
        assert (await client.get(path)).status_code == 200
        model.go.set()
        await running
