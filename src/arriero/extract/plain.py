"""Bytes to text, and plain text to its paragraphs. Pure.

Plain text, CSV and JSON are kept letter by letter, but for ends of lines; blocks only say where parts
stand.
"""

from __future__ import annotations

import codecs
import re

from arriero.errors import UnreadableDocument
from arriero.extract.detect import Format, unsupported
from arriero.extract.document import Block, Document, Kind
from arriero.extract.limits import Limits, damaged, limit_hit

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Python knows codecs that are no charsets, some of them slow on purpose-made input.
_CHARSETS = re.compile(
    r"utf-?8|utf-?16(-?[lb]e)?|utf-?32(-?[lb]e)?|(us-)?ascii|iso-?8859-?\d{1,2}|latin-?[1-9]|windows-?\d{3,4}"
    r"|cp\d{3,4}|koi8-[ru]|shift[-_]jis|euc-(jp|kr)|iso-2022-(jp|kr)|gbk|gb2312|gb18030|big5|mac-?roman|tis-620"
)
_CONTROLS = re.compile("[\x01-\x08\x0e-\x1a\x1c-\x1f]")
_CONTROLS_SHARE = 0.02
_PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")
_KINDS = {Format.CSV: Kind.TABLE, Format.JSON: Kind.CODE}


def read(data: bytes, form: Format, charset: str | None, limits: Limits) -> Document:
    """Return plain text, CSV or JSON as a document. Raises UnreadableDocument."""
    text = decode(data, charset)
    _check(text, limits)
    kind = _KINDS.get(form)
    spans = [(0, len(text))] if kind else [match.span() for match in _PARAGRAPH.finditer(text)]
    if len(spans) > limits.blocks:
        raise limit_hit("blocks", f"the document has more than {limits.blocks} paragraphs")
    blocks = tuple(Block(kind or Kind.PARAGRAPH, start, end) for start, end in spans)
    return Document(text, None, form.value, blocks)


def decode(data: bytes, charset: str | None, *, errors: str = "strict") -> str:
    """Return the text: by its byte order mark, the charset that is declared, UTF-8, Windows-1252.

    Ends of lines become newlines. Raises UnreadableDocument for what cannot be text.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _normal(_decoded(data[len(mark) :], name, errors))
    if charset and _CHARSETS.fullmatch(charset):
        return _normal(_decoded(data, charset, errors))
    try:
        return _normal(data.decode())
    except UnicodeDecodeError:
        return _normal(data.decode("cp1252", "replace"))


def _decoded(data: bytes, charset: str, errors: str) -> str:
    try:
        return data.decode(charset, errors)
    except LookupError:
        return data.decode("utf-8", "replace")
    except UnicodeDecodeError as exc:
        raise damaged(f"the document is not valid {charset}: byte {exc.start} breaks its rules") from exc


def _normal(text: str) -> str:
    if "\0" in text:
        raise unsupported("binary data: it holds NUL characters")
    if len(_CONTROLS.findall(text)) > _CONTROLS_SHARE * len(text):
        raise unsupported("binary data: it is full of control characters")
    text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    return _CONTROLS.sub("", text)


def _check(text: str, limits: Limits) -> None:
    if not text.strip():
        raise UnreadableDocument("empty", "the document holds no text")
    if len(text) > limits.text_chars:
        raise limit_hit("text_chars", f"the text is longer than {limits.text_chars} characters")
