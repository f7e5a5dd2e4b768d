"""Durations on the command line: `90`, `15m`, `12h`, `30d`."""

from __future__ import annotations

import re

import click

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_S = 100 * 365 * 86400
WRITTEN = re.compile(r"(\d{1,10})([smhd]?)", re.ASCII)


class Duration(click.ParamType[int]):
    """A click type whose values are seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if (match := WRITTEN.fullmatch(str(value))) is None:
            self.fail(f"{value!r} is no duration; write 90, 15m, 12h or 30d", param, ctx)
        seconds = int(match[1]) * UNITS[match[2]]
        if not 0 <= seconds <= LONGEST_S:
            self.fail("longer than 100 years", param, ctx)
        return seconds
