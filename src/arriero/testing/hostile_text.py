"""Hostile text, Markdown and HTML, and files that are not what their names say."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

from arriero.testing import hostile_docx, hostile_pdf
from arriero.testing.hostile_documents import Hostile, Make

MIB = 1024 * 1024


def documents() -> Iterator[Hostile]:
    """Yield all of them."""
    yield from (Hostile(f"text: {name}", "a.txt", make) for name, make in _texts())
    yield from (Hostile(f"markdown: {name}", "a.md", make) for name, make in _markdown())
    yield from (Hostile(f"html: {name}", "a.html", make) for name, make in _html())
    yield from _misnamed()


def noise(size: int, seed: int = 1) -> bytes:
    """Return bytes at random."""
    return random.Random(seed).randbytes(size)


def _repeated(text: str, times: int, *, before: str = "") -> bytes:
    return (before + text * times).encode()


def _texts() -> Iterator[tuple[str, Make]]:
    yield "empty", lambda: b""
    yield "nothing but spaces", lambda: b" \r\n\t" * 10_000
    yield "a byte order mark alone", lambda: b"\xef\xbb\xbf"
    for seed in range(6):
        yield f"noise {seed}", partial(noise, 10_000 * (seed + 1), seed)
    yield "NULs", lambda: bytes(1000)
    yield "a NUL in the middle", lambda: b"text\0text"
    yield "controls", lambda: b"\x01\x02\x03text" * 1000
    yield "a line of 15 MB", lambda: b"word " * (3 * MIB)
    yield "a word of 15 MB", lambda: b"a" * 15 * MIB
    yield "40 MB of letters", lambda: b"letters\n" * (5 * MIB)
    yield "10 million paragraphs", lambda: b"a\n\n" * 10_000_000
    yield "lone surrogates in UTF-16", lambda: b"\xff\xfe" + b"\x00\xd8a\x00" * 1000
    yield "half a sign in UTF-16", lambda: "text".encode("utf-16") + b"x"
    yield "UTF-32 beyond Unicode", lambda: b"\xff\xfe\x00\x00" + b"\xff\xff\xff\x7f" * 100
    yield "surrogates in UTF-8", lambda: b"text \xed\xa0\x80 text " * 1000
    yield "overlong UTF-8", lambda: b"\xc0\x80\xe0\x80\x80" * 1000
    yield "100,000 accents on one letter", lambda: ("e" + "\u0301" * 100_000).encode()
    yield "directions that turn", lambda: "\u202eabc\u202c\u2066".encode() * 10_000
    yield "a hundred byte order marks", lambda: b"\xef\xbb\xbf" * 100 + b"text"


def _markdown() -> Iterator[tuple[str, Make]]:
    for name, sign in {
        "backtick": "`",
        "hash": "#",
        "bracket": "[",
        "star": "*",
        "quote": "> ",
        "pipe": "|",
    }.items():
        yield f"a million times {name}", partial(_repeated, sign, 1_000_000)
        yield f"{name}s on 200,000 lines", partial(_repeated, f"{sign} x\n", 200_000)
    yield "a fence that never closes", lambda: b"```\n" + b"code\n" * 500_000
    yield "200,000 fences", lambda: b"```\n" * 200_000
    yield "lists 5,000 deep", lambda: "".join(f"{'  ' * n}- x\n" for n in range(5_000)).encode()
    yield "front matter that never ends", lambda: b"---\n" + b"title: x\n" * 200_000
    yield (
        "a table of 200,000 columns",
        lambda: b"a|" * 200_000 + b"\n" + b"-|" * 200_000 + b"\n" + b"x|" * 200_000,
    )
    yield "underlines without titles", lambda: b"===\n---\n" * 200_000
    yield "rules of a million signs", lambda: b"- " * 1_000_000
    yield "spaces before nothing", lambda: b" " * 5_000_000 + b"#"


def _html() -> Iterator[tuple[str, Make]]:
    for tag in ("div", "b", "table", "ul", "font", "svg", "h1", "pre", "a"):
        yield (
            f"200,000 times <{tag}>",
            partial(_repeated, f"<{tag}>", 200_000, before=f"<html><{tag}>x"),
        )
    yield "20,000 tables with text", lambda: b"<html>" + b"<table><tr><td>x" * 20_000
    yield "200,000 attributes", lambda: f"<html><p {' '.join(f'a{n}=1' for n in range(200_000))}>x".encode()
    yield "an attribute of 10 MB", lambda: b"<html><p style='" + b"a" * 10 * MIB + b"'>text</p>"
    yield "a comment that never ends", lambda: b"<html>text<!-- " + b"x" * 5 * MIB
    yield "a script that never ends", lambda: b"<html>text<script>" + b"x" * 5 * MIB
    yield "only scripts", lambda: b"<html>" + b"<script>x</script>" * 100_000
    yield "a title of 10 MB", lambda: b"<html><title>" + b"x " * 5 * MIB + b"</title><p>text"
    yield "a million entities", lambda: b"<html>" + b"&lt;&amp;&#x10ffff;&#0;&#xd800;" * 200_000
    yield "400,000 paragraphs", lambda: b"<html>" + b"<p>x" * 400_000
    yield "a table of 300,000 rows", lambda: b"<html><table>" + b"<tr><td>x<td>y" * 300_000
    for charset in ("utf-7", "punycode", "zip", "idna", "x" * 500, "utf-16"):
        yield (
            f"said to be in {charset[:12]}",
            partial(_repeated, "<p>text</p>", 5_000, before=f"<html><meta charset='{charset}'>"),
        )
    yield (
        "an entity of a file",
        lambda: b'<!DOCTYPE html [<!ENTITY e SYSTEM "file:///etc/passwd">]><p>&e;x</p>',
    )
    yield (
        "frames and pictures from elsewhere",
        lambda: (
            b"<html><iframe src='http://127.0.0.1:9/'></iframe><img src='file:///etc/passwd'>"
            b"<link rel=stylesheet href='http://127.0.0.1:9/'><p>text</p>"
        ),
    )


def _misnamed() -> Iterator[Hostile]:
    picture = b"\x89PNG\r\n\x1a\n" + noise(1000)
    for file in ("a.pdf", "a.docx", "a.html", "a.txt", "a"):
        yield Hostile(f"a picture as {file}", file, lambda: picture)
        yield Hostile(f"noise as {file}", file, lambda: noise(5000))
        yield Hostile(f"a PDF as {file}", file, hostile_pdf.good)
        yield Hostile(f"a DOCX as {file}", file, hostile_docx.good)
        yield Hostile(f"text as {file}", file, lambda: b"Just some text.")
    for name, opening in {
        "old Office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "RTF": b"{\\rtf1 x}",
        "a program": b"\x7fELF",
    }.items():
        yield Hostile(f"{name} as a DOCX", "a.docx", partial(bytes.__add__, opening, noise(1000)))
    yield Hostile(
        "an encrypted DOCX",
        "a.docx",
        lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
    )
