"""stdin, stdout and stderr that are closed, full, or read by nobody. Imports nothing heavy."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Literal

import click


def open_standard_files() -> None:
    """Put nothing in the place of a standard file that is closed.

    Else a socket or a database would get its number, and what native code prints would land in it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def hold_nothing_back(name: Literal["stdout", "stderr"]) -> None:
    """Have what is said on a standard stream written at once, or lost.

    What Python's own stream holds of a file that cannot be written keeps the process from ending well: it is
    tried again at the very end, and waits there for a thread that is stuck with it.
    """
    stream = getattr(sys, name)
    with suppress(OSError):  # no file at all
        raw = io.FileIO(stream.fileno(), "w", closefd=False)
        setattr(
            sys,
            name,
            io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, write_through=True),
        )


def remark(text: str) -> None:
    """Say on stderr what nothing depends on: one that is full, or that nobody reads, is no reason to end."""
    with suppress(OSError):
        click.echo(text, err=True)
