"""Keys: where they may stand, what is refused, in Poly's words."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.datastructures import Headers, QueryParams

from arriero.errors import Unauthorized
from arriero.server.auth import ANONYMOUS, Keyring, may

NO_TOKEN = "no auth token provided and not a public server"
BAD_TOKEN = "no acceptable auth token provided"
NOT_BEARER = "invalid bearer token"
BAD_JWT = "invalid JWT token"

BEARER = {"authorization": "Bearer sesame"}


def ask(keyring: Keyring, headers: dict[str, str], query: str = "") -> str:
    """Return the tenant, or the text of the refusal."""
    try:
        return keyring.authenticate(Headers(headers), QueryParams(query)).tenant
    except Unauthorized as exc:
        return exc.message


@pytest.mark.parametrize(
    ("headers", "query", "answer"),
    [
        ({}, "", NO_TOKEN),
        ({}, "api_key=", NO_TOKEN),
        ({}, "api_key=bad", BAD_TOKEN),
        ({"authorization": "Bearer bad"}, "", BAD_TOKEN),
        ({"authorization": "Bearer "}, "", BAD_TOKEN),
        ({"authorization": "Bearer sesame "}, "", BAD_TOKEN),
        ({"authorization": "bearer sesame"}, "", NOT_BEARER),
        ({"authorization": "Basic sesame"}, "api_key=sesame", NOT_BEARER),
        ({"authorization": "Bearer bad"}, "api_key=sesame", BAD_TOKEN),
    ],
)
def test_whoever_has_no_key_is_refused(headers: dict[str, str], query: str, answer: str) -> None:
    """The header wins over the query, must be a bearer's, and each refusal has its text."""
    assert ask(Keyring(["sesame"]), headers, query) == answer


def test_a_public_server_without_keys_ignores_what_it_is_sent() -> None:
    """Clients that cannot but send a key are served where nobody has one."""
    keyring = Keyring([], public=True)

    for header in ("Bearer sk-none", "Basic eA=="):
        assert keyring.authenticate(Headers({"authorization": header}), QueryParams("")) == ANONYMOUS


def test_a_public_server_takes_strangers_but_no_wrong_keys() -> None:
    """No key is the anonymous tenant; a wrong key is still wrong."""
    keyring = Keyring(["sesame"], public=True)

    assert keyring.authenticate(Headers({}), QueryParams("")) == ANONYMOUS
    assert ask(keyring, {"authorization": "Bearer bad"}) == BAD_TOKEN


def test_a_token_is_refused_as_such_where_tokens_are_configured() -> None:
    """With a JWT secret configured the refusal speaks of a token; static keys still open."""
    keyring = Keyring(["sesame"], expects_jwt=True)

    assert ask(keyring, {"authorization": "Bearer a.b.c"}) == BAD_JWT
    assert ask(keyring, BEARER) == ask(Keyring(["x", "sesame"]), {}, "api_key=sesame")


def test_tenants_differ_by_key_and_do_not_show_it() -> None:
    """Each key is a tenant of its own, named by a digest."""
    keyring = Keyring(["sesame", "other"])
    tenant, other = ask(keyring, BEARER), ask(keyring, {"authorization": "Bearer other"})

    assert tenant != other
    assert len(tenant) == 32
    assert "sesame" not in tenant


def test_a_static_key_may_do_everything() -> None:
    """Rights are for later; the seam says yes."""
    assert may(ANONYMOUS, "use", "model/m")


@pytest.mark.parametrize(
    "path", ["/v1/task", "/v1/models", "/v1/stats", "/v1/task/t/live?prompt=a", "/v1/task/nope/chat", "/v1/x"]
)
async def test_everything_below_v1_needs_a_key(serving: Any, path: str) -> None:
    """401 with Poly's text comes before any look at names."""
    async with serving() as client, httpx2.AsyncClient(base_url=client.base_url) as stranger:
        response = await stranger.get(path)

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert NO_TOKEN in response.text


async def test_the_query_key_opens_every_method(serving: Any) -> None:
    """`?api_key=` works on GET and on POST."""
    async with serving() as client, httpx2.AsyncClient(base_url=client.base_url) as stranger:
        listing = await stranger.get("/v1/task?api_key=sesame")
        answer = await stranger.post("/v1/task/t/completion?api_key=other", json={"prompt": "a"})

    assert (listing.status_code, answer.status_code) == (200, 200)


async def test_the_tenant_reaches_the_model(serving: Any, model_saying: Any) -> None:
    """Requests carry the tenant of their key; those of strangers none."""
    model = model_saying("x")
    async with serving(model, public=True) as client:
        for headers in (BEARER, {"authorization": "Bearer other"}):
            await client.get("/v1/task/t/completion?prompt=a", headers=headers)
        async with httpx2.AsyncClient(base_url=client.base_url) as stranger:
            await stranger.get("/v1/task/t/completion?prompt=a")

    tenants = [request.tenant for request in model.requests]
    assert tenants[2] == ""
    assert len(set(tenants)) == 3
