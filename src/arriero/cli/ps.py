"""`arriero ps`: what a running server serves, and what each task has done since it started."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from arriero.cli.server import access_options, client_of
from arriero.cli.terminal import show_json, show_table
from arriero.client import DEFAULT_URL, Client, TaskStats


@click.command("ps")
@click.option("--url", default=DEFAULT_URL, show_default=True, envvar="ARRIERO_URL", help="The server.")
@access_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(url: str, as_json: bool, **access: Any) -> None:
    """List the models, tasks and memories of a running server, with the tasks' counts."""
    served = asyncio.run(ask(client_of(url, **access)))
    if as_json:
        show_json(served)
        return
    rows = [("model", name, "", "", "") for name in served["models"]]
    rows += [("task", name, *counts(stats)) for name, stats in served["tasks"].items()]
    rows += [("memory", name, "", "", "") for name in served["memories"]]
    show_table(("kind", "name", "completions", "tokens", "tokens/s"), rows)


async def ask(client: Client) -> dict[str, Any]:
    """Return the names of the server's models and memories, and its tasks with their statistics."""
    async with client:
        models, tasks, memories = await client.models(), await client.tasks(), await client.memories()
        stats = await client.stats()
    counted = {name: stats.get(name, TaskStats()) for name in tasks}
    return {"models": models, "tasks": counted, "memories": memories}


def counts(stats: TaskStats) -> tuple[str, str, str]:
    """Return completions, completion tokens and the tokens per second of generation."""
    seconds = stats.predict_duration.seconds
    rate = f"{stats.predict_tokens / seconds:.1f}" if seconds else ""
    return str(stats.cycles), str(stats.predict_tokens), rate
