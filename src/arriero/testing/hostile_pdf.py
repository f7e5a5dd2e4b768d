"""Hostile PDFs: structures that loop and nest, streams that swell, files that are cut and changed."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from functools import partial

from arriero.testing.hostile_documents import Hostile, Make, flipped, truncated
from arriero.testing.small_pdf import Entry, Text, assembled, column, packed_stream, page_object, pdf, stream

FILE = "document.pdf"
MIB = 1024 * 1024
_CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
_ONE_PAGE = b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>"
_TEXT = b"BT /F1 10 Tf 72 700 Td (text) Tj ET\n"


def documents() -> Iterator[Hostile]:
    """Yield all of them."""
    for makers in (_trees(), _streams(), _objects(), _files()):
        yield from (Hostile(f"pdf: {name}", FILE, make) for name, make in makers)
    yield from truncated("pdf", FILE, good, 20)
    yield from flipped("pdf", FILE, good, 40)


def good() -> bytes:
    """Return a document of some pages, the seed of the damaged ones."""
    lines = column([f"Line {line} of some text." for line in range(40)])
    pages = [[Text(72, 740, f"Heading {number}", 18), *lines] for number in range(6)]
    return pdf(pages, title="Good", outline=[Entry(f"Heading {n}", n) for n in range(6)])


def page_of(content: bytes, *, more: dict[int, bytes] | None = None, resources: bytes = b"") -> bytes:
    """Return a PDF with one page: `content` is the object of its stream, `resources` are added to its own."""
    page = page_object(4).replace(b"/Resources <<", b"/Resources << " + resources)
    return assembled({1: _CATALOG, 2: _ONE_PAGE, 3: page, 4: content} | (more or {}))


def swollen(size: int) -> bytes:
    """Return a page whose content unpacks to `size` bytes."""
    packer = zlib.compressobj(1)
    packed = packer.compress(_TEXT)
    packed += b"".join(packer.compress(b" " * MIB) for _ in range(size // MIB)) + packer.flush()
    return page_of(packed_stream(packed, b"/Filter /FlateDecode "))


def _trees() -> Iterator[tuple[str, Make]]:
    page = page_object(4)
    for name, pages in {
        "a page tree that is its own child": b"<< /Type /Pages /Count 2 /Kids [2 0 R 3 0 R] >>",
        "a page tree of nothing but itself": b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>",
        "a billion pages promised": b"<< /Type /Pages /Count 1000000000 /Kids [3 0 R] >>",
        "fewer pages than none": b"<< /Type /Pages /Count -5 /Kids [3 0 R] >>",
        "no kids": b"<< /Type /Pages /Count 1 >>",
        "kids that are numbers": b"<< /Type /Pages /Count 3 /Kids [1 2 3] >>",
        "a page that is not there": b"<< /Type /Pages /Count 1 /Kids [99 0 R] >>",
    }.items():
        yield name, partial(assembled, {1: _CATALOG, 2: pages, 3: page, 4: stream(_TEXT)})
    yield (
        "two page trees in each other",
        lambda: assembled(
            {
                1: _CATALOG,
                2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
                3: b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>",
            }
        ),
    )
    yield (
        "a page tree 50,000 deep",
        lambda: assembled(
            {1: _CATALOG}
            | {n: b"<< /Type /Pages /Count 1 /Kids [%d 0 R] >>" % (n + 1) for n in range(2, 50_000)}
        ),
    )
    yield "10,000 pages", lambda: pdf([[Text(72, 700, f"page {n}")] for n in range(10_000)])
    yield "4,000 pages", lambda: pdf([[Text(72, 700, f"page {n}")] for n in range(4_000)])
    yield (
        "300,000 references to one page",
        lambda: assembled(
            {
                1: _CATALOG,
                2: b"<< /Type /Pages /Count 300000 /Kids [" + b"3 0 R " * 300_000 + b"] >>",
                3: page,
                4: stream(_TEXT),
            }
        ),
    )
    yield (
        "an outline that loops",
        lambda: pdf([[Text(72, 700, "text")]], outline=[Entry("a", 0), Entry("b", 0)]).replace(
            b"/Prev 4 0 R", b"/Next 4 0 R"
        ),
    )
    yield (
        "an outline of 30,000 entries",
        lambda: pdf([column(["a line"] * 50)], outline=[Entry(f"entry {n}", 0) for n in range(30_000)]),
    )


def _streams() -> Iterator[tuple[str, Make]]:
    for size in (10, 100, 1024):
        yield f"{size} MB in one stream", partial(swollen, size * MIB)
    yield "a stream packed ten times", lambda: page_of(_packed_often(10))
    yield "a stream packed a thousand times", lambda: page_of(_packed_often(1_000))
    yield (
        "hexadecimal fifty times",
        lambda: page_of(
            packed_stream(_TEXT.hex().encode() + b">", b"/Filter [%s] " % (b"/ASCIIHexDecode " * 50))
        ),
    )
    yield (
        "base 85 a hundred times",
        lambda: page_of(
            packed_stream(base64.a85encode(_TEXT) + b"~>", b"/Filter [%s] " % (b"/ASCII85Decode " * 100))
        ),
    )
    for name in (
        "LZWDecode",
        "RunLengthDecode",
        "JBIG2Decode",
        "JPXDecode",
        "CCITTFaxDecode",
        "DCTDecode",
        "Crypt",
    ):
        yield (
            f"noise for {name}",
            partial(page_of, packed_stream(bytes(range(256)) * 99, b"/Filter /%s " % name.encode())),
        )
    yield (
        "a predictor of a million columns",
        lambda: page_of(
            stream(_TEXT, extra=b"/DecodeParms << /Predictor 15 /Columns 1000000000 /Colors 99 >> ")
        ),
    )
    yield "a length that is itself", lambda: page_of(b"<< /Length 4 0 R >>\nstream\n" + _TEXT + b"endstream")
    yield "a length below nothing", lambda: page_of(b"<< /Length -9 >>\nstream\n" + _TEXT + b"endstream")
    yield "a length of gigabytes", lambda: page_of(b"<< /Length 4000000000 >>\nstream\n" + _TEXT)
    yield "300,000 texts at one place", lambda: page_of(stream(_TEXT * 300_000))
    yield (
        "300,000 texts at random places",
        lambda: page_of(
            stream(b"".join(b"BT /F1 9 Tf %d %d Td (x) Tj ET\n" % (n % 599, n % 787) for n in range(300_000)))
        ),
    )
    yield "a million saved states", lambda: page_of(stream(b"q " * 1_000_000 + _TEXT))
    yield (
        "text of 10 MB in one string",
        lambda: page_of(stream(b"BT /F1 10 Tf 72 700 Td (" + b"word " * (2 * MIB) + b") Tj ET")),
    )
    yield (
        "type of every size",
        lambda: page_of(
            stream(b"".join(b"BT /F1 %d Tf 9 %d Td (size) Tj ET\n" % (10**n, n) for n in range(1, 30)))
        ),
    )
    yield "numbers beyond all bounds", lambda: page_of(stream(b"BT /F1 1e99 Tf -1e99 9e999 Td (x) Tj ET"))
    yield "an image in the text that never ends", lambda: page_of(stream(b"BI /W 9 /H 9 ID " + b"x" * MIB))


def _packed_often(times: int) -> bytes:
    packed = _TEXT
    for _ in range(times):
        packed = zlib.compress(packed)
    return packed_stream(packed, b"/Filter [%s] " % (b"/FlateDecode " * times))


def _objects() -> Iterator[tuple[str, Make]]:
    yield "an array 200,000 deep", lambda: page_of(stream(_TEXT), more={5: b"[" * 200_000 + b"]" * 200_000})
    yield (
        "an array 200,000 deep in the page",
        lambda: page_of(stream(_TEXT), resources=b"/X " + b"[" * 200_000),
    )
    yield "an array 200,000 deep in the text", lambda: page_of(stream(b"[" * 200_000 + _TEXT))
    yield "dictionaries 100,000 deep", lambda: page_of(stream(_TEXT), more={5: b"<</A " * 100_000})
    yield "forms in forms, 12 to the 12th", lambda: _forms(12, 12)
    yield "forms in forms, 40 to the 2nd", lambda: _forms(40, 2)
    yield (
        "a form in itself",
        lambda: page_of(
            stream(b"/F5 Do\n" + _TEXT), resources=b"/XObject << /F5 5 0 R >> ", more={5: _form(5, 1)}
        ),
    )
    yield "content that is its own array", lambda: page_of(b"[4 0 R 4 0 R]")
    yield (
        "content of 100,000 pieces",
        lambda: page_of(b"[" + b"5 0 R " * 100_000 + b"]", more={5: stream(_TEXT)}),
    )
    yield "a font that is the page", lambda: page_of(stream(_TEXT), resources=b"/Font << /F1 3 0 R >> ")
    yield (
        "an object stream that holds itself",
        lambda: page_of(
            stream(_TEXT),
            more={5: stream(b"5 0 << >>", extra=b"/Type /ObjStm /N 1 /First 4 /Extends 5 0 R ")},
        ),
    )
    yield (
        "a map of signs of 10 MB",
        lambda: page_of(
            stream(_TEXT.replace(b"/F1", b"/G1")),
            resources=b"/X 1 ",
            more={5: stream(b"1 beginbfrange <00> <ff> <0041> endbfrange " * 200_000)},
        ).replace(b"/Encoding /WinAnsiEncoding", b"/ToUnicode 5 0 R /Enc /WinA", 1),
    )
    yield (
        "scripts, programs and files inside",
        lambda: assembled(
            {
                1: b"<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /Launch /F (/bin/sh) >>"
                b" /AA << /O << /S /JavaScript /JS (while(1){}) >> >>"
                b" /URI << /Base (http://127.0.0.1:9/) >> >>",
                2: _ONE_PAGE,
                3: page_object(4),
                4: stream(_TEXT),
            }
        ),
    )
    yield (
        "only an image",
        lambda: page_of(
            stream(b"612 0 0 792 0 0 cm /I5 Do"),
            resources=b"/XObject << /I5 5 0 R >> ",
            more={
                5: stream(
                    bytes(64),
                    extra=_image(8),
                )
            },
        ),
    )
    yield (
        "an image of a billion pixels",
        lambda: page_of(
            stream(b"/I5 Do\n" + _TEXT),
            resources=b"/XObject << /I5 5 0 R >> ",
            more={
                5: stream(
                    b"",
                    extra=_image(99_999),
                )
            },
        ),
    )


def _image(size: int) -> bytes:
    said = b"/Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8 "
    return said % (size, size)


def _forms(width: int, depth: int) -> bytes:
    forms = {5 + level: _form(6 + level, width) for level in range(depth)}
    return page_of(
        stream(b"/F5 Do\n" + _TEXT),
        resources=b"/XObject << /F5 5 0 R >> ",
        more=forms | {5 + depth: _form(0, 0)},
    )


def _form(inner: int, width: int) -> bytes:
    entries = (
        b"/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << /XObject << /F%d %d 0 R >> >> "
    )
    return stream(b"/F%d Do " % inner * width, extra=entries % (inner, inner))


def _files() -> Iterator[tuple[str, Make]]:
    yield "nothing but the first line", lambda: b"%PDF-1.7\n"
    yield "noise after the first line", lambda: b"%PDF-1.7\n" + bytes(range(256)) * 4_000
    yield (
        "encrypted",
        lambda: assembled(
            {1: _CATALOG, 2: _ONE_PAGE, 3: page_object(4), 4: stream(_TEXT)},
            trailer=b" /ID [<00><00>] /Encrypt << /Filter /Standard /V 2 /R 3 /Length 128 /P -4"
            b" /O <%s> /U <%s> >>" % (b"11" * 32, b"22" * 32),
        ),
    )
    yield (
        "an unknown encryption",
        lambda: assembled(
            {1: _CATALOG, 2: _ONE_PAGE, 3: page_object(4), 4: stream(_TEXT)},
            trailer=b" /Encrypt << /Filter /Nobody /V 99 >>",
        ),
    )
    yield "a table of objects that leads back to itself", lambda: good().replace(b"/Root", b"/Prev 15 /Root")
    yield "a start beyond the end", lambda: good().replace(b"startxref\n", b"startxref\n99999999")
    yield "a table of a billion objects", lambda: good().replace(b"xref\n0 ", b"xref\n0 1000000000")
    yield "no table", lambda: good().partition(b"xref\n0")[0]
    yield "no catalog", lambda: good().replace(b"/Root 1 0 R", b"/Root 99 0 R")
    yield "a hundred ends", lambda: good() + good()[-200:] * 100
    yield "after a page of HTML", lambda: b"<html>hello</html>" + good()
    yield "after a kilobyte of noise", lambda: b"\x00noise" * 200 + good()
    yield "and an archive", lambda: good() + b"PK\x05\x06" + bytes(18)
