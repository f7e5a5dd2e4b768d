"""Which format a document is in: by its first bytes, then by what its sender says. Pure.

What lies inside a zip archive is for the child to see: opening one is work on untrusted input.
"""

from __future__ import annotations

import re
from enum import Enum

from arriero.errors import UnreadableDocument
from arriero.extract.limits import damaged

SUPPORTED = "plain text, Markdown, HTML, JSON, CSV, PDF and DOCX"


class Format(str, Enum):
    """What the child's readers read."""

    PLAIN = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    CSV = "text/csv"
    JSON = "application/json"
    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


_ALIASES = {
    "text/x-markdown": Format.MARKDOWN,
    "application/xhtml+xml": Format.HTML,
    "application/x-pdf": Format.PDF,
    "application/csv": Format.CSV,
    "application/x-ndjson": Format.JSON,
    "application/jsonl": Format.JSON,
}
SUFFIXES = {
    "txt": Format.PLAIN,
    "text": Format.PLAIN,
    "log": Format.PLAIN,
    "md": Format.MARKDOWN,
    "markdown": Format.MARKDOWN,
    "html": Format.HTML,
    "htm": Format.HTML,
    "xhtml": Format.HTML,
    "csv": Format.CSV,
    "tsv": Format.CSV,
    "json": Format.JSON,
    "jsonl": Format.JSON,
    "pdf": Format.PDF,
    "docx": Format.DOCX,
}
"""What the names of documents end in."""
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OPENINGS = (
    (_OLD_OFFICE, "an old Office file (.doc, .xls, .ppt)"),
    (b"{\\rtf", "RTF"),
    (b"%!PS", "PostScript"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"II*\x00", "an image"),
    (b"MM\x00*", "an image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"(\xb5/\xfd", "a Zstandard archive"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "a database"),
    (b"GGUF", "model weights"),
)
_ENCRYPTED_OFFICE = "EncryptedPackage".encode("utf-16-le")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PDF_WITHIN = 1024
"""A PDF may begin with other bytes than its header; readers look this far."""
_BLANK = b" \t\r\n\x0c"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HTML = re.compile(
    rb"(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,1000}?-->\s*){0,3}<(?:!doctype\s+html|html)\b", re.I | re.S
)


def detect(data: bytes, *, name: str = "", media_type: str | None = None) -> Format:
    """Return the format. Raises UnreadableDocument for none that is read here.

    A zip archive counts as DOCX until its members are seen.
    """
    said = _said(name, media_type)
    opening = data[:4096].removeprefix(_BYTE_ORDER_MARK).lstrip(_BLANK)
    if not opening:
        raise UnreadableDocument("empty", "the document is empty")
    if data.startswith(_ZIP):
        return Format.DOCX
    if opening.startswith(b"%PDF-") or (said is Format.PDF and b"%PDF-" in data[:_PDF_WITHIN]):
        return Format.PDF
    _refuse_known(data)
    if _HTML.match(opening):
        return Format.HTML
    if said in {Format.PDF, Format.DOCX}:
        raise damaged(f"the document is said to be {said.name}, but does not begin like one")
    return said or Format.PLAIN


def format_of(media_type: str | None) -> Format | None:
    """Return the format that a media type names, None if it names none that is read."""
    plain = (media_type or "").partition(";")[0].strip().lower()
    return _ALIASES.get(plain) or next((one for one in Format if one.value == plain), None)


def charset_of(media_type: str | None) -> str | None:
    """Return the `charset` parameter of a media type."""
    found = re.search(r";\s*charset\s*=\s*\"?([\w.:+-]+)", media_type or "", re.IGNORECASE)
    return found[1].lower() if found else None


def _said(name: str, media_type: str | None) -> Format | None:
    """Return the format that the sender names: by media type, else by file name."""
    by_type = format_of(media_type)
    by_name = SUFFIXES.get(name.rpartition(".")[2].lower()) if "." in name else None
    # Clients that know nothing better say text/plain; a name knows more.
    return by_name if by_type in {None, Format.PLAIN} and by_name else by_type


def _refuse_known(data: bytes) -> None:
    if data.startswith(_OLD_OFFICE) and _ENCRYPTED_OFFICE in data:
        raise UnreadableDocument("encrypted", "the document is encrypted; remove its password first")
    for opening, what in _OPENINGS:
        if data.startswith(opening):
            raise unsupported(what)


def unsupported(what: str) -> UnreadableDocument:
    """Return the error of a format that is known and not read."""
    return UnreadableDocument("unsupported", f"the document is {what}; what can be read is {SUPPORTED}")
