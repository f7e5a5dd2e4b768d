"""The figures that tests measure: printed at the end of the run, and kept in `.work/reliability.md`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

PLACE = Path(__file__).resolve().parents[2] / ".work" / "reliability.md"


class Figures:
    """Owns what was measured in this run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, test: str, **figures: object) -> None:
        """Note the figures of a test."""
        said = ", ".join(f"{name} {shown(value)}" for name, value in figures.items())
        self.lines.append(f"{test}: {said}")

    def keep(self) -> None:
        """Add what was measured to the file."""
        PLACE.parent.mkdir(exist_ok=True)
        day = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        with PLACE.open("a") as file:
            file.writelines(f"* {day} {line}\n" for line in self.lines)


def shown(value: object) -> str:
    """Return a figure as a human reads it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


FIGURES = Figures()
