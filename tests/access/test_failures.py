"""Wrong keys by address, with time handed in."""

from __future__ import annotations

import pytest

from arriero.access.failures import MAX_ADDRESSES, PER_MINUTE, AuthFailures
from arriero.errors import RateLimited

HOST = "192.0.2.7"


def refused(failures: AuthFailures, host: str, now: float, per_minute: int | None = 6) -> int:
    """Return how long the address is told to wait, 0 if its failure is one among others."""
    try:
        failures.note(host, per_minute, now)
    except RateLimited as exc:
        return exc.retry_after_s
    return 0


def test_a_minutes_worth_may_come_at_once_and_then_evenly() -> None:
    """Six a minute: six at once, then one each ten seconds; the wait that is told leads there."""
    failures = AuthFailures()

    assert [refused(failures, HOST, 0.0) for _ in range(8)] == [0] * 6 + [10, 10]
    assert refused(failures, HOST, 9.0) == 1
    assert [refused(failures, HOST, 10.0) for _ in range(2)] == [0, 10]
    assert [refused(failures, HOST, 1000.0) for _ in range(7)] == [0] * 6 + [10]
    assert [refused(failures, "192.0.2.8", now, per_minute=1) for now in (0.0, 59.5, 60.0)] == [0, 1, 0]


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        (HOST, HOST, True),
        (HOST, "192.0.2.8", False),
        (HOST, f"::ffff:{HOST}", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("a socket", "a socket", True),
    ],
)
def test_whose_failures_count_together(first: str, second: str, is_shared: bool) -> None:
    """Those of one address, however it is written, and those of one IPv6 network."""
    failures = AuthFailures()
    refused(failures, first, 0.0, per_minute=1)

    assert bool(refused(failures, second, 0.0, per_minute=1)) is is_shared


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_fail_unless_a_number_is_set(host: str) -> None:
    """Behind a proxy here all callers come from this machine; who sets a number means all."""
    failures = AuthFailures()

    assert not any(refused(failures, host, 0.0, per_minute=None) for _ in range(PER_MINUTE + 1))
    assert [bool(refused(failures, host, 0.0, per_minute=1)) for _ in range(2)] == [False, True]
    others = [bool(refused(failures, HOST, 0.0, per_minute=None)) for _ in range(PER_MINUTE + 1)]
    assert others == [False] * PER_MINUTE + [True]


def test_memory_is_bounded_and_who_goes_on_failing_is_not_forgotten() -> None:
    """As many addresses as there are leave so many buckets; the one that keeps failing keeps its own."""
    failures = AuthFailures()
    for number in range(2 * MAX_ADDRESSES):
        refused(failures, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0, per_minute=1)
        if number % 1000 == 0:
            assert bool(refused(failures, HOST, 0.0, per_minute=1)) is (number > 0)

    assert len(failures._buckets) == MAX_ADDRESSES
