"""What a task's biaser says becomes a constraint, or a fault with file, line and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arriero.config.load import load_config, parse_config
from arriero.core import Constraint
from arriero.errors import ConfigError
from arriero.grammar import constraint as grammar
from arriero.tasks.checks import faults, task_constraints

TASK = '[models.m]\nurl = "http://localhost/m.gguf"\n[tasks.t]\nmodel = "m"\n'
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer", "minimum": 1}, "a": {"const": None}}}


def constraint_of(text: str) -> Constraint:
    return task_constraints(parse_config(TASK + text, {}))["t"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("biaser.json_schema = { type = 'integer', minimum = 1 }", {"type": "integer", "minimum": 1}),
        ("biaser.json_schema = { type = 'boolean' }", {"type": "boolean"}),
    ],
)
def test_a_json_schema_is_taken_as_it_is(text: str, expected: dict[str, object]) -> None:
    """A table in the words of JSON Schema is one."""
    assert constraint_of(text) == grammar.json_schema(expected)


def test_words_of_poly_make_it_polys_language() -> None:
    """`min` and `max` are no words of JSON Schema, and mean what Poly means by them."""
    made = constraint_of("biaser.json_schema = { type = 'number', min = 1, max = 5 }")

    assert made == grammar.bias({"type": "number", "min": 1, "max": 5})
    assert made != grammar.json_schema({"type": "number"})


def test_a_schema_file_is_read_with_its_order(tmp_path: Path) -> None:
    """The file's keys keep their order; it is found beside the configuration."""
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "c.toml").write_text(TASK + "biaser.json_schema_file = 's.json'")

    made = task_constraints(load_config(tmp_path / "c.toml", {}))["t"]

    assert made == grammar.json_schema(SCHEMA)
    assert made.source.index('"b"') < made.source.index('"a"')


@pytest.mark.parametrize(
    ("key", "content", "expected"),
    [
        ("regex", "[a-z]+", grammar.regex("[a-z]+")),
        ("grammar", "start: /a+/", grammar.lark("start: /a+/")),
        ("gbnf", 'root ::= "a"+', grammar.gbnf('root ::= "a"+')),
    ],
)
def test_other_languages_are_named_by_their_key(
    tmp_path: Path, key: str, content: str, expected: Constraint
) -> None:
    """The key says what language the text is in; a grammar may stand in a file."""
    assert constraint_of(f"biaser.{key} = '{content}'") == expected
    if key != "regex":
        (tmp_path / "g").write_text(content)
        assert constraint_of(f"biaser.{key}_file = '{tmp_path}/g'") == expected


def test_a_choice_is_one_of_its_texts() -> None:
    """The texts are listed."""
    assert constraint_of("biaser.choice = ['a', 'b c']") == grammar.choice(["a", "b c"])


def test_a_task_without_a_biaser_has_no_constraint() -> None:
    """Nothing is made of nothing."""
    assert task_constraints(parse_config(TASK, {})) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[tasks.t.biaser.json_schema]\ntype = 'object'\n"
            "properties.a = { type = 'array', uniqueItems = true }",
            "arriero.toml:7: tasks.t.biaser.json_schema.properties.a.uniqueItems: ",
        ),
        (
            "[tasks.t.biaser.json_schema.properties]\n'a.b' = {}\n"
            "[tasks.t.biaser.json_schema.properties.'a b']\nallOf = [{}, { uniqueItems = true }]",
            'arriero.toml:8: tasks.t.biaser.json_schema.properties."a b".allOf[1].uniqueItems: ',
        ),
        (
            "biaser.json_schema = { type = 'number', min = 5, max = 1 }",
            "arriero.toml:5: tasks.t.biaser.json_schema",
        ),
        ("biaser.json_schema = { type = 'strin' }", "arriero.toml:5: tasks.t.biaser.json_schema.type: "),
        ("biaser.regex = '('", "arriero.toml:5: tasks.t.biaser.regex: "),
        ("biaser.grammar = 'start: nope'", "arriero.toml:5: tasks.t.biaser.grammar: "),
        ("biaser.gbnf = 'root ::= nope'", "arriero.toml:5: tasks.t.biaser.gbnf: "),
        ("biaser.choice = []", "arriero.toml:5: tasks.t.biaser.choice: "),
        (
            "biaser.json_schema_file = '/no/such.json'",
            "arriero.toml:5: tasks.t.biaser.json_schema_file: /no/such.json cannot be read: No such file",
        ),
        (
            "biaser.gbnf_file = '/no/such'",
            "arriero.toml:5: tasks.t.biaser.gbnf_file: /no/such cannot be read: No such file",
        ),
    ],
)
def test_a_fault_names_line_and_key(text: str, message: str) -> None:
    """What cannot be a constraint is refused when the configuration is loaded, each part once."""
    with pytest.raises(ConfigError) as caught:
        parse_config(TASK + text, {}, faults)

    assert caught.value.message.startswith(message)
    assert caught.value.message.count("json_schema.properties") <= 1


def test_a_fault_in_a_file_names_file_and_place(tmp_path: Path) -> None:
    """The line is that of the key; the file and the path in it are told."""
    (tmp_path / "s.json").write_text('{"properties": {"a": {"uniqueItems": true}}}')

    with pytest.raises(ConfigError) as caught:
        parse_config(TASK + f"biaser.json_schema_file = '{tmp_path}/s.json'", {}, faults)

    place = "arriero.toml:5: tasks.t.biaser.json_schema_file: properties.a.uniqueItems: "
    assert caught.value.message.startswith(place)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not hold a JSON object"),
        (b"[1]", "does not hold a JSON object"),
        (b'{"type": ', "does not hold a JSON object"),
        (b"\xff", "is not UTF-8 text"),
        (b"[" * 100_000, "does not hold a JSON object"),
        (b'{"a":' * 100_000, "does not hold a JSON object"),
        (b" " * (1024 * 1024 + 1), "is larger than"),
    ],
)
def test_a_schema_file_must_hold_an_object(tmp_path: Path, content: bytes, message: str) -> None:
    """A schema file that is not a JSON object is refused before anything is loaded."""
    (tmp_path / "s.json").write_bytes(content)
    (tmp_path / "c.toml").write_text(TASK + "biaser = { json_schema_file = 's.json' }")

    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.toml", {}, faults)


def test_without_a_file_the_key_alone_is_named() -> None:
    """A configuration that was not read by `load` is refused with all faults, by key."""
    text = TASK + "biaser.regex = '('\n[tasks.u]\nmodel = 'm'\nbiaser.choice = []"

    with pytest.raises(ConfigError) as caught:
        task_constraints(parse_config(text, {}))

    first, second = caught.value.message.splitlines()
    assert first.startswith("tasks.t.biaser.regex: ")
    assert second.startswith("tasks.u.biaser.choice: ")
