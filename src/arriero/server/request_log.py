"""A line for each request, written many at a time: a line costs more than a look.

Lines are at most `EVERY_S` late. They hold the fields of `Line` and nothing else: no query, no header, no
path that a caller wrote, no prompt unless the operator asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from functools import lru_cache
from typing import Any

import msgspec

logger = logging.getLogger("arriero.requests")

EVERY_S = 0.5
MOST_LINES = 512
PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
"""What logfmt needs no quotes around: no blank, quote, equals sign or backslash, nothing but ASCII."""
_encoder = msgspec.json.Encoder()


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One request. Absent = not known, or not of this kind.

    key: who asked, by name or by the first digits of a digest; never the key. outcome: `ok`, `error` (told
    with a status or in the stream), `cut` (by us, so that the client sees it), `gone` (by the client).
    """

    time: str
    """Of the end, as `moment` writes it."""
    id: str
    method: str
    route: str
    """As it is served, such as /v1/task/{task}/live."""
    status: int
    ms: float
    ttfb_ms: float | None = None
    """Until the first byte of the answer."""
    bytes: int
    """Of the answer's body."""
    key: str = ""
    model: str = ""
    task: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    outcome: str
    error: str = ""
    prompt: Any = None


class Batch:
    """Lines that are written together. Text only when it is asked for, which may be in another thread."""

    __slots__ = ("_is_json", "_lines")

    def __init__(self, lines: list[Line], *, is_json: bool) -> None:
        self._lines = lines
        self._is_json = is_json

    def __len__(self) -> int:
        return len(self._lines)

    def __str__(self) -> str:
        if self._is_json:
            return _encoder.encode_lines(self._lines)[:-1].decode()
        return "\n".join(map(_logfmt, self._lines))


class RequestLog:
    """Owns the lines that are not yet written."""

    def __init__(self, *, is_json: bool = False, with_prompts: bool = False) -> None:
        self.with_prompts = with_prompts
        self._is_json = is_json
        self._lines: list[Line] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """Whether anybody wants the lines."""
        return logger.isEnabledFor(logging.INFO)

    def add(self, line: Line) -> None:
        """Note one answer."""
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.write)
        elif len(self._lines) >= MOST_LINES:
            self.write()

    def write(self) -> None:
        """Write what there is, as one message with a line for each answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            logger.info("%s", Batch(lines, is_json=self._is_json))


def moment(time_s: float) -> str:
    """Return a Unix time as ISO 8601 in UTC, to the millisecond."""
    milliseconds = round(1e3 * time_s)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _logfmt(line: Line) -> str:
    said = msgspec.to_builtins(line)
    return " ".join([f"{name}={written(value)}" for name, value in said.items()])


def written(value: object) -> str:
    """Return a value of logfmt: quoted where it must be, so that one line stays one line."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if PLAIN.fullmatch(text) else msgspec.json.encode(text).decode()
