"""Whether a client keeps up."""

from __future__ import annotations

from arriero.server.edge.limits import Limits
from arriero.server.edge.pace import BodyPace, Stall


def test_a_body_must_keep_its_rate_after_the_grace() -> None:
    """Each byte buys time; where nobody took the body, the reckoning begins anew."""
    pace = BodyPace(Limits(body_grace_s=10, min_body_bytes_per_s=1000), 100)
    assert pace.deadline == 110

    pace.received += 5000
    assert pace.deadline == 115
    pace.restart(200)
    assert pace.deadline == 210
    pace.received += 1000
    assert pace.deadline == 211


def test_only_bytes_that_do_not_become_fewer_are_a_stall() -> None:
    """Progress, or nothing to send, begins the time anew."""
    stall = Stall(10)
    looks = [(0, 500), (9, 500), (11, 400), (20, 400), (21, 400), (22, 0), (40, 300), (49, 301), (50, 301)]

    assert [stall.is_over(now, waiting) for now, waiting in looks] == [
        False, False, False, False, True, False, False, False, True
    ]  # fmt: skip
