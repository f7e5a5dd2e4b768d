from __future__ import annotations

import pytest

from arriero.extract.document import Document, Kind
from arriero.extract.limits import Limits
from arriero.extract.writer import Writer


@pytest.fixture
def book() -> Document:
    """Two chapters, the first with a part, over two pages."""
    writer = Writer(Limits())
    writer.block(Kind.PARAGRAPH, "Before.", page=1)
    writer.heading("One", 1, page=1)
    writer.heading("Part", 2, page=1)
    writer.block(Kind.PARAGRAPH, "Inside the part.", page=2)
    writer.heading("Two", 1, page=2)
    writer.block(Kind.PARAGRAPH, "The end.", page=3)
    return writer.document(None, "text/plain")


@pytest.mark.parametrize(
    ("words", "path", "page"),
    [
        ("Before", (), 1),
        ("One", ("One",), 1),
        ("Inside", ("One", "Part"), 2),
        ("Two", ("Two",), 2),
        ("The end", ("Two",), 3),
    ],
)
def test_a_place_knows_its_section_and_page(
    book: Document, words: str, path: tuple[str, ...], page: int
) -> None:
    """The path holds the headings that are open at a place, the outermost first."""
    offset = book.text.index(words)

    assert (book.section_at(offset), book.page_at(offset)) == (path, page)


def test_blocks_cut_the_text_into_its_parts(book: Document) -> None:
    """The blocks, with an empty line between, are the whole text."""
    assert "\n\n".join(book.text[block.start : block.end] for block in book.blocks) == book.text


def test_places_outside_of_a_document_are_none() -> None:
    """A document without blocks has no sections and no pages."""
    empty = Document("", None, "text/plain", ())

    assert (empty.section_at(5), empty.page_at(5)) == ((), None)
