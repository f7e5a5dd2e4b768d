"""What holds for every route: request ids, CORS, unknown paths, methods, unexpected errors."""

from __future__ import annotations

import re
from typing import Any

import pytest


async def test_every_answer_has_a_request_id(serving: Any) -> None:
    """A harmless id of the caller comes back, another is replaced; errors have one too."""
    async with serving() as client:
        own = await client.get("/status", headers={"x-request-id": "abc-1.2:3"})
        wild = await client.get("/status", headers={"x-request-id": "a b"})
        missing = await client.get("/nowhere")

    assert own.headers["x-request-id"] == "abc-1.2:3"
    assert re.fullmatch("[0-9a-f]{32}", wild.headers["x-request-id"])
    assert re.fullmatch("[0-9a-f]{32}", missing.headers["x-request-id"])


async def test_the_server_does_not_name_itself(serving: Any) -> None:
    """No `server` header."""
    async with serving() as client:
        assert "server" not in (await client.get("/status")).headers


@pytest.mark.parametrize("path", ["/nowhere", "/v1/nowhere", "/v1/task/", "/v1/audio/speech"])
async def test_an_unknown_path_is_not_found(serving: Any, path: str) -> None:
    """404 with a body that names the path."""
    async with serving() as client:
        response = await client.get(path)

    assert response.status_code == 404
    assert path in response.text


async def test_a_wrong_method_is_told_the_right_ones(serving: Any) -> None:
    """405 with `Allow`, in the dialect of the route."""
    async with serving() as client:
        openai = await client.get("/v1/chat/completions")
        poly = await client.delete("/v1/task")
        several = await client.patch("/v1/vector_stores/x")

    assert (openai.status_code, openai.headers["allow"]) == (405, "POST")
    assert openai.json()["error"]["code"] == "method_not_allowed"
    assert poly.status_code == 405
    assert poly.headers["allow"] == "GET, HEAD"
    assert several.headers["allow"] == "DELETE, GET, HEAD, POST"


@pytest.mark.parametrize("path", ["/status", "/v1/task", "/v1/model", "/v1/models", "/v1/stats"])
async def test_get_routes_answer_head(serving: Any, path: str) -> None:
    """HEAD is GET without the body."""
    async with serving() as client:
        response = await client.head(path)

    assert (response.status_code, response.content) == (200, b"")


async def test_an_unexpected_error_is_answered_without_details(serving: Any, model_saying: Any) -> None:
    """500 with CORS and a request id; the cause stays in the log."""
    async with serving(model_saying(ValueError("private detail"))) as client:
        response = await client.get("/v1/task/t/completion?prompt=a", headers={"origin": "http://a"})
        streamed = await client.get("/v1/task/t/live?prompt=a")

    assert (response.status_code, response.text) == (500, "internal error")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "x-request-id" in response.headers
    assert streamed.text.endswith("event:error\ndata:internal error\n\n")


def preflight(origin: str) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ("", "http://a", "*"),
        ('allowed_origins = ["*"]', "http://a", "*"),
        ('allowed_origins = ["http://a", "http://b"]', "http://a", "http://a"),
        ('allowed_origins = ["http://a", "http://b"]', "http://b", "http://b"),
        ('allowed_origins = ["http://a", "http://b"]', "http://c", None),
        ("allowed_origins = []", "http://a", None),
    ],
)
async def test_browsers_come_from_every_configured_origin(
    serving: Any, origins: str, origin: str, allowed: str | None
) -> None:
    """Absent means anywhere, a list means each of its origins, an empty one means nowhere."""
    async with serving(None, f"[server]\n{origins}") as client:
        plain = await client.get("/status", headers={"origin": origin})
        asked = await client.options("/v1/task", headers={**preflight(origin), "authorization": ""})

    assert plain.headers.get("access-control-allow-origin") == allowed
    assert asked.headers.get("access-control-allow-origin") == allowed
    if allowed:
        assert asked.status_code == 200
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert "authorization" in asked.headers["access-control-allow-headers"].lower()
