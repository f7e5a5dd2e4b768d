"""What the verbs show besides their result: progress on stderr, tables and JSON on stdout.

On a terminal progress is a bar; elsewhere it is a plain line for each tenth. Results stay clean for
pipes: nothing but them is written to stdout.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import msgspec

from arriero.cli.standard_files import remark

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress as Display
    from rich.progress import TaskID

    from arriero.catalogue.progress import Progress


@contextmanager
def progress() -> Iterator[Progress]:
    """Show the progress of the work in the block, in the way that suits stderr."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console

    with bar_display(Console(stderr=True)) as display:
        yield Bars(display)


class Lines:
    """Plain lines for logs: one when a text appears, one for each further tenth of it."""

    def __init__(self) -> None:
        self._tenths: dict[str, int] = {}

    def __call__(self, description: str, done: int, total: int | None) -> None:
        tenth = done * 10 // total if total else -1
        if tenth <= self._tenths.get(description, -2):
            return
        self._tenths[description] = tenth
        remark(f"{description}: {tenth * 10} %" if total else description)


class Bars:
    """A bar for each text."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._bars: dict[str, TaskID] = {}

    def __call__(self, description: str, done: int, total: int | None) -> None:
        if description not in self._bars:
            self._bars[description] = self._display.add_task(description, total=total)
        self._display.update(self._bars[description], total=total, completed=done)


def bar_display(console: Console) -> Display:
    """Return rich's live display of bars."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    return Display(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )


def counted(count: int, noun: str) -> str:
    """Return the count with its noun in the number that it takes: 1 memory, 2 memories."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count} {noun if count == 1 else plural}"


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their column names, aligned, with no lines between them."""
    table = [[column.upper() for column in columns], *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def show_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
