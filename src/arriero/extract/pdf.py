"""Reads PDF with pdfium: the lines of each page with their places, the outline, the title.

The file that touches pypdfium2. What the lines mean is for `pdf_layout.py` to say.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import re
from typing import TYPE_CHECKING

import pypdfium2
import pypdfium2.raw as pdfium

from arriero.errors import UnreadableDocument
from arriero.extract.detect import Format
from arriero.extract.limits import damaged, limit_hit
from arriero.extract.pdf_layout import Line, Page, Section, title, write
from arriero.extract.writer import Writer

if TYPE_CHECKING:
    from arriero.extract.document import Document
    from arriero.extract.limits import Limits

MAX_SECTIONS = 20_000
_FIXED_PITCH = 1
_FIXED_NAMES = re.compile(rb"courier|mono|consol|typewriter|cmtt|fixed", re.IGNORECASE)
_NO_TITLES = re.compile(
    r"\s*(?:untitled|document|title|no title|microsoft word.*"
    r"|.*\.(?:docx?|tex|dvi|indd|qxd|pdf|ps|odt|rtf|html?))?\s*",
    re.IGNORECASE,
)


def read(data: bytes, limits: Limits) -> Document:
    """Return the document. Raises UnreadableDocument; pdfium itself may end the process."""
    with _opened(data) as pdf:
        count = len(pdf)
        if count > limits.pages:
            raise limit_hit("pages", f"the PDF has {count} pages, which is more than {limits.pages}")
        if count == 0:
            raise damaged("the PDF has no page that can be read")
        pages = _pages(pdf, count, limits)
        if not any(page.lines for page in pages):
            raise _without_text(pdf)
        writer = Writer(limits)
        write(pages, _sections(pdf), writer)
        return writer.document(_title(pdf) or title(pages), Format.PDF.value)


def _opened(data: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as exc:
        if exc.err_code in {pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY}:
            raise encrypted() from exc
        raise damaged("the PDF is damaged: it has no structure that can be followed") from exc


def encrypted() -> UnreadableDocument:
    """Return the error of a PDF with a password."""
    return UnreadableDocument("encrypted", "the PDF is encrypted; remove its password first")


def _without_text(pdf: pypdfium2.PdfDocument) -> UnreadableDocument:
    for number in range(min(len(pdf), 20)):
        try:
            if next(pdf[number].get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=3), None):
                words = "the PDF holds images of pages, but no text; run text recognition (OCR) on it first"
                return UnreadableDocument("no_text", words)
        except pypdfium2.PdfiumError:
            continue
    return UnreadableDocument("empty", "the PDF holds no text")


def _pages(pdf: pypdfium2.PdfDocument, count: int, limits: Limits) -> list[Page]:
    reader = _PageReader(limits)
    pages: list[Page] = []
    unreadable = 0
    for number in range(count):
        try:
            pages.append(reader.page(pdf, number))
        except pypdfium2.PdfiumError:
            unreadable += 1
            pages.append(Page(0.0, []))
    if unreadable == count:
        raise damaged("the PDF is damaged: none of its pages can be read")
    return pages


class _PageReader:
    """Reads the lines of pages. Owns the buffers that pdfium writes into."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._chars = 0
        self._box = pdfium.FS_RECTF()
        self._flags = ctypes.c_int()
        self._name = ctypes.create_string_buffer(64)

    def page(self, pdf: pypdfium2.PdfDocument, number: int) -> Page:
        """Return the lines of one page, in the order in which its text runs."""
        page = pdf[number]
        text_page = page.get_textpage()
        try:
            return Page(page.get_height(), self._lines(text_page, number + 1))
        finally:
            text_page.close()
            page.close()

    def _lines(self, text_page: pypdfium2.PdfTextPage, number: int) -> list[Line]:
        text = _text(text_page)
        self._chars += len(text)
        if self._chars > self._limits.text_chars:
            raise limit_hit("text_chars", f"the text is longer than {self._limits.text_chars} characters")
        lines = []
        start = 0
        for line in text.split("\r\n"):
            end = start + _units(line)
            if words := line.strip():
                first = end - _units(line.lstrip())
                lines.append(self._line(text_page, words, first, first + _units(words) - 1, number))
            start = end + 2
        return lines

    def _line(self, text_page: pypdfium2.PdfTextPage, text: str, first: int, last: int, number: int) -> Line:
        begin = pdfium.FPDFText_GetCharIndexFromTextIndex(text_page, first)
        end = pdfium.FPDFText_GetCharIndexFromTextIndex(text_page, last)
        box = self._box
        pdfium.FPDFText_GetLooseCharBox(text_page, begin, box)
        x, y, height = box.left, box.bottom, box.top - box.bottom
        pdfium.FPDFText_GetLooseCharBox(text_page, end, box)
        fixed = self._is_fixed(text_page, begin) and self._is_fixed(text_page, end)
        return Line(text, x, y, box.right, box.bottom, max(height, 1.0), fixed, number)

    def _is_fixed(self, text_page: pypdfium2.PdfTextPage, position: int) -> bool:
        """Say whether a sign is set in type of fixed width."""
        length = pdfium.FPDFText_GetFontInfo(text_page, position, self._name, len(self._name), self._flags)
        if not length:
            return False
        # A name that is longer than the buffer is not written to it.
        name = self._name.value if length <= len(self._name) else b""
        return bool(self._flags.value & _FIXED_PITCH or _FIXED_NAMES.search(name))


def _text(text_page: pypdfium2.PdfTextPage) -> str:
    """Return the text of a page; lines end with CR LF."""
    count = text_page.count_chars()
    if count <= 0:
        return ""
    buffer = (ctypes.c_ushort * (count + 1))()
    written = pdfium.FPDFText_GetText(text_page, 0, count, buffer)
    return bytes(memoryview(buffer).cast("B")[: 2 * max(0, written - 1)]).decode("utf-16-le", "replace")


def _units(text: str) -> int:
    """Return the length of a text as pdfium counts it, in units of UTF-16."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def _sections(pdf: pypdfium2.PdfDocument) -> list[Section]:
    sections = []
    for entry in itertools.islice(pdf.get_toc(max_depth=8), MAX_SECTIONS):
        destination = entry.get_dest()
        page = destination.get_index() if destination else None
        if page is not None:
            with contextlib.suppress(UnicodeDecodeError):
                sections.append(Section(entry.get_title(), entry.level + 1, page + 1))
    return sections


def _title(pdf: pypdfium2.PdfDocument) -> str | None:
    try:
        said = pdf.get_metadata_value("Title")
    except UnicodeDecodeError:
        return None
    return None if _NO_TITLES.fullmatch(said) else said
