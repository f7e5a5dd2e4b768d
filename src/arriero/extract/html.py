"""Reads HTML: what a reader sees of it, in order. The file that touches selectolax.

Tables whose cells hold headings, lists or other tables lay a page out: they are read as if they were
not there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from selectolax.lexbor import LexborHTMLParser

from arriero.extract.detect import Format
from arriero.extract.document import Document, Kind
from arriero.extract.limits import Limits, limit_hit
from arriero.extract.plain import decode
from arriero.extract.writer import Writer, one_line

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SKIPPED = _words(
    "script style noscript template nav head svg iframe object canvas audio video button select textarea"
    " datalist dialog input map"
)
_APART = _words(
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer form"
    " header hgroup hr html legend main p section summary"
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LISTS = frozenset({"ul", "ol", "menu"})
_LAYOUT = "table, h1, h2, h3, h4, ul, ol, pre"
# UTF-16 and UTF-32 cannot be what is said in bytes of ASCII.
_CHARSET = re.compile(
    rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*(?!utf-?(?:16|32))([\w.:+-]{2,40})", re.IGNORECASE
)
_CHARSET_WITHIN = 4096
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_DEEPEST_LIST = 8


def read(data: bytes, charset: str | None, limits: Limits) -> Document:
    """Return the document. Raises UnreadableDocument."""
    said = _CHARSET.search(data[:_CHARSET_WITHIN])
    text = decode(data, charset or (said[1].decode().lower() if said else None), errors="replace")
    if len(text) > limits.text_chars:
        raise limit_hit("text_chars", f"the document is longer than {limits.text_chars} characters")
    tree = LexborHTMLParser(text)
    writer = Writer(limits)
    if tree.root is not None:
        _walk(tree.root, _Reader(writer))
    title = tree.css_first("head title") or tree.css_first("title")
    return writer.document(title.text() if title else None, Format.HTML.value)


def _walk(root: LexborNode, reader: _Reader) -> None:
    """Visit all nodes in order, without recursion: trees of hostile documents are deep."""
    node: LexborNode | None = root
    while node is not None:
        if reader.enter(node) and (child := node.first_child) is not None:
            node = child
            continue
        reader.leave(node)
        while node is not None and (following := node.next) is None:
            node = node.parent
            if node is None or node.mem_id == root.mem_id:
                return
            reader.leave(node)
        node = following


class _Reader:
    """Takes the tree as it is walked; holds the text of the block that is not finished."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._parts: list[str] = []
        self._items: list[str] = []
        self._lists: list[int | None] = []  # for each open list the number of its last item; None: bullets
        self._rows: list[list[str]] | None = None
        self._table = 0  # the node of the open table
        self._pre = 0

    def enter(self, node: LexborNode) -> bool:
        """Take the start of a node; say whether what is in it counts."""
        tag = node.tag
        if tag == "-text":
            self._parts.append(node.text_content or "")
            return False
        if tag in _SKIPPED or tag is None or _is_hidden(node):
            return False
        if tag == "br":
            self._parts.append("\n" if self._pre else "\u2028")
        elif self._rows is not None:
            self._enter_in_table(tag)
        elif tag == "table" and not _lays_out(node):
            self._end_all()
            self._rows, self._table = [], node.mem_id
        else:
            self._enter_text(tag, node)
        return True

    def leave(self, node: LexborNode) -> None:
        """Take the end of a node, entered or not."""
        tag = node.tag
        if self._rows is not None:
            if node.mem_id == self._table:
                self._writer.table(self._rows)
                self._rows = None
            elif tag in {"td", "th", "caption"}:
                self._end_cell()
        elif level := _HEADINGS.get(tag or ""):
            self._writer.heading(self._taken(), level)
        elif tag == "pre" and self._pre:
            self._pre -= 1
            self._writer.block(Kind.CODE, "".join(self._parts))
            self._parts = []
        elif tag in _LISTS and self._lists:
            self._end_list()
        elif tag == "li" or tag in _APART or tag in {"td", "th", "tr", "table", "caption"}:
            self._end_block()

    def _enter_in_table(self, tag: str) -> None:
        assert self._rows is not None
        if tag in {"tr", "caption"}:
            self._rows.append([])
            self._parts = []
        elif tag in {"td", "th"}:
            self._parts = []
        elif tag in _APART:
            self._parts.append(" ")

    def _end_cell(self) -> None:
        assert self._rows is not None
        if not self._rows:
            self._rows.append([])
        self._rows[-1].append(self._taken())

    def _enter_text(self, tag: str, node: LexborNode) -> None:
        if tag in _LISTS:
            self._end_block()
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._end_block()
            if self._lists and (last := self._lists[-1]) is not None:
                self._lists[-1] = last + 1
        elif tag in _HEADINGS or tag == "pre":
            self._end_all()
            self._pre += tag == "pre"
        elif tag in _APART or tag in {"table", "tr", "td", "th"}:
            self._end_block()

    def _end_list(self) -> None:
        self._end_block()
        self._lists.pop()
        if not self._lists:
            self._end_items()

    def _end_block(self) -> None:
        """End a paragraph, or an item of a list."""
        if self._pre:
            return
        text = "\n".join(one_line(line) for line in "".join(self._parts).split("\u2028")).strip()
        self._parts = []
        if not text:
            return
        if self._lists:
            number = self._lists[-1]
            mark = "- " if number is None else f"{number}. "
            self._items.append("  " * min(len(self._lists) - 1, _DEEPEST_LIST) + mark + text)
        else:
            self._writer.block(Kind.PARAGRAPH, text)

    def _end_items(self) -> None:
        self._writer.block(Kind.LIST, "\n".join(self._items))
        self._items = []

    def _end_all(self) -> None:
        self._end_block()
        self._end_items()

    def _taken(self) -> str:
        text = one_line("".join(self._parts))
        self._parts = []
        return text


def _lays_out(table: LexborNode) -> bool:
    return any(child.css_first(_LAYOUT) is not None for child in table.iter())


def _is_hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    return "hidden" in attributes or bool(_HIDDEN.search(attributes.get("style") or ""))
