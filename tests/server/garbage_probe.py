"""Asks a server in this process for many things, and prints what of each only the garbage collector frees.

A process of its own, as other tests leave garbage too.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections import Counter
from typing import Any

import httpx2
from tests.server.conftest import ScriptedModel, served, staged

from arriero.testing.serving import client_of

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


async def asked(client: httpx2.AsyncClient, path: str, body: Any) -> None:
    """Ask, and wait until the server is done with it as well."""
    await client.post(path, json=body)
    await asyncio.sleep(0.02)


async def left_by(client: httpx2.AsyncClient, kind: str) -> dict[str, int]:
    """Return how many objects of the server, by type, are in circles when three answers have ended."""
    await asked(client, *ASKED[kind])  # what is made once is no garbage
    gc.collect()
    gc.garbage.clear()
    for _ in range(3):
        await asked(client, *ASKED[kind])
    gc.collect()
    kinds = [type(one) for one in gc.garbage]
    return Counter(kind.__qualname__ for kind in kinds if kind.__module__.startswith("arriero."))


async def main() -> None:
    """Print the types by kind of request."""
    stage = staged(ScriptedModel("Hello"), FAR)
    async with served(stage) as url, client_of(url, headers={"authorization": "Bearer sesame"}) as client:
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        found = {kind: await left_by(client, kind) for kind in ASKED}
        gc.set_debug(0)
        for guard in stage.guards.values():
            await guard.stop()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
