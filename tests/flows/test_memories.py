"""Documents into a memory of a real server, with the real embedding model, and the right passage out."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.flows.process import DEADLINE_S, KEY, Served, arriero, eventually, started

CONFIG = """
allowed_keys = ["{key}"]
cache_path = "{cache}"

[models.embed]
model_path = "{minilm}"
context_size = 256
threads_per_session = 1

[memories.notes]
store = {{ embedded = {{}} }}
embedding_model = "embed"
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


@pytest.fixture(scope="module")
def config(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a server with a memory."""
    folder = tmp_path_factory.mktemp("memories")
    config = folder / "arriero.toml"
    config.write_text(CONFIG.format(key=KEY, cache=folder / "cache", minilm=minilm))
    return config


@pytest.fixture(scope="module")
def server(config: Path, minilm: Path) -> Iterator[Served]:
    """A server with an empty memory."""
    with started(config, {"embed": minilm}) as served:
        yield served


async def test_a_folder_answers_questions(server: Served, config: Path, minilm: Path, tmp_path: Path) -> None:
    """Ingested from the command line, found by meaning and in every mode of recall; sent again, unchanged."""
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    command = [*arriero("ingest", str(tmp_path), "--memory", "notes"), "--url", server.url, "--api-key", KEY]

    def sent() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)

    runs = [await asyncio.to_thread(sent) for _ in range(2)]

    assert [run.stdout for run in runs] == ["3 documents: 3 stored\n", "3 documents: 3 unchanged\n"], runs
    async with server.client() as client:
        for mode in ("vector", "hybrid"):
            for name, question in QUESTIONS.items():
                body = {"query": question, "limit": 1, "mode": mode}
                response = await client.post("/v1/memory/notes/recall", json=body)
                assert [hit["name"] for hit in response.json()["passages"]] == [name], (mode, question)
        response = await client.get("/v1/memory/notes", params={"prompt": "biggest planet"})
        text = "Planets\n\nJupiter is the largest planet; its moons were seen by Galileo in 1610."
        assert response.json() == {"chunks": [text]}


@pytest.mark.slow
async def test_what_was_acknowledged_survives_a_kill(minilm: Path, tmp_path: Path) -> None:
    """Stored documents are there, and those that waited in the queue are stored by the next start."""
    config = tmp_path / "arriero.toml"
    config.write_text(CONFIG.format(key=KEY, cache=tmp_path / "cache", minilm=minilm))
    await killed_while_ingesting(config, minilm)

    with started(config, {"embed": minilm}) as served:
        async with served.client() as client:

            async def none_waits() -> bool:
                jobs = (await client.get("/v1/memory/notes/jobs")).json()["jobs"]
                return all(job["state"] == "done" for job in jobs)

            await eventually(none_waits)
            found = (await client.get("/v1/memory/notes/documents")).json()

    assert sorted(int(document["name"]) for document in found["documents"]) == list(range(20))


async def killed_while_ingesting(config: Path, minilm: Path) -> None:
    """Have 20 documents acknowledged, of which 2 are stored, and kill the server."""
    with started(config, {"embed": minilm}, ending=signal.SIGKILL) as served:
        async with served.client() as client:
            answers = [await client.put("/v1/memory/notes", **document(number)) for number in range(20)]
    assert [answer.status_code for answer in answers] == [200] * 2 + [202] * 18


def document(number: int) -> dict[str, Any]:
    """Return the request that stores a document; the first two are waited for."""
    return {
        "params": {"name": str(number), "wait": "true" if number < 2 else "false"},
        "content": f"This is the text of document number {number}.",
        "headers": {"content-type": "text/plain"},
    }
