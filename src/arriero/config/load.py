"""Reads a configuration file into a checked `Config`, or refuses it with one message.

In this order: TOML, `${NAME}` (`env.py`), flat keys and aliases (`poly.py`), or YAML (`poncho.py`); then
overrides (`env.py`), types (`decode.py`), secrets, references between the parts (`checks.py`), the checks
that the caller hands in. Each step reports all that it finds.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arriero.config.advice import warnings
from arriero.config.checks import faults
from arriero.config.decode import decoded
from arriero.config.env import expand, override
from arriero.config.locate import KeyPath, lines_of
from arriero.config.poly import move_to_tables
from arriero.config.poncho import as_document
from arriero.config.problem import Origins, Problem, located
from arriero.config.schema import Config
from arriero.config.secrets import with_secrets
from arriero.config.yaml import YamlError, read_yaml
from arriero.errors import ConfigError

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_PROBLEMS = 20
YAML_SUFFIXES = (".yaml", ".yml")
SYNTAX_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")

Check = Callable[[Config], Iterable[Problem]]
"""Finds what this layer cannot know to be wrong."""


@dataclass(frozen=True)
class _Source:
    """What a message needs to name the place of a key."""

    file: Path
    lines: Mapping[KeyPath, int]
    origins: Origins

    def messages(self, problems: Iterable[Problem]) -> list[str]:
        """Return the problems as messages, in the order of their lines."""
        placed = (
            located(problem, file=self.file, lines=self.lines, origins=self.origins) for problem in problems
        )
        return [message for _, message in sorted(placed, key=lambda pair: pair[0])]

    def refuse(self, problems: list[Problem]) -> None:
        """Raise ConfigError when there are problems."""
        if problems:
            messages = self.messages(problems)
            rest = len(messages) - MAX_PROBLEMS
            more = [f"... and {rest} more"] if rest > 0 else []
            raise ConfigError("\n".join(messages[:MAX_PROBLEMS] + more))


def load_config(path: Path, env: Mapping[str, str] = os.environ, *checks: Check) -> Config:
    """Return the configuration of a file, checked. Raises ConfigError naming file, line and key."""
    return _loaded(path, _text_of(path), env, *checks)[0]


def parse_config(
    text: str, env: Mapping[str, str], *checks: Check, path: Path = Path("arriero.toml")
) -> Config:
    """Return the configuration that a text holds, as if it stood in the file `path`."""
    return _loaded(path, text, env, *checks)[0]


def check(path: Path, env: Mapping[str, str] = os.environ) -> list[str]:
    """Return warnings about a configuration that can be used. Raises ConfigError for one that cannot."""
    return _loaded(path, _text_of(path), env)[1]


def _loaded(path: Path, text: str, env: Mapping[str, str], *checks: Check) -> tuple[Config, list[str]]:
    problems: list[Problem] = []
    if path.suffix.lower() in YAML_SUFFIXES:
        document, source = _poncho(path, text)
    else:
        document, source = _toml(path, text, env, problems)
    read_path = _PathsIn(path.parent)
    problems += override(document, env, read_path=read_path, origins=source.origins)
    _check_depth(path, document)
    config, wrong = decoded(Config, document, read_path=read_path)
    source.refuse(problems + wrong)
    assert config is not None
    config = with_secrets(config, env, problems)
    source.refuse([*problems, *faults(config)])
    source.refuse([problem for check in checks for problem in check(config)])
    return config, source.messages(warnings(config, document))


def _toml(
    path: Path, text: str, env: Mapping[str, str], problems: list[Problem]
) -> tuple[dict[str, Any], _Source]:
    """Return a file of our own, or of Poly, with every key at its place."""
    document = _document(path, text)
    source = _Source(path, lines_of(text), Origins())
    document = expand(document, env, (), problems)
    problems += move_to_tables(document, source.origins)
    return document, source


def _poncho(path: Path, text: str) -> tuple[dict[str, Any], _Source]:
    """Return a file of Poncho as one of our own. Raises ConfigError with everything that is wrong in it."""
    try:
        written, lines = read_yaml(text)
    except YamlError as exc:
        raise ConfigError(f"{path}:{exc.line}: not usable YAML: {exc.message}") from exc
    source = _Source(path, lines, Origins())
    document, problems = as_document(written, source.origins)
    source.refuse(problems)
    return document, source


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(f"{path}: the configuration cannot be read: {reason}") from exc
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes; this is no configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from exc


def _document(path: Path, text: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except RecursionError as exc:
        raise ConfigError(f"{path}: nested too deeply") from exc
    except ValueError as exc:
        raise ConfigError(_syntax_message(path, text, str(exc))) from exc
    _check_depth(path, document)
    return document


def _syntax_message(path: Path, text: str, message: str) -> str:
    if (match := SYNTAX_LINE.search(message)) is not None:
        return f"{path}:{match[1]}: not valid TOML: {message[: match.start()]} (column {match[2]})"
    if message.endswith("(at end of document)"):
        return f"{path}:{text.count(chr(10)) + 1}: not valid TOML: {message}"
    return f"{path}: not valid TOML: {message}"


def _check_depth(path: Path, document: dict[str, Any]) -> None:
    """Refuse what would exhaust the stack of the walks that follow; does not recurse itself."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        inner = [value.values() if isinstance(value, dict) else value for value in level]
        level = [item for values in inner for item in values if isinstance(item, dict | list)]
    if level:
        raise ConfigError(f"{path}: nested more than {MAX_DEPTH} levels deep")


class _PathsIn:
    """Makes absolute paths: relative ones belong to the configuration's directory.

    As in Poly, one that is not there but is in the working directory is taken from there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = Path(os.path.abspath(directory))

    def __call__(self, written: str) -> Path:
        if not written.strip() or "\0" in written or len(os.fsencode(written)) > 4096:
            raise ValueError("expected a path")
        try:
            path = Path(written).expanduser()
            beside, here = self._directory / path, Path.cwd() / path
            return here if not beside.exists() and here.exists() else beside
        except (RuntimeError, OSError) as exc:
            raise ValueError(f"not a usable path: {getattr(exc, 'strerror', None) or exc}") from exc
