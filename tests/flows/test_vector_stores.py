"""Files into a vector store of a real server, with the real embedding model, over a kill."""

from __future__ import annotations

import signal
from pathlib import Path

import openai
import pytest
from tests.flows.process import DEADLINE_S, KEY, Served, started

CONFIG = """
allowed_keys = ["{key}"]
cache_path = "{cache}"

[models.embed]
model_path = "{minilm}"
context_size = 256
threads_per_session = 1
"""
TEXTS = {
    "cooking.txt": "Simmer the tomatoes with garlic and basil for half an hour, then add the pasta.",
    "astronomy.md": "# Planets\n\nJupiter is the largest planet; its moons were seen by Galileo in 1610.\n",
    "law.html": "<html><body><h1>Contracts</h1><p>A tenant must give notice two months before leaving.</p>"
    "</body></html>",
}
QUESTIONS = {
    "cooking.txt": "How long does the sauce have to cook?",
    "astronomy.md": "Which world in the solar system is biggest?",
    "law.html": "When do I have to tell my landlord that I move out?",
}


def official(served: Served) -> openai.AsyncOpenAI:
    """Return OpenAI's own client."""
    return openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0, timeout=DEADLINE_S)


@pytest.mark.slow
async def test_what_was_attached_survives_a_kill(minilm: Path, tmp_path: Path) -> None:
    """Files that were acknowledged when the server was killed are found by meaning after the next start."""
    config = tmp_path / "arriero.toml"
    config.write_text(CONFIG.format(key=KEY, cache=tmp_path / "cache", minilm=minilm))
    with started(config, {"embed": minilm}, ending=signal.SIGKILL) as served:
        async with official(served) as client:
            store = (await client.vector_stores.create(name="mixed")).id
            ids = [
                (await client.files.create(file=(name, text.encode()), purpose="assistants")).id
                for name, text in TEXTS.items()
            ]
            batch = await client.vector_stores.file_batches.create(store, file_ids=ids)

    with started(config, {"embed": minilm}) as served:
        async with official(served) as client:
            done = await client.vector_stores.file_batches.poll(
                batch.id, vector_store_id=store, poll_interval_ms=20
            )
            found = {
                name: (await client.vector_stores.search(store, query=question)).data[0].filename
                for name, question in QUESTIONS.items()
            }

    assert (done.status, done.file_counts.completed) == ("completed", 3)
    assert found == {name: name for name in TEXTS}
