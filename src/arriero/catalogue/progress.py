"""How long work on weights tells how far it is. The command line draws it; a server logs or ignores it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from the working thread, several times a second at most for each piece of work.

    total: None while the end is not known. An exception raised here stops the work; what was
    fetched so far is kept for the next time.
    """

    def __call__(self, description: str, done: int, total: int | None) -> None: ...


def silent(description: str, done: int, total: int | None) -> None:
    """Report to nobody."""
