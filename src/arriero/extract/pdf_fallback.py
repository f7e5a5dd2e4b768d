"""Reads PDF with pypdf, slowly, where pdfium could not. It knows no places, so there are no headings."""

from __future__ import annotations

import io
import re

import pypdf
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, PyPdfError

from arriero.errors import UnreadableDocument
from arriero.extract.detect import Format
from arriero.extract.document import Document, Kind
from arriero.extract.limits import Limits, damaged, limit_hit
from arriero.extract.pdf import encrypted
from arriero.extract.words import DIVIDED, WordJoiner
from arriero.extract.writer import Writer

_EMPTY_LINES = re.compile(r"\n\s*\n")
_DIVIDED_AT_END = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[^\W\d_])")


def read(data: bytes, limits: Limits) -> Document:
    """Return the document. Raises UnreadableDocument."""
    try:
        return _read(data, limits)
    except (FileNotDecryptedError, DependencyError) as exc:
        raise encrypted() from exc
    except LimitReachedError as exc:
        raise limit_hit("decompressed_bytes", "the PDF unpacks to more than it may") from exc
    except (PyPdfError, ValueError, KeyError, IndexError, TypeError, AttributeError) as exc:
        raise damaged("the PDF is damaged: its pages cannot be read") from exc


def _read(data: bytes, limits: Limits) -> Document:
    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise encrypted()
    if len(reader.pages) > limits.pages:
        raise limit_hit("pages", f"the PDF has more than {limits.pages} pages")
    writer = Writer(limits)
    for number, page in enumerate(reader.pages, 1):
        text = page.extract_text()
        joiner = WordJoiner(text.splitlines())
        for paragraph in _EMPTY_LINES.split(_DIVIDED_AT_END.sub(DIVIDED, text)):
            writer.block(Kind.PARAGRAPH, joiner.whole(paragraph.strip()), page=number)
    try:
        return writer.document(None, Format.PDF.value)
    except UnreadableDocument as exc:
        raise damaged("the PDF is damaged: no text can be read from it") from exc
