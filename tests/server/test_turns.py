"""Who gets the next place, told as scripts."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from arriero.config.auth import Priority
from arriero.server.turns import PATIENCE, Turns

# Each script: places, room to wait, then words: "a1" asks for a place for 1 of tenant a, "-a" gives one of
# a's back. Then what happened: "+a1" was given a place, "~a1" was sent away.
SCRIPTS: list[tuple[str, int, int, str, str]] = [
    ("free places are given at once", 2, 9, "a1 b2", "+a1 +b2"),
    ("one tenant is served in order", 1, 9, "a1 a2 a3 -a -a", "+a1 +a2 +a3"),
    ("tenants take turns", 1, 9, "a1 a2 a3 b4 b5 -a -a -b -a", "+a1 +a2 +b4 +a3 +b5"),
    ("a newcomer is next but one", 1, 9, "a1 a2 a3 a4 b5 -a -a", "+a1 +a2 +b5"),
    ("who holds the fewest is next", 3, 9, "a1 a2 b3 a4 b5 -a", "+a1 +a2 +b3 +a4"),
    ("and not who came first", 3, 9, "a1 a2 b3 a4 c5 -b", "+a1 +a2 +b3 +c5"),
    ("no room: the newcomer goes", 1, 1, "a1 a2 a3", "+a1 ~a3"),
    ("no room at all", 1, 0, "a1 a2 b3 -a b4", "+a1 ~a2 ~b3 +b4"),
    ("the last of the longest line goes", 1, 3, "a1 a2 a3 a4 b5 -a -a -b", "+a1 ~a4 +a2 +b5 +a3"),
    ("lines may differ by one", 1, 3, "a1 a2 a3 b4 b5", "+a1 ~b5"),
    ("the third tenant finds room too", 1, 2, "a1 a2 a3 b4 c5", "+a1 ~a3 ~c5"),
    ("a place nobody wants is free again", 1, 9, "a1 -a b2 -b", "+a1 +b2"),
    ("a higher class goes first", 1, 9, "a1 l2 b3 h4 -a -h -b", "+a1 +h4 +b3 +l2"),
    ("but sends nobody from a place", 1, 9, "l1 h2 -l", "+l1 +h2"),
    ("in a class tenants take turns", 1, 9, "a1 h2 h3 H4 -a -h -H", "+a1 +h2 +H4 +h3"),
    ("no room: the lowest class goes first", 1, 2, "a1 l2 b3 h4 h5 c6 -a -h -h", "+a1 ~l2 ~b3 ~c6 +h4 +h5"),
    ("the last of its longest line", 1, 3, "a1 l2 l3 L4 b5 -a -b -l", "+a1 ~l3 +b5 +l2 +L4"),
    ("and never for a lower one", 1, 1, "a1 h2 b3 l4", "+a1 ~b3 ~l4"),
]
CLASSES: dict[str, Priority] = {"l": "low", "h": "high"}
"""The priority of a tenant by its first letter; all others are normal."""


def class_of(tenant: str) -> Priority:
    return CLASSES.get(tenant.lower(), "normal")


@pytest.mark.parametrize(
    ("places", "room", "script", "expected"), [row[1:] for row in SCRIPTS], ids=[row[0] for row in SCRIPTS]
)
def test_scripts(places: int, room: int, script: str, expected: str) -> None:
    """What each script says happens, in this order."""
    turns: Turns[str] = Turns(places, room)
    seen: list[str] = []
    for word in script.split():
        tenant = word.strip("-0123456789")
        if word.startswith("-"):
            placed = turns.give_back(tenant)
            seen += [f"+{placed}"] if placed else []
        elif turns.take(tenant):
            seen.append(f"+{word}")
        else:
            sent_away = turns.wait(tenant, word, class_of(tenant))
            seen += [f"~{sent_away}"] if sent_away else []

    assert " ".join(seen) == expected


def test_who_leaves_its_line_is_not_served() -> None:
    """The next in line is, and the count follows."""
    turns: Turns[str] = Turns(1, 9)
    turns.take("a")
    for waiter in ("a1", "a2", "b1"):
        turns.wait("a" if waiter.startswith("a") else "b", waiter)

    turns.leave("a", "a1")
    turns.leave("b", "b1")

    assert turns.waiting == 1
    assert turns.give_back("a") == "a2"
    assert (turns.waiting, turns.give_back("a"), turns.take("c")) == (0, None, True)


def test_a_low_class_waits_long_and_not_for_ever() -> None:
    """Under a flood of high ones each lower class gets a place after `PATIENCE` others, again and again."""
    turns: Turns[str] = Turns(1, 10_000)
    turns.take("start")
    for tenant in ("h", "n", "l"):
        for number in range(1000):
            turns.wait(tenant, f"{tenant}{number}", class_of(tenant))
    served, holder = [], "start"
    for _ in range(500):
        placed = turns.give_back(holder)
        assert placed is not None
        holder = placed[0]
        served.append(holder)

    for low in ("n", "l"):
        places = [place for place, tenant in enumerate(served) if tenant == low]
        gaps = [after - before for before, after in pairwise([-1, *places])]
        assert max(gaps) <= PATIENCE + 2, low
    assert Counter(served)["h"] == 500 * PATIENCE // (PATIENCE + 2)


def test_patience_is_for_those_who_wait() -> None:
    """A class whose last waiter has left is not owed a place when another one comes."""
    turns: Turns[str] = Turns(1, 99)
    turns.take("h")
    turns.wait("l", "l0", "low")
    for number in range(20):
        turns.wait("h", f"h{number}", "high")
    for _ in range(PATIENCE):
        turns.give_back("h")
    turns.leave("l", "l0", "low")
    turns.wait("l", "l1", "low")

    assert turns.give_back("h") == f"h{PATIENCE}"


def test_the_books_balance() -> None:
    """After ten thousand random steps nobody is lost, the bounds have held, and all places come back."""
    rng = random.Random(6)
    turns: Turns[int] = Turns(4, 12)
    held: Counter[str] = Counter()
    lines: dict[int, str] = {}
    for number in range(10_000):
        tenant = rng.choice("aaaabbclh")
        match rng.choice(["ask", "ask", "give back", "leave"]):
            case "ask" if turns.take(tenant):
                assert not lines
                held[tenant] += 1
            case "ask":
                lines[number] = tenant
                sent_away = turns.wait(tenant, number, class_of(tenant))
                if sent_away is not None:
                    assert turns.waiting == 12
                    del lines[sent_away]
            case "give back" if held[tenant]:
                held[tenant] -= 1
                placed = turns.give_back(tenant)
                if placed is not None:
                    held[lines.pop(placed)] += 1
            case "leave" if lines:
                leaver = rng.choice(list(lines))
                tenant = lines.pop(leaver)
                turns.leave(tenant, leaver, class_of(tenant))
        assert turns.waiting == len(lines) <= 12
        assert held.total() <= 4
        assert held.total() == 4 or not lines
