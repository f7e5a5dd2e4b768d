"""`arriero engine info | build`: the llama.cpp library that models run on."""

from __future__ import annotations

import os
from pathlib import Path

import click

from arriero.cli import source
from arriero.cli.terminal import progress, show_json


@click.group("engine")
def command() -> None:
    """Show or build the native engine library."""


@command.command("build")
@click.option(
    "--archive",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Source distribution on this machine; without it pip fetches the pinned one.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, help="Compilers at a time.")
@click.option("--cache", type=click.Path(path_type=Path), help="Cache directory; default the user's.")
def build(archive: Path | None, jobs: int, cache: Path | None) -> None:
    """Compile the pinned library for this machine's processor.

    That takes minutes, and a C++ compiler. `serve` takes it from the cache when it is there and passes
    the check.
    """
    from arriero.engine.build import build_native, native_folder

    with progress() as shown:

        def told(what: str, part: float | None) -> None:
            shown(what, int((part or 0) * 100), None if part is None else 100)

        library = build_native(
            native_folder(source.cache_path(cache)), jobs=jobs, progress=told, source=archive
        )
    click.echo(str(library))


@command.command("info")
@click.option("--cache", type=click.Path(path_type=Path), help="Cache directory; default the user's.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(cache: Path | None, as_json: bool) -> None:
    """Print the pinned version, and where this machine's library is."""
    from arriero.engine.build import VERSION, native_library

    native = native_library(source.cache_path(cache))
    if as_json:
        show_json({"version": VERSION, "native": None if native is None else str(native)})
        return
    click.echo(f"version {VERSION}")
    click.echo(f"native  {native or 'not built; arriero engine build makes it'}")
