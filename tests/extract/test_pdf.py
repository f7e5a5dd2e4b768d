from __future__ import annotations

import pytest
from tests.extract.reading import shown

from arriero.errors import UnreadableDocument
from arriero.extract import pdf_fallback
from arriero.extract.limits import Limits
from arriero.extract.pdf import read
from arriero.testing import hostile_pdf
from arriero.testing.small_pdf import Entry, Text, column, pdf

LINES = [
    "A paragraph of a document is set in several lines that are",
    "full from edge to edge, and a word at the end may be divi-",
    "ded. Its last line is short.",
]
BODY = column(LINES)


def test_lines_become_paragraphs_and_words_are_whole() -> None:
    """A paragraph is one line of text; a divided word is whole again."""
    document = read(pdf([[*BODY, *column(["Another one."], top=640)]]), Limits())

    assert shown(document) == [
        "paragraph: A paragraph of a document is set in several lines that are full from edge to edge,"
        " and a word at the end may be divided. Its last line is short.",
        "paragraph: Another one.",
    ]


def test_columns_are_read_one_after_the_other() -> None:
    """The second column follows the first, and a sentence goes on over its edge."""
    left = column(["Left one is long enough to be a line", "that goes on and"])
    right = column(["ends in the right column. There it", "stops."], x=320)

    (block,) = shown(read(pdf([[*left, *right]]), Limits()))

    assert " ".join(block.split()) == (
        "paragraph: Left one is long enough to be a line that goes on and ends in the right column."
        " There it stops."
    )


def test_larger_type_makes_headings() -> None:
    """The largest is the first level."""
    page = [Text(72, 740, "Chapter", 20), Text(72, 720, "Part", 14), *BODY]

    assert shown(read(pdf([page]), Limits()))[:2] == ["heading1: Chapter", "heading2: Part"]


def test_an_outline_names_the_headings() -> None:
    """Where there is one, it decides, with the page that it names."""
    pages = [[Text(72, 740, "1. First"), *BODY], [Text(72, 740, "2. Second"), *BODY]]
    document = read(pdf(pages, outline=[Entry("First", 0), Entry("Second", 1)]), Limits())

    assert [line for line in shown(document) if line.startswith("heading")] == [
        "heading1: 1. First",
        "heading1: 2. Second",
    ]
    place = document.text.rindex("Its last")
    assert (document.section_at(place), document.page_at(place)) == (("2. Second",), 2)


def test_running_heads_and_page_numbers_go() -> None:
    """What stands at the same edge of most pages, digits aside, is no text of the document."""
    pages = [
        [
            Text(72, 770, "The running head"),
            *column([f"Text of page {n}."], top=600),
            Text(300, 20, f"- {n} -"),
        ]
        for n in range(1, 6)
    ]

    assert shown(read(pdf(pages), Limits())) == [f"paragraph: Text of page {n}." for n in range(1, 6)]


def test_pages_of_nothing_but_edges_keep_their_text() -> None:
    """Where all text would go, none of it is a running head."""
    pages = [[Text(72, 770, f"Card {n}")] for n in range(1, 6)]

    assert read(pdf(pages), Limits()).text.split("\n\n") == [f"Card {n}" for n in range(1, 6)]


def test_a_sentence_goes_on_over_the_end_of_a_page() -> None:
    """Its block belongs to the page on which it begins."""
    document = read(pdf([column(["It begins here and"]), column(["ends there."])]), Limits())

    assert (document.text, document.blocks[0].page) == ("It begins here and ends there.", 1)


def test_a_block_spans_two_pages_at_most() -> None:
    """Else all pages of a slide show without full stops were one block of the first."""
    document = read(pdf([column([f"slide {sign}"]) for sign in "abcd"]), Limits())

    assert [block.page for block in document.blocks] == [1, 3]


def test_tables_keep_their_rows() -> None:
    """Rows with wide gaps are lines of a table."""
    page = column(["Name", "Ann", "Bob"]) + column(["Age", "31", "44"], x=300)
    rows = sorted(page, key=lambda text: -text.y)

    assert shown(read(pdf([rows]), Limits())) == ["table: Name Age\nAnn 31\nBob 44"]


def test_code_and_lists_keep_their_lines() -> None:
    """Type of fixed width is code; an item begins a block."""
    code = column(["if x:", "return y"], top=600, font="F2")
    items = column(["1. the first item", "2. the second"], top=500)

    assert shown(read(pdf([[*BODY, *code, *items]]), Limits()))[1:] == [
        "code: if x:\nreturn y",
        "list: 1. the first item\n2. the second",
    ]


@pytest.mark.parametrize(
    ("title", "read_as"),
    [
        ("A good title", "A good title"),
        ("Microsoft Word - a.doc", "Large"),
        ("thesis.dvi", "Large"),
        (None, "Large"),
    ],
)
def test_the_title(title: str | None, read_as: str) -> None:
    """That of the properties if it is one, else the largest line of the first page."""
    page = [Text(72, 740, "Large", 24), *BODY]

    assert read(pdf([page], title=title), Limits()).title == read_as


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("pdf: only an image", "no_text", "OCR"),
        ("pdf: encrypted", "encrypted", "password"),
        ("pdf: 10,000 pages", "limit", "limit pages"),
        ("pdf: nothing but the first line", "damaged", "damaged"),
    ],
)
def test_what_cannot_be_read_is_told(name: str, reason: str, words: str) -> None:
    """The error says what is wrong, and what to do about it."""
    data = next(hostile.make() for hostile in hostile_pdf.documents() if hostile.name == name)

    with pytest.raises(UnreadableDocument, match=words) as caught:
        read(data, Limits())
    assert caught.value.reason == reason


def test_pages_without_text_are_empty() -> None:
    """A PDF of nothing is not one of images."""
    with pytest.raises(UnreadableDocument, match="no text") as caught:
        read(pdf([[]]), Limits())

    assert caught.value.reason == "empty"


def test_the_second_reader_gives_text_and_pages() -> None:
    """It knows no headings, but words are whole."""
    document = pdf_fallback.read(pdf([BODY, column(["Second page."])]), Limits())

    assert "may be divided. Its" in " ".join(document.text.split())
    assert document.page_at(document.text.index("Second")) == 2
