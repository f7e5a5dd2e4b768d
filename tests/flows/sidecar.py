"""A sidecar by a Poncho file, in a process of its own, and a scripted upstream that notes what it is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from tests.flows.process import DEADLINE_S, started

from arriero.testing.serving import client_of
from arriero.testing.upstream import Answer, Received, Script, Upstream, chat, whole

REAL, PUBLIC = "meta-llama/Llama-3.1-8B-Instruct", "pocket_network"
LIMIT, CONTEXT = 1024, 4096
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PONCHO = """
log_level: "{level}"
server: {{host: "127.0.0.1", port: 1}}
vllm_backend:
  host: "http://127.0.0.1"
  port: {port}
  model_name_override: "{real}"
  allow_logprobs: {logprobs}
  crop_max_tokens: {crop}
  max_batched_texts_embedding: 3
  max_rerank_documents: 100
routing: {{timeout_seconds: 600, max_payload_size_mb: 1}}
model_config_data:
  model_public_name: "{public}"
  max_position_embeddings: 4096
  max_tokens: 1024
"""
TEXT = {"object": "text_completion", "model": REAL, "choices": [{"index": 0, "text": "x"}]}
ANSWERS: dict[str, Any] = {
    CHAT: chat(f"I am {REAL}", model=REAL),
    COMPLETIONS: TEXT,
    "/v1/responses": {"object": "response", "model": REAL, "output": []},
    "/v1/embeddings": {
        "object": "list",
        "model": REAL,
        "data": [{"index": 0, "embedding": [0.1, -1e-09, 1.10]}],
    },
    "/v1/rerank": {"model": REAL, "results": []},
}


@dataclass
class Backend:
    """What the upstream does. tokens: what it counts. generations: what it was asked for beside counts."""

    tokens: int = 100
    script: Script | None = None
    generations: list[Received] = field(default_factory=list)

    def __call__(self, received: Received) -> Answer:
        if received.path == "/tokenize":
            return whole({"count": self.tokens, "max_model_len": 2 * CONTEXT, "tokens": []})
        self.generations.append(received)
        script = whole(ANSWERS[received.path]) if self.script is None else self.script
        return script if isinstance(script, Answer) else script(received)


@dataclass
class Sidecar:
    """A server by a Poncho file, and its upstream."""

    client: httpx2.AsyncClient
    upstream: Upstream
    backend: Backend

    @property
    def sent(self) -> Any:
        """The body of the one request that was to generate."""
        (one,) = self.backend.generations
        return one.json

    async def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        """Send a body, without a key."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(path, content=content, headers=headers)


def sidecar_config(
    folder: Path, port: int, *, crop: bool = True, logprobs: bool = False, level: str = "info"
) -> Path:
    """Write a Poncho file."""
    file = folder / "config.yaml"
    switches = {"crop": str(crop).lower(), "logprobs": str(logprobs).lower(), "level": level}
    file.write_text(PONCHO.format(port=port, real=REAL, public=PUBLIC, **switches))
    return file


@asynccontextmanager
async def before_upstream(folder: Path, **switches: bool) -> AsyncIterator[Sidecar]:
    """Serve a Poncho file before an upstream of its own."""
    backend = Backend()
    async with Upstream.of(lambda received: backend(received)) as upstream:
        with started(sidecar_config(folder, upstream.port, **switches), {}) as served:
            async with client_of(served.url, timeout=DEADLINE_S) as client:
                yield Sidecar(client, upstream, backend)


def turns(text: str = "hi") -> list[dict[str, str]]:
    """Return the messages of a chat."""
    return [{"role": "user", "content": text}]


def long_chat(tokens: int, **members: Any) -> dict[str, Any]:
    """Return a chat whose length decides, in words that no other test uses."""
    return {"model": PUBLIC, "messages": turns(f"{tokens} {members} " + "word " * 1000)} | members
