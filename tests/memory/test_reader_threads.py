"""Jobs of an event loop in threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from arriero.memory.reader_threads import ReaderThreads


async def test_results_and_errors_come_back() -> None:
    """What the job returns or raises is what the caller gets."""
    threads = ReaderThreads(2)

    assert await asyncio.gather(*[threads.run(lambda n=n: n * n) for n in range(20)]) == [
        n * n for n in range(20)
    ]
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)

    await asyncio.to_thread(threads.shutdown)


async def test_there_are_never_more_threads_than_said() -> None:
    """Others wait for their turn."""
    threads = ReaderThreads(2)

    used = set(await asyncio.gather(*[threads.run(threading.get_ident) for _ in range(50)]))

    assert 1 <= len(used) <= 2
    assert threading.get_ident() not in used
    await asyncio.to_thread(threads.shutdown)


async def test_a_caller_that_has_gone_disturbs_nobody() -> None:
    """Its job ends all the same, and shutting down waits for it."""
    threads = ReaderThreads(1)
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait()
        done.set()

    caller = asyncio.ensure_future(threads.run(work))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go.set()

    assert await threads.run(lambda: 7) == 7
    await asyncio.to_thread(threads.shutdown)
    assert done.is_set()
