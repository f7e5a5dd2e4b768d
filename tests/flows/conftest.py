"""One real server for all flows: a chat model, an embedding model, three greedy tasks; and one sidecar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import openai
import pytest
from tests.flows.process import CONFIG, DEADLINE_S, KEY, Served, started
from tests.flows.sidecar import Sidecar, before_upstream

from arriero.testing.serving import client_of


@pytest.fixture(scope="session")
def server(smollm2: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`arriero serve` on a free port, for the whole session."""
    config = tmp_path_factory.mktemp("flows") / "arriero.toml"
    config.write_text(CONFIG.format(key=KEY, smollm2=smollm2, minilm=minilm))
    with started(config, {"chat": smollm2, "embed": minilm}) as served:
        yield served


@pytest.fixture
async def client(server: Served) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that server, with its key."""
    async with server.client() as client:
        yield client


@pytest.fixture
async def official(server: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client of that server; it repeats nothing."""
    url = f"{server.url}/v1"
    async with openai.AsyncOpenAI(
        base_url=url, api_key=KEY, max_retries=0, timeout=DEADLINE_S, http_client=client_of(url)
    ) as client:
        yield client


@pytest.fixture(scope="session")
async def crops(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sidecar]:
    """A sidecar by a Poncho file that crops, for the whole session."""
    async with before_upstream(tmp_path_factory.mktemp("crops")) as sidecar:
        yield sidecar


@pytest.fixture
def sidecar(crops: Sidecar) -> Sidecar:
    """That sidecar, its upstream as new."""
    crops.backend.__init__()  # type: ignore[misc]
    return crops
