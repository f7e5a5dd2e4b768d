"""Jobs: their order, their ends, and what survives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from arriero.errors import (
    EngineError,
    InvalidRequest,
    QueueFull,
    Unavailable,
    UnknownName,
    UnreadableDocument,
)
from arriero.memory.ingest import MAX_ENGINE_FAILURES, Ingestion
from arriero.memory.job import Job, Outcome, Report, Source, State
from arriero.memory.journal import Journal

Work = Callable[[Source, Report], Awaitable[Outcome]]


class Worker:
    """Ingests when it is let: keeps what came, waits for `go`, fails with what stands in `failures`."""

    def __init__(self, *failures: Exception) -> None:
        self.seen: list[str] = []
        self.done: list[bytes] = []
        self.at_work = asyncio.Semaphore(0)
        self.go = asyncio.Semaphore(0)
        self.failures = list(failures)
        self.stage = State.EMBEDDING

    async def __call__(self, source: Source, report: Report) -> Outcome:
        self.seen.append(source.name)
        report(self.stage, 1, 2)
        self.at_work.release()
        await self.go.acquire()
        if self.failures:
            raise self.failures.pop(0)
        self.done.append(source.data)
        return Outcome.STORED

    def free(self, times: int = 100) -> Worker:
        """Let it work without waiting."""
        for _ in range(times):
            self.go.release()
        return self


def ingestion(work: Work, path: Path | None = None, *, max_queued: int = 10, at_once: int = 2) -> Ingestion:
    """Return the jobs of a memory, over a journal."""
    return Ingestion("n", work, Journal(path), max_queued=max_queued, at_once=at_once, pause_s=0.001)


def source(name: str, data: bytes = b"x") -> Source:
    """Return a document."""
    return Source(name=name, data=data)


async def test_a_job_tells_how_far_it_is() -> None:
    """From queued to done, with the number of chunks."""
    worker = Worker()
    jobs = ingestion(worker)

    job = await jobs.submit(source("a"))
    await worker.at_work.acquire()
    during = jobs.job(job.id)
    worker.go.release()
    after = await jobs.finished(job.id)

    assert (job.name, job.size) == ("a", 1)
    assert (during.state, during.chunks_done, during.chunks_total) == (State.EMBEDDING, 1, 2)
    assert (after.state, after.outcome, after.error) == (State.DONE, Outcome.STORED, None)
    assert jobs.jobs() == [after] == [jobs.job(job.id)]
    await jobs.stop()


async def test_documents_of_one_name_keep_their_order() -> None:
    """The last that came is the last that is stored; a cancelled one in between changes nothing of that."""
    worker = Worker()
    jobs = ingestion(worker, at_once=3)
    first, second, third = [await jobs.submit(source("a", data)) for data in (b"1", b"2", b"3")]
    other = await jobs.submit(source("b", b"other"))
    await worker.at_work.acquire()
    await worker.at_work.acquire()

    assert sorted(worker.seen) == ["a", "b"]
    cancelled = await jobs.cancel(second.id)
    worker.free()
    for job in (first, third, other):
        await jobs.finished(job.id)
    assert cancelled.state is State.CANCELLED
    assert [data for data in worker.done if data != b"other"] == [b"1", b"3"]
    await jobs.stop()


async def test_the_same_document_on_its_way_is_one_job() -> None:
    """Sent again while it is worked on."""
    worker = Worker()
    jobs = ingestion(worker)

    sent = await asyncio.gather(*(jobs.submit(source("a")) for _ in range(5)))
    worker.free()
    await jobs.finished(sent[0].id)

    assert len({job.id for job in sent}) == 1
    assert worker.seen == ["a"]
    await jobs.stop()


async def test_a_full_queue_refuses() -> None:
    """At the limit, with a word on it; and takes more once one is done."""
    worker = Worker()
    jobs = ingestion(worker, max_queued=2)
    first = await jobs.submit(source("a"))
    await jobs.submit(source("b"))

    with pytest.raises(QueueFull, match="2 documents wait to be ingested into n"):
        await jobs.submit(source("c"))
    worker.free()
    await jobs.finished(first.id)
    await jobs.submit(source("c"))
    await jobs.stop()


async def test_a_bad_document_fails_alone() -> None:
    """At once, with its reason, which is there after a restart too."""
    worker = Worker(UnreadableDocument("damaged", "the document is damaged")).free()
    jobs = ingestion(worker, at_once=1)
    bad = await jobs.submit(source("bad"))
    good = await jobs.submit(source("good"))

    for _ in range(2):  # while it is waited for, and when it is long over
        with pytest.raises(UnreadableDocument):
            await jobs.finished(bad.id)

    assert (await jobs.finished(good.id)).state is State.DONE
    failed = jobs.job(bad.id)
    assert (failed.state, failed.error, failed.code, failed.attempts) == (
        State.FAILED,
        "the document is damaged",
        "unreadable_document",
        1,
    )
    await jobs.stop()


async def test_what_is_away_is_waited_for() -> None:
    """Whoever waits is told; the job goes on by itself."""
    worker = Worker(Unavailable("the model restarts")).free()
    jobs = ingestion(worker)
    job = await jobs.submit(source("a"))

    with pytest.raises(Unavailable, match="restarts"):
        await jobs.finished(job.id)
    ended = await jobs.ended(job.id)

    assert (ended.state, ended.attempts, ended.error) == (State.DONE, 2, None)
    await jobs.stop()


async def test_an_engine_that_fails_of_a_document_is_not_asked_for_ever() -> None:
    """Three times, then the job has failed."""
    worker = Worker(*[EngineError("it died")] * 10).free()
    jobs = ingestion(worker)
    job = await jobs.submit(source("a"))

    ended = await jobs.ended(job.id)

    assert (ended.state, len(worker.seen)) == (State.FAILED, MAX_ENGINE_FAILURES)
    await jobs.stop()


async def test_an_unforeseen_failure_ends_one_job_only() -> None:
    """Its cause is in the log, not in the answer."""
    jobs = ingestion(Worker(KeyError("secret")).free(), at_once=1)
    first, second = await jobs.submit(source("a")), await jobs.submit(source("b"))

    assert (await jobs.finished(second.id)).state is State.DONE
    assert jobs.job(first.id).error == "internal error"
    await jobs.stop()


async def test_a_cancelled_job_ends() -> None:
    """Whoever waits is told; nothing of it is left in the journal; one being stored is done."""
    worker = Worker()
    jobs = ingestion(worker)
    job = await jobs.submit(source("a"))
    waiting = asyncio.create_task(jobs.finished(job.id))
    await worker.at_work.acquire()

    assert (await jobs.cancel(job.id)).state is State.CANCELLED
    with pytest.raises(InvalidRequest, match="cancelled"):
        await waiting
    assert jobs._journal.waiting() == []
    worker.stage = State.STORING
    late = await jobs.submit(source("b"))
    await worker.at_work.acquire()
    worker.free()
    assert (await jobs.cancel(late.id)).state is State.DONE
    with pytest.raises(UnknownName, match="job not found: nope"):
        await jobs.cancel("nope")
    await jobs.stop()


async def test_what_is_to_be_forgotten_is_kept_until_it_is_deleted(tmp_path: Path) -> None:
    """It is stopped before its document is deleted, and in the journal until that has happened."""
    worker = Worker()
    jobs = ingestion(worker, tmp_path / "jobs")
    job = await jobs.submit(source("a"))
    await worker.at_work.acquire()

    async with jobs.forgotten(job.document_id):
        worker.free()
        assert [one.id for one in Journal(tmp_path / "jobs").waiting()] == [job.id]
    assert jobs.job(job.id).state is State.CANCELLED
    assert Journal(tmp_path / "jobs").waiting() == []
    assert worker.done == []
    await jobs.stop()


async def test_what_could_not_be_deleted_begins_anew() -> None:
    """The document was taken on, and its store refuses to delete it: it is stored after all."""
    worker = Worker()
    jobs = ingestion(worker)
    job = await jobs.submit(source("a", b"kept"))
    await worker.at_work.acquire()

    with pytest.raises(Unavailable, match="the store is away"):
        async with jobs.forgotten(job.document_id):
            raise Unavailable("the store is away")
    worker.free()

    assert (await jobs.ended(job.id)).state is State.DONE
    assert worker.done == [b"kept"]
    await jobs.stop()


async def test_forgetting_a_document_ends_its_jobs() -> None:
    """Those of others go on."""
    worker = Worker()
    jobs = ingestion(worker, at_once=1)
    gone = [await jobs.submit(source("a", data)) for data in (b"1", b"2")]
    kept = await jobs.submit(source("b", b"b"))

    async with jobs.forgotten(gone[0].document_id) as number:
        assert number == 2
    worker.free()
    await jobs.finished(kept.id)

    assert [jobs.job(job.id).state for job in gone] == [State.CANCELLED] * 2
    assert worker.done == [b"b"]
    await jobs.stop()


async def test_versions_are_forgotten_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may die at any moment: no older version may be left to be stored by the next one."""
    jobs = ingestion(Worker(), tmp_path / "jobs", at_once=1)
    versions = [await jobs.submit(source("a", data)) for data in (b"1", b"2", b"3")]
    remove, left = Journal.remove, []

    def removed(journal: Journal, *ids: str) -> None:
        remove(journal, *ids)
        left.append([one.id for one in Journal(tmp_path / "jobs").waiting()])

    monkeypatch.setattr(Journal, "remove", removed)
    async with jobs.forgotten(versions[0].document_id) as number:
        assert number == len(versions)

    assert left
    assert not any(left)
    await jobs.stop()


async def test_what_was_taken_on_is_done_after_a_restart(tmp_path: Path) -> None:
    """In its order, also when nothing was said goodbye to; what is done is not done again."""
    path = tmp_path / "n.jobs"
    worker = Worker()
    jobs = ingestion(worker, path, at_once=1)
    for data in (b"1", b"2", b"3"):
        await jobs.submit(source("a", data))
    await worker.at_work.acquire()
    worker.go.release()
    await worker.at_work.acquire()
    await jobs.stop()

    again = Worker().free()
    resumed = ingestion(again, path)
    await resumed.start()
    found: list[Job] = resumed.jobs()
    for job in found:
        await resumed.finished(job.id)

    assert again.done == [b"2", b"3"]
    assert resumed._journal.waiting() == []
    await resumed.stop()


async def test_a_stop_does_not_pass_for_success() -> None:
    """Whoever waits when the server stops is told that the document is kept."""
    worker = Worker()
    jobs = ingestion(worker)
    job = await jobs.submit(source("a"))
    waiting = asyncio.create_task(jobs.finished(job.id))
    await worker.at_work.acquire()

    await jobs.stop()

    with pytest.raises(Unavailable, match="will be stored"):
        await waiting
