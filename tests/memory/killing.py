"""Children that work on a memory's file until they are killed, and say how far they have come."""

from __future__ import annotations

import multiprocessing
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkServerContext
    from pathlib import Path


def preloaded(module: str) -> ForkServerContext:
    """Return what starts children that have imported a module."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def killed_run(
    children: ForkServerContext, work: Callable[..., None], path: Path, seed: int, *, within_s: float
) -> int | None:
    """Kill a child at a random moment of its work; return the last number that it sent, if any.

    work: gets the path, the seed and the connection to send on.
    """
    inbox, outbox = children.Pipe(duplex=False)
    child: Any = children.Process(target=work, args=(str(path), seed, outbox))
    child.start()
    outbox.close()
    chance = random.Random(seed)
    if seed % 4:
        inbox.poll(30)  # Mostly not before it is open.
    child.join(chance.uniform(0, within_s))
    child.kill()
    child.join()
    last = None
    try:
        while True:
            last = inbox.recv()
    except EOFError:
        return last
    finally:
        inbox.close()
        child.close()
