"""A key ends in the middle of an answer: the answer ends whole, and nothing that comes later is served."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.abuse.rights import Asker, World, token, world
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from arriero.access.key_store import KeyStore, NewKey

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

LONG = {"model": "b", "prompt": "once", "max_tokens": 2000, "ignore_eos": True, "stream": True}
LATEST_S = 1.0
SOON_S = 1.5
LEAST_AFTERWARDS = 100

Ended = Callable[[], float]
"""Ends a key; returns from when on it is worth nothing."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server, with keys of all kinds."""
    with world(tmp_path_factory.mktemp("revocation")) as served:
        yield served


def stored(here: World, **what: Any) -> tuple[str, str]:
    """Return the id and the secret of a new key, made beside the server."""
    with closing(KeyStore(here.folder / "keys.db")) as store:
        key, secret = store.create(NewKey("bob", **what), time.time())
    return key.id, secret


def revoked(here: World) -> tuple[str, Ended]:
    """The key is revoked by another process."""
    id, secret = stored(here)

    def end() -> float:
        with closing(KeyStore(here.folder / "keys.db")) as store:
            store.revoke(id, time.time())
        return time.time()

    return secret, end


def rotated(here: World) -> tuple[str, Ended]:
    """The key gets another secret, and the old one no time."""
    id, secret = stored(here)

    def end() -> float:
        with closing(KeyStore(here.folder / "keys.db")) as store:
            store.rotate(id, time.time())
        return time.time()

    return secret, end


def expired(here: World) -> tuple[str, Ended]:
    """The time of the key runs out."""
    at = time.time() + SOON_S
    _, secret = stored(here, expires_at=at)
    return secret, lambda: at


def token_revoked(here: World) -> tuple[str, Ended]:
    """The name of the token is written into the file."""

    def end() -> float:
        newer = here.folder / "newer.txt"
        newer.write_text("revoked\nbob-1\n")
        newer.replace(here.folder / "revoked.txt")
        return time.time()

    return token(jti="bob-1", sub="bob"), end


WAYS = [revoked, rotated, expired, token_revoked]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_an_answer_outlives_its_key(
    here: World, figures: Figures, way: Callable[[World], tuple[str, Ended]]
) -> None:
    """The stream ends as it would have, with its end marker; the next request and the next turn get 401."""
    key, end = way(here)
    url = f"{here.subject.url}/v1/task/ta/chat".replace("http", "ws")
    headers = {"authorization": f"Bearer {key}"}
    async with here.client(Asker("bob", key)) as client, connect(url, additional_headers=headers) as socket:
        await socket.send("a")
        while await socket.recv():
            pass
        async with client.stream("POST", "/v1/completions", json=LONG) as stream:
            lines = stream.aiter_lines()
            first = [await anext(lines) for _ in range(4)]
            from_then_on = end()
            while (answer := await client.get("/v1/task")).status_code == 200:
                assert time.time() < from_then_on + LATEST_S
            took_s = time.time() - from_then_on
            await socket.send("b")
            said = [await socket.recv(), await socket.recv()]
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            rest = [line async for line in lines if line]

    figures.tell(f"a key ends: {way.__name__}", refused_after_s=took_s, events_afterwards=len(rest))
    assert first[0].startswith("data: ")
    assert answer.status_code == 401
    assert (str(said[0])[:7], said[1]) == ("[error:", "")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert len(rest) > LEAST_AFTERWARDS
    assert rest[-1] == "data: [DONE]"
    assert not any('"error"' in line for line in rest)
