"""The choice among upstreams, with a clock that stands where it is put."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from arriero.guard.balance import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, SLACK, Balancer, Circuit


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def of_three(clock: Clock) -> Balancer:
    """Return a balancer of three upstreams."""
    return Balancer(["a:1", "b:2", "c:3"], clock)


def digest(number: int) -> bytes:
    """Return the digest of one conversation."""
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def chosen(balancer: Balancer, affinity: bytes | None = None) -> int:
    """Choose, and begin there."""
    index = balancer.choose(affinity)
    assert index is not None
    balancer.begin(index)
    return index


def open_circuit(circuit: Circuit) -> None:
    """Fail as often as it takes."""
    for _ in range(FAILURES):
        circuit.fail()


def test_least_loaded(clock: Clock) -> None:
    """Requests without affinity go to the upstream with the fewest."""
    balancer = of_three(clock)
    assert [chosen(balancer) for _ in range(6)] == [0, 1, 2, 0, 1, 2]

    balancer.end(1)
    balancer.end(1)

    assert [chosen(balancer) for _ in range(2)] == [1, 1]


def test_in_turn(clock: Clock) -> None:
    """Requests that come one after the other go round."""
    balancer = of_three(clock)
    served = []
    for _ in range(6):
        index = chosen(balancer)
        served.append(index)
        balancer.end(index)

    assert served == [0, 1, 2, 0, 1, 2]


def test_affinity(clock: Clock) -> None:
    """Prompts that begin alike go to one upstream, and different ones are spread over all."""
    balancer = of_three(clock)
    homes = {number: balancer.choose(digest(number)) for number in range(300)}

    assert homes == {number: balancer.choose(digest(number)) for number in range(300)}
    assert all(count > 60 for count in Counter(homes.values()).values())


def test_affinity_outlives_a_loss(clock: Clock) -> None:
    """When an upstream goes, only its own prompts move."""
    balancer = of_three(clock)
    before = {number: balancer.choose(digest(number)) for number in range(100)}
    open_circuit(balancer.circuits[1])
    after = {number: balancer.choose(digest(number)) for number in range(100)}

    assert 1 not in after.values()
    assert all(after[number] == home for number, home in before.items() if home != 1)


def test_affinity_has_a_bound(clock: Clock) -> None:
    """One popular prompt fills its upstream up to the bound, then the others."""
    balancer = of_three(clock)
    home = [chosen(balancer, digest(1)) for _ in range(SLACK)]
    others = [chosen(balancer, digest(1)) for _ in range(300 - SLACK)]

    assert len(set(home)) == 1
    assert others[0] != home[0]
    assert max(Counter(home + others).values()) <= 126  # 1.25 of the share, rounded up


def test_tried(clock: Clock) -> None:
    """An upstream that has been tried is not chosen again; after all there is none."""
    balancer = of_three(clock)

    assert balancer.choose(None, {0, 1}) == 2
    assert balancer.choose(digest(1), {0, 1, 2}) is None


def test_choice_changes_nothing(clock: Clock) -> None:
    """Looking at the choice takes no turn."""
    balancer = of_three(clock)

    assert [balancer.choose(None) for _ in range(3)] == [0, 0, 0]


def test_circuit_opens(clock: Clock) -> None:
    """Some failures in a row open a circuit; with a success between them they do not."""
    circuit = Circuit(clock)
    for _ in range(5):
        circuit.fail()
        circuit.succeed()
    for _ in range(FAILURES - 1):
        circuit.fail()
    assert circuit.is_passable

    circuit.fail()

    assert not circuit.is_passable
    assert not circuit.is_closed


def test_circuit_tries_once(clock: Clock) -> None:
    """After its pause one request is let through; its success closes the circuit."""
    circuit = Circuit(clock)
    open_circuit(circuit)
    clock.now += FIRST_PAUSE_S
    assert circuit.is_passable

    circuit.begin()
    assert not circuit.is_passable
    circuit.succeed()

    assert circuit.is_passable
    assert circuit.is_closed


def test_pauses_grow(clock: Clock) -> None:
    """Each failed trial doubles the pause, up to a bound; a success begins anew."""
    circuit = Circuit(clock)
    open_circuit(circuit)
    pauses = []
    for _ in range(8):
        start = clock.now
        while not circuit.is_passable:
            clock.now += 0.5
        pauses.append(clock.now - start)
        circuit.begin()
        circuit.fail()

    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_one_trial_for_each_pause(clock: Clock) -> None:
    """A trial without an outcome lets the next one through after a pause."""
    circuit = Circuit(clock)
    open_circuit(circuit)
    clock.now += LONGEST_PAUSE_S
    circuit.begin()
    assert not circuit.is_passable

    clock.now += LONGEST_PAUSE_S

    assert circuit.is_passable


def test_late_failures(clock: Clock) -> None:
    """Requests that were under way when the circuit opened do not lengthen its pause."""
    circuit = Circuit(clock)
    for _ in range(50):
        circuit.fail()
    clock.now += FIRST_PAUSE_S

    assert circuit.is_passable
