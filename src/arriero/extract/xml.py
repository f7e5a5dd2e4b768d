"""Reads XML as a stream of events, with expat: no DTD, no entities, bounded depth and names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from xml.parsers import expat

from arriero.extract.limits import damaged, limit_hit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arriero.extract.limits import Limits

LONGEST_TOKEN = 4 * 1024 * 1024
"""Bytes that expat may hold back: of a tag, with its attributes."""


class Handler(Protocol):
    """Takes the events. Names are `namespace name`, with a space between."""

    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


def parse(chunks: Iterable[bytes], handler: Handler, limits: Limits) -> None:
    """Hand the events of a document to the handler. Raises UnreadableDocument."""
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > limits.depth:
            raise limit_hit("depth", f"the document nests elements deeper than {limits.depth}")
        handler.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(name)

    def refuse(*_: object) -> None:
        raise damaged("the document holds a DTD, which documents of this format must not")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.buffer_text = True
    _feed(parser, chunks)


def _feed(parser: expat.XMLParserType, chunks: Iterable[bytes]) -> None:
    fed = 0
    try:
        for chunk in chunks:
            parser.Parse(chunk, False)
            fed += len(chunk)
            if fed - parser.CurrentByteIndex > LONGEST_TOKEN:
                raise damaged("the document is damaged: a tag in it never ends")
        parser.Parse(b"", True)
    except expat.ExpatError as exc:
        raise damaged(
            f"the document is damaged: XML, line {exc.lineno}: {expat.ErrorString(exc.code)}"
        ) from exc
    except (LookupError, ValueError) as exc:  # an encoding that Python does not know
        raise damaged("the document is damaged: its XML is in no known encoding") from exc
