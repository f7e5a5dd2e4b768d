"""Engine processes that the tests of this folder share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.engines import opened

from arriero.engine.local import LocalModel


@pytest.fixture(scope="session")
async def model(smollm2: Path) -> AsyncIterator[LocalModel]:
    """SmolLM2 in an engine process, shared by all tests."""
    async with opened(smollm2) as model:
        yield model


@pytest.fixture(scope="session")
async def embedder(minilm: Path) -> AsyncIterator[LocalModel]:
    """MiniLM in an engine process, shared by all tests."""
    async with opened(minilm) as model:
        yield model
