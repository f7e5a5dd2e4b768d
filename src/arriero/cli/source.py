"""Which configuration a verb works on: the shared options, and the file that they name.

Order: `--config` (also `--config-path`, `-c`, `-m`), `--starter`, Poncho's variable `CONFIG_PATH`, then
the first of `CANDIDATES` in the working directory. The environment overrides the file; flags override both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arriero.config.load import check, load_config, parse_config
from arriero.errors import ConfigError
from arriero.tasks import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arriero.config.schema import Config

STARTER = Path(__file__).parent.parent / "starter.toml"
CANDIDATES = ("arriero.toml", "config.toml", "config/config.yaml")
"""Ours, Poly's and Poncho's."""


def config_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--config FILE` and `--starter` to a verb; they arrive as `config` and `starter`."""
    file = click.option(
        "-c",
        "-m",
        "--config",
        "--config-path",
        "config",
        type=click.Path(path_type=Path),
        help="Configuration file; default $CONFIG_PATH, arriero.toml, config.toml, config/config.yaml.",
    )
    starter = click.option("--starter", is_flag=True, help="Use the packaged starter configuration.")
    return file(starter(verb))


def found(config: Path | None, *, starter: bool) -> Path | None:
    """Return the file that the options or CONFIG_PATH name, or the first candidate that exists, or None."""
    if config is not None and starter:
        raise click.UsageError("--config and --starter exclude each other")
    if config is not None or starter:
        return config or STARTER
    if named := os.environ.get("CONFIG_PATH"):
        return Path(named)
    return next((path for path in map(Path, CANDIDATES) if path.is_file()), None)


def required(config: Path | None, *, starter: bool) -> Path:
    """Like `found`, but raise ConfigError when there is no configuration."""
    path = found(config, starter=starter)
    if path is None:
        raise ConfigError(
            f"no configuration: neither {' nor '.join(CANDIDATES)} is in {Path.cwd()}; "
            "name one with --config FILE, or use the packaged one with --starter"
        )
    return path


def loaded(config: Path | None, *, starter: bool, overrides: Mapping[str, str] | None = None) -> Config:
    """Load and check the configuration; `overrides` are environment names that stand before all else."""
    env = {**os.environ, **(overrides or {})}
    return load_config(required(config, starter=starter), env, checks.faults)


def warnings(path: Path, overrides: Mapping[str, str] | None = None) -> list[str]:
    """Return what to warn of: what is probably not meant."""
    return check(path, {**os.environ, **(overrides or {})})


def cache_path(given: Path | None) -> Path:
    """Return the cache directory: the given one, else what the environment or the default says."""
    return given or parse_config("", os.environ).cache_path
