"""Lines over a doubling scale as an SVG picture: one panel for each figure, a line for each name. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import floor, log2, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 360, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 48, 44
COLOURS = ("#1f6fb4", "#d1495b", "#3a7d44", "#8d6a9f")
STEPS = (1, 2, 5, 10, 20)
LABELS = 5


@dataclass(frozen=True)
class Panel:
    """One figure over numbers above 0. lines: the values of each name, one for each number."""

    title: str
    below: str
    numbers: Sequence[int]
    lines: Mapping[str, Sequence[float]]


def svg(panels: Sequence[Panel]) -> str:
    """Return the picture of panels side by side, to be read on any background."""
    drawn = [
        f'<g transform="translate({index * WIDTH} 0)">{"".join(_panel(panel))}</g>'
        for index, panel in enumerate(panels)
    ]
    size = f"{WIDTH * len(panels)} {HEIGHT}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif"'
    return "\n".join(
        [f'{head} font-size="11">', '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>\n"]
    )


def _panel(panel: Panel) -> list[str]:
    step = _step(max((value for line in panel.lines.values() for value in line), default=0.0))
    most = step * LABELS
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [_text(LEFT, 16, panel.title, "start"), _text((LEFT + right) / 2, HEIGHT - 10, panel.below)]
    for label in range(LABELS + 1):
        y = _y(label * step, most)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{label * step:g}", "end"))
    parts += [_text(_x(number, panel.numbers), floor + 16, str(number)) for number in panel.numbers]
    for index, (name, line) in enumerate(panel.lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        points = [
            f"{_x(number, panel.numbers):.1f},{_y(value, most):.1f}"
            for number, value in zip(panel.numbers, line, strict=True)
        ]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(_text(LEFT + 80 * index, 34, name, "start", colour))
    return parts


def _x(number: int, numbers: Sequence[int]) -> float:
    first, last = log2(min(numbers)), log2(max(numbers))
    return LEFT + (log2(number) - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT)


def _y(value: float, most: float) -> float:
    return HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM)


def _step(most: float) -> float:
    """Return a round distance of labels with which the highest value is within the panel."""
    decade = 10.0 ** floor(log10(most / LABELS)) if most else 1.0
    return next(step * decade for step in STEPS if step * decade * LABELS >= most)


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
