"""JSON Schema (draft 2020-12) to the part of it that llguidance enforces exactly.

A schema is rewritten: remarks fall away, references lead to `$defs`, and `oneOf`, `not`, `if` and their
kin become `anyOf` and `allOf` (`logic.py`). What has no such form is refused by name and place, never
ignored. `objects.py` and `numbers.py` do the same for those types, `patterns.py` for regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from arriero.config.problem import hint
from arriero.errors import InvalidRequest
from arriero.grammar import endless, formats, keywords, logic, numbers, objects, patterns
from arriero.grammar.budget import check_budget
from arriero.grammar.disjoint import Disjointness
from arriero.grammar.references import Document
from arriero.grammar.refusal import Path, quoted, refusal
from arriero.grammar.shapes import Schema, all_of, any_of, without

MAX_WORK = 5_000
"""Schemas to write, with those that `not`, `oneOf` and their kin repeat."""
MAX_DEPTH = 100
MAX_ITEMS = 100_000
MAX_LENGTH = 2**31 - 1
MAX_SHORTEST = 100_000
"""A `minLength` or `minItems` above this cannot be written in one answer."""
MAX_STATES = 300_000
"""Repetitions of a group times characters: above it llguidance forbids texts that it should allow."""

CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")
"""Characters that JSON can only write as a number."""


def checked_schema(schema: object, *, where: str = "json_schema") -> dict[str, Any]:
    """Return the schema as it is to be compiled. Raises InvalidRequest naming keyword and place."""
    check_budget(schema, where=where)
    return Rewriter(Document(schema, where=where)).result()


class Rewriter:
    """Writes one document anew. `definitions` are those that some reference led to."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.disjointness = Disjointness(document)
        self.definitions: dict[str, Schema] = {}
        self.steps: set[int | float] = set()
        self.possible = keywords.ALL_TYPES
        self._names: dict[Path, str] = {}
        self._pending: list[Path] = []
        self._work = 0
        self._depth = 0

    def result(self) -> dict[str, Any]:
        """Return the whole document."""
        self._check_draft()
        root = self.schema(self.document.root, ())
        while self._pending:
            target = self._pending.pop()
            self.definitions[self._names[target]] = self.schema(self.document.at(target), target)
        if not numbers.common_step_fits(self.steps):
            raise self.refusal((), "its multipleOf takes too many states, or several together do")
        return self._document(root)

    def refusal(self, path: Path, reason: str) -> InvalidRequest:
        """Return the error for a place of this document."""
        return refusal(self.document.where, path, reason)

    def schema(self, raw: object, path: Path) -> Schema:
        """Return the schema that stands at `path`, rewritten."""
        if isinstance(raw, bool):
            return raw
        members = self.members(raw, path)
        self.enter(path)
        types = self.types(members, path)
        place = _block_place(members)
        parts: list[Schema] = []
        with self.among(self._possible(members, types)):
            for key in members:
                self._check_keyword(key, (*path, key))
                if key == place:
                    parts += self._block(members, types, path)
                if key in keywords.GENERAL:
                    parts += self._general(key, members, path)
        self.leave()
        return all_of(parts)

    @contextmanager
    def among(self, types: frozenset[str]) -> Iterator[None]:
        """Work on schemas of a value that can only have these types."""
        outer, self.possible = self.possible, types
        yield
        self.possible = outer

    def _possible(self, members: Mapping[str, Any], types: tuple[str, ...] | None) -> frozenset[str]:
        if members.keys().isdisjoint(keywords.GENERAL - {"$ref"}):
            return self.possible
        found = self.possible & (self.disjointness.types(members) | {"integer"})
        return found if types is None else keywords.common(found, types)

    def enter(self, path: Path) -> None:
        """Count one more schema, inside the one at work."""
        self._work += 1
        self._depth += 1
        if self._work > MAX_WORK or self._depth > MAX_DEPTH:
            raise self.refusal(
                path, "the schema is too large once references and alternatives are written out"
            )

    def leave(self) -> None:
        """End the schema that `enter` began."""
        self._depth -= 1

    def members(self, raw: object, path: Path) -> Mapping[str, Any]:
        """Return an object of the document, or refuse anything else."""
        if not isinstance(raw, Mapping):
            raise self.refusal(path, "must be an object (a schema may also be true or false)")
        return raw

    def entries(self, raw: object, path: Path) -> list[Any]:
        """Return a list of the document, or refuse anything else."""
        if not isinstance(raw, (list, tuple)):
            raise self.refusal(path, "must be a list")
        return list(raw)

    def words(self, raw: object, path: Path) -> list[str]:
        """Return a list of texts without its repetitions, or refuse anything else."""
        words = self.entries(raw, path)
        for index, word in enumerate(words):
            if not isinstance(word, str):
                raise self.refusal((*path, index), "must be a text")
        return list(dict.fromkeys(words))

    def count(self, members: Mapping[str, Any], key: str, path: Path, *, most: int) -> int | None:
        """Return a keyword that is a number of things, or None when it is absent."""
        value = members.get(key)
        if key not in members:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.refusal((*path, key), "must be a whole number, 0 or more")
        if value > most:
            raise self.refusal((*path, key), f"{most} is the most that can be enforced")
        return value

    def types(self, members: Mapping[str, Any], path: Path) -> tuple[str, ...] | None:
        """Return the types by name, `integer` beside `number` left out; None when all are allowed."""
        if "type" not in members:
            return None
        raw, place = members["type"], (*path, "type")
        names = [raw] if isinstance(raw, str) else self.words(raw, place)
        for name in names:
            if name not in keywords.TYPES:
                near = hint(name, keywords.TYPES, otherwise=f"; it is one of {', '.join(keywords.TYPES)}")
                raise self.refusal(place, f"{quoted(name)} is no type{near}")
        return tuple(name for name in dict.fromkeys(names) if name != "integer" or "number" not in names)

    def pattern(self, raw: object, path: Path) -> str:
        """Return a regular expression in llguidance's syntax."""
        if not isinstance(raw, str):
            raise self.refusal(path, "must be a text")
        try:
            return patterns.translated(raw)
        except ValueError as exc:
            raise self.refusal(path, f"this regular expression cannot be enforced: {exc}") from exc

    def name(self, name: str, path: Path) -> str:
        """Return the name of a property, if it can be written in one way only."""
        if CONTROL.search(name):
            raise self.refusal(path, "a name with a control character cannot be written")
        return name

    def value(self, raw: Any, path: Path) -> Any:
        """Return a JSON value that only itself is equal to."""
        if isinstance(raw, str):
            return self.name(raw, path)
        if isinstance(raw, Mapping):
            return {self.name(key, path): self.value(one, (*path, key)) for key, one in raw.items()}
        if isinstance(raw, (list, tuple)):
            return [self.value(one, (*path, index)) for index, one in enumerate(raw)]
        if isinstance(raw, bool) or raw is None:
            return raw
        return self._exact(raw, path)

    def bounds(self, members: Mapping[str, Any], path: Path) -> dict[str, int | float]:
        """Return the bounds of numbers; those of draft 4 (true and false) in today's form."""
        found: dict[str, int | float] = {}
        for key in (*numbers.BOUNDS, "multipleOf"):
            raw = members.get(key)
            if isinstance(raw, bool) and key.startswith("exclusive"):
                other = key.removeprefix("exclusive").lower()
                if raw and other in found:
                    found[key] = found.pop(other)
            elif key in members:
                found[key] = self._bound(key, raw, (*path, key))
        return found

    def _bound(self, key: str, raw: object, path: Path) -> int | float:
        if isinstance(raw, bool) or not isinstance(raw, (int, float)):
            raise self.refusal(path, "must be a number")
        if key != "multipleOf":
            return self._exact(raw, path)
        try:
            return numbers.step(raw)
        except ValueError as exc:
            raise self.refusal(path, str(exc)) from exc

    def _exact(self, raw: int | float, path: Path) -> int | float:
        try:
            return numbers.exact(raw)
        except ValueError as exc:
            raise self.refusal(path, str(exc)) from exc

    def _general(self, key: str, members: Mapping[str, Any], path: Path) -> list[Schema]:
        place = (*path, key)
        match key:
            case "$ref":
                return [self._reference(members[key], place)]
            case "allOf":
                return [self.schema(one, at) for at, one in self.branches(members, key, path)]
            case "anyOf":
                return [any_of(self.schema(one, at) for at, one in self.branches(members, key, path))]
            case _:
                return logic.parts(self, key, members, path)

    def branches(self, members: Mapping[str, Any], key: str, path: Path) -> list[tuple[Path, object]]:
        """Return the members of `allOf`, `anyOf` or `oneOf`, each with its place."""
        options = self.entries(members[key], (*path, key))
        return [((*path, key, index), option) for index, option in enumerate(options)]

    def followed(self, reference: object, path: Path) -> object:
        """Return what a `$ref` leads to, as it was written."""
        self._work += 1
        if self._work > MAX_WORK:
            raise self.refusal(path, "references go round in a circle")
        return self.document.at(self.document.target(reference, path))

    def _reference(self, raw: object, path: Path) -> Schema:
        target = self.document.target(raw, path)
        if not target:
            return {"$ref": "#"}
        if target not in self._names:
            self._names[target] = f"{len(self._names)}"
            self._pending.append(target)
        return {"$ref": f"#/$defs/{self._names[target]}"}

    def _block(self, members: Mapping[str, Any], types: tuple[str, ...] | None, path: Path) -> list[Schema]:
        """Return what is said of each type: one schema for all, and parts that must hold besides."""
        block: dict[str, Any] = {}
        parts: list[Schema] = [block]
        if types is not None:
            if not types:
                return [False]
            block["type"] = types[0] if len(types) == 1 else list(types)
        if members.get("enum") == []:
            return [False]
        for key in ("const", "enum"):
            if key in members:
                block[key] = self.value(members[key], (*path, key))
        if "enum" in block:
            self.entries(block["enum"], (*path, "enum"))
        named = keywords.ALL_TYPES if types is None else frozenset(types)
        told = {key: raw for key, raw in members.items() if keywords.about(key, named)}
        parts += self._number(told, types, block, path)
        parts += self._string(told, block, path)
        with self.among(keywords.ALL_TYPES):
            self._array(told, block, path)
            parts += objects.parts(self, told, block, path)
        return parts

    def _number(
        self, told: Mapping[str, Any], types: tuple[str, ...] | None, block: dict[str, Any], path: Path
    ) -> list[Schema]:
        bounds = self.bounds(told, path)
        whole = types is not None and "number" not in types
        options = [bounds] if whole else numbers.alternatives(bounds)
        self.steps |= {one["multipleOf"] for one in options if "multipleOf" in one}  # type: ignore[misc]
        if len(options) == 1 and "enum" not in options[0]:
            block.update(options[0])
            return []
        return [any_of([without("number"), *({"type": "number", **one} for one in options)])]

    def _string(self, told: Mapping[str, Any], block: dict[str, Any], path: Path) -> list[Schema]:
        shortest = self.count(told, "minLength", path, most=MAX_SHORTEST)
        longest = self.count(told, "maxLength", path, most=MAX_LENGTH)
        expressions = [self.pattern(told["pattern"], (*path, "pattern"))] if "pattern" in told else []
        if "format" in told and (expression := self._format(told["format"], (*path, "format"))):
            expressions.append(expression)
            own = formats.MAX_LENGTHS.get(told["format"], MAX_LENGTH)
            longest = own if longest is None else min(longest, own)
        if shortest:
            block["minLength"] = shortest
        if longest is not None and longest < MAX_LENGTH:
            block["maxLength"] = longest
        counted = patterns.repetitions(expressions[0]) if "pattern" in told else 1
        if counted * block.get("maxLength", 1) > MAX_STATES:
            raise self.refusal((*path, "maxLength"), "too large beside a pattern that counts a group")
        if expressions:
            block["pattern"] = expressions[0]
        return [{"pattern": expression} for expression in expressions[1:]]

    def _format(self, raw: object, path: Path) -> str | None:
        if not isinstance(raw, str):
            raise self.refusal(path, "must be a text")
        if raw in formats.REFUSED:
            raise self.refusal(path, f"the format {raw} cannot be enforced")
        plain = raw.lower().replace("_", "-")
        near = plain if plain in formats.PATTERNS else formats.SIMILAR.get(plain)
        if raw not in formats.PATTERNS and near:
            raise self.refusal(path, f"there is no format {quoted(raw)}; did you mean {near}?")
        return formats.PATTERNS.get(raw)

    def _array(self, told: Mapping[str, Any], block: dict[str, Any], path: Path) -> None:
        first, rest = _items_keys(told)
        if first in told:
            entries = self.entries(told[first], (*path, first))
            block["prefixItems"] = [self.schema(one, (*path, first, at)) for at, one in enumerate(entries)]
        if rest in told:
            block["items"] = self.schema(told[rest], (*path, rest))
        elif told.get("unevaluatedItems", True) is not True:
            self.refuse_beside_others("unevaluatedItems", told, path)
            block["items"] = self.schema(told["unevaluatedItems"], (*path, "unevaluatedItems"))
        if fewest := self.count(told, "minItems", path, most=MAX_SHORTEST):
            block["minItems"] = fewest
        if (most := self.count(told, "maxItems", path, most=MAX_ITEMS)) is not None:
            block["maxItems"] = most
        if told.get("uniqueItems", False) is not False and block.get("maxItems", 2) > 1:
            raise self.refusal((*path, "uniqueItems"), "that items differ from each other cannot be enforced")
        if "contains" in told and (told.get("minContains") != 0 or "maxContains" in told):
            raise self.refusal((*path, "contains"), "that some item conforms cannot be enforced")

    def refuse_beside_others(self, key: str, told: Mapping[str, Any], path: Path) -> None:
        """Refuse `unevaluated...` where it depends on what other schemas have looked at."""
        others = keywords.GENERAL | {
            "dependentSchemas",
            "dependencies",
            "contains",
        }
        if found := sorted(others & told.keys()):
            raise self.refusal((*path, key), f"cannot be enforced beside {found[0]}")

    def _check_keyword(self, key: str, path: Path) -> None:
        if key in keywords.REFUSED:
            raise self.refusal(path, "this keyword cannot be enforced")
        if key not in keywords.KNOWN and (near := keywords.meant(key)):
            raise self.refusal(path, f'no keyword of JSON Schema; did you mean "{near}"?')

    def _check_draft(self) -> None:
        root = self.document.root
        draft = root.get("$schema") if isinstance(root, Mapping) else None
        if isinstance(draft, str) and draft.removesuffix("#") not in keywords.DRAFTS:
            raise self.refusal(
                ("$schema",), f"{draft[:80]} is not known; leave it out, or name draft 2020-12"
            )

    def _document(self, root: Schema) -> dict[str, Any]:
        if dead := endless.endless(root, self.definitions):
            names = {name: target for target, name in self._names.items()}
            raise self.refusal(names.get(dead, ()), "no value can conform: it would never end, or is false")
        document = {} if isinstance(root, bool) else dict(root)
        if self.definitions:
            document["$defs"] = self.definitions
        return document


def _block_place(members: Mapping[str, Any]) -> str | None:
    """Return the keyword at which the block stands: that orders the properties of all parts."""
    found = [key for key in members if key in keywords.BLOCK]
    if "properties" in found:
        return "properties"
    return next((key for key in found if key != "type"), found[0] if found else None)


def _items_keys(told: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the first items and the rest of them are called: it was different before 2020-12."""
    if isinstance(told.get("items"), (list, tuple)):
        return "items", "additionalItems"
    return "prefixItems", "items"
