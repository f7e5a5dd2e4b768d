"""`oneOf`, `not`, `if` written with `anyOf` and `allOf` alone.

Exactly one of several is: one of them, and none of those that it may overlap with. None of them is a
negation, and those are written keyword by keyword: a value fails a schema if it fails one of its keywords.
What no automaton of ours can fail (a pattern, a multiple, the items of a list) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

from arriero.grammar import formats, keywords, patterns
from arriero.grammar.keywords import ALL_TYPES, common
from arriero.grammar.shapes import Schema, all_of, any_of, without

if TYPE_CHECKING:
    from arriero.grammar.refusal import Path
    from arriero.grammar.schema import Rewriter

MAX_BRANCHES = 150
MAX_POSITIONS = 8
"""Of an array that may not hold more items, each can be told to be the bad one."""
MAX_WORDS = 1_000
"""Characters in all the texts that a value must differ from."""
PLAIN = re.compile(r"\^([A-Za-z0-9 _-]{1,100})\$")
"""A pattern of one text only."""

OPPOSITES = {
    "minimum": "exclusiveMaximum",
    "maximum": "exclusiveMinimum",
    "exclusiveMinimum": "maximum",
    "exclusiveMaximum": "minimum",
}
COUNTS = {
    "minLength": "maxLength",
    "minItems": "maxItems",
    "minProperties": "maxProperties",
    "maxLength": "minLength",
    "maxItems": "minItems",
}


def parts(rewriter: Rewriter, key: str, members: Mapping[str, Any], path: Path) -> list[Schema]:
    """Return what `oneOf`, `not` or `if` asks for."""
    match key:
        case "oneOf":
            return [_exactly_one(rewriter, rewriter.branches(members, key, path), members)]
        case "not":
            return [negated(rewriter, members[key], (*path, key))]
        case "if":
            return _conditional(rewriter, members, path)
        case _:
            return []


def _conditional(rewriter: Rewriter, members: Mapping[str, Any], path: Path) -> list[Schema]:
    place = (*path, "if")
    found: list[Schema] = []
    if "then" in members:
        fails = negated(rewriter, members["if"], place)
        found.append(any_of([fails, rewriter.schema(members["then"], (*path, "then"))]))
    if "else" in members:
        holds = rewriter.schema(members["if"], place)
        found.append(any_of([holds, rewriter.schema(members["else"], (*path, "else"))]))
    return found


def _exactly_one(
    rewriter: Rewriter,
    branches: list[tuple[Path, object]],
    members: Mapping[str, Any],
) -> Schema:
    _check_number(rewriter, branches)
    overlapping: dict[int, list[int]] = {index: [] for index in range(len(branches))}
    for left, right in combinations(overlapping, 2):
        if not _apart(rewriter, branches[left][1], branches[right][1], members):
            overlapping[left].append(right)
            overlapping[right].append(left)
    return any_of(
        all_of(
            [
                rewriter.schema(raw, path),
                *(negated(rewriter, branches[other][1], branches[other][0]) for other in overlapping[index]),
            ]
        )
        for index, (path, raw) in enumerate(branches)
    )


def _not_exactly_one(
    rewriter: Rewriter,
    branches: list[tuple[Path, object]],
    members: Mapping[str, Any],
) -> Schema:
    """Return the schema of the values that conform to none of the branches, or to two of them."""
    _check_number(rewriter, branches)
    none = all_of([negated(rewriter, raw, path) for path, raw in branches])
    pairs = (
        all_of([rewriter.schema(raw, path), rewriter.schema(other, place)])
        for (path, raw), (place, other) in combinations(branches, 2)
        if not _apart(rewriter, raw, other, members)
    )
    return any_of([none, *pairs])


def _check_number(rewriter: Rewriter, branches: list[tuple[Path, object]]) -> None:
    """Refuse more branches than can be compared with each other."""
    if len(branches) > MAX_BRANCHES:
        raise rewriter.refusal(branches[0][0][:-1], f"more than {MAX_BRANCHES} branches cannot be compared")


def _apart(rewriter: Rewriter, left: object, right: object, members: Mapping[str, Any]) -> bool:
    """Return whether two branches exclude each other, given what else holds beside them."""
    beside = {key: raw for key, raw in members.items() if key != "oneOf"}
    return rewriter.disjointness.proved({"allOf": [left, beside]}, right)


def negated(rewriter: Rewriter, raw: object, path: Path) -> Schema:
    """Return the schema of the values that do not conform."""
    if isinstance(raw, bool):
        return not raw
    rewriter.enter(path)
    members = rewriter.members(raw, path)
    own = rewriter.types(members, path)
    outside = False if own is None else _other_types(rewriter, own, (*path, "type"))
    with rewriter.among(rewriter.possible if own is None else common(rewriter.possible, own)):
        known = [key for key in members if key in keywords.KNOWN - keywords.REMARKS]
        inside = any_of(_failing(rewriter, key, members, path) for key in known)
    rewriter.leave()
    return any_of([outside, inside if own is None else all_of([{"type": list(own)}, inside])])


def _other_types(rewriter: Rewriter, own: Sequence[str], path: Path) -> Schema:
    possible = rewriter.possible
    if "integer" in own and "number" in possible:
        raise rewriter.refusal(path, "a number that is not whole cannot be enforced")
    gone = {*own, "integer"} if "number" in own else set(own)
    left = [name for name in keywords.TYPES if name in possible and name not in gone]
    return {"type": left} if left else False


def _failing(rewriter: Rewriter, key: str, members: Mapping[str, Any], path: Path) -> Schema:
    """Return the schema of the values that fail one keyword."""
    place, raw = (*path, key), members[key]
    if not keywords.about(key, rewriter.possible):
        return False
    match key:
        case "type" | "then" | "else" | "minContains" | "maxContains":
            return False
        case "const":
            return _differing(rewriter, [raw], place)
        case "enum":
            return _differing(rewriter, rewriter.entries(raw, place), place)
        case "$ref":
            target = rewriter.document.target(raw, place)
            return negated(rewriter, rewriter.document.at(target), target)
        case "not":
            return rewriter.schema(raw, place)
        case "allOf":
            return any_of(negated(rewriter, one, at) for at, one in rewriter.branches(members, key, path))
        case "anyOf":
            return all_of([negated(rewriter, one, at) for at, one in rewriter.branches(members, key, path)])
        case "oneOf":
            return _not_exactly_one(rewriter, rewriter.branches(members, key, path), members)
        case "pattern" if isinstance(raw, str) and (word := PLAIN.fullmatch(raw)):
            return {"type": "string", "pattern": patterns.other_than([word[1]])}
        case "format" if formats.is_remark(raw):
            return False
        case "items" if (
            0 < (most := members.get("maxItems", 0)) <= MAX_POSITIONS and "prefixItems" not in members
        ):
            bad = _elsewhere(rewriter, raw, place)
            return any_of(_with_bad_item(bad, index) for index in range(int(most)))
        case "required":
            return any_of(_lacking(rewriter.name(name, place)) for name in rewriter.words(raw, place))
        case "properties":
            return any_of(
                _with_bad(rewriter, name, one, place) for name, one in rewriter.members(raw, place).items()
            )
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            if isinstance(members.get(f"exclusive{key.removeprefix('exclusive').capitalize()}"), bool):
                raise rewriter.refusal(
                    place, "true and false of draft 4 cannot be enforced here; write a number"
                )
            return rewriter.schema({"type": "number", OPPOSITES[key]: raw}, place)
        case "minLength" | "minItems" | "minProperties":
            count = rewriter.count(members, key, path, most=2**31 - 1) or 0
            return _about(key, COUNTS[key], count - 1) if count else False
        case "maxLength" | "maxItems":
            return _about(key, COUNTS[key], (rewriter.count(members, key, path, most=2**31 - 1) or 0) + 1)
    if raw is True or raw == {} or (key == "uniqueItems" and raw is False):
        return False
    raise rewriter.refusal(place, "cannot be enforced below not, if, or an oneOf with branches that overlap")


def _about(key: str, opposite: str, count: int) -> Schema:
    return {"type": keywords.ABOUT[key], opposite: count}


def _lacking(name: str) -> Schema:
    return {"type": "object", "properties": {name: False}}


def _with_bad(rewriter: Rewriter, name: str, raw: object, path: Path) -> Schema:
    bad = _elsewhere(rewriter, raw, (*path, name))
    if bad is False:
        return False
    return {"type": "object", "properties": {rewriter.name(name, path): bad}, "required": [name]}


def _with_bad_item(bad: Schema, index: int) -> Schema:
    if bad is False:
        return False
    return {"type": "array", "prefixItems": [*[True] * index, bad], "minItems": index + 1}


def _elsewhere(rewriter: Rewriter, raw: object, path: Path) -> Schema:
    """Return the negation of a schema for another value than the one at hand."""
    with rewriter.among(ALL_TYPES):
        return negated(rewriter, raw, path)


def _differing(rewriter: Rewriter, values: list[Any], path: Path) -> Schema:
    """Return the schema of everything but some values."""
    texts = [rewriter.value(one, path) for one in values if isinstance(one, str)]
    numbers = sorted({one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool)})
    logical = {one for one in values if isinstance(one, bool)}
    touched = {"string": texts, "number": numbers, "boolean": logical, "null": None in values}
    nested = any(isinstance(one, (Mapping, list, tuple)) for one in values)
    if nested and {"object", "array"} & rewriter.possible:
        raise rewriter.refusal(path, "that a value differs from an object or a list cannot be enforced")
    if sum(map(len, texts)) > MAX_WORDS:
        raise rewriter.refusal(path, "too much text to differ from")
    options = [without(*(name for name, found in touched.items() if found))]
    if texts:
        options.append({"type": "string", "pattern": patterns.other_than(texts)})
    if numbers:
        options += _between(rewriter, numbers, path)
    if logical:
        options += [{"const": one} for one in (True, False) if one not in logical]
    return any_of(options)


def _between(rewriter: Rewriter, numbers: list[int | float], path: Path) -> list[Schema]:
    """Return the gaps around some numbers."""
    edges = [None, *numbers, None]
    gaps = []
    for lower, upper in pairwise(edges):
        bounds = {"exclusiveMinimum": lower, "exclusiveMaximum": upper}
        given = {key: bound for key, bound in bounds.items() if bound is not None}
        gaps.append(rewriter.schema({"type": "number", **given}, path))
    return gaps
