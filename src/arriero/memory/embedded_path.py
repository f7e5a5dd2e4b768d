"""Where the file of a memory is, as its configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from arriero.config.memory import MemoryConfig


def embedded_path(name: str, memory: MemoryConfig, cache: Path) -> Path | None:
    """Return the file of an embedded memory; None when it has none: on a server, or in memory only."""
    if memory.store.embedded is not None:
        return memory.store.embedded.path or cache / "memories" / f"{name}.db"
    if memory.store.hora is not None:
        return memory.store.hora.path
    return None
