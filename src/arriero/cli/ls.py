"""`arriero ls`: what a configuration declares, without loading any of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arriero.cli import source
from arriero.cli.terminal import show_json, show_table
from arriero.config.remote import RemoteModelConfig

if TYPE_CHECKING:
    from pathlib import Path

    from arriero.config.schema import AnyModelConfig, Config


@click.command("ls")
@source.config_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: Path | None, starter: bool, as_json: bool) -> None:
    """List the models, tasks and memories that a configuration declares.

    `arriero ps` lists what a running server serves, `arriero pull --list` what can be fetched.
    """
    entries = listed(source.loaded(config, starter=starter))
    if as_json:
        show_json(entries)
        return
    show_table(("kind", "name", "from"), [(entry["kind"], entry["name"], entry["from"]) for entry in entries])


def listed(config: Config) -> list[dict[str, str]]:
    """Return one entry for each model, task and memory: its kind, its name and what it is made from."""
    models = [{"kind": "model", "name": name, "from": origin(model)} for name, model in config.models.items()]
    tasks = [{"kind": "task", "name": name, "from": task.model} for name, task in config.tasks.items()]
    memories = [
        {"kind": "memory", "name": name, "from": memory.embedding_model}
        for name, memory in config.memories.items()
    ]
    return models + tasks + memories


def origin(model: AnyModelConfig) -> str:
    """Return where the weights of a model come from, or the first server that runs it."""
    if isinstance(model, RemoteModelConfig):
        return model.upstream.urls[0]
    return str(model.model_path or model.package or model.url or "")
