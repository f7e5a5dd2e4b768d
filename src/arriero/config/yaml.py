"""Reads a YAML text into plain values and the line of every key. Pure.

Scalars are read by the core schema of YAML 1.2, as other tools do: `on` and `no` are texts. What a small
configuration never needs is refused before anything is built from it: anchors, aliases, tags, keys given
twice, deep nesting, long texts. PyYAML does the scanning; its types stop here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from arriero.config.locate import KeyPath

MAX_CHARACTERS = 64 * 1024
MAX_DEPTH = 8
NULL = re.compile(r"|~|null|Null|NULL")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?[0-9]{1,30}")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,4})?")


class YamlError(ValueError):
    """The text cannot be read; `line` is counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def read_yaml(text: str) -> tuple[Any, dict[KeyPath, int]]:
    """Return the value of the only document of a text, and the line of each key path. Raises YamlError."""
    if len(text) > MAX_CHARACTERS:
        raise YamlError(1, f"longer than {MAX_CHARACTERS} characters")
    reader = _Reader(_events(text))
    return reader.document(), reader.lines


def _events(text: str) -> Iterator[Any]:
    """Yield what PyYAML scans; its exceptions become YamlError."""
    line = 1
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = _line(event)
            yield event
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise YamlError(mark.line + 1 if mark else line, exc.problem or "cannot be read") from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise YamlError(line, f"the character U+{ord(text[exc.position]):04X} is not allowed") from exc
    except (ValueError, OverflowError) as exc:
        # Escapes beyond Unicode and the like.
        raise YamlError(line, str(exc)) from exc


class _Reader:
    """Takes one event after the other; owns `lines`."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._events = events

    def document(self) -> Any:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), ())
        next(self._events)
        rest = next(self._events)
        if not isinstance(rest, yaml.StreamEndEvent):
            raise YamlError(_line(rest), "a second document begins here; one is expected")
        return value

    def _value(self, event: Any, path: KeyPath) -> Any:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise YamlError(_line(event), "anchors and aliases are not taken; write the value out")
        if event.tag is not None:
            raise YamlError(_line(event), f"tags such as {event.tag[:80]} are not taken")
        if len(path) > MAX_DEPTH:
            raise YamlError(_line(event), f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return _scalar(event) if event.implicit[0] else _text(event)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise YamlError(_line(event), "a key is a plain text")
            key = _text(event)
            if key in values:
                raise YamlError(_line(event), f"the key {key[:80]} is given twice")
            self.lines[(*path, key)] = _line(event)
            values[key] = self._value(next(self._events), (*path, key))
        return values

    def _sequence(self, path: KeyPath) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self.lines[(*path, len(values))] = _line(event)
            values.append(self._value(event, (*path, len(values))))
        return values


def _scalar(event: Any) -> Any:
    """Return what a scalar without quotes means."""
    text = _text(event)
    if NULL.fullmatch(text):
        return None
    if BOOL.fullmatch(text):
        return text.lower() == "true"
    if INT.fullmatch(text):
        return int(text)
    return float(text) if FLOAT.fullmatch(text) else text


def _text(event: Any) -> str:
    text: str = event.value
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise YamlError(_line(event), "a text holds half of a surrogate pair")
    return text


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1
