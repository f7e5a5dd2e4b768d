"""Shows a document as the lines that tests compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arriero.extract.document import Document


def shown(document: Document) -> list[str]:
    """Return each block as its kind, the level of a heading, and its text."""
    return [
        f"{block.kind.value}{block.level or ''}: {document.text[block.start : block.end]}"
        for block in document.blocks
    ]
