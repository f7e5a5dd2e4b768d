"""Tickets."""

from __future__ import annotations

import pytest

from arriero.access.principal import Principal
from arriero.access.tickets import LIFETIME_S, Tickets
from arriero.errors import Overloaded, Unauthorized

BOB = Principal("tenant", "bob")
CHAT = "/v1/task/t/chat"


def test_a_ticket_opens_one_request() -> None:
    """The second use is refused, as is one that was never issued."""
    tickets = Tickets()
    ticket = tickets.issue(BOB, None, 100.0)

    assert tickets.redeem(ticket, CHAT, 129.9) == BOB
    for text in (ticket, "", "nope"):
        with pytest.raises(Unauthorized):
            tickets.redeem(text, CHAT, 100.0)


@pytest.mark.parametrize(("path", "now"), [(CHAT, 100.0 + LIFETIME_S), ("/v1/task/other/chat", 101.0)])
def test_a_ticket_is_soon_worthless_and_for_its_path_only(path: str, now: float) -> None:
    """A failed use uses it up too."""
    tickets = Tickets()
    ticket = tickets.issue(BOB, CHAT, 100.0)

    with pytest.raises(Unauthorized):
        tickets.redeem(ticket, path, now)
    with pytest.raises(Unauthorized):
        tickets.redeem(ticket, CHAT, 100.0)


def test_tickets_are_bounded_and_old_ones_make_room() -> None:
    """Who collects tickets cannot fill the memory, nor lock others out for longer than a ticket lives."""
    tickets = Tickets(max_tickets=2)
    tickets.issue(BOB, None, 100.0)
    young = tickets.issue(BOB, None, 110.0)

    with pytest.raises(Overloaded):
        tickets.issue(BOB, None, 120.0)
    assert tickets.redeem(tickets.issue(BOB, None, 130.0), CHAT, 131.0) == BOB
    assert tickets.redeem(young, CHAT, 131.0) == BOB


def test_a_ticket_cannot_be_guessed() -> None:
    """It bears 256 random bits, and no two are equal."""
    tickets = Tickets()
    issued = {tickets.issue(BOB, None, 100.0) for _ in range(100)}

    assert len(issued) == 100
    assert {len(ticket) for ticket in issued} == {43}
