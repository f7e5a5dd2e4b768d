"""models: what can stand as `model`, with the official client."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.conftest import official_client


async def test_models_and_tasks_are_listed(serving: Any) -> None:
    """Models by name, tasks as `task/NAME`."""
    async with (
        serving() as client,
        official_client(client) as sdk,
    ):
        listed = [model async for model in sdk.models.list()]

    assert [model.id for model in listed] == ["m", "other", "task/t"]
    assert {(model.object, model.owned_by) for model in listed} == {("model", "arriero")}


@pytest.mark.parametrize("id", ["m", "task/t", "t"])
async def test_one_is_described(serving: Any, id: str) -> None:
    """Every name that a request may hold has a description."""
    async with serving() as client:
        response = await client.get(f"/v1/models/{id}")

    assert response.json()["id"] == id


@pytest.mark.parametrize("id", ["nope", "task/nope", "task/m"])
async def test_an_unknown_one_is_not_found(serving: Any, id: str) -> None:
    """404 with OpenAI's error object."""
    async with serving() as client:
        response = await client.get(f"/v1/models/{id}")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_model_wins_over_a_task_of_its_name(serving: Any, model_saying: Any) -> None:
    """The plain name is the model's; `task/NAME` reaches the task."""
    model = model_saying("x")
    async with serving(model, '[tasks.m]\nmodel = "m"\nprefix = "P"') as client:
        for name in ("m", "task/m"):
            await client.post("/v1/completions", json={"model": name, "prompt": "a"})

    assert [bytes(tokens[1:]) for tokens in model.fed] == [b"a", b"Pa"]
