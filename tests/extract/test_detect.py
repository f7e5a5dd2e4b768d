from __future__ import annotations

import pytest

from arriero.errors import UnreadableDocument
from arriero.extract.detect import Format, charset_of, detect


@pytest.mark.parametrize(
    ("data", "name", "media_type", "found"),
    [
        (b"%PDF-1.7", "", None, Format.PDF),
        (b"%PDF-1.7", "a.docx", "text/plain", Format.PDF),
        (b"junk %PDF-1.7", "a.pdf", None, Format.PDF),
        (b"A text on %PDF-1.7", "a.txt", None, Format.PLAIN),
        (b"PK\x03\x04", "a.txt", None, Format.DOCX),
        (b"<!DOCTYPE html><p>", "", None, Format.HTML),
        (b"\xef\xbb\xbf \n<HTML>", "a.txt", None, Format.HTML),
        (b"<?xml version='1.0'?><!-- x --><html xmlns='x'>", "", None, Format.HTML),
        (b"<p>a part</p>", "a.htm", None, Format.HTML),
        (b"<p>a part</p>", "", "text/html; charset=utf-8", Format.HTML),
        (b"<p>a part</p>", "", None, Format.PLAIN),
        (b"# Title", "a.md", None, Format.MARKDOWN),
        (b"# Title", "a.MD", "text/plain", Format.MARKDOWN),
        (b"# Title", "a.txt", "text/markdown", Format.MARKDOWN),
        (b"a,b", "a.csv", None, Format.CSV),
        (b"{}", "", "application/json", Format.JSON),
        (b"text", "", "application/octet-stream", Format.PLAIN),
    ],
)
def test_content_comes_before_what_the_sender_says(
    data: bytes, name: str, media_type: str | None, found: Format
) -> None:
    """First bytes decide, then the media type, then the name; text/plain says nothing."""
    assert detect(data, name=name, media_type=media_type) is found


@pytest.mark.parametrize(
    ("data", "name", "reason", "words"),
    [
        (b"", "a.pdf", "empty", "empty"),
        (b" \r\n", "", "empty", "empty"),
        (b"\x89PNG....", "a.pdf", "unsupported", "an image"),
        (b"{\\rtf1 x}", "a.doc", "unsupported", "RTF; what can be read is plain text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1x", "a.doc", "unsupported", "old Office"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "a.docx",
            "encrypted",
            "password",
        ),
        (b"no PDF", "a.pdf", "damaged", "said to be PDF"),
        (b"no DOCX", "a.docx", "damaged", "said to be DOCX"),
    ],
)
def test_what_cannot_be_read_is_named(data: bytes, name: str, reason: str, words: str) -> None:
    """The error says what the document is, and what could be read."""
    with pytest.raises(UnreadableDocument, match=words) as caught:
        detect(data, name=name)

    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("media_type", "charset"),
    [
        (None, None),
        ("text/plain", None),
        ("text/plain; charset=UTF-8", "utf-8"),
        ('a/b;charset="x-y";q=1', "x-y"),
    ],
)
def test_the_charset_of_a_media_type(media_type: str | None, charset: str | None) -> None:
    """The parameter is found, quoted or not."""
    assert charset_of(media_type) == charset
