"""Tickets: good for one request within moments, for browsers, where they can send no header.

A ticket stands in an address, which logs and histories keep; so it is worth nothing after its use.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import NamedTuple

from arriero.access.principal import Principal
from arriero.errors import Overloaded, Unauthorized

LIFETIME_S = 30
MAX_TICKETS = 10_000


class _Ticket(NamedTuple):
    principal: Principal
    path: str | None
    expires_at: float


class Tickets:
    """Owns the tickets that are out, oldest first. `now` is any clock that never goes back."""

    def __init__(self, *, max_tickets: int = MAX_TICKETS) -> None:
        self._tickets: OrderedDict[str, _Ticket] = OrderedDict()
        self._max_tickets = max_tickets

    def issue(self, principal: Principal, path: str | None, now: float) -> str:
        """Return a ticket, good for one request to `path` (None = any). Raises Overloaded."""
        while self._tickets and next(iter(self._tickets.values())).expires_at <= now:
            self._tickets.popitem(last=False)
        if len(self._tickets) >= self._max_tickets:
            raise Overloaded("too many tickets are waiting for their use", retry_after_s=LIFETIME_S)
        ticket = secrets.token_urlsafe(32)
        self._tickets[ticket] = _Ticket(principal, path, now + LIFETIME_S)
        return ticket

    def redeem(self, ticket: str, path: str, now: float) -> Principal:
        """Return who got the ticket, and take it back. Raises Unauthorized."""
        found = self._tickets.pop(ticket, None)
        if found is None or found.expires_at <= now or found.path not in (None, path):
            raise Unauthorized("the ticket is used, too old, or for another path")
        return found.principal
