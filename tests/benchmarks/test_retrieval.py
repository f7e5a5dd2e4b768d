"""Figures of retrieval, and the questions that are made of documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from benchmarks.retrieval import gains, interval
from benchmarks.retrieval_sets import items

SOURCE = '''
def carry(load):
    """Carry a heavy load uphill.

    {rest}
    """
'''


def test_gain_falls_with_the_rank() -> None:
    """The first place counts whole, the third half, and what was not found nothing."""
    assert gains(np.array([1, 3, 0])).tolist() == [1.0, 0.5, 0.0]


def test_an_interval_holds_the_mean() -> None:
    """A difference that is always the same has no spread; one that changes its sign has zero within."""
    assert interval(np.full(9, 0.25)) == (0.25, 0.25)
    low, high = interval(np.array([1.0, -1.0] * 20))
    assert low < 0 < high


def test_a_docstring_asks_for_its_rest(tmp_path: Path) -> None:
    """The question is its first paragraph without the function's name; the document has the rest alone."""
    (tmp_path / "mule.py").write_text(SOURCE.format(rest="The mule is fed first. " * 8))

    (item,) = items("python", tmp_path, 10)

    assert item.question == "a heavy load uphill"
    assert "heavy load" not in item.text
    assert item.text.startswith("mule.carry\n\nThe mule is fed first.")
