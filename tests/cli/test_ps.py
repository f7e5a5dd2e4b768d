"""`arriero ps` against a server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from arriero.cli.main import run
from arriero.testing.serving import served

if TYPE_CHECKING:
    import pytest
    from starlette.requests import Request

STATS = {"talk": {"cycles": 2, "predict_tokens": 30, "predict_duration": {"secs": 1, "nanos": 500_000_000}}}


def server(*, key: str | None = None) -> Starlette:
    """A server of two models, two tasks and a memory; with a key it asks for it."""

    def answering(body: object) -> Route:
        async def route(request: Request) -> Response:
            if key is not None and request.headers.get("authorization") != f"Bearer {key}":
                return PlainTextResponse("no acceptable auth token provided", 401)
            return JSONResponse(body)

        return route  # type: ignore[return-value]

    answers = {
        "status": {"models": {"m": {"kind": "local"}, "far": {"kind": "remote"}}},
        "task": {"tasks": ["talk", "new"]},
        "memory": {"memories": ["notes"]},
        "stats": {"tasks": STATS},
    }
    return Starlette(routes=[Route(f"/v1/{name}", answering(body)) for name, body in answers.items()])


async def test_everything_served_is_listed_with_the_counts_of_tasks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A task that has done nothing yet has zero completions and no rate."""
    async with served(server()) as url:
        status = await asyncio.to_thread(run, ["ps", "--url", url])

    assert status == 0
    assert capsys.readouterr().out.splitlines() == [
        "KIND    NAME   COMPLETIONS  TOKENS  TOKENS/S",
        "model   m",
        "model   far",
        "task    talk   2            30      20.0",
        "task    new    0            0",
        "memory  notes",
    ]


async def test_json_holds_names_and_statistics(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` tasks are keyed by name."""
    async with served(server()) as url:
        status = await asyncio.to_thread(run, ["ps", "--json", "--url", url])

    assert status == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["models"] == ["m", "far"]
    assert shown["memories"] == ["notes"]
    assert list(shown["tasks"]) == ["talk", "new"]
    assert shown["tasks"]["talk"]["predict_tokens"] == 30


async def test_a_refused_key_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """The server's own words come out, with status 1; with the key the list does."""
    async with served(server(key="k")) as url:
        assert await asyncio.to_thread(run, ["ps", "--url", url]) == 1
        out, err = capsys.readouterr()
        assert (out, err.partition(" (")[0]) == ("", "arriero: no acceptable auth token provided")
        assert await asyncio.to_thread(run, ["ps", "--url", url, "--api-key", "k"]) == 0


def test_no_server_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """An address at which nothing listens is told."""
    assert run(["ps", "--url", "http://127.0.0.1:1"]) == 1
    assert "no answer from http://127.0.0.1:1" in capsys.readouterr().err
