"""What the styles of a DOCX document say of a paragraph: title, heading and its level, list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from arriero.extract.docx_names import LEVELS, value, word
from arriero.extract.xml import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arriero.extract.limits import Limits

# Word keeps "heading 1" as the name and translates the id; other programs translate both.
_HEADING = re.compile(
    r"(?:heading|[uü]?berschrift|titre|t[ií]tulo|titolo|kop|rubrik|overskrift|otsikko|nag[lł][oó]wek|nadpis|c[ií]msor"
    r"|заголовок|επικεφαλίδα|başlık|見出し|标题|標題|제목)[\s_-]*([1-9])",
    re.IGNORECASE,
)
_TITLES = frozenset({"title", "titel", "titre principal"})
_LONGEST_CHAIN = 32


class Style(NamedTuple):
    """level: of the heading, from 1; 0: none."""

    level: int = 0
    is_title: bool = False
    is_list: bool = False


class Styles:
    """Collects the styles of `styles.xml`; `style` answers."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._bases: dict[str, str] = {}
        self._levels: dict[str, int] = {}
        self._lists: set[str] = set()
        self._known: dict[str, Style] = {}
        self._current = ""

    def style(self, id: str) -> Style:
        """Return what a style means, with what it takes from the styles that it is based on."""
        known = self._known.get(id)
        if known is None:
            known = self._known[id] = self._resolved(id)
        return known

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""
        tag = word(name)
        if tag == "style":
            self._current = value(attributes, "styleId")
        elif tag == "name":
            self._names.setdefault(self._current, value(attributes))
        elif tag == "basedOn":
            self._bases[self._current] = value(attributes)
        elif tag == "outlineLvl" and value(attributes).isdecimal():
            self._levels[self._current] = int(value(attributes)[:3])
        elif tag == "numPr":
            self._lists.add(self._current)

    def end(self, name: str) -> None:
        """Take the end of an element."""

    def text(self, text: str) -> None:
        """Take text: there is none."""

    def _resolved(self, id: str) -> Style:
        chain = self._chain(id)
        level = next((self._levels[one] + 1 for one in chain if one in self._levels), None)
        if level is None:
            named = (_HEADING.fullmatch(text) for one in chain for text in (self._names.get(one, ""), one))
            level = next((int(match[1]) for match in named if match), 0)
        name = self._names.get(id, id).casefold()
        is_list = name.startswith("list ") or any(one in self._lists for one in chain)
        return Style(level if level <= LEVELS else 0, name in _TITLES, is_list)

    def _chain(self, id: str) -> list[str]:
        chain = [id]
        while (base := self._bases.get(chain[-1])) and base not in chain and len(chain) < _LONGEST_CHAIN:
            chain.append(base)
        return chain


def read_styles(chunks: Iterable[bytes], limits: Limits) -> Styles:
    """Return the styles of `styles.xml`. Raises UnreadableDocument."""
    styles = Styles()
    parse(chunks, styles, limits)
    return styles
