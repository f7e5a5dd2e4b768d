"""Models that run here under a public name and with limits, over all routes."""

from __future__ import annotations

from typing import Any

import pytest

EXTRA = """
[models.limited]
url = "http://127.0.0.1:1/limited.gguf"
public_name = "shown"
max_tokens = 3
allow_logprobs = false
max_n = 2
[models.strict]
url = "http://127.0.0.1:1/strict.gguf"
max_tokens = 3
over_limit = "reject"
[tasks.short]
model = "limited"
"""
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", {"prompt": "Hi"}),
    ("/v1/embeddings", {"input": "Hi"}),
    ("/v1/tokenize", {"text": "Hi"}),
    ("/v1/detokenize", {"tokens": [72]}),
]
GENERATING = REQUESTS[:2]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_a_model_answers_to_its_public_name(serving: Any, path: str, body: dict[str, Any]) -> None:
    """The answer calls the model so too; the name of its table is not found."""
    async with serving(extra=EXTRA) as client:
        answer = await client.post(path, json={"model": "shown", **body})
        unknown = await client.post(path, json={"model": "limited", **body})

    assert (answer.status_code, answer.json().get("model", "shown")) == (200, "shown")
    assert "limited" not in answer.text
    assert unknown.status_code == 404


@pytest.mark.parametrize("route", ["embedding", "tokenization"])
async def test_polys_routes_know_the_public_name(serving: Any, route: str) -> None:
    """They do not know the other one."""
    async with serving(extra=EXTRA) as client:
        assert (await client.get(f"/v1/model/shown/{route}", params={"prompt": "a"})).status_code == 200
        assert (await client.get(f"/v1/model/limited/{route}", params={"prompt": "a"})).status_code == 404


async def test_lists_hold_public_names(serving: Any) -> None:
    """Poly's list, OpenAI's, and the counters of the engines."""
    async with serving(extra=EXTRA) as client:
        names = (await client.get("/v1/model")).json()["models"]
        ids = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        engines = (await client.get("/v1/stats")).json()["engine"]
        one = await client.get("/v1/models/shown"), await client.get("/v1/models/limited")

    assert names == ["m", "other", "shown", "strict"] == sorted(engines)
    assert ids == [*names, "task/short", "task/t"]
    assert [response.status_code for response in one] == [200, 404]


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("shown", {}),
        ("shown", {"max_tokens": 100}),
        ("task/short", {"max_tokens": 100}),
        ("short", {"max_tokens": 100}),
    ],
)
@pytest.mark.parametrize(("path", "body"), GENERATING)
async def test_answers_are_cropped(
    serving: Any, path: str, body: dict[str, Any], model: str, asked: dict[str, Any]
) -> None:
    """The model's limit holds for its callers and for those of its tasks."""
    async with serving(extra=EXTRA) as client:
        answer = await client.post(path, json={"model": model, **body, **asked})
        choice = answer.json()["choices"][0]

    assert answer.headers.get("x-cropped") == ("max_tokens=3" if asked else None)
    assert (choice.get("text") or choice["message"]["content"], choice["finish_reason"]) == ("Hel", "length")


@pytest.mark.parametrize("model", ["shown", "task/short"])
@pytest.mark.parametrize(("path", "body"), GENERATING)
@pytest.mark.parametrize(
    "asked",
    [{"logprobs": True}, {"logprobs": 1}, {"logprobs": True, "top_logprobs": 1}, {"echo": True}, {"n": 3}],
)
async def test_what_is_not_allowed_is_refused(
    serving: Any, path: str, body: dict[str, Any], model: str, asked: dict[str, Any]
) -> None:
    """By name and with 400, for the model and for its tasks, whole or streamed."""
    async with serving(extra=EXTRA) as client:
        for stream in (False, True):
            answer = await client.post(path, json={"model": model, **body, **asked, "stream": stream})
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] in asked


@pytest.mark.parametrize(("path", "body"), GENERATING)
async def test_a_strict_limit_refuses(serving: Any, path: str, body: dict[str, Any]) -> None:
    """With over_limit = reject a request for more is told so; one for less is served."""
    async with serving(extra=EXTRA) as client:
        more = await client.post(path, json={"model": "strict", **body, "max_tokens": 4})
        less = await client.post(path, json={"model": "strict", **body, "max_tokens": 2})

    assert (more.status_code, more.json()["error"]["param"]) == (400, "max_tokens")
    assert less.status_code == 200


@pytest.mark.parametrize(("path", "body"), GENERATING)
async def test_without_rules_nothing_changes(serving: Any, path: str, body: dict[str, Any]) -> None:
    """Log probabilities, several answers and long ones are there for models without such keys."""
    asked = {"n": 3, "max_tokens": 100, "logprobs": True if path.startswith("/v1/chat") else 1}
    async with serving(extra=EXTRA) as client:
        answer = await client.post(path, json={"model": "other", **body, **asked})

    choices = answer.json()["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["stop"] * 3
    assert all(choice["logprobs"] for choice in choices)
