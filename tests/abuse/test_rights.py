"""Everybody asks for everything: each answer is the one that the table of rules in `rights.py` has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from tests.abuse.asked import OWNERS, THING, Row, furnish, rows
from tests.abuse.rights import (
    FORBIDDEN,
    IN,
    LOCAL,
    MEMORIES,
    REMOTE,
    TASKS,
    UNAUTHORIZED,
    UNKNOWN,
    Asker,
    World,
    world,
)
from tests.abuse.subject import Subject, handshake

from arriero.server.app import ROUTES

if TYPE_CHECKING:
    import httpx2
    from tests.abuse.figures import Figures

LEAST_REQUESTS = 1200
OPEN = {"/status", "/livez", "/health", "/readyz"}


def expected(row: Row, asker: Asker) -> int:
    return row.rule(asker) if asker.is_known else UNAUTHORIZED


def agrees(status: int, wanted: int) -> bool:
    """Say whether a status is the one of the table; who is let in may still have asked for nonsense."""
    refusals = (UNAUTHORIZED, FORBIDDEN, UNKNOWN, 500)
    if not wanted:
        return status not in (UNAUTHORIZED, FORBIDDEN, 500)
    return status not in refusals if wanted == IN else status == wanted


def told(answer: httpx2.Response, name: str) -> tuple[str, str]:
    """Return what an answer says but for the name that was asked for."""
    left_out = {"date", "x-request-id", "content-length", "connection"}
    headers = sorted(f"{key}: {value}" for key, value in answer.headers.items() if key not in left_out)
    text = THING.sub("*", answer.text)
    return re.sub(rf"\b{re.escape(name.removeprefix('task/'))}\b", "*", text) if name else text, "\n".join(
        headers
    )


@pytest.mark.slow
async def test_everybody_gets_what_the_table_says(tmp_path: Any, figures: Figures) -> None:
    """And what is not granted looks the same whether it is there or not, byte for byte."""
    wrong: list[str] = []
    number = 0
    seen: dict[tuple[object, ...], dict[tuple[str, str], str]] = {}
    with world(tmp_path) as here:
        await furnish(here)
        asked = rows(here)
        for asker in here.askers:
            async with here.client(asker) as client:
                for row in asked:
                    wanted = expected(row, asker)
                    if row.changes and wanted == IN:
                        continue
                    answer = await client.request(row.method, row.path, **row.sent)
                    number += 1
                    if not agrees(answer.status_code, wanted):
                        wrong.append(
                            f"{asker.name}: {row.method} {row.path} {row.sent}: {wanted}, not {answer}"
                        )
                    if wanted in (UNAUTHORIZED, FORBIDDEN, UNKNOWN) and wanted == answer.status_code:
                        family = seen.setdefault((wanted, *row.family(asker)), {})
                        family.setdefault(told(answer, row.name), row.name)
                wrong += await lists(here, asker, client)
                number += sockets(here, asker, wrong)
    differing = {key: list(family.items()) for key, family in seen.items() if len(family) > 1}

    figures.tell(
        "rights", askers=len(here.askers), requests=number, wrong=len(wrong), told_apart=len(differing)
    )
    assert not wrong, "\n".join(wrong[:60])
    assert not differing, "\n".join(f"{key}: {value}" for key, value in list(differing.items())[:20])
    assert number >= LEAST_REQUESTS


async def lists(here: World, asker: Asker, client: httpx2.AsyncClient) -> list[str]:
    """Return what is wrong with the lists that somebody is shown."""
    if not asker.is_known:
        return []
    models = [name for name in LOCAL if asker.model(name) == IN]
    everything = [name for name in (*LOCAL, *REMOTE) if asker.model(name) == IN]
    tasks = sorted(name for name in TASKS if asker.task(name) == IN)
    memories = [name for name in MEMORIES if asker.read(name) == IN]
    overview = (await client.get("/v1/status")).json()
    stats = (await client.get("/v1/stats")).json()
    shown = {
        "models": ((await client.get("/v1/model")).json()["models"], models),
        "tasks": ((await client.get("/v1/task")).json()["tasks"], tasks),
        "memories": ((await client.get("/v1/memory")).json()["memories"], memories),
        "OpenAI's models": (
            sorted(one["id"] for one in (await client.get("/v1/models")).json()["data"]),
            sorted([*everything, *(f"task/{name}" for name in tasks)]),
        ),
        "engines": (sorted(stats["engine"]), models),
        "states": (sorted(stats["models"]), models),
        "counted tasks": (sorted({*stats["tasks"]} - {*tasks}), []),
        "overview of models": (sorted(overview["models"]), everything),
        "overview of tasks": (overview["tasks"], tasks),
        "overview of memories": (sorted(overview["memories"]), memories),
    }
    stores = {one["id"] for one in (await client.get("/v1/vector_stores?limit=100")).json()["data"]}
    shelf = asker.shelf(writes=False) == IN
    foreign = {here.ids[f"store of {owner}"] for owner in OWNERS if asker.thing(owner, writes=False) != IN}
    own = {here.ids[f"store of {owner}"] for owner in OWNERS} - foreign
    shown["stores of others"] = (sorted(stores & foreign), [])
    shown["stores"] = (sorted(({*own, *memories} if shelf else {*memories}) - stores), [])
    if shelf:
        files = {one["id"] for one in (await client.get("/v1/files")).json()["data"]}
        of_others = {here.ids[f"file of {one}"] for one in OWNERS if asker.thing(one, writes=False) != IN}
        shown["files of others"] = (sorted(files & of_others), [])
    return [
        f"{asker.name}: {what}: {got}, not {right}" for what, (got, right) in shown.items() if got != right
    ]


def sockets(here: World, asker: Asker, wrong: list[str]) -> int:
    """Try the handshake of each task's socket; return how many those were."""
    for name in (*TASKS, "nothing"):
        wanted = asker.task(name) if asker.is_known else UNAUTHORIZED
        status = b"101" if wanted == IN else b"%d" % wanted
        with here.subject.connect() as connection:
            connection.sendall(handshake(path=f"/v1/task/{name}/chat", key=asker.key or ""))
            if (answer := connection.recv(4096))[9:12] != status:
                wrong.append(f"{asker.name}: socket of {name}: {wanted}, not {answer[:60]!r}")
    return len(TASKS) + 1


def endpoints(routes: list[BaseRoute], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield method and pattern of every route that is closed."""
    for route in routes:
        if isinstance(route, Mount):
            yield from endpoints(list(route.routes), above + route.path)
        elif isinstance(route, Route) and route.path not in OPEN:
            pattern = re.sub(r"\{[^}:]*:path\}", ".+", above + route.path)
            pattern = re.sub(r"\{[^}]*\}", "[^/]+", pattern)
            yield from ((method, pattern) for method in sorted(route.methods or ()) if method != "HEAD")
        else:
            assert isinstance(route, Route | WebSocketRoute), route


class Known(dict[str, str]):
    """Ids for whatever is asked."""

    def __missing__(self, name: str) -> str:
        return name.replace(" ", "-")


def test_every_route_is_asked() -> None:
    """A route that is added must be added to the table, too."""
    nowhere = World(Subject("", 0, Path()), Path(), [], Known(), Known())
    asked = [(row.method, row.path.partition("?")[0]) for row in rows(nowhere)]

    missing = [
        (method, pattern)
        for method, pattern in endpoints(ROUTES)
        if not any(method == one and re.fullmatch(pattern, path) for one, path in asked)
    ]

    assert missing == []
