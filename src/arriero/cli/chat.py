"""`arriero chat TASK`: a conversation in the terminal, with a running server or in this process.

Order: a server at `--url`, or at the address of the configuration, else at the default one; when none
answers there and there is a configuration, its models are loaded in this process. Ctrl-C stops the
answer, Ctrl-D ends the conversation. Input from a pipe is one prompt a line.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from arriero.cli import source
from arriero.cli.server import access_options, client_of
from arriero.client import DEFAULT_URL, Client
from arriero.errors import RequestError, Unavailable, UnknownName

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from arriero.config.schema import Config
    from arriero.tasks.session import Session

PROMPT = "> "


class Conversation(Protocol):
    """The turns with one task: `client.Chat`, or `InProcess` below."""

    def answer(self, prompt: str) -> AsyncGenerator[str, None]:
        """Yield the pieces of the answer to the next prompt; closing the iterator stops it."""
        ...


@click.command("chat")
@click.argument("task")
@source.config_options
@click.option("--url", envvar="ARRIERO_URL", help="The server; nothing is loaded in this process then.")
@access_options
def command(task: str, config: Path | None, starter: bool, url: str | None, **access: Any) -> None:
    """Talk to TASK. Ctrl-C stops the answer, Ctrl-D ends."""
    loaded = None
    if url is None and (path := source.found(config, starter=starter)) is not None:
        loaded = source.loaded(path, starter=False)
    client = client_of(url or address(loaded), **access)
    asyncio.run(converse(task, client, loaded))


def address(config: Config | None) -> str:
    """Return where a server of this configuration listens."""
    if config is None:
        return DEFAULT_URL
    server = config.server
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)
    host = f"[{host}]" if ":" in host else host
    return f"{server.scheme}://{host}:{server.port}"


async def converse(task: str, client: Client, config: Config | None) -> None:
    """Take prompts and show answers until the input ends."""
    async with client, opened(task, client, config) as conversation:
        turns = Turns(conversation)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, turns.interrupt)
        try:
            while (prompt := await next_prompt()) is not None:
                await turns.take(prompt)
        finally:
            loop.remove_signal_handler(signal.SIGINT)


@asynccontextmanager
async def opened(task: str, client: Client, config: Config | None) -> AsyncIterator[Conversation]:
    """Open a conversation with the server, or in this process when none answers."""
    if config is None or await answers(client):
        async with client.chat(task) as chat:
            yield chat
        return
    async with in_process(task, config) as conversation:
        yield conversation


async def answers(client: Client) -> bool:
    """Whether a server is there; one that refuses our key is."""
    try:
        await client.tasks()
    except Unavailable:
        return False
    except RequestError:
        return True
    return True


@asynccontextmanager
async def in_process(task: str, config: Config) -> AsyncIterator[Conversation]:
    """Load the configuration's models here and start a session."""
    if task not in config.tasks:
        raise UnknownName("task", task)
    from arriero.cli.loading import open_with_progress

    async with open_with_progress(config) as runtime:
        yield InProcess(runtime.tasks[task].start("terminal"))


class InProcess:
    """A session of this process as a conversation."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def answer(self, prompt: str) -> AsyncGenerator[str, None]:
        async with aclosing(self._session.complete(prompt)) as deltas:
            async for delta in deltas:
                if delta.text:
                    yield delta.text


class Turns:
    """Owns the answer that is being shown, so that Ctrl-C can stop it."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._job: asyncio.Task[None] | None = None

    async def take(self, prompt: str) -> None:
        """Show the answer to a prompt. A refused prompt ends only a conversation that nobody watches."""
        self._job = asyncio.create_task(self._show(prompt))
        await asyncio.wait([self._job])
        job, self._job = self._job, None
        click.echo()
        if job.cancelled():
            return
        try:
            job.result()
        except RequestError as exc:
            if not sys.stdin.isatty():
                raise
            click.echo(f"({exc.message})", err=True)

    def interrupt(self) -> None:
        """Stop the answer; between answers say how to end."""
        if self._job is not None:
            self._job.cancel()
        else:
            click.echo("\n(Ctrl-D ends)", err=True)

    async def _show(self, prompt: str) -> None:
        async with aclosing(self._conversation.answer(prompt)) as pieces:
            async for piece in pieces:
                click.echo(piece, nl=False)


async def next_prompt() -> str | None:
    """Return the next line with something in it, or None at the end of the input."""
    shown = PROMPT if sys.stdin.isatty() else ""
    while True:
        try:
            line = await asyncio.to_thread(input, shown)
        except EOFError:
            return None
        if line.strip():
            return line
