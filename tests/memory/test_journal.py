"""The documents that were taken on, on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.errors import Unavailable
from arriero.memory.job import Job, Source, State
from arriero.memory.journal import FAILED_KEPT, Journal


def job(id: str) -> Job:
    """Return a job."""
    return Job(id=id, document_id="d" + id, name=id, size=3, created_at=1.0)


SOURCE = Source(name="a", data=b"\x00\xffx", media_type="text/plain", title="T", attributes={"k": 1.5})


def test_what_was_added_is_there_after_opening_again(tmp_path: Path) -> None:
    """Jobs in their order, with the whole source, until they are removed."""
    path = tmp_path / "deep" / "m.jobs"
    first = Journal(path)
    for id in "bca":
        first.add(job(id), SOURCE)
    first.remove("c")
    first.close()

    again = Journal(path)

    assert again.waiting() == [job("b"), job("a")]
    assert again.source("b") == SOURCE
    again.close()


def test_a_failed_job_leaves_its_reason(tmp_path: Path) -> None:
    """Its bytes go; the newest failures are kept."""
    journal = Journal(tmp_path / "m.jobs")
    for number in range(FAILED_KEPT + 2):
        if number < 2:
            journal.add(job(str(number)), SOURCE)
        journal.fail(Job(**{**_fields(job(str(number))), "state": State.FAILED, "error": "why"}))

    failed = journal.failed()

    assert journal.waiting() == []
    assert len(failed) == FAILED_KEPT
    assert (failed[0].id, failed[-1].id, failed[-1].error) == ("2", str(FAILED_KEPT + 1), "why")
    journal.close()


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    """With the name of the file."""
    (tmp_path / "m.jobs").write_bytes(b"something else" * 100)

    with pytest.raises(Unavailable, match=r"m\.jobs"):
        Journal(tmp_path / "m.jobs")


def _fields(job: Job) -> dict[str, object]:
    return {name: getattr(job, name) for name in job.__struct_fields__}
