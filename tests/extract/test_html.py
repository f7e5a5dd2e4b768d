from __future__ import annotations

import pytest
from tests.extract.reading import shown

from arriero.extract.html import read
from arriero.extract.limits import Limits


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        (
            "<h1>One</h1><p>a <b>bold</b>\n word</p>b",
            ["heading1: One", "paragraph: a bold word", "paragraph: b"],
        ),
        ("<p>a<br>b</p>", ["paragraph: a\nb"]),
        ("<div>a<div>b</div>c</div>", ["paragraph: a", "paragraph: b", "paragraph: c"]),
        ("<ul><li>a<li>b<ol><li>c<li>d</ol></ul>", ["list: - a\n- b\n  1. c\n  2. d"]),
        ("<pre>a\n  b <i>c</i>\n</pre>", ["code: a\n  b c"]),
        (
            "<table><caption>t</caption><tr><th>a<th>b<tr><td><p>c</p><p>d</p><td>e</table>",
            ["table: t\na | b\nc d | e"],
        ),
        ("<table><tr><td><h2>Laid out</h2><p>x</table>", ["heading2: Laid out", "paragraph: x"]),
        ("<table><tr><td>a<table><tr><td>b<td>c</table></table>", ["paragraph: a", "table: b | c"]),
        ("<p>x<script>no()</script><style>no</style></p><nav>no</nav>", ["paragraph: x"]),
        ("<p hidden>no<p style='display: none'>no<p>x", ["paragraph: x"]),
        ("<p>1 &lt; 2 &amp; 3</p><!-- no -->", ["paragraph: 1 < 2 & 3"]),
    ],
)
def test_blocks(text: str, blocks: list[str]) -> None:
    """What a reader sees, in order; each construct is the block that it says."""
    assert shown(read(text.encode(), None, Limits())) == blocks


@pytest.mark.parametrize(
    ("data", "charset"),
    [
        ("<meta charset=koi8-r><p>день".encode("koi8-r"), None),
        ("<meta http-equiv=Content-Type content='text/html; charset=koi8-r'><p>день".encode("koi8-r"), None),
        ("<p>день".encode("koi8-r"), "koi8-r"),
        ("<p>день".encode(), None),
        ("<p>день".encode("utf-16"), None),
        ("<meta charset=utf-16><p>день".encode(), None),
    ],
)
def test_the_charset_is_found(data: bytes, charset: str | None) -> None:
    """A byte order mark, the declared charset, a meta element or UTF-8 say how to read."""
    assert read(data, charset, Limits()).text == "день"


def test_the_title_is_no_part_of_the_text() -> None:
    """It is the title of the document."""
    document = read(b"<title> A\ntitle </title><svg><title>no</title></svg><p>x", None, Limits())

    assert (document.title, document.text) == ("A title", "x")
