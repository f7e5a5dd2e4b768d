"""What a request held is let go of when it ends, not when the garbage collector comes: bodies are large."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.server.conftest import Serving

FAR = '[models.far]\nupstream = {urls = ["http://127.0.0.1:9"], model = "x"}\n'
CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hi"}]
LARGE = "x" * 300_000
ASKED: dict[str, tuple[str, Any]] = {
    "whole": (CHAT, {"model": "m", "messages": MESSAGES}),
    "stream": (CHAT, {"model": "m", "messages": MESSAGES, "stream": True}),
    "task": ("/v1/task/t/completion", {"prompt": "Hi"}),
    "embedding": ("/v1/embeddings", {"model": "m", "input": "Hi"}),
    "wrong member": (CHAT, {"model": "m", "messages": MESSAGES, "max_tokens": "a"}),
    "unknown model": (CHAT, {"model": "nobody", "messages": MESSAGES}),
    "no path": ("/v1/nothing", {}),
    "upstream away": (CHAT, {"model": "far", "messages": MESSAGES}),
    "large, upstream away": (CHAT, {"model": "far", "messages": MESSAGES, "user": LARGE}),
    "large, wrong": (CHAT, {"model": "far", "messages": LARGE}),
}


@pytest.fixture
def garbage() -> Iterator[list[Any]]:
    """The objects that only the collector frees, after `gc.collect()`; it does not come by itself."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def asked(client: httpx2.AsyncClient, path: str, body: Any) -> int:
    """Ask, and wait until the server is done with it as well."""
    status = (await client.post(path, json=body)).status_code
    await asyncio.sleep(0.02)
    return status


@pytest.mark.parametrize("kind", ASKED)
async def test_nothing_of_a_request_waits_for_the_collector(
    serving: Serving, garbage: list[Any], kind: str
) -> None:
    """No object of the server is in a circle when an answer has ended."""
    async with serving(extra=FAR) as client:
        await asked(client, *ASKED[kind])  # what is made once is no garbage
        gc.collect()
        garbage.clear()
        for _ in range(3):
            await asked(client, *ASKED[kind])
        gc.collect()
        kinds = [type(one) for one in garbage]
        own = Counter(kind.__qualname__ for kind in kinds if kind.__module__.startswith("arriero."))

    # Jinja's environment, one for each rendering, is a circle. It holds nothing of a request.
    assert own.keys() <= {"Budget", "GenerationBlock", "TemplateSandbox"}
