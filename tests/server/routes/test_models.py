"""Poly's model routes, and our own tokenize and detokenize."""

from __future__ import annotations

from typing import Any

import pytest

TEXT = {"prompt": "Hi"}


async def test_models_are_listed(serving: Any) -> None:
    """The list holds every model's name, in order."""
    async with serving() as client:
        assert (await client.get("/v1/model")).json() == {"models": ["m", "other"]}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_embedding_is_one_vector(serving: Any, method: str) -> None:
    """GET and POST answer the vector's numbers."""
    async with serving() as client:
        body = {"params": TEXT} if method == "GET" else {"json": TEXT}
        response = await client.request(method, "/v1/model/m/embedding", **body)

    assert response.json() == {"embedding": [0.5, -1.0, 0.25, 3.0]}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_tokenization_begins_with_the_begin_token(serving: Any, method: str) -> None:
    """GET and POST answer text and id of each token."""
    async with serving() as client:
        body = {"params": TEXT} if method == "GET" else {"json": TEXT}
        response = await client.request(method, "/v1/model/m/tokenization", **body)

    assert response.json() == {
        "tokens": [
            {"text": "<bos>", "token": 256},
            {"text": "H", "token": 72},
            {"text": "i", "token": 105},
        ]
    }


@pytest.mark.parametrize("route", ["embedding", "tokenization"])
async def test_an_unknown_model_is_not_found(serving: Any, route: str) -> None:
    """Poly's text, in plain; problem details for clients that ask for JSON."""
    async with serving() as client:
        plain = await client.get(f"/v1/model/nope/{route}", params=TEXT)
        as_json = await client.get(
            f"/v1/model/nope/{route}", params=TEXT, headers={"accept": "application/json"}
        )

    assert (plain.status_code, plain.text) == (404, "model not found: nope")
    assert as_json.headers["content-type"] == "application/problem+json"
    assert as_json.json() == {
        "title": "Not Found",
        "status": 404,
        "detail": "model not found: nope",
        "code": "not_found",
        "param": "model",
    }


async def test_tokenize_and_detokenize_are_inverse(serving: Any) -> None:
    """Text becomes tokens, special names only on request, and tokens become the text again."""
    async with serving() as client:
        said = (await client.post("/v1/tokenize", json={"model": "m", "text": "a<eos>"})).json()
        special = {"model": "m", "text": "a<eos>", "special": True, "add_bos": True}
        short = (await client.post("/v1/tokenize", json=special)).json()
        ids = [token["token"] for token in short["tokens"]]
        back = (await client.post("/v1/detokenize", json={"model": "m", "tokens": ids})).json()

    assert (said["model"], said["count"]) == ("m", 6)
    assert ids == [256, 97, 257]
    assert back == {"model": "m", "text": "<bos>a<eos>"}


@pytest.mark.parametrize(
    ("route", "body", "status", "param"),
    [
        ("tokenize", {"text": "a"}, 400, "model"),
        ("tokenize", {"model": "m"}, 400, "text"),
        ("tokenize", {"model": "m", "text": 1}, 400, "text"),
        ("tokenize", {"model": "nope", "text": "a"}, 404, "model"),
        ("detokenize", {"model": "m", "tokens": ["a"]}, 400, "tokens[0]"),
        ("detokenize", {"model": "m", "tokens": [258]}, 400, "tokens"),
        ("detokenize", {"model": "m", "tokens": [-1]}, 400, "tokens"),
        ("detokenize", {"model": "nope", "tokens": []}, 404, "model"),
    ],
)
async def test_bad_requests_name_the_member(
    serving: Any, route: str, body: Any, status: int, param: str
) -> None:
    """Problem details with the offending member."""
    async with serving() as client:
        response = await client.post(f"/v1/{route}", json=body)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["param"] == param
