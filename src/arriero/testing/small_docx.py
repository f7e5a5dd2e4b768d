"""Writes small DOCX files from the XML of their parts."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from xml.sax.saxutils import escape

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
_DC = "http://purl.org/dc/elements/1.1/"
_CORE = "http://schemas.openxmlformats.org/package/2006/metadata/core-properties"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_TYPES = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

RELATIONS = (
    f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="r1" Type="{_TYPES}/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)


def paragraph(text: str, *, style: str | None = None, properties: str = "") -> str:
    """Return a paragraph of one run."""
    said = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{said}{properties}</w:pPr>{run(text)}</w:p>"


def run(text: str, *, properties: str = "") -> str:
    """Return a run."""
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{escape(text)}</w:t></w:r>'


def table(*rows: tuple[str, ...]) -> str:
    """Return a table of paragraphs, or of whatever XML a cell is."""
    return "<w:tbl>" + "".join(f"<w:tr>{''.join(map(_cell, row))}</w:tr>" for row in rows) + "</w:tbl>"


def _cell(content: str) -> str:
    return f"<w:tc>{content if content.startswith('<') else paragraph(content)}</w:tc>"


def style(id: str, name: str, *, based_on: str | None = None, properties: str = "") -> str:
    """Return a paragraph style."""
    base = f'<w:basedOn w:val="{based_on}"/>' if based_on else ""
    named = f'<w:name w:val="{name}"/>{base}'
    return f'<w:style w:type="paragraph" w:styleId="{id}">{named}<w:pPr>{properties}</w:pPr></w:style>'


def part(root: str, content: str) -> str:
    """Return a part: `root` is the local name of its first element."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><w:{root} xmlns:w="{W}" xmlns:mc="{MC}">{content}</w:{root}>'
    )


def docx(
    body: str,
    *,
    styles: str | None = None,
    notes: str | None = None,
    title: str | None = None,
    more: Mapping[str, bytes | str] | None = None,
) -> bytes:
    """Return a DOCX file. `styles`, `notes`: what stands in those parts; `more`: other members."""
    members: dict[str, bytes | str] = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": RELATIONS,
        "word/document.xml": part("document", f"<w:body>{body}</w:body>"),
    }
    if styles is not None:
        members["word/styles.xml"] = part("styles", styles)
    if notes is not None:
        members["word/footnotes.xml"] = part("footnotes", f'<w:footnote w:id="1">{notes}</w:footnote>')
    if title is not None:
        said = f"<dc:title>{escape(title)}</dc:title>"
        members["docProps/core.xml"] = (
            f'<c:coreProperties xmlns:c="{_CORE}" xmlns:dc="{_DC}">{said}</c:coreProperties>'
        )
    return zipped(members | dict(more or {}))


def zipped(members: Mapping[str, bytes | str], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()
