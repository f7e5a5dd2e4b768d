"""Which Qdrant servers are asked, and where."""

from __future__ import annotations

import pytest

from arriero.errors import ConfigError
from arriero.memory.qdrant import QdrantStore
from arriero.memory.qdrant_server import rest_url
from arriero.memory.records import Identity
from arriero.testing.qdrant import FakeQdrant
from arriero.testing.serving import served

IDENTITY = Identity("minilm", 3)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://localhost:6334", "http://localhost:6333"),
        ("https://[::1]:6334/x", "https://[::1]:6333/x"),
        ("http://h:7000", "http://h:7000"),
    ],
)
def test_the_port_of_the_other_interface(url: str, asked: str) -> None:
    """Poly's configurations name the gRPC port; the REST port of the same host is asked."""
    assert rest_url(url) == asked


@pytest.mark.parametrize("version", ["0.11.7", "1.9.4"])
async def test_a_server_that_is_too_old(version: str) -> None:
    """It would refuse queries with an empty 404; the version is told instead, and nothing is made there."""
    fake = FakeQdrant()
    fake.version = version
    async with served(fake.app) as url:
        with pytest.raises(ConfigError, match=f"of version {version}; a memory needs 1.10 or later"):
            await QdrantStore.open(url, "notes", IDENTITY)

    assert fake.requests == []


@pytest.mark.parametrize("version", ["1.10.0", "2.0.1", "dev", None])
async def test_a_server_that_is_new_enough_or_does_not_tell(version: str | None) -> None:
    """Two numbers count; what says nothing of its version, as a gateway does, may be new enough."""
    fake = FakeQdrant()
    fake.version = version
    async with served(fake.app) as url:
        store = await QdrantStore.open(url, "notes", IDENTITY)
        assert await store.documents() == []
        await store.close()
