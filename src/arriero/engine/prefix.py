"""Which evaluated tokens lie in the KV cache, who may reuse them, and what goes when room is short.

Pure bookkeeping: no llama.cpp here. `Cells` counts the cells that slots share; `Resident` is what
one slot holds; `best_match` finds the longest reusable prefix.

Tenants: tokens of one tenant serve that tenant only, but for the leading `shared` ones (a prelude,
that is configured text), which serve everybody.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Cells:
    """Counts the KV cells in use, where slots share prefixes of each other.

    A slot holds a chain of segments (segment id, length), each used from its first cell on. A
    segment occupies as many cells as the longest of its users needs.
    """

    def __init__(self) -> None:
        self._chains: dict[int, list[tuple[int, int]]] = {}
        self._users: dict[int, dict[int, int]] = {}
        self._next_segment = 0
        self.used = 0

    def extend(self, slot: int, count: int) -> None:
        """Add `count` newly evaluated tokens to a slot."""
        chain = self._chains.setdefault(slot, [])
        if chain:
            segment, length = chain[-1]
            others = [used for user, used in self._users[segment].items() if user != slot]
            if length >= max(others, default=0):
                chain[-1] = (segment, length + count)
                self._use(segment, slot, length + count)
                return
        self._next_segment += 1
        chain.append((self._next_segment, count))
        self._use(self._next_segment, slot, count)

    def share(self, source: int, target: int, count: int) -> None:
        """Let the empty slot `target` hold the first `count` tokens of `source`."""
        chain: list[tuple[int, int]] = []
        for segment, length in self._chains[source]:
            if count <= 0:
                break
            taken = min(length, count)
            chain.append((segment, taken))
            self._use(segment, target, taken)
            count -= taken
        self._chains[target] = chain

    def drop(self, slot: int) -> None:
        """Forget a slot; cells that nobody else uses become free."""
        for segment, _ in self._chains.pop(slot, ()):
            self._use(segment, slot, 0)

    def alone(self, slot: int) -> int:
        """Return how many cells would be free without a slot."""
        count = 0
        for segment, length in self._chains.get(slot, ()):
            others = [used for user, used in self._users[segment].items() if user != slot]
            count += max(0, length - max(others, default=0))
        return count

    def copy(self) -> Cells:
        """Return an independent copy, to try something out."""
        other = Cells()
        other._chains = {slot: list(chain) for slot, chain in self._chains.items()}
        other._users = {segment: dict(users) for segment, users in self._users.items()}
        other._next_segment, other.used = self._next_segment, self.used
        return other

    def _use(self, segment: int, slot: int, length: int) -> None:
        users = self._users.setdefault(segment, {})
        before = max(users.values(), default=0)
        if length:
            users[slot] = length
        else:
            users.pop(slot, None)
        self.used += max(users.values(), default=0) - before
        if not users:
            del self._users[segment]


class Resident:
    """What an idle slot holds. `last_used` is the scheduler's step number."""

    __slots__ = ("last_used", "shared", "slot", "tenant", "tokens")

    def __init__(self, slot: int, tokens: array[int], *, tenant: str, shared: int, last_used: int) -> None:
        self.slot = slot
        self.tokens = tokens
        self.tenant = tenant
        self.shared = shared
        self.last_used = last_used


class Source(NamedTuple):
    """A slot whose evaluated tokens may be reused. `planned` are those that it will evaluate."""

    slot: int
    planned: array[int]
    evaluated: int
    tenant: str
    shared: int


class Match(NamedTuple):
    """`size` tokens can be shared from `slot` now; `later` of them once `leader` has evaluated them."""

    slot: int
    size: int
    leader: int
    later: int


def best_match(prompt: array[int], tenant: str, shared: int, sources: Iterable[Source]) -> Match:
    """Return the longest prefix of `prompt` that may be reused, now and later.

    The last token of a prompt is always left to evaluate: its logits are wanted.
    """
    slot = leader = -1
    size = later = 0
    most = len(prompt) - 1
    for source in sources:
        limit = min(most, len(source.planned))
        if source.tenant != tenant:
            limit = min(limit, shared, source.shared)
        best = max(size, later)
        if limit <= best or source.planned[best] != prompt[best]:
            continue
        common = common_prefix(prompt, source.planned, limit)
        ready = min(common, source.evaluated)
        if ready > size:
            slot, size = source.slot, ready
        if common > later:
            leader, later = source.slot, common
    return Match(slot, size, leader, later)


def common_prefix(a: Sequence[int], b: Sequence[int], limit: int) -> int:
    """Return how many of the first `limit` tokens are equal."""
    if limit <= 0 or a[0] != b[0]:
        return 0
    unequal = np.flatnonzero(
        np.frombuffer(memoryview(a)[:limit], np.int32) != np.frombuffer(memoryview(b)[:limit], np.int32)  # type: ignore[arg-type]
    )
    return int(unequal[0]) if len(unequal) else limit


def least_recent(residents: Iterable[Resident]) -> list[Resident]:
    """Return the residents in the order in which they are given up."""
    return sorted(residents, key=lambda resident: resident.last_used)
