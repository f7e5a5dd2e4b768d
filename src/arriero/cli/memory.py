"""`arriero memory list | check | export | import | reindex`: the files of the memories of a configuration."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from arriero.cli import source
from arriero.cli.loading import open_with_progress
from arriero.cli.terminal import progress, show_json, show_table
from arriero.errors import ConfigError, InvalidRequest
from arriero.memory import embedded_check
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedded_path import embedded_path
from arriero.memory.embedded_reindex import reindex
from arriero.memory.embedded_transfer import exported, header, imported, read_lines
from arriero.memory.embedding import embedded, identity_of
from arriero.memory.splitter import Splitter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from arriero.config.memory import MemoryConfig
    from arriero.config.schema import Config
    from arriero.core import Embedder
    from arriero.memory.records import Chunk


@click.group("memory")
def command() -> None:
    """Check, keep and carry the memories of a configuration.

    `arriero ingest` puts documents into a memory of a running server.
    """


def memory_argument(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add the name of a memory and the options that find its configuration."""
    return click.argument("name", metavar="MEMORY")(source.config_options(verb))


@command.command("list")
@source.config_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_memories(config: Path | None, starter: bool, as_json: bool) -> None:
    """List the memories, where they are, and how much they hold."""
    loaded = source.loaded(config, starter=starter)
    entries = [listed(loaded, name) for name in loaded.memories]
    if as_json:
        show_json(entries)
        return
    columns = ("name", "documents", "chunks", "bytes", "embedding_model", "store")
    show_table(
        columns,
        [["" if entry[column] is None else str(entry[column]) for column in columns] for entry in entries],
    )


@command.command("check")
@memory_argument
@click.option("--compact", is_flag=True, help="When it is whole, write it anew without its free room.")
@click.pass_context
def check(context: click.Context, name: str, config: Path | None, starter: bool, compact: bool) -> None:
    """Read all of a memory and say whether it is whole. Exit with 1 if not. No server may have it open."""
    path = file_of(source.loaded(config, starter=starter), name)
    report = embedded_check.check(path)
    for fault in report.faults:
        click.echo(f"{path}: {fault}", err=True)
    if report.faults:
        context.exit(1)
    if compact:
        embedded_check.compact(path)
    click.echo(f"{path}: whole, {report.documents} documents, {report.chunks} chunks")


@command.command("export")
@memory_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; default stdout.")
def export_memory(name: str, config: Path | None, starter: bool, output: Path | None) -> None:
    """Write documents, chunks and vectors as lines of JSON. A server may have the memory open."""
    lines = exported(file_of(source.loaded(config, starter=starter), name))
    if output is None:
        sys.stdout.writelines(lines)
        return
    unfinished = output.with_name(output.name + ".part")
    with unfinished.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    unfinished.replace(output)


@command.command("import")
@memory_argument
@click.argument("file", type=click.File(encoding="utf-8"))
def import_memory(name: str, config: Path | None, starter: bool, file: Any) -> None:
    """Store the documents of an export (FILE, or - for stdin). Each takes the place of the one of its name.

    What comes before a faulty line is stored. No server may have the memory open.
    """
    path = file_of(source.loaded(config, starter=starter), name)

    async def store() -> str:
        lines = read_lines(file)
        first = next(lines, "")
        held = await EmbeddedStore.open(path, header(first))
        try:
            counts = await imported(itertools.chain([first], lines), held)
        finally:
            await held.close()
        return f"{path}: stored {counts.documents} documents, {counts.chunks} chunks"

    try:
        said = asyncio.run(store())
    except InvalidRequest as exc:
        raise InvalidRequest(f"{file.name}: {exc.message}") from exc
    click.echo(said)


@command.command("reindex")
@memory_argument
def reindex_memory(name: str, config: Path | None, starter: bool) -> None:
    """Embed every chunk anew with the configured embedding model.

    What was done before an interruption is used again. No server may have the memory open.
    """
    loaded = source.loaded(config, starter=starter)
    path = file_of(loaded, name)
    with embedded_check.alone(path):
        pass  # What stands in the way is told before the model is loaded.
    model = loaded.memories[name].embedding_model

    async def run() -> int:
        alone = msgspec.structs.replace(loaded, models={model: loaded.models[model]}, tasks={}, memories={})
        async with open_with_progress(alone) as runtime:
            embedder = runtime.models[loaded.public_name(model)]
            embed = embedding(loaded.memories[name], embedder)
            with progress() as shown:
                return await reindex(
                    path, identity_of(embedder), embed, lambda done, total: shown("embedding", done, total)
                )

    click.echo(f"{path}: embedded {asyncio.run(run())} chunks anew")


def embedding(memory: MemoryConfig, embedder: Embedder) -> Callable[[Sequence[Chunk]], Any]:
    """Return what embeds stored chunks as the memory does when it ingests them."""
    splitter = Splitter(memory, embedder)

    async def embed(chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        return await embedded(embedder, await splitter.embedded_again(chunks))

    return embed


def file_of(config: Config, name: str) -> Path:
    """Return the file of a memory; raise ConfigError when there is no such memory, or it has no file."""
    if name not in config.memories:
        known = ", ".join(config.memories) or "none"
        raise ConfigError(f'no memory "{name}"; the configuration names: {known}')
    path = embedded_path(name, config.memories[name], config.cache_path)
    if path is None:
        raise ConfigError(f"memories.{name}: has no file: it is on a server, or in memory only")
    return path


def listed(config: Config, name: str) -> dict[str, object]:
    """Return what is known of a memory without its server or its model."""
    memory = config.memories[name]
    path = embedded_path(name, memory, config.cache_path)
    counts = embedded_check.counts(path) if path is not None else None
    where = path or (memory.store.qdrant.url if memory.store.qdrant else "in memory only")
    return {
        "name": name,
        "documents": counts.documents if counts else None,
        "chunks": counts.chunks if counts else None,
        "bytes": counts.bytes if counts else None,
        "embedding_model": memory.embedding_model,
        "store": str(where),
    }
