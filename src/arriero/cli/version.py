"""`arriero version`: the version of Arriero, and of what it runs on when asked for JSON."""

from __future__ import annotations

import click

from arriero.version import __version__


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="Also name Python and the engine library.")
def command(as_json: bool) -> None:
    """Print the version."""
    if not as_json:
        click.echo(f"arriero {__version__}")
        return
    import json
    import platform
    from importlib.metadata import version

    facts = {"arriero": __version__, "python": platform.python_version(), "xllamacpp": version("xllamacpp")}
    click.echo(json.dumps(facts))
