"""Documents made to crash, stall, swell or fool whatever reads them. All are the same in every run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

Make = Callable[[], bytes]


class Hostile(NamedTuple):
    """A document: what is wrong with it, how its file is called, and what makes it."""

    name: str
    file: str
    make: Make


def hostile_documents() -> Iterator[Hostile]:
    """Yield all documents. The bytes are made when asked for: some take seconds and gigabytes of zeros."""
    # Here, as those files need what is defined above.
    from arriero.testing import hostile_docx, hostile_pdf, hostile_text

    yield from hostile_docx.documents()
    yield from hostile_pdf.documents()
    yield from hostile_text.documents()


def truncated(name: str, file: str, whole: Make, count: int) -> Iterator[Hostile]:
    """Yield a document cut at `count` places."""
    for number in range(count):
        share = (number + 1) / (count + 1)

        def make(share: float = share) -> bytes:
            data = whole()
            return data[: int(share * len(data))]

        yield Hostile(f"{name} cut at {share:.0%}", file, make)


def flipped(name: str, file: str, whole: Make, count: int) -> Iterator[Hostile]:
    """Yield `count` documents with some bytes changed at random, the first a few, the last many."""
    for seed in range(count):

        def make(seed: int = seed) -> bytes:
            data = bytearray(whole())
            chance = random.Random(seed)
            for _ in range(1 + 4 * seed):
                data[chance.randrange(len(data))] = chance.randrange(256)
            return bytes(data)

        yield Hostile(f"{name} with bytes changed, seed {seed}", file, make)
