"""Hostile DOCX files: archives that lie and swell, XML that points outside, nests and never ends."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial

from arriero.testing.hostile_documents import Hostile, Make, flipped, truncated
from arriero.testing.small_docx import MC, RELATIONS, W, docx, paragraph, part, run, style, table, zipped

FILE = "document.docx"
MIB = 1024 * 1024
_BODY = "word/document.xml"


def documents() -> Iterator[Hostile]:
    """Yield all of them."""
    yield from (Hostile(f"docx: {name}", FILE, make) for name, make in _archives())
    yield from (Hostile(f"docx: {name}", FILE, make) for name, make in _entities())
    yield from (Hostile(f"docx: {name}", FILE, make) for name, make in _shapes())
    yield from truncated("docx", FILE, good, 15)
    yield from flipped("docx", FILE, good, 30)


def good() -> bytes:
    """Return a document of all that is read, the seed of the damaged ones."""
    body = "".join(paragraph(f"Paragraph {number} of some length.", style="h1") for number in range(40))
    return docx(
        body + table(("a", "b"), ("c", "d")),
        styles=style("h1", "heading 1"),
        notes=paragraph("A note."),
        title="Good",
    )


def _archives() -> Iterator[tuple[str, Make]]:
    for size in (10, 100, 1500):
        yield f"{size} MB of text in one member", partial(swollen, _BODY, size * MIB)
    yield "100 MB of styles", lambda: swollen("word/styles.xml", 100 * MIB)
    yield "1 GB in a member that is not read", lambda: swollen("word/media/image.png", 1024 * MIB)
    yield (
        "60,000 members",
        lambda: zipped({_BODY: part("document", "")} | {f"word/{n}": b"" for n in range(60_000)}),
    )
    yield "3,000 members", lambda: docx(paragraph("text"), more={f"word/{n}.xml": b"" for n in range(3_000)})
    yield "an archive in an archive in an archive", lambda: zipped({"a.docx": zipped({"b.docx": good()})})
    yield "a size that lies", lambda: _patched_directory(24, (10).to_bytes(4, "little"))
    yield "a packed size that lies", lambda: _patched_directory(20, (0x7FFFFFFF).to_bytes(4, "little"))
    yield "an offset beyond the end", lambda: _patched_directory(42, (0x7FFFFFFF).to_bytes(4, "little"))
    yield "all members at one place", lambda: _patched_directory(42, bytes(4))
    yield "encrypted members", lambda: _patched_directory(8, b"\x01\x00")
    yield "an unknown packing", lambda: _patched_directory(10, b"\x63\x00")
    for name, method in (("LZMA", zipfile.ZIP_LZMA), ("BZIP2", zipfile.ZIP_BZIP2)):
        yield (
            f"packed with {name}",
            partial(zipped, {_BODY: part("document", "")}, compression=method),
        )
    yield "two ends", lambda: good() + good()[-22:]
    yield "an end that promises gigabytes", lambda: good()[:-10] + b"\xff" * 8 + b"\x00\x00"
    yield "a member twice", _twice
    yield "names that climb", lambda: docx(paragraph("text"), more={"../../etc/passwd": "x", "/etc/x": "y"})
    yield "no body", lambda: zipped({"[Content_Types].xml": "", "_rels/.rels": RELATIONS})
    yield "an empty archive", lambda: zipped({})
    yield "a spreadsheet", lambda: zipped({"xl/workbook.xml": ""})
    yield "a presentation", lambda: zipped({"ppt/presentation.xml": ""})
    yield "an OpenDocument text", lambda: zipped({"mimetype": "application/x", "content.xml": "<x/>"})


def swollen(member: str, size: int) -> bytes:
    """Return a document with a member that unpacks to `size` bytes of letters."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if member != _BODY:
            archive.writestr(_BODY, part("document", f"<w:body>{paragraph('text')}</w:body>"))
        with archive.open(member, "w") as file:
            file.write(f'<w:document xmlns:w="{W}"><w:body><w:p><w:r><w:t>'.encode())
            for _ in range(size // MIB):
                file.write(b"a" * MIB)
            file.write(b"</w:t></w:r></w:p></w:body></w:document>")
    return buffer.getvalue()


def _patched_directory(at: int, patch: bytes) -> bytes:
    """Return a document with bytes changed in each entry of its list of members."""
    data = bytearray(good())
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        data[place + at : place + at + len(patch)] = patch
        place = data.find(b"PK\x01\x02", place + 4)
    return bytes(data)


def _twice() -> bytes:
    other = b"word/documenu.xml"
    return docx(paragraph("one"), more={other.decode(): "<x/>"}).replace(other, _BODY.encode())


def _entities() -> Iterator[tuple[str, Make]]:
    for name, declaration in {
        "a file as an entity": '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        "an address as an entity": '<!DOCTYPE d [<!ENTITY e SYSTEM "http://127.0.0.1:9/x">]>',
        "an outside DTD": '<!DOCTYPE d SYSTEM "http://127.0.0.1:9/x.dtd">',
        "a parameter entity": '<!DOCTYPE d [<!ENTITY % p SYSTEM "http://127.0.0.1:9/"> %p;]>',
        "a billion laughs": _laughs(),
        "a large entity many times": f'<!DOCTYPE d [<!ENTITY e "{"a" * 100_000}">]>',
        "an empty DTD": "<!DOCTYPE d>",
    }.items():
        body = declaration + part("document", f"<w:body>{paragraph('x')}&e;</w:body>").partition("?>")[2]
        yield name, partial(docx, "", more={_BODY: body})
        yield f"{name}, in UTF-16", partial(docx, "", more={_BODY: body.encode("utf-16")})
        for member in ("word/styles.xml", "_rels/.rels", "docProps/core.xml", "word/footnotes.xml"):
            yield (
                f"{name}, in {member}",
                partial(docx, paragraph("x"), more={member: body}),
            )
    coded = '<?xml version="1.0" encoding="{}"?>' + part("document", "").partition("?>")[2]
    for charset in ("UTF-7", "punycode", "zip", "no-such-charset"):
        yield f"XML in {charset}", partial(docx, "", more={_BODY: coded.format(charset)})
    yield (
        "XInclude",
        lambda: docx(
            '<i:include xmlns:i="http://www.w3.org/2001/XInclude" parse="text" href="file:///etc/passwd"/>'
        ),
    )


def _laughs() -> str:
    lines = ['<!ENTITY a0 "ha">'] + [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)]
    return f'<!DOCTYPE d [{"".join(lines)}<!ENTITY e "&a11;">]>'


def _shapes() -> Iterator[tuple[str, Make]]:
    yield "200,000 elements deep", lambda: docx("<w:p>" * 200_000)
    yield "20,000 tables deep", lambda: docx("<w:tbl><w:tr><w:tc>" * 20_000)
    yield (
        "80 tables deep",
        lambda: docx("<w:tbl><w:tr><w:tc>" * 80 + paragraph("x") + "</w:tc></w:tr></w:tbl>" * 80),
    )
    yield "500,000 attributes", lambda: docx("<w:p " + " ".join(f'a{n}=""' for n in range(500_000)) + "/>")
    yield "an attribute of 40 MB", lambda: docx(f'<w:p a="{"a" * 40 * MIB}"/>')
    yield "a tag that never ends", lambda: docx("", more={_BODY: b"<a " + b"b" * 40 * MIB})
    yield "100,000 namespaces", lambda: docx("".join(f'<a{n}:b xmlns:a{n}="u{n}"/>' for n in range(100_000)))
    yield "a million empty paragraphs", lambda: docx("<w:p/>" * 1_000_000)
    yield "a million small paragraphs", lambda: docx("<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 1_000_000)
    yield "a million runs", lambda: docx(f"<w:p>{run('x') * 400_000}</w:p>")
    yield "a row of 300,000 cells", lambda: docx(table(("x",) * 300_000))
    yield "300,000 paragraphs in a cell", lambda: docx(table((paragraph("x") * 300_000,)))
    yield "text boxes in text boxes", lambda: docx("<w:p><w:r><w:txbxContent>" * 60)
    yield (
        "a text box twice",
        lambda: docx(
            f"<w:p><mc:AlternateContent><mc:Choice>{paragraph('x')}</mc:Choice>"
            f"<mc:Fallback>{paragraph('x')}</mc:Fallback></mc:AlternateContent></w:p>"
        ),
    )
    yield "a fallback 100,000 elements deep", lambda: docx(f'<f:Fallback xmlns:f="{MC}">' + "<a>" * 100_000)
    yield (
        "styles based on each other",
        lambda: docx(
            paragraph("x", style="a"), styles=style("a", "a", based_on="b") + style("b", "b", based_on="a")
        ),
    )
    yield (
        "a chain of 100,000 styles",
        lambda: docx(
            paragraph("x", style="s0"),
            styles="".join(style(f"s{n}", f"n{n}", based_on=f"s{n + 1}") for n in range(100_000)),
        ),
    )
    yield (
        "an outline level that is no number",
        lambda: docx(
            paragraph("x", properties='<w:outlineLvl w:val="²"/>')
            + paragraph("y", properties='<w:ilvl w:val="9"/>')
        ),
    )
    yield (
        "numbers beyond all bounds",
        lambda: docx(
            paragraph("x", properties=f'<w:numPr><w:ilvl w:val="{"9" * 99}"/><w:numId w:val="1"/></w:numPr>')
        ),
    )
    yield "ends without starts", lambda: docx("</w:p></w:tbl>")
    yield (
        "notes that are a body",
        lambda: docx(paragraph("x"), more={"word/footnotes.xml": part("x", "<w:tr/>")}),
    )
    for name, target in {
        "itself": "document.xml",
        "outside": "../../../etc/passwd",
        "a zip": "x.zip",
    }.items():
        yield f"styles that are {name}", partial(_with_styles_at, target)
    yield "a body of NULs", lambda: docx("", more={_BODY: bytes(MIB)})
    yield "a body of noise", lambda: docx("", more={_BODY: zlib.compress(b"noise" * 999)})


def _with_styles_at(target: str) -> bytes:
    relation = RELATIONS.replace("/officeDocument", "/styles").replace("word/document.xml", target)
    return docx(paragraph("x"), more={"word/_rels/document.xml.rels": relation})
