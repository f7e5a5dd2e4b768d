"""`arriero ingest`: files and folders into a memory of a running server, with its progress."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arriero.cli.server import access_options, client_of
from arriero.cli.terminal import counted, progress, show_json
from arriero.client import DEFAULT_URL, Client, IngestJob
from arriero.errors import ArrieroError, Overloaded, RequestError, ServiceError
from arriero.extract.detect import SUFFIXES

if TYPE_CHECKING:
    from arriero.catalogue.progress import Progress

AT_ONCE = 8
"""Documents on their way side by side."""
OUTCOMES = ("stored", "replaced", "unchanged")
FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 2.0


@click.command("ingest")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option("--memory", required=True, help="The memory.")
@click.option("--prefix", default="", help="Put before the names of the documents, such as manuals/.")
@click.option("--url", default=DEFAULT_URL, show_default=True, envvar="ARRIERO_URL", help="The server.")
@access_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(paths: tuple[Path, ...], memory: str, prefix: str, url: str, as_json: bool, **access: Any) -> int:
    """Put files, and all documents in folders, into MEMORY. A file keeps its path below PATH as its name.

    What is there already is not stored again; a changed file takes the place of its former version.
    """
    documents: dict[str, Path] = {}
    files, left_out = found(paths)
    for name, path in files:
        if prefix + name in documents:
            raise click.UsageError(
                f"{path} and {documents[prefix + name]} have the same name below their paths"
            )
        documents[prefix + name] = path
    if not documents:
        raise click.UsageError(f"no documents there; what is read ends in {', '.join(sorted(SUFFIXES))}")
    with progress() as shown:
        jobs = asyncio.run(ingest(documents, memory, client_of(url, **access), shown))
    failed = [job for job in jobs if job.state != "done"]
    if left_out:
        kinds = ", ".join(f"{count} {ending}" for ending, count in left_out.most_common())
        click.echo(f"left out, of kinds that are not read: {kinds}", err=True)
    if as_json:
        show_json(jobs)
    else:
        click.echo(summary(jobs))
    for job in failed:
        click.echo(f"arriero: {job.name}: {job.error or job.state}", err=True)
    return 1 if failed else 0


def found(paths: tuple[Path, ...]) -> tuple[list[tuple[str, Path]], Counter[str]]:
    """Return name and path of every document, folders in the order of their names.

    And how many other files of each ending the folders hold. What is hidden there (`.git`, `~$a.docx`) is
    not looked at; a file that is named itself is always sent.
    """
    files: list[tuple[str, Path]] = []
    left_out: Counter[str] = Counter()
    for path in paths:
        if not path.is_dir():
            files.append((named(Path(path.name)), path))
            continue
        for file in sorted(path.rglob("*")):
            below = file.relative_to(path)
            if not file.is_file() or any(part.startswith((".", "~$")) for part in below.parts):
                continue
            if file.suffix[1:].lower() in SUFFIXES:
                files.append((named(below), file))
            else:
                left_out[file.suffix or "without an ending"] += 1
    return files, left_out


def named(path: Path) -> str:
    """Return a path as a name. Bytes of it that are no UTF-8 are written out, as in `caf\\xe9.txt`."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")


async def ingest(documents: dict[str, Path], memory: str, client: Client, shown: Progress) -> list[IngestJob]:
    """Send every document and wait for its end; one that is refused is a failed job."""
    places = asyncio.Semaphore(AT_ONCE)
    ended = 0

    async def one(name: str, path: Path) -> IngestJob:
        nonlocal ended
        async with places:
            try:
                job = await _followed(client, memory, await _sent(client, memory, name, path))
            except (RequestError, OSError) as exc:
                error = exc.message if isinstance(exc, ArrieroError) else exc.strerror or str(exc)
                job = IngestJob(id="", name=name, state="failed", error=error)
        ended += 1
        shown(f"ingesting into {memory}", ended, len(documents))
        return job

    async with client:
        await _check(client, memory)
        shown(f"ingesting into {memory}", 0, len(documents))
        return list(await asyncio.gather(*(one(name, path) for name, path in documents.items())))


async def _check(client: Client, memory: str) -> None:
    """Raise at once for a server that is not there or does not let us in, and for an unknown memory."""
    names = await client.memories()
    if memory not in names:
        raise ServiceError(
            f"the server has no memory {memory} for this key; it has {', '.join(names) or 'none'}"
        )


async def _sent(client: Client, memory: str, name: str, path: Path) -> str:
    """Send a document, as often as the server's queue is full; return the id of its job."""
    pause_s = FIRST_LOOK_S
    while True:
        try:
            return await client.ingest(memory, name, await asyncio.to_thread(path.read_bytes))
        except Overloaded:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_LOOK_S)


async def _followed(client: Client, memory: str, id: str) -> IngestJob:
    pause_s = FIRST_LOOK_S
    while not (job := await client.ingest_job(memory, id)).is_ended:
        await asyncio.sleep(pause_s)
        pause_s = min(1.5 * pause_s, LONGEST_LOOK_S)
    return job


def summary(jobs: list[IngestJob]) -> str:
    """Say in one line what became of the documents."""
    counts = {word: sum(job.outcome == word for job in jobs) for word in OUTCOMES}
    counts["failed"] = sum(job.state != "done" for job in jobs)
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{counted(len(jobs), 'document')}: {told}"
