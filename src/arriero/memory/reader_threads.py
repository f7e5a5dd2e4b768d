"""Threads that run the short jobs of an event loop; half the processor time of an executor's.

One queue, one future for each job, and the threads start as jobs come. A job whose caller has gone runs all
the same; its result is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class ReaderThreads:
    """Owns the threads. `run` belongs to event loops, `shutdown` to any thread but these."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run this in one of the threads; return or raise what it does."""
        self._start()
        job = _Job(work)
        self._jobs.put(job)
        result: Result = await job.future
        return result

    def shutdown(self) -> None:
        """Finish the jobs that were given, and end the threads; blocks until then."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if len(self._threads) == self._count:
                return
            name = f"arriero-memory-read-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
            self._threads[-1].start()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()


class _Job:
    """Work for a thread, and the future of the loop that waits for it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def run(self) -> None:
        try:
            result, failure = self._work(), None
        except BaseException as exc:
            result, failure = None, exc
        # The loop may have ended meanwhile.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, result, failure)

    def _settle(self, result: Any, failure: BaseException | None) -> None:
        if self.future.done():
            return
        if failure is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(failure)
