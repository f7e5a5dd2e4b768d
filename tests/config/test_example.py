"""The example configuration and the documentation know exactly the keys of the schema."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arriero.config.decode import converted, keys_of, named_structs_of, struct_of
from arriero.config.load import check, load_config
from arriero.config.poly import MODEL_ALIASES
from arriero.config.remote import RemoteModelConfig
from arriero.config.samplers import NAMES
from arriero.config.schema import Config, ModelConfig

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "arriero.example.toml"
DOCUMENTATION = ROOT / "docs" / "configuration.md"
KEY_LINE = re.compile(r"^(?:# )?([a-z0-9_]+) = (.+)$")
HEADER = re.compile(r"^\[([a-z_]+)(?:\.([a-z0-9]+))?\]$")
REMOTE = "remote_models."
"""Where the paths of this test put the tables [models.NAME] with an upstream."""


def inner_tables(key: str, key_type: Any, path: str) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Yield the structs that a key holds, each with the prefix of its paths."""
    if (inner := struct_of(key_type)) is not None:
        yield f"{path}{key}.", inner
    for named in named_structs_of(key_type):
        yield REMOTE if named is RemoteModelConfig else f"{path}{key}.", named


def schema_keys(kind: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the type of every key that holds a value, aliases included."""
    keys = keys_of(kind)
    aliases = {alias: keys[key] for alias, key in MODEL_ALIASES.items()} if kind is ModelConfig else {}
    for key, key_type in {**keys, **aliases}.items():
        tables = list(inner_tables(key, key_type, path))
        for prefix, table in tables:
            yield from schema_keys(table, prefix)
        if not tables:
            yield f"{path}{key}", key_type


def defaults(kind: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the default of every key that has one."""
    for field in msgspec.structs.fields(kind):
        tables = list(inner_tables(field.name, keys_of(kind)[field.name], path))
        for prefix, table in tables:
            yield from defaults(table, prefix)
        if not tables and field.default not in (msgspec.NODEFAULT, None):
            yield f"{path}{field.name}", field.default


def example_lines() -> Iterator[tuple[str, Any, bool]]:
    """Yield dotted path, value and whether it is commented out, for every key line of the example."""
    table = ""
    remote = load_config(EXAMPLE, {}).remote_models
    for line in EXAMPLE.read_text().splitlines():
        if header := HEADER.match(line):
            table = REMOTE if header[1] == "models" and header[2] in remote else f"{header[1]}."
        elif found := KEY_LINE.match(line):
            value = tomllib.loads(line.removeprefix("# "))[found[1]]
            for path, leaf in _leaves(f"{table}{found[1]}", value):
                yield path, leaf, line.startswith("#")


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and path not in dict(schema_keys(Config)):
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)
    else:
        yield path, value


def test_the_example_loads_without_doubt() -> None:
    """The example is a valid configuration and gives no warning."""
    assert set(load_config(EXAMPLE, {}).tasks) == {"assistant"}
    assert check(EXAMPLE, {}) == []


def test_the_example_shows_every_key_and_no_other() -> None:
    """Each key of the schema stands in the example, set or commented out, and nothing else does."""
    empty_tables = {"memories.store.embedded", "memories.store.hora"}

    assert {path for path, _, _ in example_lines()} - empty_tables == dict(schema_keys(Config)).keys()


def test_every_shown_value_is_of_its_type() -> None:
    """What stands in the example after `=`, also in a comment, is what the key takes."""
    types = dict(schema_keys(Config))
    for path, value, _ in example_lines():
        if path in types:
            converted(value, types[path], Path)


def test_a_commented_key_shows_its_default() -> None:
    """Where a key has a default, the commented line shows that value."""
    known = dict(defaults(Config))
    shown = {path: value for path, value, commented in example_lines() if commented and path in known}
    for path, value in shown.items():
        default = known[path]
        assert (tuple(value) if isinstance(default, tuple) else value) == default, path
    assert len(shown) > 20


@pytest.mark.parametrize("path", dict(schema_keys(Config)))
def test_every_key_is_documented(path: str) -> None:
    """docs/configuration.md names each key as code."""
    key = path.rsplit(".", 1)[-1]

    assert re.search(rf"`(\{{ )?({key})\b|\b{key} = ", DOCUMENTATION.read_text()), path


def test_every_table_and_sampler_is_documented() -> None:
    """docs/configuration.md names each table, and each sampler with its options."""
    text = DOCUMENTATION.read_text()
    for key, key_type in keys_of(Config).items():
        if struct_of(key_type) is not None:
            assert f"## [{key}]" in text
        elif named_structs_of(key_type):
            assert f"## [{key}.NAME]" in text
    for name, kind in NAMES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` | "))
        for field in msgspec.structs.fields(kind):
            assert f"`{field.name}`" in row or field.name == "breakers", (name, field.name)


def test_the_documented_defaults_are_those_of_the_schema() -> None:
    """A number or a plain word in the default column of the documentation is the schema's default."""
    known = dict(defaults(Config))
    checked = 0
    for table, key, default in _documented():
        if (path := f"{table}.{key}") in known and re.fullmatch(r"[0-9.]+|`[a-z0-9.:]+`", default):
            expected = known[path]
            shown = str(expected).lower() if isinstance(expected, bool) else str(expected)
            plain = default.strip("`")
            assert plain == shown or float(plain) == expected, path
            checked += 1
    assert checked > 20


def _documented() -> Iterator[tuple[str, str, str]]:
    """Yield table, key and default of the rows `| key | type | default | meaning |`."""
    table = ""
    for line in DOCUMENTATION.read_text().splitlines():
        if header := re.match(r"## \[([a-z]+)", line):
            table = REMOTE.rstrip(".") if line.endswith("with upstream") else header[1]
        elif inner := re.match(r"### ([a-z]+)$", line):
            table = f"{table.partition('.')[0]}.{inner[1]}"
        elif row := re.match(r"\| `([a-z0-9_]+)` \| [^|]+ \| ([^|]+) \| ", line):
            yield table, row[1], row[2]
