"""Reads DOCX: which parts of the archive hold text, and in what order.

The body first, then footnotes and endnotes. Running heads and feet, comments and deleted text are left
out. Nothing that a part refers to is ever fetched or opened, but the parts named here.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from arriero.extract.archive import Archive
from arriero.extract.detect import Format, unsupported
from arriero.extract.docx_body import Body
from arriero.extract.docx_styles import Styles, read_styles
from arriero.extract.limits import Limits, damaged
from arriero.extract.writer import Writer
from arriero.extract.xml import parse

if TYPE_CHECKING:
    from arriero.extract.document import Document

_OTHERS = (
    ("xl/workbook.xml", "a spreadsheet (XLSX)"),
    ("ppt/presentation.xml", "a presentation (PPTX)"),
    ("META-INF/container.xml", "an EPUB book"),
    ("content.xml", "an OpenDocument file"),
)
_BODY = "word/document.xml"


def read(data: bytes, limits: Limits) -> Document:
    """Return the document. Raises UnreadableDocument."""
    archive = Archive(data, limits)
    main = _main_part(archive, limits)
    parts = _related(archive, main, limits)
    styles = Styles()
    if (name := parts.get("styles")) in archive.names:
        styles = read_styles(archive.chunks(name), limits)
    writer = Writer(limits)
    body = Body(styles, writer)
    for name in (main, parts.get("footnotes"), parts.get("endnotes")):
        if name in archive.names:
            parse(archive.chunks(name), body, limits)
            body.finish()
    return writer.document(_title(archive, limits) or body.title, Format.DOCX.value)


def _main_part(archive: Archive, limits: Limits) -> str:
    name = _targets(archive, "_rels/.rels", "", limits).get("officeDocument", _BODY)
    if name.startswith("word/") and name in archive.names:
        return name
    for member, what in _OTHERS:
        if member in archive.names:
            raise unsupported(what)
    if "word/document.bin" in archive.names or "[Content_Types].xml" in archive.names:
        raise damaged("the DOCX is damaged: its body is missing")
    raise unsupported("an archive")


def _related(archive: Archive, main: str, limits: Limits) -> dict[str, str]:
    folder, name = posixpath.split(main)
    usual = {part: f"{folder}/{part}.xml" for part in ("styles", "footnotes", "endnotes")}
    return usual | _targets(archive, f"{folder}/_rels/{name}.rels", folder, limits)


class _Relations:
    """Collects where the parts are that a part refers to, by the last word of their type."""

    def __init__(self, folder: str) -> None:
        self.targets: dict[str, str] = {}
        self._folder = folder

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name.endswith(" Relationship") and attributes.get("TargetMode") != "External":
            path = posixpath.normpath(posixpath.join("/", self._folder, attributes.get("Target", "")))
            self.targets.setdefault(attributes.get("Type", "").rpartition("/")[2], path.lstrip("/"))

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


def _targets(archive: Archive, name: str, folder: str, limits: Limits) -> dict[str, str]:
    relations = _Relations(folder)
    if name in archive.names:
        parse(archive.chunks(name), relations, limits)
    return relations.targets


class _Title:
    """Finds the title among the properties of a document."""

    def __init__(self) -> None:
        self.text_parts: list[str] = []
        self._inside = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._inside = name == "http://purl.org/dc/elements/1.1/ title"

    def end(self, name: str) -> None:
        self._inside = False

    def text(self, text: str) -> None:
        if self._inside:
            self.text_parts.append(text)


def _title(archive: Archive, limits: Limits) -> str:
    title = _Title()
    if "docProps/core.xml" in archive.names:
        parse(archive.chunks("docProps/core.xml"), title, limits)
    return "".join(title.text_parts).strip()
