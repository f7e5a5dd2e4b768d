"""Which rewritten schemas no finite value conforms to, as far as required parts and references say."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from arriero.grammar.shapes import Schema

ROOT = "#"


def endless(root: Schema, definitions: Mapping[str, Schema]) -> str | None:
    """Return a definition (or ROOT) that nothing can conform to, or None.

    A schema is good once its required parts are: what is never found good recurses without an end.
    """
    schemas = {ROOT: root, **{f"#/$defs/{name}": one for name, one in definitions.items()}}
    users: dict[str, list[str]] = {}
    for name, one in schemas.items():
        for target in _references(one):
            users.setdefault(target, []).append(name)
    good: set[str] = set()
    waiting = deque(schemas)
    while waiting:
        name = waiting.popleft()
        if name not in good and _ends(schemas[name], good):
            good.add(name)
            waiting.extend(users.get(name, ()))
    dead = [name for name, one in schemas.items() if name not in good and (one is not False or name == ROOT)]
    return dead[0].removeprefix("#/$defs/") if dead else None


def _references(part: object) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _references(inner)


def _ends(schema: Schema, good: set[str]) -> bool:
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return schema["$ref"] in good
    if not all(_ends(part, good) for part in schema.get("allOf", ())):
        return False
    if "anyOf" in schema and not any(_ends(part, good) for part in schema["anyOf"]):
        return False
    if schema.get("type") == "object":
        needed = (_property(schema, name) for name in schema.get("required", ()))
        return all(_ends(one, good) for one in needed)
    if schema.get("type") == "array":
        first = schema.get("prefixItems", [])
        count = schema.get("minItems", 0)
        rest = [schema.get("items", True)] if count > len(first) else []
        return all(_ends(one, good) for one in [*first[:count], *rest])
    return True


def _property(schema: Mapping[str, Any], name: str) -> Schema:
    named: Mapping[str, Schema] = schema.get("properties", {})
    others: Schema = True if "patternProperties" in schema else schema.get("additionalProperties", True)
    return named.get(name, others)
