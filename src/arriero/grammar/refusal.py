"""How a schema is refused: with the place of the offending key, as a user would write it."""

from __future__ import annotations

import re

from arriero.errors import InvalidRequest

Path = tuple[str | int, ...]
"""The keys and indices from the root of a schema to a place in it."""

MAX_SHOWN = 60
SHOWN_PARTS = 12
BARE_KEY = re.compile(r"[A-Za-z0-9_$-]+")


def refusal(where: str, path: Path, reason: str) -> InvalidRequest:
    """Return the error that says what is wrong at one place of a schema."""
    place = shown(where, path)
    return InvalidRequest(f"{place}: {reason}", param=place)


def shown(where: str, path: Path) -> str:
    """Return a place such as `json_schema.properties.a.anyOf[0]`; the middle of a long one is left out."""
    if len(path) > SHOWN_PARTS:
        half = SHOWN_PARTS // 2
        return _joined(_joined(where, path[:half]) + "...", path[-half:])
    return _joined(where, path)


def _joined(start: str, path: Path) -> str:
    for part in path:
        start += f"[{part}]" if isinstance(part, int) else f".{quoted(part)}"
    return start


def quoted(key: str) -> str:
    """Return a key for a message: cut, and in quotes when it is not a plain word."""
    if len(key) > MAX_SHOWN:
        key = key[:MAX_SHOWN] + "..."
    if BARE_KEY.fullmatch(key):
        return key
    return '"' + "".join(char if char.isprintable() else f"\\u{ord(char):04X}" for char in key) + '"'
