"""A configuration becomes running models and tasks, or is refused before anything is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.config.load import parse_config
from arriero.errors import ConfigError
from arriero.runtime import open_runtime


async def test_a_wrong_constraint_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    """The message names the key; the model's address is not asked."""
    text = f"cache_path = '{tmp_path}/cache'\n[models.m]\nurl = 'http://127.0.0.1:1/m.gguf'\n"
    config = parse_config(text + "[tasks.t]\nmodel = 'm'\nbiaser.choice = []\n", {})

    with pytest.raises(ConfigError, match=r"^tasks\.t\.biaser\.choice: "):
        async with open_runtime(config):
            raise AssertionError("it is open")

    assert not (tmp_path / "cache").exists()
