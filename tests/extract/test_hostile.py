"""Hostile documents end within limits, with text or a clear error, and nothing else notices."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import pytest

from arriero.errors import UnreadableDocument
from arriero.extract.extract import extract
from arriero.extract.limits import Limits
from arriero.testing.hostile_documents import Hostile, hostile_documents
from arriero.testing.processes import children, resident_mb

REASONS = {"unsupported", "encrypted", "damaged", "empty", "no_text", "limit"}
FEWEST = 200
GROWTH_MB = 30.0
LONGEST_MESSAGE = 300
SLOW = (
    "1500 MB|1 GB|100 MB|40 MB|1024 MB|million|00,000|12 to the 12th|50,000|10 MB|15 MB|30,000|60,000|4,000"
)
ALL = list(hostile_documents())
QUICK = [document for document in ALL if not any(word in document.name for word in SLOW.split("|"))][::24]


async def outcome(document: Hostile) -> str:
    """Return how reading ended, in a word; raise what must never be raised."""
    try:
        read = await extract(document.make(), name=document.file)
    except UnreadableDocument as exc:
        return checked(exc)
    assert read.text.encode()
    assert all(0 <= block.start < block.end <= len(read.text) for block in read.blocks)
    return "ok"


def checked(error: UnreadableDocument) -> str:
    assert error.reason in REASONS
    assert (error.limit in Limits.__struct_fields__) == (error.reason == "limit")
    assert len(error.message) < LONGEST_MESSAGE
    return error.limit or error.reason


async def read_all(documents: Sequence[Hostile]) -> dict[str, str]:
    for document in documents:
        document.make()  # which leaves holes in this process's memory that reading is not to blame for
    await outcome(documents[0])
    others = children()
    gc.collect()
    before = resident_mb()
    outcomes = {document.name: await outcome(document) for document in documents}
    gc.collect()

    assert children() == others
    assert resident_mb() - before < GROWTH_MB
    return outcomes


def test_the_collection_is_large() -> None:
    """At least as many documents as promised, each with a name of its own."""
    assert len({document.name for document in ALL}) == len(ALL) >= FEWEST


async def test_some_hostile_documents_do_no_harm() -> None:
    """A sample: every one ends in text or in a clear error, and leaves nothing."""
    outcomes = await read_all(QUICK)

    assert set(outcomes.values()) >= {"ok", "damaged", "unsupported"}


@pytest.mark.slow
async def test_no_hostile_document_does_harm() -> None:
    """The whole collection."""
    outcomes = await read_all(ALL)

    assert outcomes["docx: 1500 MB of text in one member"] == "decompressed_bytes"
    assert outcomes["docx: a billion laughs"] == "damaged"
    assert outcomes["docx: 20,000 tables deep"] == "depth"
    assert outcomes["pdf: 10,000 pages"] == "pages"
    assert outcomes["pdf: a page tree that is its own child"] in {"ok", "damaged"}
