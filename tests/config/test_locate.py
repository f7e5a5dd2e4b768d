"""The locator finds the line of every key path in a TOML text."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from arriero.config.locate import KeyPath, line_of, lines_of

TEXT = '''\
# comment with [brackets] and a = sign
top = 1 # [not.a.table]

[server]
bind_address = "a # b"
"quoted key" = 1
'literal key' = 2
"esc\\u0061ped" = 3
origins = [
  "one", # first
  """two
  lines""",
  ['three', "four"],
]
nested . dotted = { a = 1, b.c = [ { d = 2 }, { d = 3 } ] }
[models."my model".store]
path = \'\'\'
[fake]
key = 1\'\'\'
quotes = """"Said "x"""""
date = 1979-05-27 07:32:00
[[list]]
name = "first"
[list.inner]
deep = 1
[[list]]
name = "second"
inner.deep = 2
[[list.sub]]
x = 1
[[list.sub]]
x = 2
[empty]
'''

PLACES: list[tuple[KeyPath, int]] = [
    (("top",), 2),
    (("server",), 4),
    (("server", "bind_address"), 5),
    (("server", "quoted key"), 6),
    (("server", "literal key"), 7),
    (("server", "escaped"), 8),
    (("server", "origins"), 9),
    (("server", "origins", 0), 10),
    (("server", "origins", 1), 11),
    (("server", "origins", 2), 13),
    (("server", "origins", 2, 1), 13),
    (("server", "nested"), 15),
    (("server", "nested", "dotted", "a"), 15),
    (("server", "nested", "dotted", "b", "c", 1, "d"), 15),
    (("models",), 16),
    (("models", "my model", "store"), 16),
    (("models", "my model", "store", "path"), 17),
    (("models", "my model", "store", "quotes"), 20),
    (("models", "my model", "store", "date"), 21),
    (("list", 0), 22),
    (("list", 0, "name"), 23),
    (("list", 0, "inner", "deep"), 25),
    (("list", 1), 26),
    (("list", 1, "name"), 27),
    (("list", 1, "inner", "deep"), 28),
    (("list", 1, "sub", 0, "x"), 30),
    (("list", 1, "sub", 1, "x"), 32),
    (("empty",), 33),
]


@pytest.mark.parametrize(("path", "line"), PLACES)
def test_a_key_is_found_on_its_line(path: KeyPath, line: int) -> None:
    """Tables, dotted and quoted keys, inline tables and arrays lead to the line on which they stand."""
    assert lines_of(TEXT)[path] == line


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_path_of_the_document_is_found(newline: str) -> None:
    """The scanner knows exactly the key paths that tomllib reads, for both kinds of line end."""
    text = TEXT.replace("\n", newline)

    assert set(lines_of(text)) == set(_paths(tomllib.loads(text)))


def test_a_missing_key_is_placed_at_its_table() -> None:
    """For a path that is not there the line of the nearest table around it is given, or 0."""
    lines = lines_of(TEXT)

    assert line_of(lines, ("server", "missing", "more")) == 4
    assert line_of(lines, ("server", "origins", 7)) == 9
    assert line_of(lines, ("nothing",)) == 0
    assert line_of(lines_of(""), ("nothing",)) == 0


def _paths(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    found = [path] if path else []
    return found + [deeper for key, item in inner for deeper in _paths(item, (*path, key))]
