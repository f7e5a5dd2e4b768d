"""Who gets the next place: the tenant that holds the fewest, among equals the one served longest ago.

1. A free place is given at once. While one is free nobody waits.
2. Who waits stands in the line of its tenant; a line is first come, first served.
3. A place that is given back goes to the head of the line whose tenant holds the fewest places.
4. When all lines together are full, a newcomer sends away the last of the longest line. If its own is
   among the longest, it is sent away itself. So a tenant that floods fills only what others leave.

Pure: nothing here waits, and there is no clock.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, TypeVar

W = TypeVar("W")


class Turns(Generic[W]):
    """Owns the number of free places, what each tenant holds, and the lines of those who wait."""

    def __init__(self, num_places: int, max_waiting: int) -> None:
        self._free = num_places
        self._max_waiting = max_waiting
        self._held: Counter[str] = Counter()
        self._lines: dict[str, deque[W]] = {}  # none is empty; the tenant served last stands last
        self.waiting = 0
        """Number of those who wait, in all lines."""

    def take(self, tenant: str) -> bool:
        """Give a free place to a tenant; say whether there was one."""
        if not self._free:
            return False
        self._free -= 1
        self._held[tenant] += 1
        return True

    def wait(self, tenant: str, waiter: W) -> W | None:
        """Put someone into the line of a tenant; return who must go for it, perhaps the same one."""
        sent_away: W | None = None
        if self.waiting >= self._max_waiting:
            longest = max(self._lines, key=lambda one: len(self._lines[one]), default=tenant)
            if len(self._lines.get(longest, ())) <= len(self._lines.get(tenant, ())) + 1:
                return waiter
            sent_away = self._lines[longest][-1]
            self.leave(longest, sent_away)
        self._lines.setdefault(tenant, deque()).append(waiter)
        self.waiting += 1
        return sent_away

    def leave(self, tenant: str, waiter: W) -> None:
        """Take someone who waits out of the line."""
        line = self._lines[tenant]
        line.remove(waiter)
        self.waiting -= 1
        if not line:
            del self._lines[tenant]

    def give_back(self, tenant: str) -> W | None:
        """Take a place back; return who of those who wait has it now."""
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        if not self._lines:
            self._free += 1
            return None
        # `min` returns the first of equals, which was served longest ago.
        chosen = min(self._lines, key=lambda one: self._held[one])
        line = self._lines.pop(chosen)
        waiter = line.popleft()
        if line:
            self._lines[chosen] = line
        self.waiting -= 1
        self._held[chosen] += 1
        return waiter
