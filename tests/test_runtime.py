"""A configuration becomes running models and tasks, or is refused before anything is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.config.load import parse_config
from arriero.errors import ConfigError
from arriero.runtime import open_runtime
from arriero.testing.broken_gguf import truncate
from arriero.testing.tiny_gguf import write_tiny_gguf


async def test_a_wrong_constraint_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    """The message names the key; the model's address is not asked."""
    text = f"cache_path = '{tmp_path}/cache'\n[models.m]\nurl = 'http://127.0.0.1:1/m.gguf'\n"
    config = parse_config(text + "[tasks.t]\nmodel = 'm'\nbiaser.choice = []\n", {})

    with pytest.raises(ConfigError, match=r"^tasks\.t\.biaser\.choice: "):
        async with open_runtime(config):
            raise AssertionError("it is open")

    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("keep", "keys", "said"),
    [
        (0.9, "", "cannot load the model "),
        (1, "architecture = 'llama'\n", "architecture is 'llama', but .* holds 'gpt2'"),
    ],
)
async def test_weights_that_do_not_load_are_told_with_their_table(
    keep: float, keys: str, said: str, tmp_path: Path
) -> None:
    """What an engine process finds wrong begins with the model's table, whatever callers call the model.

    The file is another one by then than when the configuration was read.
    """
    weights = write_tiny_gguf(tmp_path / "tiny.gguf")
    text = f"cache_path = '{tmp_path}'\n[models.m]\npath = '{weights}'\npublic_name = 'p'\n{keys}"

    config = parse_config(text, {})
    truncate(write_tiny_gguf(weights, "gpt2"), keep=keep)

    with pytest.raises(ConfigError, match=f"^models\\.m: {said}"):
        async with open_runtime(config):
            raise AssertionError("it is open")
