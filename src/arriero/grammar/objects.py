"""What a schema says of objects, in the form in which llguidance enforces it.

llguidance writes named properties in order, then any others in any order, and does not see whether two of
those others have the same name. So a `minProperties` that only others could fill is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from arriero.grammar import patterns, shapes
from arriero.grammar.shapes import Schema

if TYPE_CHECKING:
    from arriero.grammar.refusal import Path
    from arriero.grammar.schema import Rewriter

MAX_PROPERTIES = 1_000
MAX_COUNT = 2**31 - 1
ALL_NAMES = frozenset(patterns.translated(one) for one in ("", ".*", "^", "^.*", ".*$"))
"""Patterns that every name has: they are searched for, not matched from end to end."""


def parts(rewriter: Rewriter, told: Mapping[str, Any], block: dict[str, Any], path: Path) -> list[Schema]:
    """Write the keywords of objects into `block`; return what must hold besides."""
    properties = _properties(rewriter, told, "properties", path)
    patterned = _properties(rewriter, told, "patternProperties", path)
    required = rewriter.words(told["required"], (*path, "required")) if "required" in told else []
    if len(properties) + len(required) > MAX_PROPERTIES:
        raise rewriter.refusal((*path, "properties"), f"more than {MAX_PROPERTIES} properties")
    block.update(
        {
            "properties": {rewriter.name(name, path): one for name, one in properties.items()},
            "patternProperties": {
                rewriter.pattern(pattern, (*path, "patternProperties", pattern)): one
                for pattern, one in patterned.items()
            },
            "additionalProperties": _additional(rewriter, told, path),
            "required": [rewriter.name(name, path) for name in required],
        }
    )
    if "propertyNames" in told:
        _limit_names(rewriter, told["propertyNames"], block, (*path, "propertyNames"))
    _limit_count(rewriter, told, block, path)
    _drop_empty(block)
    return _dependents(rewriter, told, path)


def _properties(rewriter: Rewriter, told: Mapping[str, Any], key: str, path: Path) -> dict[str, Schema]:
    members = rewriter.members(told.get(key, {}), (*path, key))
    return {name: rewriter.schema(raw, (*path, key, name)) for name, raw in members.items()}


def _additional(rewriter: Rewriter, told: Mapping[str, Any], path: Path) -> Schema:
    key = "additionalProperties"
    if key not in told and told.get("unevaluatedProperties", True) is not True:
        key = "unevaluatedProperties"
        rewriter.refuse_beside_others(key, told, path)
    return rewriter.schema(told.get(key, True), (*path, key))


def _limit_names(rewriter: Rewriter, raw: object, block: dict[str, Any], path: Path) -> None:
    """Apply `propertyNames`: a list of names, or (with no other names about) a pattern or a length."""
    while isinstance(raw, Mapping) and raw.keys() == {"$ref"}:
        raw = rewriter.followed(raw["$ref"], path)
    names = rewriter.schema(raw, path)
    allowed = {"enum": []} if names is False else {} if names is True else dict(names)
    types = allowed.pop("type", "string")
    if "string" not in types:
        allowed = {"enum": []}
    if not allowed:
        return
    if block["patternProperties"].keys() <= ALL_NAMES and allowed.keys() <= {"enum", "const"}:
        listed = allowed.get("enum", [allowed["const"]] if "const" in allowed else [])
        _close([name for name in listed if isinstance(name, str)], block)
    elif block["properties"] or block["patternProperties"].keys() - ALL_NAMES:
        raise rewriter.refusal(path, "cannot be enforced beside properties or patternProperties")
    elif (expression := _expression(allowed)) is None:
        raise rewriter.refusal(path, "only a list of names, a pattern or a length can be enforced")
    else:
        block["patternProperties"] = {expression: _of_others(block)}
        block["additionalProperties"] = False


def _close(names: list[str], block: dict[str, Any]) -> None:
    """Leave no names but these."""
    others = [name for name in names if name not in block["properties"]]
    block["properties"] = {
        **{name: one if name in names else False for name, one in block["properties"].items()},
        **dict.fromkeys(others, _of_others(block)),
    }
    block["patternProperties"] = {}
    block["additionalProperties"] = False


def _of_others(block: dict[str, Any]) -> Schema:
    """Return the schema of names that are not listed, when patterns tell no names apart."""
    for one in block["patternProperties"].values():
        return shapes.all_of([one])
    return shapes.all_of([block["additionalProperties"]])


def _expression(allowed: Mapping[str, Any]) -> str | None:
    if allowed.keys() == {"pattern"}:
        return str(allowed["pattern"])
    if allowed.keys() <= {"minLength", "maxLength"}:
        return f"^{patterns.ANYTHING}{{{allowed.get('minLength', 0)},{allowed.get('maxLength', '')}}}$"
    return None


def _limit_count(rewriter: Rewriter, told: Mapping[str, Any], block: dict[str, Any], path: Path) -> None:
    """Apply `minProperties` and `maxProperties`, as far as they say more than `required` does."""
    fewest = rewriter.count(told, "minProperties", path, most=MAX_PROPERTIES) or 0
    most = rewriter.count(told, "maxProperties", path, most=MAX_COUNT)
    closed = block["additionalProperties"] is False and not block["patternProperties"]
    possible = [name for name, one in block["properties"].items() if one is not False]
    if fewest > len(block["required"]):
        if closed and fewest == len(possible):
            block["required"] = possible
        elif fewest > 1:
            raise rewriter.refusal((*path, "minProperties"), "cannot be enforced unless they are required")
        else:
            block["minProperties"] = fewest
    if most is not None and not (closed and most >= len(possible)):
        block["maxProperties"] = most


def _drop_empty(block: dict[str, Any]) -> None:
    for key in ("properties", "patternProperties", "required"):
        if not block[key]:
            del block[key]
    if block["additionalProperties"] is True:
        del block["additionalProperties"]


def _dependents(rewriter: Rewriter, told: Mapping[str, Any], path: Path) -> list[Schema]:
    """Return for each dependency: the property is absent, or what depends on it holds."""
    found: list[Schema] = []
    for key in ("dependentRequired", "dependentSchemas", "dependencies"):
        for name, raw in rewriter.members(told.get(key, {}), (*path, key)).items():
            place = (*path, key, name)
            present: Schema = {"required": [rewriter.name(name, place)]}
            if isinstance(raw, (list, tuple)):
                needed: Schema = {"required": [name, *rewriter.words(raw, place)]}
            else:
                needed = shapes.all_of([present, rewriter.schema(raw, place)])
            found.append(shapes.any_of([{"properties": {name: False}}, needed]))
    return found
