"""From the text of a document to chunks with their places. Pure steps; what may take long is in a thread.

Both ways of cutting pack greedily: a part that fits is kept whole; one that does not is cut at the
next finer places, and what is left of it goes on with what follows.

1. By structure. A section begins at a heading, shares no chunk with another. Within it: blocks,
   blank lines, lines of tables, lists and code, sentences, lines, words, parts of words.
2. By separators, as Poly: each separator in turn, after the filters; then words, parts of words.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import msgspec

from arriero.extract.document import Kind
from arriero.memory.cleaning import cleaned, without
from arriero.memory.records import Chunk
from arriero.memory.tokens import TokenMap, measure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from arriero.config.memory import MemoryConfig
    from arriero.extract.document import Block, Document

    Counts = Callable[[Sequence[str]], Awaitable[list[int]]]
    Cutter = Callable[[str, int, int], list[int]]

STRUCTURE_TOKENS = 200
SEPARATORS_TOKENS = 255

BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
LINE = re.compile(r"\n")
SENTENCE = re.compile(r"[.!?…][)\"'”’\]]*\s+(?=[^\sa-z])|[。！？]")
WORD = re.compile(r"(?<=\S)\s+")
VERBATIM = (Kind.TABLE, Kind.LIST, Kind.CODE)


class Recipe(msgspec.Struct, frozen=True):
    """How texts are cut. separators: None = by structure."""

    max_tokens: int
    overlap: int = 0
    separators: tuple[str, ...] | None = None
    pre_filter: tuple[str, ...] = ()
    post_filter: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: MemoryConfig, *, most: int) -> Recipe:
        """Return the recipe of a memory whose embedding model reads at most `most` tokens of a text."""
        default = SEPARATORS_TOKENS if config.cuts_at_separators else STRUCTURE_TOKENS
        max_tokens = max(1, min(config.chunk_max_tokens or default, most))
        overlap = min(config.chunk_overlap, max_tokens // 2)
        if not config.cuts_at_separators:
            return cls(max_tokens, overlap)
        return cls(max_tokens, overlap, config.chunk_separators, config.pre_filter, config.post_filter)


async def chunked(document: Document, recipe: Recipe, counts: Counts) -> list[Chunk]:
    """Cut a document. `counts` returns the tokens of each of some texts."""
    if recipe.separators is None:
        return await _by_structure(document, recipe, counts)
    return await _by_separators(document, recipe, recipe.separators, counts)


async def _by_structure(document: Document, recipe: Recipe, counts: Counts) -> list[Chunk]:
    text = document.text
    levels = await asyncio.to_thread(structure_levels, text, document.blocks)
    tokens = await _measured(text, levels, recipe, counts)

    def cut() -> list[Chunk]:
        sections = _between((0, len(text)), section_starts(document.blocks))
        places = [place for section in sections for place in _packed(section, levels, tokens, recipe)]
        return [
            Chunk(
                ordinal=ordinal,
                text=text[start:end],
                start=start,
                end=end,
                num_tokens=tokens.count(start, end),
                page=document.page_at(start),
                section=document.section_at(start),
            )
            for ordinal, (start, end) in enumerate(_trimmed(text, places))
        ]

    return await asyncio.to_thread(cut)


async def _by_separators(
    document: Document, recipe: Recipe, separators: Sequence[str], counts: Counts
) -> list[Chunk]:
    patterns = [re.compile(pattern) for pattern in recipe.pre_filter]
    text, origins = await asyncio.to_thread(cleaned, document.text, patterns)
    levels = await asyncio.to_thread(separator_levels, text, separators)
    tokens = await _measured(text, levels, recipe, counts)

    def cut() -> list[Chunk]:
        chunks: list[Chunk] = []
        for start, end in _trimmed(text, _packed((0, len(text)), levels, tokens, recipe)):
            if said := without(text[start:end], recipe.post_filter):
                first, last = int(origins[start]), int(origins[end - 1]) + 1
                chunks.append(
                    Chunk(
                        ordinal=len(chunks),
                        text=said,
                        start=first,
                        end=last,
                        num_tokens=tokens.count(start, end),
                        page=document.page_at(first),
                        section=document.section_at(first),
                    )
                )
        return chunks

    return await asyncio.to_thread(cut)


def separator_levels(text: str, separators: Sequence[str]) -> list[list[int]]:
    """Return the places where the text may be cut, for each separator of the second way."""
    return [list(_ends(text, re.compile(re.escape(separator)))) for separator in separators]


def section_starts(blocks: Sequence[Block]) -> list[int]:
    """Return where sections begin: at a heading, unless a heading stands right before it."""
    before = (None, *blocks)
    return [
        block.start
        for previous, block in zip(before, blocks, strict=False)
        if block.kind is Kind.HEADING and not (previous is not None and previous.kind is Kind.HEADING)
    ]


def structure_levels(text: str, blocks: Sequence[Block]) -> list[list[int]]:
    """Return the places where the text may be cut, for each level of the first way, coarse to fine."""
    outer: list[int] = []
    blank: list[int] = []
    rows: list[int] = []
    sentences: list[int] = []
    lines = list(_ends(text, LINE))
    after_heading = False
    for kind, start, end in _kinds(text, blocks):
        if not after_heading:  # a heading stays with what it is about
            outer.append(start)
        after_heading = kind is Kind.HEADING
        if after_heading:
            continue
        if kind in VERBATIM:
            blank += _ends(text, BLANK_LINE, start, end)
            rows += _ends(text, LINE, start, end)
        else:
            outer += _ends(text, BLANK_LINE, start, end)
            sentences += _ends(text, SENTENCE, start, end)
    return [outer, blank, rows, sentences, lines]


def _kinds(text: str, blocks: Sequence[Block]) -> Iterator[tuple[Kind, int, int]]:
    """Yield the blocks without gaps: what stands between two belongs to the first."""
    if not blocks:
        yield Kind.PARAGRAPH, 0, len(text)
        return
    ends = [*(block.start for block in blocks[1:]), len(text)]
    for block, end in zip(blocks, ends, strict=True):
        yield block.kind, block.start, end


async def _measured(text: str, levels: Sequence[list[int]], recipe: Recipe, counts: Counts) -> TokenMap:
    cutters: list[Cutter] = [_at(sorted({place for level in levels for place in level})), _words]
    cutters += [_every(64), _every(8), _every(1)]
    return await measure(text, cutters, budget=recipe.max_tokens - recipe.overlap, counts=counts)


def _at(places: Sequence[int]) -> Cutter:
    def cutter(text: str, start: int, end: int) -> list[int]:
        return list(places[bisect_right(places, start) : bisect_left(places, end)])

    return cutter


def _words(text: str, start: int, end: int) -> list[int]:
    # The blank goes with the word behind it, as most tokenizers have it.
    return [match.start() for match in WORD.finditer(text, start, end)]


def _every(size: int) -> Cutter:
    def cutter(text: str, start: int, end: int) -> list[int]:
        return list(range(start + size, end, size))

    return cutter


def _ends(text: str, pattern: re.Pattern[str], start: int = 0, end: int | None = None) -> Iterator[int]:
    for match in pattern.finditer(text, start, len(text) if end is None else end):
        yield match.end()


Place = tuple[int, int]


def _packed(whole: Place, levels: Sequence[list[int]], tokens: TokenMap, recipe: Recipe) -> list[Place]:
    """Cut a part of the text into places within the budget, with the overlap in front."""
    budget = recipe.max_tokens - recipe.overlap
    places = _pack(whole, [*levels, tokens.ends], tokens, budget)
    if not recipe.overlap:
        return places
    pairs = itertools.pairwise(places)
    return [*places[:1], *(_reaching_back(place, before, tokens, recipe.overlap) for before, place in pairs)]


def _pack(whole: Place, levels: Sequence[Sequence[int]], tokens: TokenMap, budget: int) -> list[Place]:
    if not levels or tokens.count(*whole) <= budget:
        return [whole]
    places: list[Place] = []
    for piece in _between(whole, levels[0]):
        if places and tokens.count(places[-1][0], piece[1]) <= budget:
            places[-1] = (places[-1][0], piece[1])
        else:
            places += _pack(piece, levels[1:], tokens, budget)
    return places


def _reaching_back(place: Place, before: Place, tokens: TokenMap, overlap: int) -> Place:
    """Begin a place earlier, by whole atoms of the one before it."""
    start, end = place
    for index in range(bisect_left(tokens.ends, start) - 1, -1, -1):
        earlier = tokens.ends[index]
        if earlier <= before[0] or tokens.count(earlier, place[0]) > overlap:
            break
        start = earlier
    return start, end


def _between(whole: Place, places: Sequence[int]) -> list[Place]:
    inner = places[bisect_right(places, whole[0]) : bisect_left(places, whole[1])]
    cuts = [whole[0], *inner, whole[1]]
    return list(itertools.pairwise(cuts))


def _trimmed(text: str, places: Iterable[Place]) -> list[Place]:
    """Take white space off the ends; drop what is nothing else."""
    trimmed: list[Place] = []
    for start, end in places:
        said = text[start:end]
        start += len(said) - len(said.lstrip())
        end -= len(said) - len(said.rstrip())
        if start < end:
            trimmed.append((start, end))
    return trimmed
