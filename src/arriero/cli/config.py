"""`arriero config check | show | schema | starter | openapi`: a configuration as such, and the routes.

Nothing is loaded or served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arriero.cli import source
from arriero.cli.standard_files import remark
from arriero.cli.terminal import counted, show_json
from arriero.config import show

if TYPE_CHECKING:
    from pathlib import Path


@click.group("config")
def command() -> None:
    """Check, show or describe a configuration."""


@command.command("check")
@source.config_options
def check(config: Path | None, starter: bool) -> None:
    """Make every check that `serve` makes before it loads anything. Exit with 2 if one fails."""
    path = source.required(config, starter=starter)
    loaded = source.loaded(path, starter=False)
    for warning in source.warnings(path):
        remark(f"warning: {warning}")
    counts = (
        counted(len(loaded.models), "model"),
        counted(len(loaded.tasks), "task"),
        counted(len(loaded.memories), "memory"),
    )
    click.echo(f"{path}: good, {', '.join(counts)}")


@command.command("show")
@source.config_options
def show_config(config: Path | None, starter: bool) -> None:
    """Print the configuration in force. Defaults and environment are in it, secrets are masked."""
    click.echo(show.shown(source.loaded(config, starter=starter)), nl=False)


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    show_json(show.json_schema())


@command.command("openapi")
def openapi() -> None:
    """Print the OpenAPI document of the server's routes."""
    from arriero.server.app import ROUTES
    from arriero.server.openapi import document

    show_json(document(ROUTES))


@command.command("starter")
def starter_file() -> None:
    """Print the packaged starter configuration. `arriero config starter > arriero.toml` begins one's own."""
    click.echo(source.STARTER.read_text(), nl=False)
