"""embeddings with the official client: numbers and base64, inputs in all forms."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.server.conftest import official_client

PATH = "/v1/embeddings"
VECTOR = [0.5, -1.0, 0.25, 3.0]


async def test_the_official_client_gets_vectors(serving: Any) -> None:
    """The client asks for base64 by itself; numbers on request are the same."""
    async with (
        serving() as client,
        official_client(client) as sdk,
    ):
        default = await sdk.embeddings.create(model="m", input=["ab", "c"])
        numbers = await sdk.embeddings.create(model="m", input="ab", encoding_format="float", dimensions=4)

    assert [one.embedding for one in default.data] == [VECTOR, VECTOR]
    assert [one.index for one in default.data] == [0, 1]
    assert (default.usage.prompt_tokens, default.usage.total_tokens) == (3, 3)
    assert numbers.data[0].embedding == VECTOR


async def test_base64_holds_little_endian_floats(serving: Any) -> None:
    """The bytes are those of float32."""
    async with serving() as client:
        body = {"model": "m", "input": "a", "encoding_format": "base64"}
        text = (await client.post(PATH, json=body)).json()["data"][0]["embedding"]

    assert base64.b64decode(text).hex() == "0000003f000080bf0000803e00004040"


@pytest.mark.parametrize(
    ("given", "embedded"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2]], [[1], [2]])],
)
async def test_an_input_has_four_forms(serving: Any, model_saying: Any, given: Any, embedded: Any) -> None:
    """Text, texts, tokens and token lists."""
    model = model_saying("x")
    async with serving(model) as client:
        await client.post(PATH, json={"model": "m", "input": given})

    assert model.embedded == embedded


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input": None}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ""}, 400, "input"),
        ({"input": [[]]}, 400, "input"),
        ({"input": ["a", 1]}, 400, "input"),
        ({"input": {}}, 400, "input"),
        ({"input": [258]}, 400, "input"),
        ({"input": ["a"] * 2049}, 400, "input"),
        ({"encoding_format": "hex"}, 400, "encoding_format"),
        ({"dimensions": 3}, 400, "dimensions"),
        ({"model": None}, 400, "model"),
        ({"model": "nope"}, 404, "model"),
        ({"model": "task/t"}, 404, "model"),
    ],
)
async def test_a_bad_request_names_its_member(serving: Any, change: Any, status: int, param: str) -> None:
    """OpenAI's error object with the member."""
    body = {"model": "m", "input": "a", **change}
    async with serving() as client:
        response = await client.post(PATH, json={k: v for k, v in body.items() if v is not None})

    assert response.status_code == status, response.text
    assert response.json()["error"]["param"] == param
