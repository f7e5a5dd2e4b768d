"""`arriero ps`: what a running server serves, and what each task has done since it started."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from arriero.cli.terminal import show_json, show_table
from arriero.client import DEFAULT_URL, Client, TaskStats


@click.command("ps")
@click.option("--url", default=DEFAULT_URL, show_default=True, envvar="ARRIERO_URL", help="The server.")
@click.option(
    "--api-key", envvar="ARRIERO_API_KEY", help="Key for the server; better given as ARRIERO_API_KEY."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(url: str, api_key: str | None, as_json: bool) -> None:
    """List the models and tasks of a running server, with the tasks' counts."""
    served = asyncio.run(ask(url, api_key))
    if as_json:
        show_json(served)
        return
    rows = [("model", name, "", "", "") for name in served["models"]]
    rows += [("task", name, *counts(stats)) for name, stats in served["tasks"].items()]
    show_table(("kind", "name", "completions", "tokens", "tokens/s"), rows)


async def ask(url: str, api_key: str | None) -> dict[str, Any]:
    """Return the server's model names, and its tasks with their statistics."""
    async with Client(url, api_key=api_key) as client:
        models, tasks, stats = await asyncio.gather(client.models(), client.tasks(), client.stats())
    return {"models": models, "tasks": {name: stats.get(name, TaskStats()) for name in tasks}}


def counts(stats: TaskStats) -> tuple[str, str, str]:
    """Return completions, completion tokens and the tokens per second of generation."""
    seconds = stats.predict_duration.seconds
    rate = f"{stats.predict_tokens / seconds:.1f}" if seconds else ""
    return str(stats.cycles), str(stats.predict_tokens), rate
