from __future__ import annotations

import pytest
from tests.extract.reading import shown

from arriero.errors import UnreadableDocument
from arriero.extract.docx import read
from arriero.extract.limits import Limits
from arriero.testing.small_docx import docx, paragraph, part, run, style, table, zipped

LIST = '<w:numPr><w:ilvl w:val="{}"/><w:numId w:val="1"/></w:numPr>'


@pytest.mark.parametrize(
    ("body", "blocks"),
    [
        (f"<w:p>{run('one wo')}{run('rd')}</w:p>", ["paragraph: one word"]),
        (
            "<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t>"
            "<w:noBreakHyphen/><w:t>d</w:t><w:softHyphen/><w:t>e</w:t></w:r></w:p>",
            ["paragraph: a\tb\nc-de"],
        ),
        (paragraph("a") + "<w:p/>" + paragraph("b"), ["paragraph: a", "paragraph: b"]),
        (
            paragraph("a", properties=LIST.format(0)) + paragraph("b", properties=LIST.format(1)),
            ["list: - a\n  - b"],
        ),
        (table(("a", "b"), ("c", "d")), ["table: a | b\nc | d"]),
        (table((paragraph("a") + paragraph("b"), ""), ("c", "d")), ["table: a b | \nc | d"]),
        (table((table(("x", "y")) + paragraph("z"), "b")), ["table: x y z | b"]),
        (f"<w:p><w:hyperlink>{run('link')}</w:hyperlink></w:p>", ["paragraph: link"]),
        (f"<w:p><w:ins>{run('new')}</w:ins><w:del>{run('old')}</w:del></w:p>", ["paragraph: new"]),
        (f"<w:p><w:moveFrom>{run('old')}</w:moveFrom>{run('x')}</w:p>", ["paragraph: x"]),
        (f"<w:p>{run('shown')}{run('hidden', properties='<w:vanish/>')}</w:p>", ["paragraph: shown"]),
        ("<w:p>" + run("x", properties='<w:vanish w:val="0"/>') + "</w:p>", ["paragraph: x"]),
        (
            f"<w:p>{run('around')}<w:r><mc:AlternateContent><mc:Choice><w:txbxContent>{paragraph('box')}"
            f"</w:txbxContent></mc:Choice><mc:Fallback><w:txbxContent>{paragraph('box')}</w:txbxContent>"
            "</mc:Fallback></mc:AlternateContent></w:r></w:p>",
            ["paragraph: box", "paragraph: around"],
        ),
        (f"<w:sdt><w:sdtContent>{paragraph('inside')}</w:sdtContent></w:sdt>", ["paragraph: inside"]),
        (
            paragraph("x", properties='<w:pPrChange><w:pPr><w:pStyle w:val="h"/></w:pPr></w:pPrChange>'),
            ["paragraph: x"],
        ),
        (paragraph("x", properties='<w:outlineLvl w:val="2"/>'), ["heading3: x"]),
        (paragraph("x", style="h", properties='<w:outlineLvl w:val="9"/>'), ["paragraph: x"]),
        (paragraph("x", properties='<w:outlineLvl w:val="10"/>'), ["paragraph: x"]),
    ],
)
def test_the_body(body: str, blocks: list[str]) -> None:
    """Words are whole, in reading order, once; deleted and hidden text is not there."""
    assert shown(read(docx(body, styles=style("h", "heading 1")), Limits())) == blocks


@pytest.mark.parametrize(
    ("styles", "kind"),
    [
        (style("x", "heading 2"), "heading2"),
        (style("x", "Heading 2"), "heading2"),
        (style("x", "Überschrift 3"), "heading3"),
        (style("x", "Mine", properties='<w:outlineLvl w:val="1"/>'), "heading2"),
        (style("x", "Mine", based_on="y") + style("y", "heading 4"), "heading4"),
        (style("x", "Mine", based_on="x"), "paragraph"),
        (style("x", "Body", properties='<w:outlineLvl w:val="9"/>'), "paragraph"),
        (style("x", "Title"), "heading1"),
        (style("x", "List Bullet"), "list"),
        (style("x", "headings 2 and more"), "paragraph"),
    ],
)
def test_styles_say_what_a_paragraph_is(styles: str, kind: str) -> None:
    """By outline level, own or inherited, else by name, translated or not."""
    (block,) = shown(read(docx(paragraph("text", style="x"), styles=styles), Limits()))

    assert block.partition(":")[0] == kind


def test_a_heading_id_without_styles_is_one() -> None:
    """Small writers name a style that they never define."""
    assert shown(read(docx(paragraph("text", style="Heading2")), Limits())) == ["heading2: text"]


def test_notes_come_last_and_the_title_from_the_properties() -> None:
    """Footnotes follow the body."""
    document = read(docx(paragraph("text"), notes=paragraph("note"), title="Its title"), Limits())

    assert shown(document) == ["paragraph: text", "paragraph: note"]
    assert document.title == "Its title"


def test_the_newer_namespace_is_read_as_well() -> None:
    """Word can save "Strict Open XML"."""
    body = part("document", f"<w:body>{paragraph('strict')}</w:body>")
    strict = body.replace(
        "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "http://purl.oclc.org/ooxml/wordprocessingml/main",
    )

    assert read(docx("", more={"word/document.xml": strict}), Limits()).text == "strict"


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(depth=3), "depth"),
        (Limits(decompressed_bytes=100), "decompressed_bytes"),
        (Limits(archive_members=1), "archive_members"),
        (Limits(archive_members=2), "archive_members"),
        (Limits(text_chars=3), "text_chars"),
    ],
)
def test_limits_are_named(limits: Limits, limit: str) -> None:
    """A document over a limit is refused with the limit's name."""
    with pytest.raises(UnreadableDocument, match=limit) as caught:
        read(docx(paragraph("text")), limits)

    assert caught.value.limit == limit


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (zipped({"xl/workbook.xml": ""}), "unsupported", "XLSX"),
        (zipped({"ppt/presentation.xml": ""}), "unsupported", "PPTX"),
        (zipped({"a": ""}), "unsupported", "an archive"),
        (docx("<w:p>", more={"word/document.xml": "<a>"}), "damaged", "XML"),
        (docx("", more={"word/document.xml": "<!DOCTYPE a><a/>"}), "damaged", "DTD"),
        (docx(paragraph("x"))[:-9], "damaged", "end is missing"),
        (docx(""), "empty", "no text"),
    ],
)
def test_what_cannot_be_read_is_told(data: bytes, reason: str, words: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(UnreadableDocument, match=words) as caught:
        read(data, Limits())

    assert caught.value.reason == reason
