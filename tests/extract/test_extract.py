from __future__ import annotations

import asyncio
import sys

import pytest

from arriero.errors import Unavailable, UnreadableDocument
from arriero.extract.extract import extract
from arriero.extract.limits import Limits
from arriero.testing import hostile_pdf
from arriero.testing.processes import children
from arriero.testing.small_docx import docx, paragraph
from arriero.testing.small_pdf import Text, pdf


def hostile(name: str) -> bytes:
    return next(document.make() for document in hostile_pdf.documents() if document.name == name)


@pytest.mark.parametrize(
    ("data", "name", "media_type", "text"),
    [
        (b"plain", "", None, "plain"),
        ("día".encode("latin-1"), "a.txt", "text/plain; charset=latin-1", "día"),
        (b"# Marked", "a.md", None, "Marked"),
        (b"<html><p>Web</p>", "", None, "Web"),
        (docx(paragraph("Word")), "", None, "Word"),
        (pdf([[Text(72, 700, "Pages")]]), "", None, "Pages"),
    ],
)
async def test_documents_of_all_formats_are_read(
    data: bytes, name: str, media_type: str | None, text: str
) -> None:
    """What a child of its own reads arrives whole, and nothing of the child is left."""
    others = children()
    assert (await extract(data, name=name, media_type=media_type)).text == text
    assert children() == others


async def test_a_large_document_passes_the_pipes() -> None:
    """Neither side waits for the other."""
    data = b"A line of text.\n" * 400_000

    assert (await extract(data)).text == data.decode()


@pytest.mark.parametrize(
    ("data", "limits", "limit"),
    [
        (b"12345", Limits(input_bytes=4), "input_bytes"),
        (b"12345", Limits(text_chars=4), "text_chars"),
        (pdf([[], []]), Limits(pages=1), "pages"),
        (b"12345", Limits(wall_s=0.001), "wall_s"),
    ],
)
async def test_a_document_over_a_limit_is_refused_with_its_name(
    data: bytes, limits: Limits, limit: str
) -> None:
    """The error names the limit, and the child is gone."""
    others = children()
    with pytest.raises(UnreadableDocument, match=limit) as caught:
        await extract(data, limits=limits)

    assert (caught.value.reason, caught.value.limit) == ("limit", limit)
    assert children() == others


async def test_a_pdf_that_kills_its_reader_is_given_to_the_second() -> None:
    """What pdfium dies of, pypdf may still read, or else tell what is wrong with it."""
    data = hostile_pdf.swollen(150 * 1024 * 1024)

    with pytest.raises(UnreadableDocument) as caught:
        await extract(data, limits=Limits(memory_bytes=250 * 1024 * 1024))
    assert caught.value.limit == "decompressed_bytes"


async def test_a_damaged_pdf_may_be_read_by_the_second_reader() -> None:
    """Without a catalog pdfium gives up; pypdf finds the pages."""
    document = await extract(hostile("pdf: no catalog"))

    assert "Line 39 of some text." in document.text


async def test_a_cancelled_call_leaves_no_process() -> None:
    """The child is killed and waited for."""
    others = children()
    job = asyncio.create_task(extract(b"text " * 1_000_000))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(job), 0.05)
    started = children()
    job.cancel()

    with pytest.raises(asyncio.CancelledError):
        await job
    assert len(started) > len(others)
    assert children() == others


async def test_documents_are_read_side_by_side() -> None:
    """Each has its own child; one that fails does not touch the others."""
    good, bad = docx(paragraph("good")), b"\0bad"
    answers = await asyncio.gather(*(extract(data) for data in (good, bad, good)), return_exceptions=True)

    assert [getattr(answer, "text", type(answer)) for answer in answers] == [
        "good",
        UnreadableDocument,
        "good",
    ]


async def test_a_child_that_cannot_start_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller may try again later."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    with pytest.raises(Unavailable, match="no process can be started"):
        await extract(b"text")
