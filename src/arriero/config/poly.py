"""Brings Poly's flat top level and the aliases into the tables of `schema.py`. Pure.

`Origins.moved` remembers under which path the file has a key, so that messages name what the user wrote.
"""

from __future__ import annotations

from typing import Any

from arriero.config.locate import KeyPath
from arriero.config.problem import Origins, Problem, shown_path

FLAT_KEYS = {
    "bind_address": "server",
    "allowed_origins": "server",
    "max_concurrent": "server",
    "public": "auth",
    "allowed_keys": "auth",
    "jwt_private_key": "auth",
}
"""Poly's keys at the top of the file -> the table in which Arriero keeps them."""

MODEL_ALIASES = {"path": "model_path", "threads": "threads_per_session"}
"""Short words for keys of a model."""


def move_to_tables(document: dict[str, Any], origins: Origins) -> list[Problem]:
    """Put every key of the document at its canonical place; a key given in both places is a problem."""
    problems: list[Problem] = []
    for key, table in FLAT_KEYS.items():
        if key in document and isinstance(document.setdefault(table, {}), dict):
            problems += _move(document, (key,), (table, key), origins)
    models = document.get("models")
    for name, model in models.items() if isinstance(models, dict) else ():
        for alias, key in MODEL_ALIASES.items():
            if isinstance(model, dict) and alias in model:
                problems += _move(document, ("models", name, alias), ("models", name, key), origins)
    return problems


def _move(document: dict[str, Any], source: KeyPath, target: KeyPath, origins: Origins) -> list[Problem]:
    value = _table(document, source).pop(source[-1])
    table = _table(document, target)
    if target[-1] in table:
        return [Problem(source, f"also given as {shown_path(target)}; keep one of the two")]
    table[target[-1]] = value
    origins.moved[target] = source
    return []


def _table(document: dict[str, Any], path: KeyPath) -> dict[str | int, Any]:
    table: Any = document
    for key in path[:-1]:
        table = table[key]
    return table  # type: ignore[no-any-return]
