"""What a key may use: pure buckets, with time handed in."""

from __future__ import annotations

import pytest

from arriero.access.limits import DAY_S, MAX_IDLE, Limiter, Usage
from arriero.access.principal import Principal
from arriero.config.auth import KeyLimits
from arriero.errors import RateLimited

NOON = 20_000 * DAY_S + DAY_S / 2


def bearer(tenant: str = "bob", **limits: int) -> Principal:
    return Principal(tenant, limits=KeyLimits(**limits))


def admitted(limiter: Limiter, principal: Principal, now: float) -> bool:
    """Say whether a request is let in at this time; it ends at once."""
    try:
        limiter.admit(principal, now).end()
    except RateLimited:
        return False
    return True


def test_requests_come_in_bursts_of_a_minutes_worth_and_then_evenly() -> None:
    """Six a minute: six at once, then one each ten seconds, never more than six."""
    limiter, bob = Limiter(), bearer(requests_per_minute=6)

    assert [admitted(limiter, bob, NOON) for _ in range(7)] == [True] * 6 + [False]
    assert not admitted(limiter, bob, NOON + 9.9)
    assert [admitted(limiter, bob, NOON + 10.1) for _ in range(2)] == [True, False]
    assert sum(admitted(limiter, bob, NOON + 10_000) for _ in range(10)) == 6


def test_the_wait_that_is_told_is_long_enough_and_no_longer() -> None:
    """After `retry_after_s` the request is let in, a second before it is not."""
    limiter, bob = Limiter(), bearer(requests_per_minute=4)
    for _ in range(4):
        limiter.admit(bob, NOON).end()
    with pytest.raises(RateLimited) as refused:
        limiter.admit(bob, NOON)

    assert refused.value.retry_after_s == 15
    assert not admitted(limiter, bob, NOON + 14)
    assert admitted(limiter, bob, NOON + 15)


def test_tokens_may_be_overdrawn_once_and_are_waited_for() -> None:
    """The cost is known at the end; the next request waits until it is paid."""
    limiter, bob = Limiter(), bearer(tokens_per_minute=60)
    limiter.admit(bob, NOON).charge(100, NOON)

    with pytest.raises(RateLimited) as refused:
        limiter.admit(bob, NOON)
    assert refused.value.retry_after_s == 41
    assert not admitted(limiter, bob, NOON + 40)
    assert admitted(limiter, bob, NOON + 41)


def test_what_a_long_request_used_is_not_paid_by_the_time_it_took() -> None:
    """Tokens are drawn when they are told, with their day's budget: the minutes before have paid nothing."""
    limiter, bob = Limiter(), bearer(tokens_per_minute=60, tokens_per_day=200)
    evening = NOON + DAY_S / 2 - 1
    admission = limiter.admit(bob, evening)
    admission.charge(100, evening + 600)

    assert not admitted(limiter, bob, evening + 640)
    assert admitted(limiter, bob, evening + 641)
    admission.charge(99, evening + 641)
    assert admitted(limiter, bob, evening + 1000)
    admission.charge(1, evening + 1000)
    assert not admitted(limiter, bob, evening + 2000)


def test_a_request_that_is_withdrawn_costs_nothing() -> None:
    """Neither a request of the minute nor a place, and never more than it took."""
    limiter, bob = Limiter(), bearer(requests_per_minute=2, concurrent_requests=1)
    for _ in range(3):
        limiter.admit(bob, NOON).withdraw()

    assert [admitted(limiter, bob, NOON) for _ in range(3)] == [True, True, False]


def test_others_are_told_what_was_charged() -> None:
    """Once for each charge, with who is to pay."""
    told: list[tuple[str, int]] = []
    limiter = Limiter(charged=lambda principal, tokens: told.append((principal.tenant, tokens)))
    admission = limiter.admit(bearer(), NOON)
    admission.charge(7, NOON)
    admission.charge(8, NOON)

    assert told == [("bob", 7), ("bob", 8)]


def test_the_older_half_of_the_idle_is_forgotten() -> None:
    """Counts have a bound; who is running, or was here lately, keeps its own."""
    spent = {
        f"k{number}": Usage(day=20_000, day_tokens=1, updated_at=number, running=int(number == 0))
        for number in range(MAX_IDLE)
    }
    limiter = Limiter(spent)
    limiter.admit(bearer("new"), NOON).end()

    numbers = (0, 1, MAX_IDLE // 2, MAX_IDLE // 2 + 1, MAX_IDLE - 1)
    asked = [admitted(limiter, bearer(f"k{number}", tokens_per_day=1), NOON) for number in numbers]
    assert asked == [False, True, True, False, False]


def test_places_are_given_back_once() -> None:
    """Two at a time; ending one twice frees one place only."""
    limiter, bob = Limiter(), bearer(concurrent_requests=2)
    first, second = limiter.admit(bob, NOON), limiter.admit(bob, NOON)
    assert not admitted(limiter, bob, NOON)

    first.end()
    first.end()
    third = limiter.admit(bob, NOON)
    assert not admitted(limiter, bob, NOON)
    second.end()
    third.end()
    assert admitted(limiter, bob, NOON)


def test_a_day_has_a_budget_and_a_new_one_begins_at_midnight() -> None:
    """UTC's midnight, and the wait that is told leads there."""
    limiter, bob = Limiter(), bearer(tokens_per_day=1000)
    limiter.admit(bob, NOON).charge(1000, NOON)
    with pytest.raises(RateLimited, match=r"1000 tokens a day \(UTC\)") as refused:
        limiter.admit(bob, NOON)

    assert refused.value.retry_after_s == DAY_S / 2
    assert not admitted(limiter, bob, NOON + DAY_S / 2 - 1)
    assert admitted(limiter, bob, NOON + DAY_S / 2)


def test_keys_do_not_share_and_a_refused_request_costs_nothing() -> None:
    """Each tenant has its own counts."""
    limiter, bob, eve = Limiter(), bearer(requests_per_minute=1), bearer("eve", requests_per_minute=1)
    assert admitted(limiter, bob, NOON)
    assert [admitted(limiter, bob, NOON) for _ in range(100)] == [False] * 100

    assert admitted(limiter, eve, NOON)
    assert admitted(limiter, bob, NOON + 60)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    """Neither a day's budget nor a bucket is won by it, and afterwards all goes on."""
    limiter, bob = Limiter(), bearer(requests_per_minute=1, tokens_per_day=10)
    limiter.admit(bob, NOON).charge(10, NOON)

    assert not admitted(limiter, bob, NOON - 3 * DAY_S)
    assert not admitted(limiter, bob, NOON + 60)
    assert admitted(limiter, bob, NOON + DAY_S)


@pytest.mark.parametrize("jump_s", [-3600, 3600, -DAY_S, DAY_S])
def test_a_clock_that_jumps_and_is_corrected_locks_nobody_out(jump_s: int) -> None:
    """A minute after the first request at the right time, a minute's worth may be asked again."""
    limiter, bob = Limiter(), bearer(requests_per_minute=1)
    for now in (NOON, NOON + jump_s, NOON + 1):
        admitted(limiter, bob, now)

    assert admitted(limiter, bob, NOON + 61)


def test_headers_say_what_is_left() -> None:
    """Only for limits that are set; never below nothing."""
    limiter = Limiter()
    admission = limiter.admit(bearer(requests_per_minute=60, tokens_per_minute=30), NOON)
    assert admission.headers() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1.000s",
        "x-ratelimit-limit-tokens": "30",
        "x-ratelimit-remaining-tokens": "30",
        "x-ratelimit-reset-tokens": "0.000s",
    }
    admission.charge(100, NOON)
    assert admission.headers()["x-ratelimit-remaining-tokens"] == "0"
    assert limiter.admit(bearer("eve", concurrent_requests=1, tokens_per_day=1), NOON).headers() == {}


def test_counts_are_told_to_whoever_keeps_them_and_taken_up_again() -> None:
    """A restart gives nobody a fresh minute; keys without limits are not kept."""
    kept: dict[str, Usage] = {}
    limiter, bob = Limiter(changed=kept.__setitem__), bearer(requests_per_minute=2, tokens_per_day=10)
    limiter.admit(bob, NOON).charge(9, NOON)
    limiter.admit(bob, NOON).end()
    limiter.admit(bearer("eve"), NOON).end()

    assert list(kept) == ["bob"]
    kept["bob"].running = 0
    again = Limiter(kept)
    assert not admitted(again, bob, NOON + 1)
    assert admitted(again, bob, NOON + 30)
