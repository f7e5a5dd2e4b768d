"""Schemas put together: the few shapes that the rewritten form is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from arriero.grammar.keywords import TYPES

Schema = dict[str, Any] | bool
"""A schema as it is compiled."""


def without(*types: str) -> Schema:
    """Return the schema of every type but these."""
    return {"type": [name for name in TYPES if name not in (*types, "integer")]}


def all_of(parts: Iterable[Schema]) -> Schema:
    """Return the schema that asks for all parts."""
    needed = [part for part in parts if part not in (True, {})]
    if any(part is False for part in needed):
        return False
    if len(needed) > 1:
        return {"allOf": needed}
    return needed[0] if needed else True


def any_of(parts: Iterable[Schema]) -> Schema:
    """Return the schema that asks for one part at least."""
    options = [part for part in parts if part is not False]
    if any(part in (True, {}) for part in options):
        return True
    if len(options) > 1:
        return {"anyOf": options}
    return options[0] if options else False
