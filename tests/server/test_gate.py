"""Places and the queue for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arriero.config.auth import Priority
from arriero.errors import Overloaded
from arriero.server.gate import Gate


async def hold(gate: Gate, entered: list[int], number: int, leave: asyncio.Event) -> None:
    async with gate.place():
        entered.append(number)
        await leave.wait()


async def settle() -> None:
    """Let every job that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_are_bounded_and_given_in_order() -> None:
    """Of four, two enter; the others follow in the order in which they came."""
    gate, leave = Gate(2, max_waiting=2), asyncio.Event()
    entered: list[int] = []
    jobs = [asyncio.create_task(hold(gate, entered, number, leave)) for number in range(4)]
    await settle()
    assert (entered, gate.waiting) == ([0, 1], 2)

    leave.set()
    await asyncio.gather(*jobs)

    assert entered == [0, 1, 2, 3]


async def test_a_full_queue_refuses() -> None:
    """The one past the queue's bound is refused at once and takes no place."""
    gate, leave = Gate(1, max_waiting=1), asyncio.Event()
    entered: list[int] = []
    jobs = [asyncio.create_task(hold(gate, entered, number, leave)) for number in range(2)]
    await settle()

    with pytest.raises(Overloaded, match="waiting"):
        await hold(gate, entered, 2, leave)
    leave.set()
    await asyncio.gather(*jobs)
    assert entered == [0, 1]


async def test_no_queue_means_no_waiting() -> None:
    """With a queue of none a free place is still given."""
    gate = Gate(1, max_waiting=0)
    async with gate.place():
        with pytest.raises(Overloaded):
            await hold(gate, [], 0, asyncio.Event())
    async with gate.place():
        assert gate.waiting == 0


async def test_waiting_has_an_end() -> None:
    """Nobody waits longer than the limit, and the place is not lost."""
    gate = Gate(1, max_waiting=1, max_wait_s=0.01)
    async with gate.place():
        with pytest.raises(Overloaded, match=r"0\.01 s"):
            await hold(gate, [], 0, asyncio.Event())
    async with gate.place():
        assert gate.waiting == 0


async def test_a_flood_of_one_tenant_leaves_room_for_another() -> None:
    """The last of the flood is sent away for it, and it is the second to be served."""
    gate, leave = Gate(1, max_waiting=3), asyncio.Event()
    entered: list[int] = []

    async def enter(tenant: str, number: int) -> None:
        async with gate.of(tenant).place():
            entered.append(number)
            await leave.wait()

    flood = [asyncio.create_task(enter("a", number)) for number in range(4)]
    await settle()
    other = asyncio.create_task(enter("b", 9))
    await settle()
    leave.set()
    await asyncio.wait([*flood, other])

    assert entered == [0, 1, 9, 2]
    assert isinstance(flood[3].exception(), Overloaded)


async def test_a_higher_class_goes_first_and_sends_a_lower_one_away() -> None:
    """High before normal, though it came later; the low one's place in the full queue goes to it."""
    gate, leave = Gate(1, max_waiting=2), asyncio.Event()
    entered: list[str] = []

    async def enter(priority: Priority) -> None:
        async with gate.of(priority, priority).place():
            entered.append(priority)
            await leave.wait()

    order: list[Priority] = ["normal", "low", "normal", "high"]
    jobs = []
    for priority in order:
        jobs.append(asyncio.create_task(enter(priority)))
        await settle()
    leave.set()
    await asyncio.wait(jobs)

    assert entered == ["normal", "high", "normal"]
    with pytest.raises(Overloaded, match="others go first"):
        jobs[1].result()


async def test_a_place_is_not_lost_on_one_who_is_cancelled_as_he_gets_it() -> None:
    """Given and cancelled in the same turn of the loop, it goes on to the next."""
    gate, leave = Gate(1, max_waiting=2), asyncio.Event()
    entered: list[int] = []
    jobs = [asyncio.create_task(hold(gate, entered, number, leave)) for number in range(3)]
    await settle()

    jobs[0].cancel()
    await asyncio.sleep(0)  # the first has given its place to the second by now
    jobs[1].cancel()
    await settle()
    leave.set()
    await asyncio.wait(jobs)

    assert entered == [0, 2]
    async with gate.place():
        assert gate.waiting == 0


async def test_who_gives_up_waiting_frees_its_turn() -> None:
    """A cancelled waiter leaves the queue and does not take the place with it."""
    gate = Gate(1, max_waiting=1)
    async with gate.place():
        waiter = asyncio.create_task(hold(gate, [], 0, asyncio.Event()))
        await settle()
        waiter.cancel()
        await asyncio.wait([waiter])
        assert gate.waiting == 0
    async with gate.place():
        assert gate.waiting == 0


async def test_a_stream_holds_its_place_to_the_end(serving: Any, model_saying: Any) -> None:
    """With one place and no queue a second request is refused while the first still streams."""
    model = model_saying("xyz", hold_at=1)
    limits = "[server]\nmax_concurrent = 1\n[limits]\nmax_waiting = 0"
    async with serving(model, limits) as client:
        running = asyncio.create_task(client.get("/v1/task/t/live?prompt=a"))
        await model.held.wait()
        poly = await client.get("/v1/task/t/completion?prompt=a")
        chat = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
        openai = await client.post("/v1/chat/completions", json=chat)
        model.go.set()
        await running
        after = await client.get("/v1/task/t/completion?prompt=a")

    assert (poly.status_code, poly.headers["retry-after"]) == (503, "1")
    assert openai.json()["error"]["code"] == "overloaded"
    assert after.status_code == 200


async def test_the_longest_wait_is_configured(serving: Any, model_saying: Any) -> None:
    """A request that still waits after `limits.max_wait_s` is refused, and the one before it goes on."""
    model = model_saying("xyz", hold_at=1)
    limits = "[server]\nmax_concurrent = 1\n[limits]\nmax_wait_s = 0.02"
    async with serving(model, limits) as client:
        running = asyncio.create_task(client.get("/v1/task/t/live?prompt=a"))
        await model.held.wait()
        late = await client.get("/v1/task/t/completion?prompt=a")
        model.go.set()
        first = await running

    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert "0.02 s" in late.text
    assert first.status_code == 200
