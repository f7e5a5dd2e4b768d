"""The rules of prefix reuse, as tables."""

from __future__ import annotations

from array import array

import pytest

from arriero.engine.prefix import Cells, Match, Source, best_match, common_prefix

PROMPT = array("i", range(100))


def source(
    slot: int, tokens: list[int], *, evaluated: int | None = None, tenant: str = "a", shared: int = 0
) -> Source:
    return Source(slot, array("i", tokens), len(tokens) if evaluated is None else evaluated, tenant, shared)


@pytest.mark.parametrize(
    ("sources", "shared", "expected"),
    [
        pytest.param([], 0, Match(-1, 0, -1, 0), id="nothing resident"),
        pytest.param([source(1, [*range(50)])], 0, Match(1, 50, 1, 50), id="own tokens in full"),
        pytest.param([source(1, [*range(40), 7])], 0, Match(1, 40, 1, 40), id="up to the first difference"),
        pytest.param([source(1, [5, *range(1, 50)])], 0, Match(-1, 0, -1, 0), id="another first token"),
        pytest.param(
            [source(1, [*range(100)])], 0, Match(1, 99, 1, 99), id="the last token is evaluated again"
        ),
        pytest.param(
            [source(1, [*range(100)], tenant="b")], 0, Match(-1, 0, -1, 0), id="another tenant's private text"
        ),
        pytest.param(
            [source(1, [*range(100)], tenant="b", shared=30)],
            20,
            Match(1, 20, 1, 20),
            id="only what both share",
        ),
        pytest.param(
            [source(1, [*range(100)], tenant="b", shared=30)],
            60,
            Match(1, 30, 1, 30),
            id="only what the source shares",
        ),
        pytest.param(
            [source(1, [*range(20)]), source(2, [*range(60)])],
            0,
            Match(2, 60, 2, 60),
            id="the longest of several",
        ),
        pytest.param(
            [source(1, [*range(20)]), source(2, [*range(90)], evaluated=0)],
            0,
            Match(1, 20, 2, 90),
            id="longer, but still to be evaluated",
        ),
        pytest.param([source(2, [*range(90)], evaluated=30)], 0, Match(2, 30, 2, 90), id="half evaluated"),
    ],
)
def test_best_match(sources: list[Source], shared: int, expected: Match) -> None:
    """The longest prefix that the tenant may reuse is found, now and later."""
    assert best_match(PROMPT, "a", shared, sources) == expected


def test_common_prefix_respects_its_limit() -> None:
    """Equal sequences match up to the limit and no further."""
    assert common_prefix(PROMPT, PROMPT, 7) == 7
    assert common_prefix(PROMPT, PROMPT, 0) == 0


def test_shared_cells_count_once() -> None:
    """Two slots that share a prefix use its cells once, whoever goes first."""
    cells = Cells()
    cells.extend(0, 100)
    cells.share(0, 1, 60)
    cells.extend(1, 5)
    assert cells.used == 105
    cells.drop(0)
    assert cells.used == 65
    cells.drop(1)
    assert cells.used == 0


def test_both_sharers_may_grow_from_the_same_point() -> None:
    """Tokens that two slots add after a common prefix lie in different cells."""
    cells = Cells()
    cells.extend(0, 10)
    cells.share(0, 1, 10)
    cells.extend(0, 3)
    cells.extend(1, 4)
    assert cells.used == 17
    cells.extend(0, 2)
    assert cells.used == 19
    cells.drop(0)
    assert cells.used == 14


def test_a_share_may_span_several_segments() -> None:
    """A prefix of a prefix of a prefix is counted right."""
    cells = Cells()
    cells.extend(0, 10)
    cells.share(0, 1, 10)
    cells.extend(0, 1)
    cells.extend(1, 10)
    cells.share(1, 2, 15)
    cells.extend(2, 1)
    assert cells.used == 10 + 1 + 10 + 1
    cells.drop(1)
    assert cells.used == 10 + 1 + 5 + 1


def test_a_copy_is_independent() -> None:
    """What is tried on a copy does not change the original."""
    cells = Cells()
    cells.extend(0, 10)
    other = cells.copy()
    other.drop(0)
    assert (cells.used, other.used) == (10, 0)
