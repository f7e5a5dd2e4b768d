from __future__ import annotations

import pytest
from tests.extract.reading import shown

from arriero.errors import UnreadableDocument
from arriero.extract.detect import Format
from arriero.extract.limits import Limits
from arriero.extract.plain import decode, read


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("día".encode(), None, "día"),
        (b"\xef\xbb\xbftext", "latin-1", "text"),
        ("día".encode("utf-16"), None, "día"),
        ("día".encode("utf-32"), None, "día"),
        ("día".encode("utf-16-be"), "utf-16-be", "día"),
        ("день".encode("koi8-r"), "koi8-r", "день"),
        ("“día”".encode("cp1252"), None, "“día”"),
        (b"text", "no-such", "text"),
        (b"text", "punycode", "text"),
        (b"a\r\nb\rc\n", None, "a\nb\nc\n"),
        (b"a\x1b[1mb", None, "a\x1b[1mb"),
    ],
)
def test_text_is_decoded(data: bytes, charset: str | None, text: str) -> None:
    """A byte order mark decides, then the charset that is declared, then UTF-8, then Windows-1252."""
    assert decode(data, charset) == text


@pytest.mark.parametrize(
    ("data", "charset", "reason"),
    [
        (b"a\0b", None, "unsupported"),
        (b"\x01\x02\x03abc", None, "unsupported"),
        (b"\xff\xfea", None, "damaged"),
        (b"\xff", "utf-8", "damaged"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, charset: str | None, reason: str) -> None:
    """Binary data is unsupported; text that breaks its own encoding is damaged."""
    with pytest.raises(UnreadableDocument) as caught:
        decode(data, charset)

    assert caught.value.reason == reason


def test_plain_text_is_kept_letter_by_letter() -> None:
    """Blocks are the paragraphs between empty lines; what lies between them stays in the text."""
    document = read(b"  One,\ntwo.\n\n \n\nThree.\n", Format.PLAIN, None, Limits())

    assert document.text == "  One,\ntwo.\n\n \n\nThree.\n"
    assert shown(document) == ["paragraph:   One,\ntwo.", "paragraph: Three."]


def test_tables_and_data_are_one_block() -> None:
    """CSV is a table, JSON is code."""
    assert shown(read(b"a,b\n\nc,d\n", Format.CSV, None, Limits())) == ["table: a,b\n\nc,d\n"]
    assert shown(read(b'{"a": 1}', Format.JSON, None, Limits())) == ['code: {"a": 1}']
