"""The scheduler as a state machine: no engine, no clock."""

from __future__ import annotations

import random
from array import array

import pytest

from arriero.engine.plan import CopyIn, CopyOut, Drop, Plan, Share
from arriero.engine.prefix_store import MOST, PrefixStore, Stored
from arriero.engine.scheduler import CLEARED_AT_ONCE, KEPT_CELLS, REST_STEPS, Limits, Scheduler
from arriero.engine.sequence import Sequence, State


def make(*, cells: int = 1000, batch_size: int = 100, max_sequences: int = 4, **kwargs: int) -> Scheduler:
    limits = {"idle_slots": 8, "idle_cells": cells, **kwargs}
    return Scheduler(Limits(cells=cells, batch_size=batch_size, max_sequences=max_sequences, **limits))  # type: ignore[arg-type]


def sequence(id: int, prompt: range | list[int], completion: int = 10, **kwargs: object) -> Sequence:
    return Sequence(id, list(prompt), reserve=len(prompt) + completion, **kwargs)  # type: ignore[arg-type]


def step(scheduler: Scheduler, budget: int = 1000) -> Plan:
    """Plan, take it as evaluated, and sample one token for each sequence that has none left."""
    plan = scheduler.plan(budget)
    scheduler.evaluated(plan)
    for row in plan.rows:
        if not row.sequence.pending:
            row.sequence.tokens.append(7)
    return plan


class Cache:
    """What the slots of a KV cache hold, as the operations and batches of plans make it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.num_copies = 0
        self._scheduler = scheduler
        self._slots: dict[int, list[int]] = {}

    def step(self, budget: int = 1000) -> Plan:
        """Do as `step`, and check that every sequence finds in its slot what it counts on."""
        plan = self.carry_out(self._scheduler.plan(budget))
        for row in plan.rows:
            held = self._slots.setdefault(row.sequence.slot, [])
            assert held == list(row.sequence.tokens[: row.sequence.evaluated])
            held += row.sequence.tokens[row.sequence.evaluated : row.sequence.evaluated + row.count]
        self._scheduler.evaluated(plan)
        for row in plan.rows:
            if not row.sequence.pending:
                row.sequence.tokens.append(7)
        return plan

    def carry_out(self, plan: Plan) -> Plan:
        """Do the operations of a plan."""
        for operation in plan.operations:
            match operation:
                case Share(source, target, count):
                    assert not self._slots.get(target)
                    self._slots[target] = self._slots[source][:count]
                    assert len(self._slots[target]) == count
                case Drop(slot):
                    self._slots.pop(slot, None)
                case CopyOut(slot, stored):
                    assert self._slots[slot] == list(stored.tokens)
                    self._scheduler.store.fill(stored, list(stored.tokens[stored.first :]))
                case CopyIn(stored, slot):
                    held = self._slots.setdefault(slot, [])
                    assert held == list(stored.tokens[: stored.first])
                    held += stored.data
                    self.num_copies += 1
        return plan


def counts(plan: Plan) -> dict[int, int]:
    return {row.sequence.id: row.count for row in plan.rows}


def test_a_prompt_is_fed_in_chunks_then_decoded() -> None:
    """A prompt longer than the batch takes several steps; then one token a step."""
    scheduler = make()
    s = sequence(1, range(150))
    scheduler.add(s)

    assert [counts(step(scheduler)) for _ in range(4)] == [{1: 100}, {1: 50}, {1: 1}, {1: 1}]
    assert s.state is State.DECODE


def test_running_streams_are_in_every_batch_beside_a_long_prompt() -> None:
    """A long prompt never keeps a running stream from its token."""
    scheduler = make()
    scheduler.add(sequence(1, range(10)))
    step(scheduler)
    scheduler.add(sequence(2, range(1000, 1500)))

    assert [counts(step(scheduler, budget=40)) for _ in range(3)] == [{1: 1, 2: 40}] * 3


def test_forced_tokens_go_in_one_step_as_far_as_the_batch_allows() -> None:
    """Tokens that are certain to follow are evaluated together; every other stream still gets its token."""
    scheduler = make(batch_size=20)
    first, second = sequence(1, range(5), 50), sequence(2, range(100, 105), 50)
    scheduler.add(first)
    scheduler.add(second)
    step(scheduler)
    first.tokens.extend(range(30))

    assert [counts(step(scheduler)) for _ in range(3)] == [{1: 19, 2: 1}, {1: 12, 2: 1}, {1: 1, 2: 1}]


def test_a_short_prompt_passes_a_long_one_that_still_goes_on() -> None:
    """The oldest prompt keeps half of the budget; the shortest of the others is served from the rest."""
    scheduler = make()
    scheduler.add(sequence(1, range(500)))
    step(scheduler)
    scheduler.add(sequence(2, range(1000, 1020)))

    assert counts(step(scheduler)) == {1: 80, 2: 20}


def test_nothing_is_admitted_beyond_the_cells_that_may_be_needed() -> None:
    """A sequence waits while prompt and completion of the running ones may take all cells."""
    scheduler = make(cells=100)
    scheduler.add(sequence(1, range(40), completion=30))
    scheduler.add(sequence(2, range(100, 120), completion=20))
    step(scheduler)

    assert [s.id for s in scheduler.running] == [1]
    scheduler.finish(scheduler.running[0])
    step(scheduler)
    assert [s.id for s in scheduler.running] == [2]


def test_admission_is_first_come_first_served() -> None:
    """A small request does not pass a big one that waits for room."""
    scheduler = make(cells=100)
    for id, size in ((1, 60), (2, 50), (3, 5)):
        scheduler.add(sequence(id, range(100 * id, 100 * id + size), completion=0))
    step(scheduler)

    assert [s.id for s in scheduler.running] == [1]


def test_idle_prefixes_are_given_up_oldest_first() -> None:
    """Room for a newcomer comes from the prefix that was not used for the longest time."""
    scheduler = make(cells=100)
    for id in (1, 2):
        scheduler.add(sequence(id, range(100 * id, 100 * id + 40), completion=0))
        step(scheduler)
        scheduler.finish(scheduler.running[0])
    scheduler.add(sequence(3, range(300, 330), completion=5))
    plan = step(scheduler)

    assert any(isinstance(operation, Drop) for operation in plan.operations)
    assert [resident.tokens[0] for resident in scheduler.idle.values()] == [200]


def test_a_chat_turn_reuses_what_the_last_turn_left() -> None:
    """The next turn shares all evaluated tokens of the last one and evaluates only the rest."""
    scheduler = make()
    first = sequence(1, range(50))
    scheduler.add(first)
    for _ in range(4):
        step(scheduler)
    scheduler.finish(first)
    turn = sequence(2, [*first.tokens, *range(900, 910)])
    scheduler.add(turn)
    plan = step(scheduler)

    kept, reused = (operation for operation in plan.operations if isinstance(operation, Share))
    assert (kept.source, reused.target, reused.count) == (first.slot, turn.slot, 53)
    assert kept.target == reused.source >= 4
    assert counts(plan) == {2: 11}
    assert turn.cached == 53


def test_of_a_single_completion_only_the_prompt_is_kept() -> None:
    """What will not be continued frees the cells of its completion at once."""
    scheduler = make()
    s = sequence(1, range(50), continued=False)
    scheduler.add(s)
    for _ in range(5):
        step(scheduler)
    scheduler.finish(s)

    assert scheduler.cells.used == 50
    assert [len(resident.tokens) for resident in scheduler.idle.values()] == [50]


def test_sequences_wait_for_the_prelude_that_another_evaluates() -> None:
    """Of several sessions over one new prelude, one evaluates it and all others share it."""
    scheduler = make(batch_size=64)
    prelude = list(range(200))
    for id in range(1, 5):
        scheduler.add(sequence(id, [*prelude, 1000 + id, 2000 + id], tenant=f"t{id}", shared=200))
    fed = 0
    while any(s.state is not State.DECODE for s in scheduler.running) or scheduler.waiting:
        fed += sum(
            row.count for row in step(scheduler).rows if row.sequence.state is State.PREFILL or row.count > 1
        )

    assert [s.cached for s in scheduler.running] == [0, 200, 200, 200]
    assert scheduler.cells.used < 200 + 4 * 10


def test_others_pass_the_one_that_waits_for_a_prefix() -> None:
    """Waiting for a prefix does not hold up what comes after."""
    scheduler = make()
    scheduler.add(sequence(1, range(300)))
    step(scheduler)
    scheduler.add(sequence(2, [*range(300), 5]))
    scheduler.add(sequence(3, range(1000, 1010)))
    step(scheduler)

    assert [s.id for s in scheduler.running] == [1, 3]


def test_a_prelude_survives_conversations() -> None:
    """The prelude stays although many later conversations over it were given up."""
    scheduler = make(cells=300, idle_cells=150)
    prelude = list(range(60))
    for id in range(1, 12):
        s = sequence(id, [*prelude, *range(1000 * id, 1000 * id + 40)], shared=60, tenant=f"t{id}")
        scheduler.add(s)
        step(scheduler)
        step(scheduler)
        scheduler.finish(s)
        if id > 1:
            assert s.cached == 60


def test_another_tenant_shares_nothing_private() -> None:
    """An equal prompt of another tenant is evaluated anew."""
    scheduler = make()
    for id, tenant in ((1, "a"), (2, "b"), (3, "a")):
        s = sequence(id, range(80), tenant=tenant)
        scheduler.add(s)
        step(scheduler)
        scheduler.finish(s)
        assert s.cached == (79 if id == 3 else 0)


def test_a_finished_sequence_frees_its_place_at_once() -> None:
    """Cancelling in any state leaves no slot and no promise behind."""
    scheduler = make(max_sequences=2)
    all_of_them = [sequence(id, range(100 * id, 100 * id + 30)) for id in range(1, 5)]
    for s in all_of_them:
        scheduler.add(s)
    step(scheduler, budget=20)
    for s in all_of_them:
        scheduler.finish(s, keep=False)

    assert (scheduler.running, list(scheduler.waiting), scheduler.cells.used) == ([], [], 0)


def test_a_spared_source_never_blocks_its_own_reader() -> None:
    """If a prefix and its reader do not fit side by side, the reader is admitted without it."""
    scheduler = make(cells=100)
    first = sequence(1, range(90), completion=0)
    scheduler.add(first)
    step(scheduler)
    scheduler.finish(first)
    scheduler.add(sequence(2, [*range(20), *range(500, 560)], completion=20))
    step(scheduler)

    assert [s.id for s in scheduler.running] == [2]


def test_prompt_logits_are_asked_for_in_small_steps() -> None:
    """A prompt whose every token needs logits is fed at most 32 tokens a step and shares nothing."""
    scheduler = make()
    scheduler.add(sequence(1, range(80), all_outputs=True))
    scheduler.add(sequence(2, range(500, 540), all_outputs=True))

    assert [counts(step(scheduler)) for _ in range(3)] == [{1: 32}, {1: 32}, {1: 16}]
    assert counts(step(scheduler)) == {1: 1, 2: 32}


def served_alone(cache: Cache, scheduler: Scheduler, one: Sequence, steps: int) -> Sequence:
    """Serve a sequence for some steps, to its end."""
    scheduler.add(one)
    for _ in range(steps):
        cache.step()
    scheduler.finish(one)
    return one


def test_an_idle_prefix_makes_way_and_comes_back() -> None:
    """Long unused while others decode, it leaves the cells; a prompt that begins with it finds it again."""
    scheduler = make(stored_bytes=1000)
    cache = Cache(scheduler)
    served_alone(cache, scheduler, sequence(1, range(60), continued=False), 1)
    other = sequence(2, range(500, 510), 100)
    scheduler.add(other)
    for _ in range(REST_STEPS + 2):
        cache.step()

    assert scheduler.cells.used == other.evaluated
    assert len(scheduler.store) == 1
    again = sequence(3, [*range(60), 99])
    scheduler.add(again)
    cache.step()
    assert (again.cached, cache.num_copies) == (60, 1)


def test_idle_prefixes_make_way_for_a_long_prompt_at_once() -> None:
    """Not for a short one, and not what the long one itself uses; all of them come back."""
    scheduler = make(stored_bytes=1000, long_prefill=200)
    cache = Cache(scheduler)
    for id in (1, 2):
        served_alone(cache, scheduler, sequence(id, range(1000 * id, 1000 * id + 60), continued=False), 1)
    short = served_alone(cache, scheduler, sequence(3, range(199), continued=False), 3)
    assert [resident.tokens[0] for resident in scheduler.idle.values()] == [1000, 2000, 0]

    long = sequence(4, [*range(2000, 2060), *range(3000, 3210)])
    scheduler.add(long)
    cache.step()
    assert [resident.tokens[0] for resident in scheduler.idle.values()] == [2000]
    assert scheduler.cells.used == long.evaluated > long.cached == 60

    scheduler.finish(long)
    again = served_alone(cache, scheduler, sequence(5, [*short.tokens, 1]), 1)
    assert (again.cached, cache.num_copies) == (199, 1)


def test_only_so_many_cells_make_way_in_one_step() -> None:
    """Running streams wait for the copies; what is left makes way in the next steps."""
    scheduler = make(
        cells=8 * CLEARED_AT_ONCE,
        batch_size=CLEARED_AT_ONCE,
        idle_cells=4 * CLEARED_AT_ONCE,
        stored_bytes=4 * CLEARED_AT_ONCE,
        long_prefill=CLEARED_AT_ONCE,
    )
    cache = Cache(scheduler)
    for id in (1, 2, 3):
        tokens = range(10_000 * id, 10_000 * id + CLEARED_AT_ONCE - 1)
        served_alone(cache, scheduler, sequence(id, tokens, continued=False), 3)
    scheduler.add(sequence(4, range(3 * CLEARED_AT_ONCE)))

    assert [(cache.step(), len(scheduler.idle))[1] for _ in range(3)] == [1, 0, 0]


def test_of_prefixes_that_begin_alike_the_beginning_is_stored_once() -> None:
    """Conversations over one prelude come back on top of it; what adds next to nothing is not stored."""
    scheduler = make(stored_bytes=1000)
    cache = Cache(scheduler)
    prelude = range(100)
    conversations = [[*prelude, *range(200 * id, 200 * id + 40)] for id in (1, 2)]
    for id, prompt in enumerate([*conversations, [*prelude, 7]]):
        served_alone(cache, scheduler, sequence(id, prompt, continued=False, shared=100), 2)
    other = sequence(8, range(900, 910), 100)
    scheduler.add(other)
    for _ in range(6 * REST_STEPS):
        cache.step()

    assert scheduler.cells.used == other.evaluated
    assert sorted(len(stored.data) for stored in scheduler.store) == [40, 40, 100]
    scheduler.finish(other)
    again = served_alone(cache, scheduler, sequence(9, [*conversations[0], 1], shared=100), 1)
    assert (again.cached, cache.num_copies) == (140, 2)


def test_what_lay_on_top_of_a_lost_prefix_is_not_brought_back() -> None:
    """Its beginning is evaluated anew."""
    scheduler = make(stored_bytes=1000)
    cache = Cache(scheduler)
    prompt = [*range(100), *range(200, 240)]
    served_alone(cache, scheduler, sequence(1, prompt, continued=False, shared=100), 2)
    served_alone(cache, scheduler, sequence(2, range(900, 910), 100), 6 * REST_STEPS)
    scheduler.store.forget(next(stored for stored in scheduler.store if not stored.first))

    again = served_alone(cache, scheduler, sequence(3, [*prompt, 1], shared=100), 2)
    assert (again.cached, cache.num_copies) == (0, 0)


def test_what_is_stored_stays_within_its_bytes() -> None:
    """The least recently used copies go first."""
    scheduler = make(stored_bytes=100)
    cache = Cache(scheduler)
    for id in (1, 2, 3):
        served_alone(cache, scheduler, sequence(id, range(100 * id, 100 * id + 40), continued=False), 1)
    served_alone(cache, scheduler, sequence(4, range(900, 910), 100), 3 * REST_STEPS)
    cache.step()

    assert [stored.tokens[0] for stored in scheduler.store] == [200, 300]
    assert scheduler.store.num_bytes == 80


def test_only_so_many_prefixes_are_stored() -> None:
    """However small they are: each admission looks at all of them."""
    store = PrefixStore(10**6)
    for i in range(MOST + 5):
        one = Stored(array("i", [i, *range(20)]), first=0, tenant="", shared=0, last_used=i)
        store.add(one)
        store.fill(one, b"x")

    assert [stored.tokens[0] for stored in store] == list(range(5, MOST + 5))
    assert store.num_bytes == MOST


def test_a_stored_turn_serves_its_tenant_only_and_goes_with_the_next() -> None:
    """Nobody else finds it; once its conversation has gone on, the longer turn takes its place."""
    scheduler = make(stored_bytes=1000)
    cache = Cache(scheduler)
    first = served_alone(cache, scheduler, sequence(1, range(50), 100, tenant="a"), 5)
    served_alone(cache, scheduler, sequence(2, range(500, 510), 100), REST_STEPS + 2)
    stranger = served_alone(cache, scheduler, sequence(3, [*first.tokens, 1], tenant="b"), 2)
    turn = served_alone(cache, scheduler, sequence(4, [*first.tokens, 1], tenant="a"), 2)

    assert stranger.cached == 0
    assert turn.cached == first.evaluated
    assert not any(stored.tenant == "a" for stored in scheduler.store)


def test_while_nothing_runs_all_but_what_was_used_last_is_put_away() -> None:
    """One prefix at a time, the least recently used first, until few cells are taken."""
    scheduler = make(
        cells=4 * KEPT_CELLS, batch_size=KEPT_CELLS, stored_bytes=10_000, long_prefill=KEPT_CELLS
    )
    cache = Cache(scheduler)
    for id in (1, 2, 3):
        prompt = range(1000 * id, 1000 * id + KEPT_CELLS // 2)
        served_alone(cache, scheduler, sequence(id, prompt, continued=False), 1)
    cache.carry_out(scheduler.take_operations())

    assert [bool(cache.carry_out(scheduler.tidy()).operations) for _ in range(3)] == [True, False, False]
    assert [resident.tokens[0] for resident in scheduler.idle.values()] == [2000, 3000]
    assert [stored.tokens[0] for stored in scheduler.store] == [1000]


def test_what_was_used_last_stays_with_what_it_lies_on() -> None:
    """A conversation and its prelude are not put away while nothing else takes cells."""
    scheduler = make(cells=4 * KEPT_CELLS, batch_size=2 * KEPT_CELLS, stored_bytes=10_000)
    cache = Cache(scheduler)
    prompt = range(2 * KEPT_CELLS)
    served_alone(cache, scheduler, sequence(1, prompt, continued=False, shared=KEPT_CELLS), 2)
    cache.carry_out(scheduler.take_operations())

    assert not scheduler.tidy().operations
    assert len(scheduler.idle) == 2


def test_without_a_store_idle_prefixes_stay() -> None:
    """What could not come back is kept in the cells."""
    scheduler = make()
    cache = Cache(scheduler)
    served_alone(cache, scheduler, sequence(1, range(60), continued=False), 1)
    served_alone(cache, scheduler, sequence(2, range(500, 510), 100), 3 * REST_STEPS)

    assert next(iter(scheduler.idle.values())).tokens[0] == 0


@pytest.mark.parametrize("stored", [0, 150, 10_000])
@pytest.mark.parametrize("seed", range(12))
def test_random_traffic_keeps_the_books(seed: int, stored: int) -> None:
    """Under random arrivals, ends and cancels: cells stay in bounds, slots are unique, all is served."""
    rng = random.Random(seed)
    scheduler = make(
        cells=400, batch_size=32, max_sequences=3, idle_slots=5, idle_cells=200, stored_bytes=stored
    )
    cache = Cache(scheduler)
    unserved = [
        sequence(
            id,
            [*range(rng.choice((0, 20, 50))), *(rng.randrange(1000) for _ in range(rng.randrange(1, 100)))],
            completion=rng.randrange(0, 60),
            tenant=rng.choice("ab"),
            shared=rng.choice((0, 20)),
        )
        for id in range(1, 60)
    ]
    served = 0
    for _ in range(5000):
        if unserved and rng.random() < 0.3:
            scheduler.add(unserved.pop())
        cache.step(budget=rng.choice((8, 32)))
        if not scheduler.running and not scheduler.waiting:
            cache.carry_out(scheduler.tidy())
        for s in list(scheduler.running):
            is_full = len(s.tokens) >= s.reserve
            if (s.state is State.DECODE and is_full) or rng.random() < 0.01:
                scheduler.finish(s)
                served += 1
        slots = [s.slot for s in scheduler.running] + list(scheduler.idle)
        assert len(set(slots)) == len(slots)
        assert all(s.slot < 3 for s in scheduler.running)
        assert scheduler.cells.used + sum(s.growth for s in scheduler.running) <= 400
        assert scheduler.store.num_bytes <= stored
        if served == 59:
            break

    assert served == 59
