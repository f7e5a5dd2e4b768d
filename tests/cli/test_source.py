"""Which configuration a verb works on."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from arriero.cli import source
from arriero.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONFIG_PATH", raising=False)
    return tmp_path


def test_without_options_the_first_candidate_is_taken(folder: Path) -> None:
    """Our file stands before Poly's, and that before Poncho's; without all of them there is none."""
    assert source.found(None, starter=False) is None
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").touch()
    assert source.found(None, starter=False) == Path("config/config.yaml")
    (folder / "config.toml").touch()
    assert source.found(None, starter=False) == Path("config.toml")
    (folder / "arriero.toml").touch()
    assert source.found(None, starter=False) == Path("arriero.toml")


def test_options_stand_before_candidates(folder: Path) -> None:
    """A file that is named, or the starter, is taken whatever lies in the working directory."""
    (folder / "arriero.toml").touch()

    assert source.found(Path("other.toml"), starter=False) == Path("other.toml")
    assert source.found(None, starter=True) == source.STARTER


def test_the_variable_of_poncho_stands_before_candidates(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONFIG_PATH names the file; options stand before it."""
    (folder / "arriero.toml").touch()
    monkeypatch.setenv("CONFIG_PATH", "/etc/poncho.yaml")

    assert source.found(None, starter=False) == Path("/etc/poncho.yaml")
    assert source.found(Path("other.toml"), starter=False) == Path("other.toml")
    assert source.found(None, starter=True) == source.STARTER


def test_two_configurations_are_a_wrong_usage(folder: Path) -> None:
    """Nobody can mean both."""
    with pytest.raises(click.UsageError, match="exclude each other"):
        source.found(Path("a.toml"), starter=True)


def test_no_configuration_says_what_to_do(folder: Path) -> None:
    """The message names the files that were looked for and both ways out."""
    with pytest.raises(
        ConfigError,
        match=r"neither arriero\.toml nor config\.toml nor config/config\.yaml .* --config FILE.* --starter",
    ):
        source.required(None, starter=False)


def test_overrides_stand_before_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, environment, flags: each later one wins."""
    (folder / "arriero.toml").write_text('bind_address = "127.0.0.1:1"\npublic = true\n')
    name = "ARRIERO_SERVER__BIND_ADDRESS"

    assert source.loaded(None, starter=False).server.port == 1
    monkeypatch.setenv(name, "127.0.0.1:2")
    assert source.loaded(None, starter=False).server.port == 2
    assert source.loaded(None, starter=False, overrides={name: "127.0.0.1:3"}).server.port == 3


def test_the_cache_is_the_given_one_else_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same variable moves the cache of `serve` and of `pull`."""
    monkeypatch.setenv("ARRIERO_CACHE_PATH", str(tmp_path / "env"))

    assert source.cache_path(None) == tmp_path / "env"
    assert source.cache_path(tmp_path) == tmp_path
