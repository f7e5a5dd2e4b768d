"""What a Redis server runs to count for several servers at once: two scripts, their arguments and replies.

`COUNT` follows `limits.py` to the letter: buckets that fill evenly, places, a budget for the day of UTC. It
decides and draws in one step, by the clock of Redis, so that no two servers can both take what is left. A
request holds its place by a lease: one that nobody renews ends by itself. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from arriero.access.limits import DAY_S, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arriero.config.auth import KeyLimits

LEASE_S = 60
KEPT_S = 2 * DAY_S
Command = tuple[str | int, ...]

COUNT = """
local function limit(text) return text ~= '' and tonumber(text) or nil end
local counts, leases = KEYS[1], KEYS[2]
local per_minute, tokens_per_minute = limit(ARGV[1]), limit(ARGV[2])
local places, tokens_per_day = limit(ARGV[3]), limit(ARGV[4])
local spent, lease = tonumber(ARGV[5]), ARGV[6]

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local held = redis.call('HMGET', counts, 'requests', 'tokens', 'day', 'day_tokens', 'updated_at')
for i = 1, 5 do held[i] = tonumber(held[i] or 0) end
local requests, tokens, day, day_tokens, updated_at = held[1], held[2], held[3], held[4], held[5]

local elapsed = math.max(0, now - updated_at)
updated_at = now
requests = per_minute and math.max(0, requests - elapsed * per_minute / 60) or 0
tokens = tokens_per_minute and math.max(0, tokens - elapsed * tokens_per_minute / 60) or 0
if math.floor(now / 86400) > day then
  day, day_tokens = math.floor(now / 86400), 0
end
local running = 0
if places then
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', string.format('%.6f', now))
  running = redis.call('ZCARD', leases)
end

local is_refused = lease ~= '' and (
  (places and running >= places) or (per_minute and requests + 1 > per_minute)
  or (tokens_per_minute and tokens >= tokens_per_minute)
  or (tokens_per_day and day_tokens >= tokens_per_day))
if not is_refused then
  tokens, day_tokens = tokens + spent, day_tokens + spent
  if lease ~= '' then
    requests = requests + 1
    if places then
      running = running + 1
      redis.call('ZADD', leases, string.format('%.6f', now + ARGV[7]), lease)
      redis.call('EXPIRE', leases, ARGV[7])
    end
  end
  redis.call('HSET', counts, 'requests', string.format('%.17g', requests),
    'tokens', string.format('%.17g', tokens), 'day', string.format('%d', day),
    'day_tokens', string.format('%d', day_tokens), 'updated_at', string.format('%.17g', updated_at))
  redis.call('EXPIRE', counts, ARGV[8])
end
return {is_refused and 1 or 0, string.format('%.17g', requests), string.format('%.17g', tokens),
  day, day_tokens, string.format('%.17g', updated_at), running}
"""

RENEW = """
local clock = redis.call('TIME')
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], string.format('%d', clock[1] + ARGV[1]), ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 0
"""


class Counted(NamedTuple):
    """What the script answers: the counts after it, and whether the request was refused."""

    is_refused: bool
    usage: Usage


def admitting(tenant: str, limits: KeyLimits, lease: str) -> Command:
    """Return the command that lets a request in, or refuses it."""
    return _count(tenant, limits, 0, lease)


def charging(tenant: str, limits: KeyLimits, tokens: int) -> Command:
    """Return the command that counts tokens."""
    return _count(tenant, limits, tokens, "")


def releasing(tenant: str, lease: str) -> Command:
    """Return the command that gives a place back."""
    return "ZREM", _leases(tenant), lease


def renewing(tenant: str, leases: Iterable[str]) -> Command:
    """Return the command by which requests keep their places."""
    return "EVAL", RENEW, 1, _leases(tenant), LEASE_S, *leases


def counted(reply: Any) -> Counted:
    """Read the reply to `admitting` and `charging`. Raises ValueError, TypeError."""
    is_refused, requests, tokens, day, day_tokens, updated_at, running = reply
    usage = Usage(float(requests), float(tokens), int(day), int(day_tokens), float(updated_at), int(running))
    return Counted(bool(is_refused), usage)


def _count(tenant: str, limits: KeyLimits, tokens: int, lease: str) -> Command:
    asked = (
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.concurrent_requests,
        limits.tokens_per_day,
    )
    words = ("" if limit is None else limit for limit in asked)
    return "EVAL", COUNT, 2, _counts(tenant), _leases(tenant), *words, tokens, lease, LEASE_S, KEPT_S


def _counts(tenant: str) -> str:
    # What stands in braces decides where a cluster keeps a key: both keys of a tenant lie together.
    return f"arriero:{{{tenant or '-'}}}:counts"


def _leases(tenant: str) -> str:
    return f"arriero:{{{tenant or '-'}}}:leases"
