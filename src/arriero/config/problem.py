"""One fault in a configuration, and how a human reads it.

A problem knows the key path only; `located` adds file and line, or the environment variable that
brought the value. Knows nothing of what the keys mean.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arriero.config.locate import KeyPath, line_of

MAX_SHOWN = 80
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Problem:
    """What is wrong with the value at `path`, or with the whole file when `path` is empty.

    variable: the environment variable that is wrong, when it leads to no key.
    """

    path: KeyPath
    message: str
    variable: str | None = None


@dataclass
class Origins:
    """Where values came from when it was not their own key path in the file.

    moved: canonical path -> the path under which the file has it (a flat key, an alias).
    variables: canonical path -> the environment variable that set it.
    """

    moved: dict[KeyPath, KeyPath] = field(default_factory=dict)
    variables: dict[KeyPath, str] = field(default_factory=dict)

    def written(self, path: KeyPath) -> KeyPath:
        """Return the path as the file has it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.moved:
                return self.moved[path[:length]] + path[length:]
        return path

    def variable(self, path: KeyPath) -> str | None:
        """Return the environment variable that set the value or a table above it."""
        prefixes = (path[:length] for length in range(len(path), 0, -1))
        return next((self.variables[prefix] for prefix in prefixes if prefix in self.variables), None)


def located(
    problem: Problem, *, file: Path, lines: Mapping[KeyPath, int], origins: Origins
) -> tuple[int, str]:
    """Return the line (0 when there is none) and the whole message: place, key, what is wrong.

    What a terminal would obey is escaped: values of the file stand in messages.
    """
    what = _printable(problem.message)
    variable = origins.variable(problem.path)
    if variable is not None:
        return 0, f"environment variable {variable}: {shown_path(problem.path)}: {what}"
    if problem.variable is not None:
        return 0, f"environment variable {problem.variable}: {what}"
    path = origins.written(problem.path)
    if not path:
        return 0, f"{file}: {what}"
    line = line_of(lines, path)
    place = f"{file}:{line}" if line else str(file)
    return line, f"{place}: {shown_path(path)}: {what}"


def shown_path(path: KeyPath) -> str:
    """Return a key path as TOML writes it, with indices in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + _shown_key(part)
    return text


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that was probably meant."""
    found = difflib.get_close_matches(word[:MAX_SHOWN].lower(), sorted(candidates), n=1, cutoff=0.6)
    return found[0] if found else None


def hint(word: str, candidates: Sequence[str], *, otherwise: str = "") -> str:
    """Return `; did you mean ...?`, or `otherwise` when nothing is near."""
    near = nearest(word, candidates)
    return f'; did you mean "{near}"?' if near else otherwise


def listed(names: Iterable[str]) -> str:
    """Return names for a message, in order, not endlessly many."""
    ordered = sorted(names)
    shown = ", ".join(_shown_key(name) for name in ordered[:12])
    return (shown or "none") + (", ..." if len(ordered) > 12 else "")


def _shown_key(key: str) -> str:
    if len(key) > MAX_SHOWN:
        key = key[:MAX_SHOWN] + "..."
    if BARE_KEY.fullmatch(key):
        return key
    shown = _printable(key).replace("\n", "\\u000A")
    return f'"{shown}"'


def _printable(text: str) -> str:
    """Return a text of one or more lines with all else that cannot be printed escaped."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04X}" for char in text)
