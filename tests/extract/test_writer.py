from __future__ import annotations

import pytest

from arriero.errors import UnreadableDocument
from arriero.extract.document import Kind
from arriero.extract.limits import Limits
from arriero.extract.writer import Writer


def test_a_text_at_its_limit_passes_and_one_beyond_is_refused() -> None:
    """The error names the limit on the characters of a document."""
    writer = Writer(Limits(text_chars=10))
    writer.block(Kind.PARAGRAPH, "a" * 10)
    beyond = Writer(Limits(text_chars=10))

    with pytest.raises(UnreadableDocument, match="text_chars") as caught:
        beyond.block(Kind.PARAGRAPH, "a" * 11)
    assert (caught.value.reason, caught.value.limit) == ("limit", "text_chars")


def test_more_blocks_than_allowed_are_refused() -> None:
    """The error names the limit on blocks."""
    writer = Writer(Limits(blocks=2))
    writer.block(Kind.PARAGRAPH, "a")
    writer.block(Kind.PARAGRAPH, "b")

    with pytest.raises(UnreadableDocument, match="blocks"):
        writer.block(Kind.PARAGRAPH, "c")


def test_a_document_without_text_is_refused() -> None:
    """Blocks of nothing but spaces do not count."""
    writer = Writer(Limits())
    writer.block(Kind.PARAGRAPH, " \n ")
    writer.table([["", " "], []])

    with pytest.raises(UnreadableDocument, match="no text"):
        writer.document(None, "text/plain")


def test_signs_that_cannot_be_stored_go() -> None:
    """Controls, lone surrogates and what Unicode never uses are left out."""
    writer = Writer(Limits())
    writer.block(Kind.PARAGRAPH, "a\x00b\ud800c\ufffed\te")

    assert writer.document(None, "text/plain").text == "abcd\te"


def test_a_heading_too_long_for_one_is_a_paragraph() -> None:
    """A page that is set in headings throughout keeps its text, not its levels."""
    writer = Writer(Limits())
    writer.heading("word " * 100, 1)

    assert writer.document(None, "text/plain").blocks[0].kind is Kind.PARAGRAPH
