"""Documents on their way into one memory: a bounded queue, jobs with states, a journal that survives a crash.

1. A job is taken on once its document is in the journal; it is forgotten there once it is stored.
2. Documents of one name are ingested one after the other, in the order in which they came; others side
   by side. Deleting a document stops its jobs first, and forgets them last: a crash in between leaves them.
3. A document that cannot be read fails alone. While the model or the store is away, a job waits and
   tries again; a failing engine is asked MAX_ENGINE_FAILURES times.
4. What stopped in the middle begins anew at the next start. Storing is all or nothing, so this is safe.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from arriero.errors import (
    ArrieroError,
    EngineError,
    InvalidRequest,
    Overloaded,
    QueueFull,
    ServiceError,
    Unavailable,
    UnknownName,
)
from arriero.memory.job import Job, Outcome, Report, Source, State, Tally
from arriero.memory.records import document_id

if TYPE_CHECKING:
    from arriero.memory.journal import Journal

logger = logging.getLogger(__name__)

HISTORY = 1000
"""Ended jobs that are remembered."""
MAX_ENGINE_FAILURES = 3
LONGEST_PAUSE_S = 30.0


class _Run:
    """One job being worked on.

    settled: it has an end, or must wait for something that is away. stopped: nothing is done any more;
    once it is released, too, a cancelled job is forgotten, or begins anew if it is kept.
    """

    def __init__(self, job: Job, source: Source | None, digest: str, after: _Run | None) -> None:
        self.job = job
        self.source = source
        self.digest = digest
        self.after = after
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.accepted.add_done_callback(lambda future: future.exception())
        self.settled = asyncio.Event()
        self.stopped = asyncio.Event()
        self.released = asyncio.Event()
        self.ended = asyncio.Event()
        self.problem: ArrieroError | None = None
        self.is_cancelled = self.is_kept = False
        self.task: asyncio.Task[None] | None = None


class Ingestion:
    """Owns the jobs of one memory.

    ingest: does the work of one document and reports how far it is.
    pause_s: before the second attempt; it doubles with each further one.
    """

    def __init__(
        self,
        memory: str,
        ingest: Callable[[Source, Report], Awaitable[Outcome]],
        journal: Journal,
        *,
        max_queued: int,
        at_once: int = 2,
        pause_s: float = 0.5,
    ) -> None:
        self._memory = memory
        self._ingest = ingest
        self._journal = journal
        self.max_queued = max_queued
        self._places = asyncio.Semaphore(at_once)
        self._pause_s = pause_s
        self._runs: dict[str, _Run] = {}
        self._latest: dict[str, _Run] = {}
        self._is_stopped = False
        self._history: dict[str, tuple[Job, ArrieroError | None]] = {}
        self.tally = Tally()

    async def start(self) -> None:
        """Take up what the journal holds. Raises Unavailable."""
        for job in await asyncio.to_thread(self._journal.failed):
            self._remember(job, ServiceError(job.error or "the job failed"))
        for job in await asyncio.to_thread(self._journal.waiting):
            run = self._begin(job, None, "")
            run.accepted.set_result(None)

    async def stop(self) -> None:
        """Stop working; what has no end stays in the journal."""
        self._is_stopped = True
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._journal.close)

    async def submit(self, source: Source) -> Job:
        """Take a document on; it is on the disk when this returns. Raises Overloaded, Unavailable.

        The same document again, while it is on its way, is the same job.
        """
        digest = await asyncio.to_thread(_digest, source)
        latest = self._latest.get(document_id(source.name))
        if latest is not None and latest.digest == digest:
            run = latest
        else:
            if len(self._runs) >= self.max_queued:
                raise QueueFull(
                    f"{len(self._runs)} documents wait to be ingested into {self._memory}; try again later"
                )
            run = self._begin(_new_job(source), source, digest)
        await asyncio.shield(run.accepted)
        return run.job

    async def finished(self, id: str) -> Job:
        """Wait for the end of a job. Raises what it failed of, UnknownName.

        Raises Unavailable when the job has to wait for something that is away; it goes on by itself.
        """
        if (run := self._runs.get(id)) is not None:
            await run.settled.wait()
            job, problem = run.job, run.problem
        else:
            job, problem = self._ended(id)
        if problem is not None:
            raise problem.with_traceback(None)
        if not job.state.is_end:
            raise Unavailable("the server stops; the document is kept and will be stored when it is back")
        return job

    async def ended(self, id: str) -> Job:
        """Wait for the end of a job, whatever it is and however long it takes. Raises UnknownName."""
        if (run := self._runs.get(id)) is not None:
            await run.ended.wait()
        return self.job(id)

    def job(self, id: str) -> Job:
        """Return a job as it is. Raises UnknownName for one that never was or is long over."""
        if (run := self._runs.get(id)) is not None:
            return run.job
        return self._ended(id)[0]

    def jobs(self) -> list[Job]:
        """Return the jobs on their way and the last that ended, newest first."""
        jobs = [*(job for job, _ in self._history.values()), *(run.job for run in self._runs.values())]
        return sorted(jobs, key=lambda job: -job.created_at)

    async def cancel(self, id: str) -> Job:
        """End a job and return it as it ended; one that is being stored is done. Raises UnknownName."""
        if (run := self._runs.get(id)) is None:
            return self.job(id)
        _stop(run)
        run.released.set()
        await run.ended.wait()
        return run.job

    @asynccontextmanager
    async def forgotten(self, document: str | None) -> AsyncIterator[int]:
        """Stop every job of a document, or all jobs; forget them when the block has done its work.

        The block gets their number. If it fails, or the process dies in it, they begin anew.
        """
        runs = [run for run in self._runs.values() if document in (None, run.job.document_id)]
        for run in runs:
            _stop(run)
        try:
            for run in runs:
                await run.stopped.wait()
            yield len(runs)
        except BaseException:
            for run in runs:
                run.is_kept = True
            raise
        else:
            # All at once: if only some were gone when the process dies, an older version would come back.
            with suppress(Unavailable):  # which the end of each tells
                await asyncio.to_thread(self._journal.remove, *(run.job.id for run in runs))
        finally:
            for run in runs:
                run.released.set()
            for run in runs:
                await run.ended.wait()

    def _begin(self, job: Job, source: Source | None, digest: str) -> _Run:
        run = _Run(job, source, digest, self._latest.get(job.document_id))
        self._runs[job.id] = self._latest[job.document_id] = run
        run.task = asyncio.create_task(self._run(run))
        return run

    async def _run(self, run: _Run) -> None:
        try:
            await self._take_on(run)
            while run.after is not None:
                await run.after.ended.wait()
                run.after = run.after.after  # one that was cancelled has left others before it
            outcome = await self._until_done(run)
        except asyncio.CancelledError:
            if run.is_cancelled:
                await self._cancelled(run)
        except ArrieroError as exc:
            await self._end(run, State.FAILED, exc)
        except Exception:
            logger.exception("memory %s: %s", self._memory, run.job.name)
            await self._end(run, State.FAILED, ServiceError("internal error"))
        else:
            await self._end(run, State.DONE, None, outcome)
        finally:
            self._leave(run)
            if run.is_kept and run.source is None and not (run.job.state.is_end or self._is_stopped):
                self._begin(run.job, None, run.digest).accepted.set_result(None)

    async def _cancelled(self, run: _Run) -> None:
        run.stopped.set()
        await run.released.wait()
        if run.is_kept and run.source is None:  # it was acknowledged
            run.problem = Unavailable("the document could not be deleted; it will be stored")
        else:
            problem = InvalidRequest("the job was cancelled before its document was stored")
            await self._end(run, State.CANCELLED, problem)

    async def _take_on(self, run: _Run) -> None:
        """Write the job to the journal, unless it comes from there."""
        if run.source is None:
            return
        adding = asyncio.ensure_future(asyncio.to_thread(self._journal.add, run.job, run.source))
        try:
            await asyncio.shield(adding)
        except BaseException as exc:
            await asyncio.wait([adding])  # so that what is added can be removed
            known = isinstance(exc, ArrieroError)
            run.accepted.set_exception(exc if known else Unavailable("the document was not taken on"))
            raise
        run.source = None
        run.accepted.set_result(None)

    async def _until_done(self, run: _Run) -> Outcome:
        while True:
            try:
                async with self._places:
                    self._set(run, attempts=run.job.attempts + 1)
                    source = await asyncio.to_thread(self._journal.source, run.job.id)
                    return await self._ingest(source, lambda *said: self._progress(run, *said))
            except (Unavailable, Overloaded, EngineError) as exc:
                if isinstance(exc, EngineError) and run.job.attempts >= MAX_ENGINE_FAILURES:
                    raise
                self._set(run, state=State.QUEUED, error=exc.message, code=exc.code)
                run.problem = exc
                run.settled.set()
                if run.is_cancelled:  # while it was being stored
                    raise asyncio.CancelledError from exc
            await asyncio.sleep(min(LONGEST_PAUSE_S, self._pause_s * 2 ** min(run.job.attempts - 1, 10)))

    def _progress(self, run: _Run, state: State, done: int, total: int) -> None:
        self._set(run, state=state, chunks_done=done, chunks_total=total)

    def _set(self, run: _Run, **changes: object) -> None:
        run.job = msgspec.structs.replace(run.job, **changes)

    async def _end(
        self, run: _Run, state: State, problem: ArrieroError | None, outcome: Outcome | None = None
    ) -> None:
        """Give a job its end: first in the journal, then for those who wait."""
        run.problem = problem
        job = msgspec.structs.replace(
            run.job,
            state=state,
            outcome=outcome,
            error=problem.message if problem and state is State.FAILED else None,
            code=problem.code if problem and state is State.FAILED else None,
            finished_at=time.time(),
        )
        try:
            if state is State.FAILED and run.source is None:
                await asyncio.to_thread(self._journal.fail, job)
            else:
                await asyncio.to_thread(self._journal.remove, job.id)
        except Unavailable as exc:  # it will begin anew at the next start, and find nothing to do
            logger.warning("memory %s: %s", self._memory, exc.message)
        run.job = job
        self.tally.add(job)
        self._remember(job, problem)

    def _leave(self, run: _Run) -> None:
        del self._runs[run.job.id]
        if self._latest.get(run.job.document_id) is run:
            del self._latest[run.job.document_id]
        run.settled.set()
        run.stopped.set()
        run.ended.set()

    def _ended(self, id: str) -> tuple[Job, ArrieroError | None]:
        if id not in self._history:
            raise UnknownName("job", id)
        return self._history[id]

    def _remember(self, job: Job, problem: ArrieroError | None) -> None:
        if problem is not None:  # what it was raised from holds the document
            problem.__traceback__ = problem.__cause__ = problem.__context__ = None
        self._history[job.id] = job, problem
        while len(self._history) > HISTORY:
            del self._history[next(iter(self._history))]


def _stop(run: _Run) -> None:
    """Stop a run. One that is being stored comes to its own end."""
    is_first, run.is_cancelled = not run.is_cancelled, True
    if is_first and run.task is not None and run.job.state is not State.STORING:
        run.task.cancel()


def _new_job(source: Source) -> Job:
    return Job(
        id=secrets.token_hex(16),
        document_id=document_id(source.name),
        name=source.name,
        size=len(source.data),
        created_at=time.time(),
    )


def _digest(source: Source) -> str:
    about = msgspec.json.encode(msgspec.structs.replace(source, data=b""))
    return hashlib.sha256(source.data).hexdigest() + hashlib.sha256(about).hexdigest()
