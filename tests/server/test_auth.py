"""Keys: where they may stand, what is refused, in Poly's words."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from starlette.datastructures import Headers, QueryParams

from arriero.access.keyring import BAD_TOKEN, NO_TOKEN, Keyring
from arriero.access.principal import Principal
from arriero.errors import Unauthorized
from arriero.server.auth import presented
from arriero.testing.serving import client_of

NOT_BEARER = "invalid bearer token"
DIFFERENT = "different auth tokens provided at once"

BEARER = {"authorization": "Bearer sesame"}


def ask(
    keyring: Keyring, headers: dict[str, str], query: str = "", subprotocols: tuple[str, ...] = ()
) -> str:
    """Return the tenant, or the text of the refusal."""
    try:
        return keyring.identify(presented(Headers(headers), QueryParams(query), subprotocols)).tenant
    except Unauthorized as exc:
        return exc.message


def protocol(key: bytes) -> str:
    return "arriero.key." + base64.urlsafe_b64encode(key).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("headers", "query", "answer"),
    [
        ({}, "", NO_TOKEN),
        ({}, "api_key=", NO_TOKEN),
        ({"x-api-key": ""}, "", NO_TOKEN),
        ({}, "api_key=bad", BAD_TOKEN),
        ({"authorization": "Bearer bad"}, "", BAD_TOKEN),
        ({"x-api-key": "bad"}, "", BAD_TOKEN),
        ({"authorization": "Bearer "}, "", BAD_TOKEN),
        ({"authorization": "Bearer sesame "}, "", BAD_TOKEN),
        ({"authorization": "bearer sesame"}, "", NOT_BEARER),
        ({"authorization": "Basic sesame"}, "api_key=sesame", NOT_BEARER),
        ({"authorization": "Bearer bad"}, "api_key=sesame", DIFFERENT),
        ({"authorization": "Bearer sesame"}, "api_key=other", DIFFERENT),
        ({"authorization": "Bearer sesame", "x-api-key": "other"}, "", DIFFERENT),
        ({}, "api_key=sesame&api_key=other", DIFFERENT),
    ],
)
def test_whoever_has_no_key_is_refused(headers: dict[str, str], query: str, answer: str) -> None:
    """The header must be a bearer's, two keys must be the same, and each refusal has its text."""
    assert ask(Keyring(["sesame", "other"]), headers, query) == answer


@pytest.mark.parametrize(
    ("headers", "query", "subprotocols"),
    [
        (BEARER, "", ()),
        ({"x-api-key": "sesame"}, "", ()),
        ({}, "api_key=sesame", ()),
        ({}, "", ("arriero.v1", protocol(b"sesame"))),
        ({**BEARER, "x-api-key": "sesame"}, "api_key=sesame", (protocol(b"sesame"),)),
    ],
)
def test_a_key_may_stand_in_several_places(
    headers: dict[str, str], query: str, subprotocols: tuple[str, ...]
) -> None:
    """One of them is enough, and the same key in two of them is one key."""
    assert len(ask(Keyring(["sesame"]), headers, query, subprotocols)) == 32


@pytest.mark.parametrize("name", ["arriero.key.!", "arriero.key.a", protocol(b"\xff")])
def test_a_subprotocol_that_holds_no_text_is_refused(name: str) -> None:
    """What is not base64url of UTF-8 is no key, and no crash."""
    assert ask(Keyring(["sesame"]), {}, "", (name,)) in (NOT_BEARER, BAD_TOKEN)


HIDDEN = [
    "/v1/task",
    "/v1/models",
    "/v1/stats",
    "/v1/task/t/live?prompt=a",
    "/v1/task/nope/chat",
    "/v1/x",
    "/v1/admin/keys",
    "/version",
    "/nowhere",
    "/",
    "/metrics",
    "/openapi.json",
    "/pokt/config",
]


async def test_a_stranger_learns_nothing_but_health(serving: Any) -> None:
    """401 with Poly's text comes before any look at names, paths and methods."""
    async with serving() as client, client_of(client.base_url) as stranger:
        for path in ("/status", "/livez", "/health", "/readyz"):
            response = await stranger.get(path)
            assert (response.status_code, response.json()) == (200, {"status": "ok"})
        for path in HIDDEN:
            for method in ("GET", "POST", "DELETE"):
                response = await stranger.request(method, path)
                assert response.status_code == 401, path
                assert response.headers["www-authenticate"] == "Bearer"
                assert NO_TOKEN in response.text


async def test_the_query_key_opens_every_method(serving: Any) -> None:
    """`?api_key=` works on GET and on POST."""
    async with serving() as client, client_of(client.base_url) as stranger:
        listing = await stranger.get("/v1/task?api_key=sesame")
        answer = await stranger.post("/v1/task/t/completion?api_key=other", json={"prompt": "a"})

    assert (listing.status_code, answer.status_code) == (200, 200)


async def test_the_tenant_reaches_the_model(serving: Any, model_saying: Any) -> None:
    """Requests carry the tenant of their key; those of strangers none."""
    model = model_saying("x")
    async with serving(model, public=True) as client:
        for headers in (BEARER, {"authorization": "Bearer other"}):
            await client.get("/v1/task/t/completion?prompt=a", headers=headers)
        async with client_of(client.base_url) as stranger:
            await stranger.get("/v1/task/t/completion?prompt=a")

    tenants = [request.tenant for request in model.requests]
    assert tenants[2] == Principal().tenant == ""
    assert len(set(tenants)) == 3
