"""The constraints of a configuration's tasks: what `biaser` says, and the files that it names, checked.

Makes constraints and finds faults with their key paths; how a constraint is enforced is the model's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from arriero.config.problem import Problem
from arriero.config.schema import BiaserConfig
from arriero.errors import InvalidRequest
from arriero.grammar.refusal import quoted

if TYPE_CHECKING:
    from arriero.config.locate import KeyPath
    from arriero.config.schema import Config
    from arriero.core import Constraint

MAX_FILE_BYTES = 1024 * 1024


def made(config: Config) -> tuple[dict[str, Constraint], list[Problem]]:
    """Return the constraint of each task that has one, and what makes the others unusable."""
    constraints: dict[str, Constraint] = {}
    problems: list[Problem] = []
    for name, task in config.tasks.items():
        if task.biaser is None:
            continue
        path: KeyPath = ("tasks", name, "biaser")
        try:
            constraints[name] = _constraint(task.biaser)
        except InvalidRequest as exc:
            problems.append(_problem(exc, path, task.biaser))
    return constraints, problems


def _constraint(biaser: BiaserConfig) -> Constraint:
    """Return what the one key of a biaser says. Raises InvalidRequest; its `param` begins with the key."""
    # Not imported above: most tasks have no constraint, and the library behind takes a while to load.
    from arriero.grammar import constraint

    match biaser:
        case BiaserConfig(json_schema=dict() as schema):
            return _of_schema(schema, "json_schema")
        case BiaserConfig(json_schema_file=Path() as file):
            return _of_schema(_decoded(file, "json_schema_file"), "json_schema_file")
        case BiaserConfig(choice=tuple() as options):
            return constraint.choice(options, where="choice")
        case BiaserConfig(regex=str() as pattern):
            return constraint.regex(pattern, where="regex")
        case BiaserConfig(grammar=str() as text):
            return constraint.lark(text, where="grammar")
        case BiaserConfig(grammar_file=Path() as file):
            return constraint.lark(_text(file, "grammar_file"), where="grammar_file")
        case BiaserConfig(gbnf=str() as text):
            return constraint.gbnf(text, where="gbnf")
        case BiaserConfig(gbnf_file=Path() as file):
            return constraint.gbnf(_text(file, "gbnf_file"), where="gbnf_file")
        case _:
            raise InvalidRequest(f"give exactly one of {', '.join(biaser.__struct_fields__)}")


def _of_schema(schema: dict[str, Any], where: str) -> Constraint:
    from arriero.grammar import constraint
    from arriero.grammar.bias import is_bias

    if is_bias(schema, where=where):
        return constraint.bias(schema, where=where)
    return constraint.json_schema(schema, where=where)


def _decoded(file: Path, key: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(_text(file, key), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidRequest(f"{file} does not hold a JSON object: {exc}", param=key) from exc


def _text(file: Path, key: str) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise InvalidRequest(f"{file} is larger than {MAX_FILE_BYTES} bytes", param=key)
        return content.decode("utf-8-sig")
    except OSError as exc:
        raise InvalidRequest(f"{file} cannot be read: {exc.strerror or exc}", param=key) from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{file} is not UTF-8 text", param=key) from exc


def _problem(exc: InvalidRequest, path: KeyPath, biaser: BiaserConfig) -> Problem:
    """Return the fault with the keys that the configuration has, and in words what lies below them."""
    param = exc.param or ""
    keys, rest = _walked(param, msgspec.structs.asdict(biaser))
    message = exc.message.removeprefix(f"{param}: ")
    return Problem((*path, *keys), f"{rest}: {message}" if rest else message)


def _walked(dotted: str, value: Any) -> tuple[KeyPath, str]:
    """Return the keys of a dotted path that a value has, and the rest of the path."""
    keys: list[str | int] = []
    rest = f".{dotted}"
    while rest and (named := _first_key(rest, value)) is not None:
        key, text = named
        keys.append(key)
        value, rest = value[key], rest.removeprefix(text)
    return tuple(keys), rest.removeprefix(".")


def _first_key(dotted: str, value: Any) -> tuple[str | int, str] | None:
    """Return the key of a table or array with which a path begins, and how the path writes it."""
    keys: dict[str | int, str] = {}
    if isinstance(value, dict):
        keys = {key: f".{quoted(key)}" for key in value}
    elif isinstance(value, list | tuple):
        keys = {index: f"[{index}]" for index in range(len(value))}
    found = (pair for pair in keys.items() if f"{dotted}.".startswith((f"{pair[1]}.", f"{pair[1]}[")))
    return next(found, None)
