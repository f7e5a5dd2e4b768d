"""The picture of figures over doubling numbers."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from benchmarks.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Panel, svg

NAMESPACE = "{http://www.w3.org/2000/svg}"


def drawn(*panels: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(svg(panels))


def points(picture: ElementTree.Element) -> list[list[tuple[float, float]]]:
    lines = [line.attrib["points"].split() for line in picture.iter(f"{NAMESPACE}polyline")]
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in line)] for line in lines]


def test_numbers_stand_by_their_doublings_and_values_by_their_size() -> None:
    """The first number is at the left edge, the last at the right; nothing is drawn outside the panel."""
    (line,) = points(drawn(Panel("t", "n", (1, 4, 16), {"a": (0.0, 50.0, 100.0)})))

    assert [x for x, _ in line] == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    assert [y for _, y in line] == [HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2, TOP]


def test_each_name_has_a_line_in_each_panel() -> None:
    """Panels stand side by side, and their texts are escaped."""
    panel = Panel("a < b", "n", (1, 2), {"a": (1.0, 2.0), "b": (3.0, 4.0)})
    picture = drawn(panel, panel)

    assert picture.attrib["viewBox"] == f"0 0 {2 * WIDTH} {HEIGHT}"
    assert len(points(picture)) == 4
    assert [text.text for text in picture.iter(f"{NAMESPACE}text")].count("a < b") == 2


@pytest.mark.parametrize("values", [(0.0,), (0.0004,), (7.0,), (123456.0,)])
def test_any_size_fits(values: tuple[float, ...]) -> None:
    """Labels grow with the values, from nothing on; a single number is drawn too."""
    (line,) = points(drawn(Panel("t", "n", (8,), {"a": values})))

    assert line[0][0] == LEFT
    assert TOP <= line[0][1] <= HEIGHT - BOTTOM
