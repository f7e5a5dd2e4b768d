"""How much each key may use: token buckets by the minute, places at a time, a budget by the day. Pure.

1. Requests a minute and tokens a minute are buckets: they hold a minute's worth and fill evenly.
2. What a request costs in tokens is known at its end. It is admitted while its bucket is not empty, and may
   overdraw it; the next ones wait until it has filled again. So nothing has to be guessed.
3. The day is UTC's. All clocks are handed in, as Unix time. One that is set back wins no new budget,
   but buckets go on filling from there, as nobody is to wait until it is as late again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arriero.errors import RateLimited

if TYPE_CHECKING:
    from arriero.access.principal import Principal
    from arriero.config.auth import KeyLimits

DAY_S = 86400
BUSY_RETRY_S = 1
MAX_IDLE = 100_000
"""Counts that are kept of keys which are doing nothing."""


@dataclass(slots=True)
class Usage:
    """What one key has used. `requests` and `tokens` are what it has drawn from its buckets."""

    requests: float = 0
    tokens: float = 0
    day: int = 0
    day_tokens: int = 0
    updated_at: float = 0
    running: int = 0

    def advance(self, limits: KeyLimits, now: float) -> None:
        """Fill the buckets up to now, and begin a new day with a new budget."""
        elapsed = max(0.0, now - self.updated_at)
        self.updated_at = now
        self.requests = max(0.0, self.requests - elapsed * (limits.requests_per_minute or math.inf) / 60)
        self.tokens = max(0.0, self.tokens - elapsed * (limits.tokens_per_minute or math.inf) / 60)
        today = int(now // DAY_S)
        if today > self.day:
            self.day, self.day_tokens = today, 0


class Limiter:
    """Owns the counts of all keys.

    changed: is told whose counts are to be kept over a restart.
    charged: is told of tokens, if others count them too.
    """

    def __init__(
        self,
        usages: Mapping[str, Usage] | None = None,
        *,
        changed: Callable[[str, Usage], None] | None = None,
        charged: Callable[[Principal, int], None] | None = None,
    ) -> None:
        self._usages = dict(usages or {})
        self._changed = changed or (lambda tenant, usage: None)
        self._charged = charged or (lambda principal, tokens: None)

    def admit(self, principal: Principal, now: float) -> Admission:
        """Let a request in. The caller must end the admission. Raises RateLimited."""
        usage = self._usage(principal.tenant)
        usage.advance(principal.limits, now)
        check_limits(principal.limits, usage, now)
        usage.requests += 1
        usage.running += 1
        self._note(principal, usage)
        return Admission(self, principal, usage)

    def charge(self, principal: Principal, tokens: int, now: float) -> None:
        """Count tokens that a request has used."""
        usage = self._usage(principal.tenant)
        usage.advance(principal.limits, now)
        usage.tokens += tokens
        usage.day_tokens += tokens
        self._note(principal, usage)
        self._charged(principal, tokens)

    def _usage(self, tenant: str) -> Usage:
        usage = self._usages.get(tenant)
        if usage is None:
            if len(self._usages) >= MAX_IDLE:
                self._forget()
            usage = self._usages[tenant] = Usage()
        return usage

    def _forget(self) -> None:
        """Drop the older half of those who do nothing; they get a fresh count when they come back."""
        idle = sorted(
            (usage.updated_at, tenant) for tenant, usage in self._usages.items() if not usage.running
        )
        for _, tenant in idle[: len(idle) // 2 + 1]:
            del self._usages[tenant]

    def _note(self, principal: Principal, usage: Usage) -> None:
        limits = principal.limits
        if limits.requests_per_minute or limits.tokens_per_minute or limits.tokens_per_day:
            self._changed(principal.tenant, usage)


@dataclass(frozen=True, slots=True)
class Share:
    """What a request has drawn from counts that several servers share: they as they were, and its end."""

    usage: Usage
    end: Callable[[], None]


@dataclass(slots=True)
class Admission:
    """One request that was let in. `end` it, whatever became of it; `charge` it what it used.

    share: what it has drawn from shared counts; None = nothing.
    """

    _limiter: Limiter
    _principal: Principal
    _usage: Usage
    share: Share | None = None
    _is_over: bool = False

    def charge(self, tokens: int, now: float) -> None:
        """Count the tokens of a prompt and a completion."""
        self._limiter.charge(self._principal, tokens, now)

    def end(self) -> None:
        """Give the place back; a second time does nothing."""
        if not self._is_over:
            self._is_over = True
            self._usage.running -= 1
            if self.share is not None:
                self.share.end()

    def withdraw(self) -> None:
        """End it as if the request had never come."""
        self._usage.requests = max(0.0, self._usage.requests - 1)
        self.end()

    def headers(self) -> dict[str, str]:
        """Return OpenAI's headers on what is left; none where there is no limit."""
        return quota_headers(self._principal.limits, self.share.usage if self.share else self._usage)


def check_limits(limits: KeyLimits, usage: Usage, now: float) -> None:
    """Raise RateLimited for the first limit that is reached."""
    headers = quota_headers(limits, usage)
    if limits.concurrent_requests is not None and usage.running >= limits.concurrent_requests:
        message = f"this key has {usage.running} requests running, and may have no more at a time"
        raise RateLimited(message, retry_after_s=BUSY_RETRY_S, quota=headers)
    per_minute = limits.requests_per_minute
    if per_minute is not None and usage.requests + 1 > per_minute:
        wait_s = (usage.requests + 1 - per_minute) * 60 / per_minute
        message = f"this key may make {per_minute} requests a minute"
        raise RateLimited(message, retry_after_s=math.ceil(wait_s), quota=headers)
    per_minute = limits.tokens_per_minute
    if per_minute is not None and usage.tokens >= per_minute:
        wait_s = (usage.tokens - per_minute) * 60 / per_minute
        message = f"this key may use {per_minute} tokens a minute"
        raise RateLimited(message, retry_after_s=math.floor(wait_s) + 1, quota=headers)
    if limits.tokens_per_day is not None and usage.day_tokens >= limits.tokens_per_day:
        message = f"this key may use {limits.tokens_per_day} tokens a day (UTC)"
        wait_s = (usage.day + 1) * DAY_S - now
        raise RateLimited(message, retry_after_s=math.ceil(wait_s), quota=headers)


def quota_headers(limits: KeyLimits, usage: Usage) -> dict[str, str]:
    """Return `x-ratelimit-*` for the limits that are set: limit, what remains, when it is whole again."""
    kinds = (
        ("requests", limits.requests_per_minute, usage.requests),
        ("tokens", limits.tokens_per_minute, usage.tokens),
    )
    headers = {}
    for kind, limit, used in kinds:
        if limit is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(limit - used)))
            headers[f"x-ratelimit-reset-{kind}"] = f"{used * 60 / limit:.3f}s"
    return headers
