"""When an engine process that ends again and again rests, and which requests are refused."""

from __future__ import annotations

import pytest

from arriero.core import GenerateRequest, Span
from arriero.engine.circuit import Circuit, Pauses, Suspects
from arriero.engine.wire import Command, Generate, Tokenize
from arriero.sampling import SamplingParams

GREEDY = SamplingParams(chain=())


def circuit() -> Circuit:
    return Circuit(3, within_s=60, pauses=Pauses(first_s=1, longest_s=3, first_rest_s=10, longest_rest_s=30))


@pytest.mark.parametrize(
    ("ends", "pauses", "is_open"),
    [
        ([0, 30], [1, 1], False),
        ([0, 30, 60], [1, 1, 10], True),
        ([0, 30, 61], [1, 1, 1], False),
        ([0, 1, 2, 3, 4, 500], [1, 1, 10, 20, 30, 30], True),
    ],
)
def test_a_process_that_ends_too_often_rests(ends: list[float], pauses: list[float], is_open: bool) -> None:
    """Three ends within a minute open the circuit; each further one doubles the rest, up to a bound."""
    tried = circuit()
    seen = []
    for end in ends:
        seen.append(tried.crashed(end))
        tried.started()

    assert (seen, tried.is_open) == (pauses, is_open)


def test_starts_that_fail_are_tried_less_and_less() -> None:
    """Their pauses double until the circuit opens."""
    tried = Circuit(5, pauses=Pauses(first_s=1, longest_s=3, first_rest_s=10))

    assert [tried.crashed(0) for _ in range(5)] == [1, 2, 3, 3, 10]


def test_a_served_request_closes_the_circuit() -> None:
    """One that ends again soon opens it at once, with a longer rest; after a quiet minute all begins anew."""
    tried = circuit()
    for _ in range(3):
        tried.crashed(0)
    tried.served()
    assert not tried.is_open
    assert (tried.crashed(50), tried.is_open) == (20, True)

    tried.served()
    tried.started()
    assert (tried.crashed(200), tried.is_open) == (1, False)


def asking(text: str, id: int = 1, tenant: str = "t") -> Command:
    return Generate(id, GenerateRequest((Span(text=text),), GREEDY, tenant=tenant))


POISON = [asking("bad", 1)]


@pytest.mark.parametrize(
    ("ends", "is_refused"),
    [
        ([POISON, [asking("bad", 2)], [asking("bad", 9)]], True),
        ([POISON, POISON], False),
        ([POISON, POISON, [asking("good")], POISON], False),
        ([POISON, POISON, [], POISON], False),
        ([POISON, POISON, [asking("bad", tenant="u")]], False),
        ([[*POISON, asking("good")]] * 9, False),
        ([[]] * 9, False),
    ],
)
def test_what_ended_the_engine_alone_and_again_is_refused(
    ends: list[list[Command]], is_refused: bool
) -> None:
    """The same request of the same tenant, the only one under way at three ends in a row."""
    suspects = Suspects()
    for end in ends:
        suspects.crashed(end, 0)

    assert suspects.is_refused(asking("bad", 77), 599) is is_refused
    assert not suspects.is_refused(asking("good"), 599)
    assert not suspects.is_refused(asking("bad", tenant="other"), 599)
    assert not suspects.is_refused(Tokenize(1, (Span(text="bad"),), add_bos=True), 599)
    assert not suspects.is_refused(asking("bad"), 600)
