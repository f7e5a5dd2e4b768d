"""A server for each module, gone after it, as other tests count their children; and the place for figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.abuse.figures import FIGURES, Figures
from tests.abuse.subject import Subject, staged_subject
from tests.abuse.tiny import Engines, tiny_engines

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def figures() -> Figures:
    """Where tests note what they have measured."""
    return FIGURES


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server in its own process, for tests that leave it as it was."""
    folder: Path = tmp_path_factory.mktemp("abuse")
    with staged_subject(folder) as served:
        yield served


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """A server with engine processes over tiny models."""
    with tiny_engines(tmp_path_factory.mktemp("engines")) as served:
        yield served


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures."""
    if FIGURES.lines:
        terminalreporter.section("figures")
        for line in FIGURES.lines:
            terminalreporter.write_line(line)
        FIGURES.keep()
