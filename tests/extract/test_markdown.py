from __future__ import annotations

import pytest
from tests.extract.reading import shown

from arriero.extract.limits import Limits
from arriero.extract.markdown import read


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("# One\ntext", ["heading1: One", "paragraph: text"]),
        ("### Three ###", ["heading3: Three"]),
        ("## C#", ["heading2: C#"]),
        ("#tag", ["paragraph: #tag"]),
        ("####### seven", ["paragraph: ####### seven"]),
        ("Title\n=====\n\nPart\n---\ntext", ["heading1: Title", "heading2: Part", "paragraph: text"]),
        ("text\n\n---\n\nmore", ["paragraph: text", "paragraph: more"]),
        ("a\nb\n\nc", ["paragraph: a\nb", "paragraph: c"]),
        ("```py\n# no heading\n\nx = 1\n```\ntext", ["code: # no heading\n\nx = 1", "paragraph: text"]),
        ("~~~\n```\n~~~", ["code: ```"]),
        ("````\n```\n````", ["code: ```"]),
        ("```\nnever closed\n", ["code: never closed"]),
        ("``` inline ``` code", ["paragraph: ``` inline ``` code"]),
        ("- a\n- b\n  - c\n\ntext", ["list: - a\n- b\n  - c", "paragraph: text"]),
        ("1. a\n\n2. b\nlazy\n", ["list: 1. a\n\n2. b\nlazy"]),
        ("in\n1984. It was", ["paragraph: in\n1984. It was"]),
        ("text\n- a", ["paragraph: text", "list: - a"]),
        ("text\n\n    code\n\n    more\ntext", ["paragraph: text", "code: code\n\nmore", "paragraph: text"]),
        ("| a | b |\n|---|:-:|\n| c | d |\n\ntext", ["table: a | b\nc | d", "paragraph: text"]),
        ("a|b\n-|-\nc|d", ["table: a | b\nc | d"]),
    ],
)
def test_blocks(text: str, blocks: list[str]) -> None:
    """Each construct is the block that it says, without the marks that say so."""
    assert shown(read(text.encode(), None, Limits())) == blocks


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ('---\ntitle: "A title"\ntags: x\n---\n# One', "A title"),
        ("---\nno: title\n---\n# One", "One"),
        ("# One\n\n# Two", "One"),
        ("only text", None),
    ],
)
def test_the_title_is_that_of_the_front_matter_or_the_first_heading(text: str, title: str | None) -> None:
    """Front matter itself is no part of the text."""
    document = read(text.encode(), None, Limits())

    assert (document.title, "tags" in document.text) == (title, False)
