"""Stored keys, tokens, tickets and limits over HTTP, on a server that runs meanwhile."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets
from tests.server import conftest

from arriero.access.jwt import Claims, SharedSecret
from arriero.access.key_store import KeyStore, NewKey
from arriero.access.keyring import BAD_TOKEN
from arriero.access.mint import minted
from arriero.access.principal import Grants
from arriero.config.auth import KeyLimits
from arriero.config.load import parse_config
from arriero.testing.serving import client_of

SECRET = "the shared secret of the tests, long enough"
CONFIG = """
[auth]
allowed_keys = ["sesame"]
key_store = "{folder}/keys.sqlite"
usage_store = "{folder}/usage.sqlite"
jwt_private_key = {{ symmetric = "{secret}" }}
{auth}
[models.m]
url = "http://127.0.0.1:1/m.gguf"
[models.other]
url = "http://127.0.0.1:1/other.gguf"
[tasks.t]
model = "m"
"""

Site = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
COMPLETION = "/v1/task/t/completion?prompt=a"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A server with a key store; the client bears no key."""

    @asynccontextmanager
    async def serve(auth: str = "") -> AsyncIterator[httpx2.AsyncClient]:
        stage = conftest.staged(conftest.ScriptedModel(*["Hello"] * 20))
        config = parse_config(CONFIG.format(folder=tmp_path, secret=SECRET, auth=auth), {})
        async with (
            conftest.served(replace(stage, config=config)) as url,
            client_of(url) as client,
        ):
            yield client

    return serve


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[str, dict[str, str]]]:
    """Make a key in the store as the command line does; give its id and the header that bears it."""

    def key(name: str = "bob", **what: Any) -> tuple[str, dict[str, str]]:
        with closing(KeyStore(tmp_path / "keys.sqlite")) as store:
            stored, secret = store.create(NewKey(name, **what), time.time())
        return stored.id, bearer(secret)

    return key


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def token(**claims: Any) -> str:
    return minted(Claims(exp=int(time.time()) + 600, **claims), SharedSecret(SECRET))


def chat_at(client: httpx2.AsyncClient) -> str:
    return f"{client.base_url}".replace("http", "ws").rstrip("/") + "/v1/task/t/chat"


Make = Callable[..., tuple[str, dict[str, str]]]


async def test_a_key_made_beside_a_running_server_opens_it_until_it_is_revoked(
    site: Site, make: Make, tmp_path: Path
) -> None:
    """The very next request knows, both ways; nothing is started again."""
    async with site() as client:
        id, headers = make()
        before = await client.get("/v1/task", headers=headers)
        with closing(KeyStore(tmp_path / "keys.sqlite")) as store:
            store.revoke(id, time.time())
        after = await client.get("/v1/task", headers=headers)

    assert (before.status_code, before.json()) == (200, {"tasks": ["t"]})
    assert after.status_code == 401


async def test_lists_show_what_the_key_may_use(site: Site, make: Make) -> None:
    """Models, tasks and statistics alike; what is not granted is forbidden."""
    async with site() as client:
        _, headers = make(grants=Grants(models=("other",), tasks=()))
        models = await client.get("/v1/models", headers=headers)
        tasks = await client.get("/v1/task", headers=headers)
        stats = await client.get("/v1/stats", headers=headers)
        granted = await client.post("/v1/model/other/embedding", headers=headers, json={"prompt": "a"})
        denied = await client.get(COMPLETION, headers=headers)
        foreign = await client.post("/v1/model/m/embedding", headers=headers, json={"prompt": "a"})

    assert [model["id"] for model in models.json()["data"]] == ["other"]
    assert tasks.json() == {"tasks": []}
    assert (stats.json()["tasks"], list(stats.json()["engine"])) == ({}, ["other"])
    assert (granted.status_code, denied.status_code, foreign.status_code) == (200, 403, 403)


async def test_a_task_can_be_used_without_its_model(site: Site) -> None:
    """The model of a task is part of the task; beside it the model stays closed."""
    headers = bearer(token(tasks=("t",), models=()))
    async with site() as client:
        answer = await client.get(COMPLETION, headers=headers)
        raw = await client.post(
            "/v1/completions", headers=headers, json={"model": "m", "prompt": "a", "max_tokens": 1}
        )

    assert (answer.status_code, raw.status_code) == (200, 403)


async def test_a_task_that_may_not_be_used_is_a_name_like_any_other(site: Site) -> None:
    """By its bare name it gets the answer of a model that is not there."""
    headers = bearer(token(tasks=()))
    async with site() as client:
        answers = [
            await client.post("/v1/completions", headers=headers, json={"model": name, "prompt": "a"})
            for name in ("t", "x")
        ]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text.replace(": t", ": x") == answers[1].text


async def test_the_rules_of_a_model_are_told_to_those_who_may_use_it(site: Site) -> None:
    """What they refuse is forbidden to others first, as is a body that nobody could read."""
    headers = bearer(token(models=("other",)))
    async with site() as client:
        answers = [
            await client.post("/v1/completions", headers=headers, json={"model": name, "prompt": 1})
            for name in ("m", "x", "other")
        ]

    assert [answer.status_code for answer in answers] == [403, 403, 400]


TOKENS: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({}, (200, 200)),
    ({"tasks": ("t",)}, (200, 200)),
    ({"tasks": ()}, (403, 200)),
    ({"tasks": ("other",), "models": ("m",)}, (403, 200)),
    ({"models": ()}, (200, 403)),
    ({"sub": "bob", "memories": ()}, (200, 200)),
    ({"nbf": 2**40}, (401, 401)),
    ({"iat": -5}, (401, 401)),
]


async def test_polys_tokens_open_what_they_list(site: Site) -> None:
    """Absent lists are all names, empty ones none."""
    async with site() as client:
        for claims, statuses in TOKENS:
            headers = bearer(token(**claims))
            task = await client.get("/v1/task/t/status", headers=headers)
            model = await client.get("/v1/model/m/tokenization?prompt=a", headers=headers)
            assert (task.status_code, model.status_code) == statuses, claims


async def test_the_admin_api_makes_rotates_and_revokes(site: Site, make: Make) -> None:
    """A secret stands in one answer only, and no cache keeps that."""
    async with site() as client:
        _, admin = make("root", grants=Grants(admin=True))
        body = {"name": "carol", "grants": {"tasks": ["t"]}, "limits": {"requests_per_minute": 5}}
        made = await client.post("/v1/admin/keys", headers=admin, json=body)
        id, first = made.json()["key"]["id"], bearer(made.json()["secret"])
        first_status = await client.get("/v1/task/t/status", headers=first)
        rotated = await client.post(f"/v1/admin/keys/{id}/rotate", headers=admin, json={"overlap_s": 0})
        second = bearer(rotated.json()["secret"])
        after = [(await client.get("/v1/task", headers=headers)).status_code for headers in (first, second)]
        listed = await client.get("/v1/admin/keys", headers=admin)
        revoked = await client.delete(f"/v1/admin/keys/{id}", headers=admin)
        gone = await client.get("/v1/task", headers=second)

    assert (made.status_code, first_status.status_code) == (201, 200)
    assert made.headers["cache-control"] == rotated.headers["cache-control"] == "no-store"
    assert after == [401, 200]
    assert [key["name"] for key in listed.json()["keys"]] == ["root", "carol"]
    assert "secret" not in listed.json()["keys"][1]
    assert revoked.json()["key"]["revoked_at"] > 0
    assert gone.status_code == 401


async def test_the_admin_api_is_for_admins(site: Site, make: Make) -> None:
    """Neither a key of the configuration nor any token is one, whatever it claims."""
    async with site() as client:
        for headers in (bearer("sesame"), bearer(token(sub="root")), make()[1]):
            listing = await client.get("/v1/admin/keys", headers=headers)
            made = await client.post("/v1/admin/keys", headers=headers, json={"name": "x"})
            revoked = await client.delete("/v1/admin/keys/key_x", headers=headers)
            assert [answer.status_code for answer in (listing, made, revoked)] == [403, 403, 403]


WRONG: list[tuple[dict[str, Any], str | None]] = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": "x", "grant": {}}, "grant"),
    ({"name": "x", "grants": {"tasks": "t"}}, "grants.tasks"),
    ({"name": "x", "limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
    ({"name": "x", "expires_at": 1}, "expires_at"),
]


async def test_a_wrong_key_is_not_made(site: Site, make: Make) -> None:
    """The answer names the member."""
    async with site() as client:
        _, admin = make(grants=Grants(admin=True))
        for body, param in WRONG:
            answer = await client.post("/v1/admin/keys", headers=admin, json=body)
            assert (answer.status_code, answer.json().get("param")) == (400, param), body
        unknown = await client.delete("/v1/admin/keys/key_x", headers=admin)

    assert (unknown.status_code, unknown.json()["detail"]) == (404, "key not found: key_x")


async def test_a_ticket_opens_a_socket_once(site: Site) -> None:
    """Browsers, which can send no header, get in without a key in an address."""
    async with site() as client:
        path = "/v1/task/t/chat"
        got = await client.post("/v1/tickets", headers=bearer("sesame"), json={"path": path})
        url = f"{client.base_url}".replace("http", "ws").rstrip("/")
        address = f"{url}{path}?ticket={got.json()['ticket']}"
        async with websockets.connect(address) as socket:
            await socket.send("a")
            assert [await socket.recv() for _ in range(6)] == [*"Hello", ""]
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(address):
                pass
        stranger = await client.post("/v1/tickets")

    assert got.json()["expires_in"] == 30
    assert (refused.value.response.status_code, stranger.status_code) == (401, 401)


async def test_a_key_that_has_used_its_requests_must_wait(site: Site, make: Make) -> None:
    """429 with what is left and when to come back; other keys and free routes do not notice."""
    async with site() as client:
        _, headers = make(limits=KeyLimits(requests_per_minute=2))
        answers = [await client.get(COMPLETION, headers=headers) for _ in range(3)]
        listing = await client.get("/v1/models", headers=headers)
        other = await client.get(COMPLETION, headers=bearer("sesame"))
        openai = await client.post("/v1/completions", headers=headers, json={"model": "m", "prompt": "a"})

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    remaining = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert remaining == ["1", "0", "0"]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert (listing.status_code, other.status_code) == (200, 200)
    assert "x-ratelimit-limit-requests" not in other.headers
    assert openai.status_code == 429
    assert openai.json()["error"]["type"] == "rate_limit_error"
    assert openai.json()["error"]["code"] == "rate_limit_exceeded"


async def test_wrong_keys_are_bounded_and_a_good_one_is_taken_all_the_same(site: Site) -> None:
    """Two a minute get 401, the rest 429 on every path, existing or not; the good key works from there."""
    async with site("[limits]\nmax_auth_failures = 2") as client:
        wrong = [await client.get("/v1/task", headers=bearer("wrong")), await client.get("/v1/task")]
        over = [await client.get(path, headers=bearer("wrong")) for path in ("/v1/task", "/v1/nothing", "/x")]
        over.append(await client.post("/v1/chat/completions", json={"model": "m"}))
        good = await client.get("/v1/task", headers=bearer("sesame"))
        still = await client.get("/v1/task")
        open_to_all = await client.get("/status")

    assert [answer.status_code for answer in wrong] == [401, 401]
    assert [answer.status_code for answer in (*over, still)] == [429] * 5
    assert 1 <= int(over[0].headers["retry-after"]) <= 30
    assert len({answer.headers["retry-after"] for answer in over}) <= 2  # a second may pass between them
    assert over[1].content == over[2].content  # nothing tells a path that is there from one that is not
    assert over[3].json()["error"]["code"] == "rate_limit_exceeded"
    assert (good.status_code, open_to_all.status_code) == (200, 200)


async def test_sockets_of_strangers_are_bounded_as_well(site: Site) -> None:
    """The handshake that is one too many is denied with 429."""
    async with site("[limits]\nmax_auth_failures = 1") as client:
        await client.get("/v1/task")
        with pytest.raises(websockets.InvalidStatus) as denied:
            await websockets.connect(chat_at(client))

    assert denied.value.response.status_code == 429


async def test_the_limits_of_the_configuration_hold_for_every_key(site: Site) -> None:
    """For keys of the configuration and tokens too, each with its own count."""
    async with site("key_limits = { requests_per_minute = 1 }") as client:
        for headers in (bearer("sesame"), bearer(token(sub="bob")), bearer(token(sub="eve"))):
            answers = [await client.get(COMPLETION, headers=headers) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 429]


async def test_a_socket_ends_with_its_key(site: Site, make: Make, tmp_path: Path) -> None:
    """The turn after the revocation is refused and the socket closed; the turn before was answered."""
    async with site() as client:
        id, headers = make()
        address = chat_at(client)
        async with websockets.connect(address, additional_headers=headers) as socket:
            await socket.send("a")
            assert [await socket.recv() for _ in range(6)] == [*"Hello", ""]
            with closing(KeyStore(tmp_path / "keys.sqlite")) as store:
                store.revoke(id, time.time())
            await socket.send("a")
            assert [await socket.recv() for _ in range(2)] == [f"[error: {BAD_TOKEN}]", ""]
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_turns_are_counted_not_handshakes(site: Site, make: Make) -> None:
    """A turn too many is an error in the conversation, which goes on later."""
    async with site() as client:
        _, headers = make(limits=KeyLimits(requests_per_minute=1))
        address = chat_at(client)
        for _ in range(2):
            async with websockets.connect(address, additional_headers=headers) as socket:
                await socket.send("a")
                first = await socket.recv()

    assert first == "[error: this key may make 1 requests a minute]"


async def test_a_browser_bears_its_key_in_a_subprotocol(site: Site) -> None:
    """The other subprotocol that it offers is chosen; the key is not sent back."""
    key = "arriero.key." + base64.urlsafe_b64encode(b"sesame").rstrip(b"=").decode()
    async with site() as client:
        address = chat_at(client)
        chosen = []
        for form in ("arriero.v1", "arriero.text"):
            offered = [websockets.Subprotocol(name) for name in (key, form)]
            async with websockets.connect(address, subprotocols=offered) as socket:
                chosen.append(socket.subprotocol)

    assert chosen == ["arriero.v1", "arriero.text"]


async def test_unknown_and_forbidden_names_look_alike(site: Site) -> None:
    """Whoever may use one task cannot find out which others there are."""
    headers = bearer(token(tasks=("other",), models=("m",)))
    async with site() as client:
        answers = []
        for name in ("t", "x"):
            poly = await client.get(f"/v1/task/{name}/status", headers=headers)
            openai = [
                await client.post("/v1/completions", headers=headers, json={"model": model, "prompt": "a"})
                for model in (f"task/{name}", name)
            ]
            said = [(answer.status_code, answer.text.replace(f" {name}", "")) for answer in (poly, *openai)]
            answers.append(said)

    assert answers[0] == answers[1]
    assert {status for status, _ in answers[0]} == {403}
