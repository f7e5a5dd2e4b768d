"""Turns a parsed document into the structs of `schema.py`, collecting every fault with its key path.

msgspec converts the single values; the walk over the tables is ours, since msgspec's paths leave
out the names of models and tasks. Knows nothing of files, environment or what values refer to.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from arriero.config.locate import KeyPath
from arriero.config.poly import FLAT_KEYS, MODEL_ALIASES
from arriero.config.problem import Problem, hint
from arriero.config.remote import RemoteModelConfig
from arriero.config.schema import Config, ModelConfig

ELEMENT = re.compile(r" - at `\$(?:\[(\d+)\])?[^`]*`$")
UNKNOWN_VALUE = "unknown value"
WORDS = {"`object`": "a table", "`array`": "an array", "`str`": "a string", "`int`": "a whole number"}
WORDS |= {"`float`": "a number", "`bool`": "true or false", "Invalid enum value": UNKNOWN_VALUE}
VARIANTS: dict[type[msgspec.Struct], str] = {
    ModelConfig: " without upstream",
    RemoteModelConfig: " with upstream",
}
NO_VALUE = object()

PathReader = Callable[[str], Path]
Root = TypeVar("Root", bound=msgspec.Struct)


def decoded(
    kind: type[Root], document: Mapping[str, Any], *, read_path: PathReader
) -> tuple[Root | None, list[Problem]]:
    """Return the whole document as a struct, or None and everything that is wrong with it.

    `read_path` makes a path of what the file says; it raises ValueError for what is none.
    """
    decoder = _Decoder(kind, read_path)
    root = decoder.struct(kind, document, ())
    return (None if decoder.problems else root), decoder.problems


def keys_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the keys of a table with their types."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in msgspec.structs.fields(kind)}


def struct_of(key_type: Any) -> type[msgspec.Struct] | None:
    """Return the struct that a key holds, or None when the key holds something else."""
    plain = _plain(key_type)
    return plain if isinstance(plain, type) and issubclass(plain, msgspec.Struct) else None


def named_structs_of(key_type: Any) -> tuple[type[msgspec.Struct], ...]:
    """Return what may stand in a table of named tables, such as `models`; nothing when it is none."""
    plain = _plain(key_type)
    inner = get_args(plain)[1] if get_origin(plain) is dict else None
    members = get_args(inner) if get_origin(inner) in (Union, types.UnionType) else (inner,)
    return tuple(kind for member in members if (kind := struct_of(member)) is not None)


def named_struct(kinds: tuple[type[msgspec.Struct], ...], raw: Any) -> type[msgspec.Struct]:
    """Return which of the structs a named table is; only models have two."""
    is_remote = RemoteModelConfig in kinds and isinstance(raw, Mapping) and "upstream" in raw
    return RemoteModelConfig if is_remote else kinds[0]


def converted(value: Any, key_type: Any, read_path: PathReader) -> Any:
    """Return the value as its type. Raises msgspec.ValidationError, or OverflowError for huge numbers."""

    def hook(kind: type, written: Any) -> Any:
        if kind is not Path or not isinstance(written, str):
            raise ValueError("Expected `str`")
        return read_path(written)

    return msgspec.convert(value, key_type, dec_hook=hook)


class _Decoder:
    """Walks over the document; owns the list of problems."""

    def __init__(self, root: type[msgspec.Struct], read_path: PathReader) -> None:
        self.problems: list[Problem] = []
        self._root = root
        self._read_path = read_path

    def struct(self, kind: type[msgspec.Struct], raw: Any, path: KeyPath) -> Any:
        if not isinstance(raw, Mapping):
            return self._fail(path, f"expected a table, got {_kind_of(raw)}")
        keys = keys_of(kind)
        self.problems += [
            Problem((*path, key), f"unknown key{_key_hint(key, kind, self._root)}")
            for key in raw
            if key not in keys
        ]
        values = {key: self.value(keys[key], raw[key], (*path, key)) for key in keys if key in raw}
        missing = [
            field.name for field in msgspec.structs.fields(kind) if field.required and field.name not in raw
        ]
        self.problems += [Problem(path, f"the key {key} is missing") for key in missing]
        if missing or NO_VALUE in values.values():
            return NO_VALUE
        return kind(**values)

    def value(self, key_type: Any, raw: Any, path: KeyPath) -> Any:
        if (kind := struct_of(key_type)) is not None:
            return self.struct(kind, raw, path)
        if kinds := named_structs_of(key_type):
            return self._named(kinds, raw, path)
        return self._leaf(key_type, raw, path)

    def _named(self, kinds: tuple[type[msgspec.Struct], ...], raw: Any, path: KeyPath) -> Any:
        if not isinstance(raw, Mapping):
            return self._fail(path, f"expected tables [{path[-1]}.NAME], got {_kind_of(raw)}")
        values = {
            name: self.struct(named_struct(kinds, table), table, (*path, name)) for name, table in raw.items()
        }
        return NO_VALUE if NO_VALUE in values.values() else values

    def _leaf(self, key_type: Any, raw: Any, path: KeyPath) -> Any:
        strange = next(_not_json(raw, path), None)
        if strange is not None:
            return self._fail(strange.path, strange.message)
        try:
            return converted(raw, key_type, self._read_path)
        except (msgspec.ValidationError, OverflowError) as exc:
            message = str(exc)
            element = ELEMENT.search(message)
            inner = (int(element[1]),) if element and element[1] else ()
            in_words = _in_words(ELEMENT.sub("", message))
            if in_words.startswith(UNKNOWN_VALUE):
                in_words += f"; values here are {', '.join(_choices(key_type))}"
            return self._fail((*path, *inner), in_words)

    def _fail(self, path: KeyPath, message: str) -> Any:
        self.problems.append(Problem(path, message))
        return NO_VALUE


def _plain(key_type: Any) -> Any:
    """Return the type without annotations and without `| None`."""
    while get_origin(key_type) is Annotated:
        key_type = get_args(key_type)[0]
    if get_origin(key_type) in (Union, types.UnionType):
        members = [member for member in get_args(key_type) if member is not types.NoneType]
        return _plain(members[0]) if len(members) == 1 else key_type
    return key_type


def _choices(key_type: Any) -> tuple[str, ...]:
    """Return the words that a key takes, or that its list takes."""
    parts = get_args(key_type)
    if get_origin(key_type) is Literal:
        return parts
    return tuple(word for part in parts for word in _choices(part))


def _key_hint(key: str, kind: type[msgspec.Struct], root: type[msgspec.Struct]) -> str:
    """Return where the key belongs, or the key of this table that was probably meant."""
    keys = keys_of(kind)
    aliases = {Config: FLAT_KEYS, ModelConfig: MODEL_ALIASES}.get(kind, {})
    near = hint(key, [*keys, *aliases])
    if near:
        return near
    homes = [home for home, table in _homes(root) if key in keys_of(table)]
    if homes:
        return f"; it belongs in {' or '.join(homes)}"
    return f"; keys here are {', '.join(sorted({*keys, *aliases}))}"


def _homes(root: type[msgspec.Struct]) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    for key, key_type in keys_of(root).items():
        if (table := struct_of(key_type)) is not None:
            yield (f"[{key}]" if root is Config else key), table
        for named in named_structs_of(key_type):
            yield f"[{key}.NAME]{VARIANTS.get(named, '')}", named


def _not_json(raw: Any, path: KeyPath) -> Iterator[Problem]:
    """Yield the parts of a value that no key takes: dates, times, infinities and NaN."""
    if isinstance(raw, Mapping):
        for key, inner in raw.items():
            yield from _not_json(inner, (*path, key))
    elif isinstance(raw, list):
        for index, inner in enumerate(raw):
            yield from _not_json(inner, (*path, index))
    elif isinstance(raw, float) and not math.isfinite(raw):
        yield Problem(path, f"expected a finite number, got {raw}")
    elif raw is not None and not isinstance(raw, str | bool | int | float):
        yield Problem(path, f"no key takes {_kind_of(raw)}; put it in quotes if text is meant")


def _kind_of(raw: Any) -> str:
    match raw:
        case Mapping():
            return "a table"
        case list():
            return "an array"
        case str():
            return "a string"
        case bool():
            return str(raw).lower()
        case int() | float():
            return "a number"
        case None:
            return "nothing"
        case _:
            return "a date or time"


def _in_words(message: str) -> str:
    """Return msgspec's message in TOML's words."""
    message = message.replace(" | null", "")
    for word, plain in WORDS.items():
        message = message.replace(word, plain)
    return message[:1].lower() + message[1:].replace("`null`", "nothing")
