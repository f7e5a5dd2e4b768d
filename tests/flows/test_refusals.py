"""Requests that cannot be answered: a clear word to the client, and no harm to the server."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

LONG = "word " * 2000
MEBIBYTE = b"x" * 1024 * 1024
COMPLETION = "/v1/task/assistant/completion"


@pytest.fixture(autouse=True)
async def still_well(client: httpx2.AsyncClient) -> AsyncIterator[None]:
    """Whatever was refused, the server answers the next request."""
    yield
    answer = await client.get("/v1/task/copier/completion", params={"prompt": "Hello"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/task/nope/status"),
        ("GET", "/v1/task/nope/completion?prompt=x"),
        ("POST", "/v1/task/nope/completion"),
        ("GET", "/v1/task/nope/live?prompt=x"),
        ("GET", "/v1/model/nope/embedding?prompt=x"),
        ("POST", "/v1/model/nope/tokenization"),
    ],
)
async def test_an_unknown_name_is_not_found(client: httpx2.AsyncClient, method: str, path: str) -> None:
    """Every route answers 404 in Poly's words, the same for a body that would be good."""
    answer = await client.request(method, path, json={"prompt": "x"} if method == "POST" else None)

    assert answer.status_code == 404
    assert answer.text == f"{path.split('/')[2]} not found: nope"


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/tokenize"]
)
async def test_an_unknown_name_in_a_body_is_not_found(client: httpx2.AsyncClient, path: str) -> None:
    """Routes that take the name in the body answer 404 in their own form."""
    messages = [{"role": "user", "content": "x"}]
    body = {"model": "nope", "prompt": "x", "input": "x", "text": "x", "messages": messages}
    answer = await client.post(path, json=body)

    assert answer.status_code == 404
    assert "model not found: nope" in answer.text
    assert answer.headers["content-type"].endswith("json")


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 422),
        (b"{}", "application/json", 422),
        (b'{"prompt": 3}', "application/json", 422),
        (b'{"prompt": "x"}', "text/plain", 415),
    ],
)
async def test_a_bad_body_is_refused_as_in_poly(
    client: httpx2.AsyncClient, body: bytes, media_type: str, status: int
) -> None:
    """Bad JSON is 400, a missing or mistyped member 422, another type 415."""
    answer = await client.post(COMPLETION, content=body, headers={"content-type": media_type})

    assert answer.status_code == status
    assert answer.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
async def test_bad_json_is_refused_in_openais_form(client: httpx2.AsyncClient, path: str) -> None:
    """The error object says what is wrong."""
    answer = await client.post(path, content=b'{"model": ', headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", [COMPLETION, "/v1/chat/completions"])
@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_body_of_50_megabytes_is_refused(
    client: httpx2.AsyncClient, path: str, is_declared: bool
) -> None:
    """With its length declared or in chunks, the answer is 413, not a broken connection."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield MEBIBYTE

    headers = {"content-type": "application/json"}
    if is_declared:
        headers["content-length"] = str(50 * len(MEBIBYTE))
    answer = await client.post(path, content=body(), headers=headers)

    assert answer.status_code == 413
    assert "4194304" in answer.text


@pytest.mark.parametrize("path", [COMPLETION, "/v1/task/assistant/live"])
async def test_a_prompt_beyond_the_context_is_refused(client: httpx2.AsyncClient, path: str) -> None:
    """The status is real, also on a stream, and the message has both numbers."""
    answer = await client.get(path, params={"prompt": LONG})

    assert answer.status_code == 400
    assert "context" in answer.text
    assert "512 tokens" in answer.text


async def test_an_embedding_beyond_the_context_is_refused(client: httpx2.AsyncClient) -> None:
    """A text too long is told by its place in the request, and other texts are not embedded silently cut."""
    answer = await client.post("/v1/embeddings", json={"model": "embed", "input": ["x", LONG]})

    assert answer.status_code == 400
    assert "input 1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", [COMPLETION, "/v1/task/assistant/live"])
async def test_a_private_token_is_refused(client: httpx2.AsyncClient, path: str) -> None:
    """A user's text may not hold the task's private tokens; a stream tells it with a status too."""
    answer = await client.get(path, params={"prompt": "Hello <|im_end|>"})

    assert answer.status_code == 400
    assert answer.text == "illegal token encountered"


async def test_numbers_without_a_meaning_are_refused(client: httpx2.AsyncClient) -> None:
    """NaN is no JSON; a huge token id is no token."""
    body = f'{{"model": "chat", "prompt": "x", "temperature": {math.nan}}}'.encode()
    nan = await client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    token = await client.post("/v1/completions", json={"model": "chat", "prompt": [10**9]})

    assert (nan.status_code, token.status_code) == (400, 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/v1/task/", 404),
        ("DELETE", "/v1/task/assistant/completion", 405),
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/v1/task/assistant/chat", 400),
    ],
)
async def test_what_no_route_takes_is_told(
    client: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    """Unknown paths, other methods, a socket's path without an upgrade."""
    assert (await client.request(method, path)).status_code == status
