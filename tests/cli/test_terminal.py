"""Progress and tables."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from arriero.cli.terminal import Bars, Lines, bar_display, progress, show_json, show_table

if TYPE_CHECKING:
    import pytest


def test_plain_progress_writes_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs are not flooded: equal and earlier tenths are silent, another text has its own lines."""
    lines = Lines()
    for done in (0, 3, 10, 11, 19, 100, 100):
        lines("a", done, 100)
    lines("b", 5, None)
    lines("b", 6, None)

    assert capsys.readouterr() == ("", "a: 0 %\na: 10 %\na: 100 %\nb\n")


def test_progress_is_plain_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Captured stderr gets lines; stdout stays clean."""
    with progress() as shown:
        shown("fetching", 1, 2)

    assert capsys.readouterr() == ("", "fetching: 50 %\n")


def test_a_bar_follows_the_work() -> None:
    """One bar for each text; a total that becomes known later is taken over."""
    display = bar_display(Console(file=io.StringIO(), force_terminal=True))
    with display:
        bars = Bars(display)
        bars("a", 0, None)
        bars("a", 5, 10)
        bars("b", 1, 1)

    assert [(task.description, task.completed, task.total) for task in display.tasks] == [
        ("a", 5, 10),
        ("b", 1, 1),
    ]


def test_a_table_is_aligned_and_ends_without_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are as wide as their longest cell."""
    show_table(("name", "x"), [("long name", "1"), ("a", "")])

    assert capsys.readouterr().out == "NAME       X\nlong name  1\na\n"


def test_an_empty_table_is_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to list is not an error."""
    show_table(("name",), [])

    assert capsys.readouterr().out == "NAME\n"


def test_json_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON output is readable as it is."""
    show_json({"a": [1]})

    assert capsys.readouterr().out == '{\n  "a": [\n    1\n  ]\n}\n'
