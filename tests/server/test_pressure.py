"""How short memory is, and what the server does about it."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.server.conftest import ScriptedModel, Stage, staged
from tests.server.test_cgroup import own, v2, write
from tests.server.test_websocket import chatting, turn
from websockets.exceptions import InvalidStatus

from arriero.errors import Overloaded
from arriero.server.cgroup import Usage, memory_usage
from arriero.server.pressure import Level, Pressure, next_level
from arriero.server.serve import edge_of
from arriero.testing.serving import client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NORMAL, SHORT, FULL = Level.NORMAL, Level.SHORT, Level.FULL


@pytest.mark.parametrize(
    ("shares", "levels"),
    [
        ((0, 84, 85, 91, 92, 100), (NORMAL, NORMAL, SHORT, SHORT, FULL, FULL)),
        ((92, 91, 87, 86, 80, 79), (FULL, FULL, FULL, SHORT, SHORT, NORMAL)),
        ((85, 84, 80, 79, 84), (SHORT, SHORT, SHORT, NORMAL, NORMAL)),
        ((95, 10), (FULL, NORMAL)),
        ((85, 87, 91), (SHORT, SHORT, SHORT)),
        ((120,), (FULL,)),
    ],
    ids=["rises", "falls", "no to and fro", "falls at once", "full begins at 92", "above its limit"],
)
def test_levels_follow_the_share_that_is_used(shares: tuple[int, ...], levels: tuple[Level, ...]) -> None:
    """A level begins at its share, and ends five points below."""
    seen = []
    level = NORMAL
    for share in shares:
        level = next_level(level, Usage(share, 100))
        seen.append(level)

    assert tuple(seen) == levels


def test_work_is_refused_for_a_limit_of_our_own_only() -> None:
    """A machine that others fill takes caches away, no more."""
    assert next_level(NORMAL, Usage(99, 100, is_machine=True)) is SHORT
    assert next_level(FULL, Usage(99, 100, is_machine=True)) is SHORT


def test_each_change_is_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Worse is a warning, better is told too, and what stays as it is makes no line."""
    readings = iter([Usage(50, 100), Usage(86, 100), Usage(93, 100), Usage(94, 100), Usage(10, 100)])
    pressure = Pressure(lambda: next(readings))
    with caplog.at_level(logging.INFO, "arriero.server.pressure"):
        for _ in range(5):
            pressure.look()

    assert [(line.levelname, line.getMessage().partition(":")[0]) for line in caplog.records] == [
        ("WARNING", "86 % of the memory are used"),
        ("WARNING", "93 % of the memory are used"),
        ("INFO", "10 % of the memory are used"),
    ]


def test_where_nothing_is_known_nothing_is_refused(tmp_path: Path) -> None:
    """Without the files of Linux work is let in, also after a look that found memory full."""
    pressure = Pressure(lambda: memory_usage(tmp_path))
    write(tmp_path, own("0::/a") | v2("a", 100, 99))
    pressure.look()
    with pytest.raises(Overloaded) as caught:
        pressure.check()
    (tmp_path / "proc/self/cgroup").unlink()
    pressure.look()

    pressure.check()
    assert (caught.value.retry_after_s, pressure.level) == (5, NORMAL)


# Over HTTP.

REMOTE = """
[models.far.upstream]
urls = ["http://127.0.0.1:1"]
model = "x"
"""
HEADERS = {"authorization": "Bearer sesame"}
WORK = [
    ("POST", "/v1/completions", {"model": "m", "prompt": "a"}),
    ("POST", "/v1/chat/completions", {"model": "far", "messages": [{"role": "user", "content": "a"}]}),
    ("POST", "/v1/embeddings", {"model": "m", "input": "a"}),
    ("GET", "/v1/task/t/completion?prompt=a", None),
    ("GET", "/v1/task/t/live?prompt=a", None),
    ("PUT", "/v1/memory/x", None),
]
OPEN = ["/livez", "/metrics", "/v1/stats", "/v1/status", "/v1/models", "/v1/task", "/v1/admin/keys"]


@asynccontextmanager
async def listening(stage: Stage, pressure: Pressure) -> AsyncIterator[str]:
    """Serve, and look at memory a hundred times a second."""
    edge = edge_of(stage, pressure)
    edge.limits = replace(edge.limits, sweep_s=0.01)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await edge.start(listener)
        try:
            yield url
        finally:
            await edge.stop(0)


async def levels_told(client: Any) -> float:
    found = re.search(r"^\w*memory_pressure_level (\S+)$", (await client.get("/metrics")).text, re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_full_memory_refuses_new_work_and_nothing_else(tmp_path: Path) -> None:
    """Running streams end whole, operators are answered, and when memory is free again so is everybody."""
    model = ScriptedModel("Hello", hold_at=1)
    stage = staged(model, REMOTE + '[telemetry]\nmetrics = "public"\n')
    write(tmp_path, own("0::/a") | v2("a", 100, 50))
    looked = asyncio.Event()

    def read() -> Usage | None:
        looked.set()
        return memory_usage(tmp_path)

    async def become(available: int) -> None:
        write(tmp_path, v2("a", 100, 100 - available))
        looked.clear()
        await looked.wait()

    pressure = Pressure(read)
    async with listening(stage, pressure) as url, client_of(url, headers=HEADERS) as client:
        running = asyncio.create_task(client.get("/v1/task/t/live?prompt=a"))
        await model.held.wait()
        await become(5)
        refused = [await client.request(method, path, json=body) for method, path, body in WORK]
        stranger = await client.get("/v1/task/t/live?prompt=a", headers={"authorization": "Bearer no"})
        opened = [(await client.get(path)).status_code for path in OPEN]
        deleted = await client.delete("/v1/memory/x")
        told = await levels_told(client)
        model.go.set()
        stream = await running
        await become(50)
        served = await client.get("/v1/task/t/completion?prompt=a")

    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "5")}
    assert refused[0].json()["error"]["code"] == "overloaded"
    assert (stranger.status_code, deleted.status_code, told) == (401, 404, 2.0)
    assert model.num_shrunk >= 1
    assert 503 not in opened
    assert "Hello" in stream.text.replace("id:token\ndata:", "").replace("\n", "")
    assert (served.status_code, pressure.level) == (200, NORMAL)


async def test_a_chat_that_is_open_is_told_for_each_turn(tmp_path: Path) -> None:
    """Its socket stays, a turn gets an error while memory is full, and no other socket opens."""
    readings = [Usage(10, 100)]
    pressure = Pressure(lambda: readings[-1])
    async with (
        listening(staged(ScriptedModel("a")), pressure) as url,
        client_of(url) as client,
        chatting(client) as chat,
    ):
        before = await turn(chat, "x")
        readings.append(Usage(95, 100))
        pressure.look()
        during = await turn(chat, "x")
        with pytest.raises(InvalidStatus) as caught:
            async with chatting(client):
                pass
        readings.append(Usage(10, 100))
        pressure.look()
        after = await turn(chat, "x")

    assert (before, during, after) == (["a"], ["[error: memory is short; try again later]"], ["a"])
    assert caught.value.response.status_code == 503


async def test_nobody_is_refused_where_that_is_not_wanted() -> None:
    """With `memory_pressure = false` full memory is not looked at."""
    pressure = Pressure(lambda: Usage(99, 100))
    stage = staged(ScriptedModel("a"), "[limits]\nmemory_pressure = false\n")
    async with listening(stage, pressure) as url, client_of(url, headers=HEADERS) as client:
        answer = await client.get("/v1/task/t/completion?prompt=a")

    assert (answer.status_code, pressure.level) == (200, NORMAL)
