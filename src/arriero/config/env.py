"""What the environment adds to a document: `${NAME}` in values and `ARRIERO_TABLE__KEY`.

1. `${NAME}` in a string is replaced; `$${` stands for `${`. Texts of tasks and memories are left alone.
2. `ARRIERO_TABLE__KEY` sets a key (Poly's flat keys and `cache_path` without table). A name matches
   without regard to case, and `_` stands for any character that a variable cannot have. The value is
   text, or TOML where the key wants more.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from arriero.config.decode import PathReader, converted, keys_of, named_struct, named_structs_of, struct_of
from arriero.config.locate import KeyPath
from arriero.config.poly import FLAT_KEYS, MODEL_ALIASES
from arriero.config.problem import Origins, Problem, hint
from arriero.config.schema import Config

PREFIX = "ARRIERO_"
REFERENCE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)\}")
VERBATIM = frozenset(
    {
        "bias_prompt",
        "biaser",
        "chat_template",
        "chunk_separators",
        "post_filter",
        "postfix",
        "pre_filter",
        "prefix",
        "prelude",
        "private_tokens",
        "samplers",
        "stop_sequences",
    }
)
"""Keys whose text is for the model or is a pattern: `${...}` in it stays as it is."""


def expand(value: Any, env: Mapping[str, str], path: KeyPath, problems: list[Problem]) -> Any:
    """Return the value with `${NAME}` replaced in all its strings; unset names are problems."""
    if isinstance(value, dict):
        return {
            key: inner if key in VERBATIM else expand(inner, env, (*path, key), problems)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [expand(inner, env, (*path, index), problems) for index, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        if match[2] not in env:
            message = (
                f"environment variable {match[2]} is not set (write $${{{match[2]}}} for the text itself)"
            )
            problems.append(Problem(path, message))
        return env.get(match[2], "")

    return REFERENCE.sub(replacement, value)


def override(
    document: dict[str, Any], env: Mapping[str, str], *, read_path: PathReader, origins: Origins
) -> list[Problem]:
    """Set the keys of the document that `ARRIERO_...` variables name."""
    problems: list[Problem] = []
    for variable in sorted(name for name in env if name.startswith(PREFIX)):
        rest = variable.removeprefix(PREFIX)
        target = _target(Config, rest, document, ()) if "__" in rest else _flat_target(rest)
        if target is not None:
            path, key_type = target
            _set(document, path, _value(env[variable], key_type, read_path))
            origins.variables[path] = variable
        elif "__" in rest:
            problems.append(Problem((), _no_target(rest, document), variable))
    return problems


def _target(kind: Any, rest: str, raw: Any, path: KeyPath) -> tuple[KeyPath, Any] | None:
    """Return the key path that the rest of a variable's name means, and the key's type."""
    if not rest:
        return path, kind
    for name, (key, key_type) in _names(kind, raw).items():
        if rest == name or rest.startswith(f"{name}__"):
            inner = raw.get(key, {}) if isinstance(raw, dict) else {}
            found = _target(key_type, rest[len(name) :].removeprefix("__"), inner, (*path, key))
            if found is not None:
                return found
    return None


def _names(kind: Any, raw: Any) -> dict[str, tuple[str, Any]]:
    """Return variable-style name -> key and type, for all keys that may stand in the table."""
    if (struct := struct_of(kind)) is not None:
        keys = keys_of(struct)
        names = {_folded(key): (key, key_type) for key, key_type in keys.items()}
        aliases = {alias: key for alias, key in MODEL_ALIASES.items() if key in keys}
        return names | {_folded(alias): (key, keys[key]) for alias, key in aliases.items()}
    if (kinds := named_structs_of(kind)) and isinstance(raw, dict):
        names_of = sorted(raw, key=len, reverse=True)
        return {_folded(name): (name, named_struct(kinds, raw[name])) for name in names_of}
    return {}


def _flat_target(rest: str) -> tuple[KeyPath, Any] | None:
    if rest == "CACHE_PATH":
        return _target(Config, rest, {}, ())
    table = FLAT_KEYS.get(rest.lower())
    return _target(Config, f"{table.upper()}__{rest}", {}, ()) if table else None


def _no_target(rest: str, document: dict[str, Any]) -> str:
    """Say which part of the name leads nowhere, and what would."""
    kind: Any = Config
    raw: Any = document
    for part in rest.split("__"):
        names = _names(kind, raw)
        if part not in names:
            near = hint(part, [name.lower() for name in names])
            return f"nothing in the configuration is called {part.lower()}" + near
        key, kind = names[part]
        raw = raw.get(key, {}) if isinstance(raw, dict) else {}
    return "names no key"


def _value(text: str, key_type: Any, read_path: PathReader) -> Any:
    """Return the text if the key takes text, else what the text says in TOML, else the text."""
    try:
        converted(text, key_type, read_path)
    except (msgspec.ValidationError, OverflowError):
        try:
            parsed = tomllib.loads(f"value = {text}")
        except (ValueError, RecursionError):
            return text
        return parsed["value"] if list(parsed) == ["value"] else text
    return text


def _set(document: dict[str, Any], path: KeyPath, value: Any) -> None:
    table: Any = document
    for key in path[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            return
    table[path[-1]] = value


def _folded(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())
