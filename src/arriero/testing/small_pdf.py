"""Writes small PDFs: text at places in standard fonts, an outline, a title. Enough for tests; no more."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PAGE_WIDTH, PAGE_HEIGHT = 612, 792
FONTS = {"F1": "Helvetica", "F2": "Courier", "F3": "Times-Roman"}
_OUTLINE = 3


@dataclass(frozen=True)
class Text:
    """One line of text. x, y: points from the bottom left of the page."""

    x: float
    y: float
    text: str
    size: float = 10.0
    font: str = "F1"


@dataclass(frozen=True)
class Entry:
    """An entry of the outline. page: from 0."""

    title: str
    page: int


def column(
    lines: Sequence[str],
    *,
    x: float = 72,
    top: float = 700,
    size: float = 10,
    leading: float = 12,
    font: str = "F1",
) -> list[Text]:
    """Return lines one below the other."""
    return [Text(x, top - leading * number, line, size, font) for number, line in enumerate(lines)]


def pdf(pages: Sequence[Sequence[Text]], *, title: str | None = None, outline: Sequence[Entry] = ()) -> bytes:
    """Return a PDF of these pages."""
    first = _OUTLINE + 1 + len(outline)
    page_ids = [first + 2 * number for number in range(len(pages))]
    objects: dict[int, bytes] = {
        1: b"<< /Type /Catalog /Pages 2 0 R" + (b" /Outlines 3 0 R" if outline else b"") + b" >>",
        2: b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (len(pages), b" ".join(b"%d 0 R" % id for id in page_ids)),
        _OUTLINE: b"<< /Type /Outlines /First 4 0 R /Last %d 0 R >>" % (_OUTLINE + len(outline)),
    }
    for number, entry in enumerate(outline):
        objects[_OUTLINE + 1 + number] = _outline_entry(entry, number, len(outline), page_ids)
    for id, texts in zip(page_ids, pages, strict=True):
        objects[id] = page_object(id + 1)
        objects[id + 1] = stream(b"\n".join(map(_shown, texts)))
    info = b"<< /Title %s >>" % _string(title) if title else None
    return assembled(objects, info=info)


def _outline_entry(entry: Entry, number: int, count: int, page_ids: Sequence[int]) -> bytes:
    before = b"/Prev %d 0 R " % (_OUTLINE + number) if number else b""
    after = b"/Next %d 0 R " % (_OUTLINE + 2 + number) if number + 1 < count else b""
    place = b"/Dest [%d 0 R /Fit] /Parent 3 0 R" % page_ids[entry.page]
    return b"<< /Title %s %s%s%s >>" % (_string(entry.title), before, after, place)


def page_object(content: int) -> bytes:
    """Return a page whose content is the object of this number."""
    fonts = b"".join(map(_font, FONTS))
    place = b"/Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d]" % (PAGE_WIDTH, PAGE_HEIGHT)
    return b"<< %s /Contents %d 0 R /Resources << /Font << %s>> >> >>" % (place, content, fonts)


def _font(key: str) -> bytes:
    name = FONTS[key].encode()
    said = b"/Type /Font /Subtype /Type1 /BaseFont /%s /Encoding /WinAnsiEncoding" % name
    return b"/%s << %s >> " % (key.encode(), said)


def stream(content: bytes, *, extra: bytes = b"") -> bytes:
    """Return a stream object, compressed."""
    packed = zlib.compress(content)
    return packed_stream(packed, b"/Filter /FlateDecode " + extra)


def packed_stream(packed: bytes, entries: bytes) -> bytes:
    """Return a stream object of bytes as they are."""
    return b"<< /Length %d %s>>\nstream\n%s\nendstream" % (len(packed), entries, packed)


def assembled(objects: Mapping[int, bytes], *, info: bytes | None = None, trailer: bytes = b"") -> bytes:
    """Return a file of these objects, by number; object 1 is the catalog."""
    written = dict(objects)
    if info:
        written[max(objects) + 1] = info
        trailer += b" /Info %d 0 R" % max(written)
    parts, offsets, at = [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"], {}, 15
    for number in sorted(written):
        offsets[number] = at
        parts.append(b"%d 0 obj\n%s\nendobj\n" % (number, written[number]))
        at += len(parts[-1])
    table = [
        b"%010d 00000 n \n" % offsets[n] if n in offsets else b"0000000000 65535 f \n"
        for n in range(max(written) + 1)
    ]
    end = b"trailer\n<< /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (max(written) + 1, trailer, at)
    return b"".join([*parts, b"xref\n0 %d\n" % (max(written) + 1), *table, end])


def _shown(text: Text) -> bytes:
    return b"BT /%s %g Tf %g %g Td %s Tj ET" % (
        text.font.encode(),
        text.size,
        text.x,
        text.y,
        _string(text.text),
    )


def _string(text: str) -> bytes:
    escaped = text.encode("cp1252")
    for sign in (b"\\", b"(", b")"):
        escaped = escaped.replace(sign, b"\\" + sign)
    return b"(%s)" % escaped
