"""Who gets the next place: the highest class first; in it, the tenant that holds the fewest places.

1. A free place is given at once. While one is free nobody waits.
2. Who waits stands in the line of its tenant in its class; a line is first come, first served.
3. A place that is given back goes to the highest class that waits, unless a lower one has been passed
   over `PATIENCE` times since it was last served: then it goes there. So nobody waits for ever.
4. In a class it goes to the head of the line whose tenant holds the fewest places, and of equals to the
   one served longest ago.
5. When all lines together are full, a newcomer sends away the last of the longest line of the lowest class.
   If that class is above its own, or its own line there is among the longest, it is sent away itself. So a
   tenant that floods fills only what others of its class, and of higher ones, leave.

Pure: nothing here waits, and there is no clock.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, TypeVar

from arriero.config.auth import DEFAULT_PRIORITY, PRIORITIES, Priority

W = TypeVar("W")

PATIENCE = 8
"""How many places in a row may go to higher classes while a lower one waits."""


class Turns(Generic[W]):
    """Owns the number of free places, what each tenant holds, and the lines of those who wait."""

    def __init__(self, num_places: int, max_waiting: int) -> None:
        self._free = num_places
        self._max_waiting = max_waiting
        self._held: Counter[str] = Counter()
        self._classes = {priority: _Class[W]() for priority in PRIORITIES}
        self.waiting = 0
        """Number of those who wait, in all lines."""

    def take(self, tenant: str) -> bool:
        """Give a free place to a tenant; say whether there was one."""
        if not self._free:
            return False
        self._free -= 1
        self._held[tenant] += 1
        return True

    def wait(self, tenant: str, waiter: W, priority: Priority = DEFAULT_PRIORITY) -> W | None:
        """Put someone into the line of a tenant; return who must go for it, perhaps the same one."""
        sent_away: W | None = None
        if self.waiting >= self._max_waiting:
            victim = self._victim(tenant, priority)
            if victim is None:
                return waiter
            lowest, longest = victim
            sent_away = self._classes[lowest].lines[longest][-1]
            self.leave(longest, sent_away, lowest)
        self._classes[priority].lines.setdefault(tenant, deque()).append(waiter)
        self.waiting += 1
        return sent_away

    def _victim(self, tenant: str, priority: Priority) -> tuple[Priority, str] | None:
        """Return whose line loses its last for a newcomer; None = the newcomer is sent away."""
        lowest = next((one for one in PRIORITIES if self._classes[one].lines), None)
        if lowest is None or PRIORITIES.index(lowest) > PRIORITIES.index(priority):
            return None
        lines = self._classes[lowest].lines
        longest = max(lines, key=lambda one: len(lines[one]))
        if lowest == priority and len(lines[longest]) <= len(lines.get(tenant, ())) + 1:
            return None
        return lowest, longest

    def leave(self, tenant: str, waiter: W, priority: Priority = DEFAULT_PRIORITY) -> None:
        """Take someone who waits out of the line."""
        waiting = self._classes[priority]
        line = waiting.lines[tenant]
        line.remove(waiter)
        self.waiting -= 1
        if not line:
            waiting.drop(tenant)

    def give_back(self, tenant: str) -> W | None:
        """Take a place back; return who of those who wait has it now."""
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        if not self.waiting:
            self._free += 1
            return None
        chosen = self._next_class()
        # `min` returns the first of equals, which was served longest ago.
        next_tenant = min(chosen.lines, key=lambda one: self._held[one])
        self.waiting -= 1
        self._held[next_tenant] += 1
        return chosen.serve(next_tenant)

    def _next_class(self) -> _Class[W]:
        """Return the class that gets the next place; those below it have been passed over once more."""
        falling = [one for one in reversed(self._classes.values()) if one.lines]
        due = [one for one in falling if one.num_passed >= PATIENCE]
        chosen = max(due, key=lambda one: one.num_passed) if due else falling[0]
        for one in falling[falling.index(chosen) + 1 :]:
            one.num_passed += 1
        return chosen


class _Class(Generic[W]):
    """The lines of one class. `num_passed`: places that went to higher ones since it was served."""

    def __init__(self) -> None:
        self.lines: dict[str, deque[W]] = {}  # none is empty; the tenant served last stands last
        self.num_passed = 0

    def serve(self, tenant: str) -> W:
        """Take the first of a tenant's line out of it."""
        self.num_passed = 0
        line = self.lines.pop(tenant)
        waiter = line.popleft()
        if line:
            self.lines[tenant] = line
        return waiter

    def drop(self, tenant: str) -> None:
        """Forget an empty line; where nobody waits, nobody is passed over."""
        del self.lines[tenant]
        if not self.lines:
            self.num_passed = 0
