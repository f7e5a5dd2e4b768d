"""`arriero serve`: load a configuration and serve it until it is told to stop.

Flags stand before the environment, which stands before the file; a flag is handed over as the
environment variable of its key, so that every check of the configuration sees it.
"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from arriero.cli import source
from arriero.cli.standard_files import hold_nothing_back, remark

if TYPE_CHECKING:
    from pathlib import Path

    from arriero.config.schema import Config

BIND_ADDRESS = "ARRIERO_SERVER__BIND_ADDRESS"
CHAT = "/v1/chat/completions"
KEY_HEADER = ' -H "authorization: Bearer $ARRIERO_API_KEY"'


@click.command("serve")
@source.config_options
@click.option("--host", help="Address to listen on, before the configured one.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
def command(config: Path | None, starter: bool, host: str | None, port: int | None) -> int:
    """Serve the models and tasks of a configuration.

    Ctrl-C lets the running answers end for a short while; a second one ends at once.
    """
    path = source.required(config, starter=starter)
    flags = overrides(path, False, host, port)
    loaded = source.loaded(path, starter=False, overrides=flags)
    for warning in source.warnings(path, flags):
        remark(f"warning: {warning}")
    from arriero.cli.loading import open_with_progress
    from arriero.runtime import Pieces
    from arriero.server.log import logging_to_stderr
    from arriero.server.serve import Source, serve

    def reread() -> Config:
        return source.loaded(path, starter=False, overrides=flags)

    def announce(line: str) -> None:
        request = first_request(loaded, line.rpartition(" ")[2])
        with suppress(OSError):  # a full disk under stdout is no reason to end
            click.echo(line + (f"\nA first request:\n\n    {request}\n" if request else ""))

    hold_nothing_back("stdout")

    with logging_to_stderr(loaded.telemetry) as log_writer:
        return serve(
            loaded,
            opener=partial(open_with_progress, pieces=Pieces()),
            announce=announce,
            source=Source(path, reread),
            log_writer=log_writer,
        )


def first_request(config: Config, url: str) -> str:
    """Return a request to paste that streams an answer, of the first task, or else of the first remote model.

    Empty when there is none that is known to talk.
    """
    key = "" if config.auth.public else KEY_HEADER
    if task := next(iter(config.tasks), None):
        return f"curl -N '{url}/v1/task/{quote(task, safe='')}/live?prompt=Hello'{key}"
    talking = (name for name, model in config.remote_models.items() if CHAT in model.routes)
    if (model := next(talking, None)) is None:
        return ""
    messages = [{"role": "user", "content": "Hello"}]
    body = json.dumps({"model": config.public_name(model), "stream": True, "messages": messages})
    return f"curl -N {url}{CHAT} -H 'content-type: application/json' -d {shlex.quote(body)}{key}"


def overrides(config: Path | None, starter: bool, host: str | None, port: int | None) -> dict[str, str]:
    """Return the environment that the flags stand for; what is not given is taken from below."""
    if host is None and port is None:
        return {}
    if host is None or port is None:
        configured = source.loaded(config, starter=starter).server.bind_address
        old_host, _, old_port = configured.rpartition(":")
        host, port = host or old_host, int(old_port) if port is None else port
    return {BIND_ADDRESS: bind_address(host, port)}


def bind_address(host: str, port: int) -> str:
    """Join host and port; an IPv6 address gets its brackets."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
