"""Texts to chunks: where they are cut, and what holds for every text."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pytest

from arriero.config.load import parse_config
from arriero.config.memory import MemoryConfig
from arriero.extract.document import Block, Document, Kind
from arriero.memory.chunk import Recipe, chunked

WORD = re.compile(r"\w+|[^\w\s]")


async def counts(texts: Sequence[str]) -> list[int]:
    """Count words and marks."""
    return [len(WORD.findall(text)) for text in texts]


def document(*blocks: tuple[Kind, str, int] | tuple[Kind, str]) -> Document:
    """Return a document of blocks (kind, text, level), an empty line between them."""
    text, found = "", []
    for kind, said, *level in blocks:
        text += "\n\n" if text else ""
        found.append(Block(kind, len(text), len(text) + len(said), level=level[0] if level else 0, page=1))
        text += said
    return Document(text, None, "text/plain", tuple(found))


def plain(text: str) -> Document:
    """Return a text without structure."""
    return Document(text, None, "text/plain", ())


def separators(*texts: str, max_tokens: int, **other: tuple[str, ...]) -> Recipe:
    """Return a recipe of the second way."""
    return Recipe(max_tokens, separators=texts, **other)


H, P, T, C, L = Kind.HEADING, Kind.PARAGRAPH, Kind.TABLE, Kind.CODE, Kind.LIST


@pytest.mark.parametrize(
    ("document", "recipe", "texts"),
    [
        (plain(""), Recipe(5), []),
        (plain(" \n \n"), Recipe(5), []),
        (plain("one"), Recipe(1), ["one"]),
        # Paragraphs are packed while they fit.
        (document((P, "a b"), (P, "c d"), (P, "e f")), Recipe(4), ["a b\n\nc d", "e f"]),
        # A paragraph that is too long is cut at its sentences, a sentence at its words, a word within.
        (document((P, "One two. Three four. Five.")), Recipe(3), ["One two.", "Three four.", "Five."]),
        (document((P, "One, e.g. two of three.")), Recipe(4), ["One,", "e.g.", "two of three."]),
        (plain("a b c d e"), Recipe(2), ["a b", "c d", "e"]),
        # Wrapped lines are no sentences.
        (
            document((P, "A line\nthat goes on. And\nanother.")),
            Recipe(6),
            ["A line\nthat goes on.", "And\nanother."],
        ),
        # A section shares no chunk with another, and a heading stays with what follows it.
        (
            document(
                (H, "A", 1), (P, "x y"), (H, "B", 1), (P, "z"), (H, "C", 1), (H, "D", 2), (P, "v w u t")
            ),
            Recipe(9),
            ["A\n\nx y", "B\n\nz", "C\n\nD\n\nv w u t"],
        ),
        # Tables are cut between rows, lists between items, and code stays whole where it fits.
        (document((T, "a b\nc d\ne f")), Recipe(4), ["a b\nc d", "e f"]),
        (document((L, "Go. Run\nSit. Lie")), Recipe(3), ["Go. Run", "Sit. Lie"]),
        (document((P, "x"), (C, "a\n\nb\n\nc")), Recipe(3), ["x", "a\n\nb\n\nc"]),
        (document((C, "a b\nc\n\nd e\nf")), Recipe(3), ["a b\nc", "d e\nf"]),
        # What is repeated is whole sentences of the chunk before.
        (
            document((P, "Aa bb. Cc dd. Ee ff. Gg hh.")),
            Recipe(9, overlap=3),
            ["Aa bb. Cc dd.", "Cc dd. Ee ff. Gg hh."],
        ),
        (document((P, "Aa bb. Cc dd.")), Recipe(6, overlap=3), ["Aa bb.", "Cc dd."]),
        # Poly's way: coarse separators first, which stay at the end of their part.
        (plain("a b. c d. e"), separators(".", " ", max_tokens=6), ["a b. c d.", "e"]),
        (plain("a b. c d e f. g"), separators(".", " ", max_tokens=4), ["a b.", "c d e", "f. g"]),
        (plain("x y<br>z w"), separators("<br>", " ", max_tokens=5), ["x y<br>", "z w"]),
        # The filters: matches become one blank, and what is taken out leaves words apart.
        (plain("a\t\tb   c"), separators(" ", max_tokens=9, pre_filter=(r"\t",)), ["a b c"]),
        (plain("a\nb"), separators(" ", max_tokens=9, post_filter=("\n",)), ["a b"]),
        (plain("a*b*"), separators(" ", max_tokens=9, post_filter=("*",)), ["ab"]),
        (plain("\n"), separators(" ", max_tokens=9, post_filter=("\n",)), []),
    ],
)
async def test_texts_are_cut(document: Document, recipe: Recipe, texts: list[str]) -> None:
    """Each way cuts as its steps say."""
    chunks = await chunked(document, recipe, counts)

    assert [chunk.text for chunk in chunks] == texts


async def test_a_chunk_knows_its_section_and_page() -> None:
    """The headings above it, the outermost first."""
    found = await chunked(
        document((H, "A", 1), (P, "x"), (H, "B", 2), (P, "y z"), (P, "v w")), Recipe(4), counts
    )

    assert [(chunk.section, chunk.page) for chunk in found] == [(("A",), 1), (("A", "B"), 1), (("A", "B"), 1)]


def memory(extra: str = "", store: str = "embedded") -> MemoryConfig:
    """Return the configuration of a memory."""
    text = '[models.m]\nurl = "http://127.0.0.1:1/m"\n[memories.n]\nembedding_model = "m"\n'
    return parse_config(f"{text}store = {{ {store} = {{}} }}\n{extra}", {}).memories["n"]


@pytest.mark.parametrize(
    ("config", "recipe"),
    [
        (memory(), Recipe(200)),
        (memory("chunk_max_tokens = 300\nchunk_overlap = 300"), Recipe(254, 127)),
        (memory("chunking = 'structure'", "hora"), Recipe(200)),
        (memory("chunk_separators = ['.']"), Recipe(254, 0, (".",), memory().pre_filter, ("\n",))),
        (memory(store="hora"), Recipe(254, 0, (" ",), memory().pre_filter, ("\n",))),
    ],
)
def test_the_recipe_is_the_configurations(config: MemoryConfig, recipe: Recipe) -> None:
    """Structure by default; Poly's way with its store or its keys; never more than the model reads."""
    assert Recipe.from_config(config, most=254) == recipe


async def test_polys_default_filters_keep_sentence_ends() -> None:
    """Tabs and line ends become blanks, leaders and rules go, full stops stay, and no blank is double."""
    text = "--- \n1.\tIntro ...... 3\r\nOne.  Two.\n\nThree | four -- five ...\nwell-known"
    [chunk] = await chunked(plain(text), Recipe.from_config(memory(store="hora"), most=254), counts)

    assert chunk.text == "1. Intro 3 One. Two. Three four five well-known"


ALPHABET = [
    "a",
    "bc",
    "Word",
    " ",
    "  ",
    "\n",
    "\n\n",
    ".",
    "? ",
    "é",
    "字",
    "。",
    "😀",
    "\t",
    "-",
    "longlonglongword",
]


@pytest.mark.parametrize("seed", range(60))
async def test_every_text_keeps_its_letters_places_and_bounds(seed: int) -> None:
    """Places are exact and in order, chunks within the budget and not empty; only white space is lost."""
    rng = random.Random(seed)
    text = "".join(rng.choices(ALPHABET, k=rng.randrange(400)))
    cuts = sorted(rng.sample(range(len(text)), min(5, len(text))))
    kinds = [rng.choice(list(Kind)) for _ in cuts]
    ends = [*cuts[1:], len(text)]
    blocks = tuple(
        Block(kind, start, end, level=int(kind is H))
        for kind, start, end in zip(kinds, cuts, ends, strict=True)
    )
    budget = rng.choice([1, 2, 3, 7, 30])
    recipes = [Recipe(budget), separators("\n\n", ".", " ", max_tokens=budget)]
    for recipe in recipes:
        chunks = await chunked(Document(text, None, "text/plain", blocks), recipe, counts)

        assert all(chunk.text == text[chunk.start : chunk.end] and chunk.text.strip() for chunk in chunks)
        assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
        assert all(size <= budget for size in await counts([chunk.text for chunk in chunks]))
        assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())


async def test_time_grows_with_the_text() -> None:
    """A hundred times the text asks for some hundred times the counts, and no more."""
    asked = 0

    async def counting(texts: Sequence[str]) -> list[int]:
        nonlocal asked
        asked += sum(map(len, texts))
        return await counts(texts)

    sizes = []
    for times in (10, 1000):
        asked = 0
        await chunked(plain("Some words. And more of them here.\n\n" * times), Recipe(20), counting)
        sizes.append(asked)

    assert sizes[1] <= 110 * sizes[0]
