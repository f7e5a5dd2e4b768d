"""`arriero pull`: fetch starter models of the catalogue into the cache, or list what it offers."""

from __future__ import annotations

from pathlib import Path

import click

from arriero.catalogue.catalogue import STARTERS, StarterModel
from arriero.catalogue.resolve import models_path, pull
from arriero.cli import source
from arriero.cli.terminal import progress, show_json, show_table


@click.command("pull")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="List what can be fetched.")
@click.option("--cache", type=click.Path(path_type=Path), help="Cache directory; default the user's.")
@click.option("--json", "as_json", is_flag=True, help="With --list, print JSON.")
def command(names: tuple[str, ...], listing: bool, cache: Path | None, as_json: bool) -> None:
    """Fetch starter models by name and print where they are. What is there already is not fetched again."""
    folder = source.cache_path(cache)
    if listing:
        show_catalogue(folder, as_json=as_json)
        return
    if not names:
        raise click.UsageError("name a starter model; arriero pull --list shows them")
    with progress() as shown:
        paths = pull(names, folder, shown)
    for path in paths.values():
        click.echo(str(path))


def show_catalogue(cache: Path, *, as_json: bool) -> None:
    """Print the starter models, and which of them are in the cache."""
    entries = [described(starter, cache) for starter in STARTERS]
    if as_json:
        show_json(entries)
        return
    rows = [
        (
            str(entry["name"]),
            str(entry["kind"]),
            f"{starter.size_bytes / 1e6:.0f} MB",
            "yes" if entry["cached"] else "",
            starter.description,
        )
        for entry, starter in zip(entries, STARTERS, strict=True)
    ]
    show_table(("name", "kind", "size", "cached", "description"), rows)


def described(starter: StarterModel, cache: Path) -> dict[str, object]:
    """Return what a user chooses a starter model by."""
    return {
        "name": starter.name,
        "kind": starter.kind.value,
        "size_bytes": starter.size_bytes,
        "context_size": starter.context_size,
        "licence": starter.licence,
        "description": starter.description,
        "cached": (models_path(cache) / starter.file_name).is_file(),
    }
