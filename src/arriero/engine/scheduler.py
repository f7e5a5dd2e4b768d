"""Who is evaluated next: waiting and running sequences and a token budget in, one batch out.

Pure: no clock, no llama.cpp. The engine calls `plan`, carries the plan out, then calls `evaluated`.

Rules, in this order:
1. Every running sequence that decodes gets its token in every batch.
2. Prompts fill what the budget leaves: the oldest may take half of it, then the shortest go first,
   so that a long prompt neither starves nor holds up short ones.
3. A sequence is admitted when the cells that it may ever need (prompt and completion) are free
   beside those promised to the running ones. Nothing that runs is ever evicted. Idle prefixes are
   given up for it, least recently used first.
4. Admission is first come, first served; but a sequence whose prefix is just being evaluated by
   another waits for that one, and lets others pass.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass

from arriero.engine.plan import CopyIn, CopyOut, Drop, Operation, Plan, Share, decode_rows, prefill_rows
from arriero.engine.prefix import Cells, Match, Resident, Source, best_match, common_prefix, least_recent
from arriero.engine.prefix_store import PrefixStore, Stored
from arriero.engine.sequence import Sequence, State

MIN_SHARED = 16
"""Prefixes shorter than this are not worth a slot or a wait (tokens)."""

REST_STEPS = 16
"""An idle prefix that so many steps have not used makes way: attention walks over its cells at each."""

LONG_PREFILL = 256
"""Prompt tokens for which idle prefixes make way at once: on a CPU the walk costs more than the copying."""

GPU_LONG_PREFILL = 4096
"""The same on a GPU, where the walk is cheap and copying is not; a guess, not measured."""

CLEARED_AT_ONCE = 2048
"""Cells that make way in one step, and few more: running streams wait meanwhile."""

KEPT_CELLS = 512
"""Idle prefixes that stay in the cells while nothing runs: what was used last is likely to be used next."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the context holds. All but `max_sequences` and `slots` in tokens.

    idle_slots: slots beside those of running sequences, for idle prefixes. Running sequences have the
        slots 0 to max_sequences - 1, and the next is for copies: llama.cpp evaluates only these, and its
        work per batch grows with the square of their number.
    idle_cells: the most that idle prefixes may occupy: attention walks over every used cell.
    stored_bytes: what idle prefixes may take in main memory.
    long_prefill: prompt tokens for which idle prefixes make way at once.
    """

    cells: int
    batch_size: int
    max_sequences: int
    idle_slots: int
    idle_cells: int
    share_prefixes: bool = True
    stored_bytes: int = 0
    long_prefill: int = LONG_PREFILL


class Scheduler:
    """Owns all sequences of one context. Its caller owns it; it is not safe for several threads."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.idle: dict[int, Resident] = {}
        self.cells = Cells()
        self.store = PrefixStore(limits.stored_bytes if limits.share_prefixes else 0)
        self._running_slots = list(range(limits.max_sequences - 1, -1, -1))
        first = limits.max_sequences + 1
        self._idle_slots = list(range(first + limits.idle_slots - 1, first - 1, -1))
        self._operations: list[Operation] = []
        self._is_full = False  # the first in the queue found no room, and nothing has ended since
        self._step = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Its `reserve` must not exceed the cells there are."""
        assert sequence.reserve <= self.limits.cells
        self.waiting.append(sequence)

    def plan(self, prefill_budget: int) -> Plan:
        """Return the next step, empty if nothing is to do. `prefill_budget` bounds its prompt tokens."""
        self._step += 1
        self._admit()
        decoding = [s for s in self.running if s.state is State.DECODE]
        prompts = [s for s in self.running if s.state is State.PREFILL]
        if self.store.is_on:
            if sum(s.pending for s in prompts) >= self.limits.long_prefill:
                self._clear(CLEARED_AT_ONCE, unused_for=0)
            elif decoding:
                self._clear(1, unused_for=REST_STEPS)
        plan = self.take_operations()
        plan.rows += decode_rows(decoding, self.limits.batch_size)
        room = min(prefill_budget, self.limits.batch_size - plan.num_tokens)
        plan.rows += prefill_rows(prompts, room)
        return plan

    def take_operations(self) -> Plan:
        """Return the slot operations that are due now, as a plan without a batch."""
        plan = Plan(self._operations, [])
        self._operations = []
        return plan

    def tidy(self) -> Plan:
        """Return what puts one idle prefix away while nothing runs; empty when they are few. No batch."""
        if self.store.is_on and self.cells.used > KEPT_CELLS:
            for resident in least_recent(self.idle.values())[:-1]:
                if self.cells.alone(resident.slot):
                    self._put_away(resident)
                    break
        return self.take_operations()

    def evaluated(self, plan: Plan) -> None:
        """Take note that a plan's batch was evaluated."""
        for row in plan.rows:
            sequence = row.sequence
            self.cells.extend(sequence.slot, row.count)
            sequence.evaluated += row.count
            if sequence.state is State.PREFILL:
                self._keep_shared(sequence)
                if not sequence.pending:
                    sequence.state = State.DECODE

    def finish(self, sequence: Sequence, *, keep: bool = True) -> None:
        """End a sequence in any state. What it evaluated stays as an idle prefix if `keep`."""
        self._is_full = False
        if sequence.state is State.WAITING:
            self.waiting.remove(sequence)
        elif sequence.state is not State.FINISHED:
            self.running.remove(sequence)
            self._retire(sequence, keep and not sequence.all_outputs)
        sequence.state = State.FINISHED

    def forget_idle(self) -> bool:
        """Give up all idle prefixes; tell whether there were any."""
        self._is_full = False
        slots = list(self.idle)
        for slot in slots:
            self._drop_idle(slot)
        return bool(slots)

    # -- admission

    def _admit(self) -> None:
        passed: list[Sequence] = []
        while self.waiting and len(self.running) < self.limits.max_sequences and not self._is_full:
            sequence = self.waiting.popleft()
            match = self._match(sequence)
            if match.later > match.size and match.later >= MIN_SHARED:
                passed.append(sequence)
            elif not self._try_admit(sequence, match):
                passed.append(sequence)
                self._is_full = True
        self.waiting.extendleft(reversed(passed))

    def _match(self, sequence: Sequence) -> Match:
        if sequence.all_outputs or not self.limits.share_prefixes:
            return Match(-1, 0, -1, 0)
        sources = [
            Source(r.slot, r.tokens, len(r.tokens), r.tenant, r.shared) for r in self.idle.values()
        ] + [
            Source(s.slot, s.tokens, s.evaluated, s.tenant, s.shared)
            for s in self.running
            if not s.all_outputs
        ]
        match = best_match(sequence.tokens, sequence.tenant, sequence.shared, sources)
        return match if match.size >= MIN_SHARED else match._replace(size=0)

    def _try_admit(self, sequence: Sequence, match: Match) -> bool:
        room = self.limits.cells - sum(running.growth for running in self.running) - sequence.reserve
        match = self._brought_back(sequence, match, room)
        source = self.idle.get(match.slot) if match.size else None
        if not self._make_room(room + match.size, sparing=source):
            if source is None or not self._make_room(room, sparing=None):
                return False
            match, source = Match(-1, 0, -1, 0), None
        slot = self._running_slots.pop()
        if match.size:
            sequence.source = match.slot
            self._touch(sequence, source)
            self._share(match.slot, slot, match.size)
        sequence.slot = slot
        sequence.evaluated = sequence.cached = match.size
        sequence.state = State.PREFILL
        self.running.append(sequence)
        return True

    def _make_room(self, most: int, *, sparing: Resident | None) -> bool:
        """Bring the used cells down to `most` by giving up idle prefixes; drop none if that cannot do."""
        if self.cells.used <= most:
            return True
        candidates = [r for r in least_recent(self.idle.values()) if r is not sparing]
        kept = self.cells.copy()
        victims = []
        for resident in candidates:
            kept.drop(resident.slot)
            victims.append(resident.slot)
            if kept.used <= most:
                break
        if kept.used > most:
            return False
        for slot in victims:
            self._put_away(self.idle[slot])
        return True

    # -- idle prefixes

    def _clear(self, most: int, *, unused_for: int) -> None:
        """Let idle prefixes make way that nothing running uses, the least recently used first.

        Stop when `most` cells are free by it, or at one that was used within so many steps.
        """
        sources = {sequence.source for sequence in self.running}
        least = self.cells.used - most
        for resident in least_recent(self.idle.values()):
            if self.cells.used <= least or self._step - resident.last_used < unused_for:
                return
            if resident.slot not in sources and self.cells.alone(resident.slot):
                self._put_away(resident)

    def _put_away(self, resident: Resident) -> None:
        """Give up the cells of an idle prefix; keep in main memory what no other prefix holds."""
        first = self._held_elsewhere(resident)
        if self.store.is_on and len(resident.tokens) - first >= MIN_SHARED:
            stored = Stored(
                resident.tokens,
                first=first,
                tenant=resident.tenant,
                shared=resident.shared,
                last_used=resident.last_used,
            )
            if self.store.add(stored):
                self._operations.append(CopyOut(resident.slot, stored))
        self._drop_idle(resident.slot)

    def _held_elsewhere(self, resident: Resident) -> int:
        """Return how many leading tokens another idle prefix or a whole copy keeps for the same readers."""
        others: list[Resident | Stored] = [other for other in self.idle.values() if other is not resident]
        others += [stored for stored in self.store if not stored.first]
        sources = [Source(-1, o.tokens, len(o.tokens), o.tenant, o.shared) for o in others]
        size = best_match(resident.tokens, resident.tenant, resident.shared, sources).size
        return size if size >= MIN_SHARED else 0

    def _brought_back(self, sequence: Sequence, match: Match, room: int) -> Match:
        """Bring back what is stored and serves a sequence better than what the cache holds.

        A copy that begins within the prompt needs what comes before it in the cells: so a whole one
        comes first, and what lies on top of it after.
        """
        if sequence.all_outputs or not (self.store.is_on and self.limits.idle_slots):
            return match
        while stored := self.store.best(
            sequence.tokens,
            sequence.tenant,
            sequence.shared,
            held=match.size,
            least=match.size + MIN_SHARED,
        ):
            size = common_prefix(
                sequence.tokens, stored.tokens, min(len(stored.tokens), len(sequence.tokens) - 1)
            )
            slot = self._bring(stored, match.slot, room + size)
            if slot is None:
                break
            match = Match(slot, size, -1, 0)
        return match

    def _bring(self, stored: Stored, base: int, most: int) -> int | None:
        """Put a stored prefix into an idle slot, on top of the slot `base` if it is not whole.

        Return the slot; None when the cells would then be more than `most` or there is no slot.
        """
        source = self.idle.get(base) if stored.first else None
        if not self._make_room(most - len(stored.tokens) + stored.first, sparing=source):
            return None
        if not self._idle_slots:
            others = [resident for resident in least_recent(self.idle.values()) if resident is not source]
            if not others:
                return None
            self._put_away(others[0])
        slot = self._idle_slots.pop()
        if stored.first:
            self._share(base, slot, stored.first)
        self.cells.extend(slot, len(stored.tokens) - stored.first)
        self._operations.append(CopyIn(stored, slot))
        stored.last_used = self._step
        self.idle[slot] = Resident(
            slot, stored.tokens, tenant=stored.tenant, shared=stored.shared, last_used=self._step
        )
        return slot

    def _keep_shared(self, sequence: Sequence) -> None:
        """Keep the shared prefix (a prelude) under a slot of its own as soon as it is evaluated."""
        size = sequence.shared
        if sequence.all_outputs or not self.limits.share_prefixes:
            return
        if not MIN_SHARED <= size <= sequence.evaluated:
            return
        prelude = sequence.tokens[:size]
        known = any(r.shared == len(r.tokens) and r.tokens == prelude for r in self.idle.values())
        if not known:
            self._keep(sequence.slot, prelude, tenant="", shared=size)

    def _touch(self, sequence: Sequence, source: Resident | None) -> None:
        """Mark what a sequence reuses as just used: its source and the prelude within."""
        if source:
            source.last_used = self._step
        for resident in self.idle.values():
            size = resident.shared
            is_prelude = size == len(resident.tokens) <= sequence.shared
            if is_prelude and common_prefix(sequence.tokens, resident.tokens, size) == size:
                resident.last_used = self._step

    def _retire(self, sequence: Sequence, keep: bool) -> None:
        """Give back the slot of a sequence; keep what it evaluated as an idle prefix."""
        size = sequence.evaluated if sequence.continued else min(sequence.evaluated, sequence.prompt_size)
        tokens = sequence.tokens[:size]
        if keep and self.limits.share_prefixes and len(tokens) >= MIN_SHARED:
            for resident in list(self.idle.values()):
                if _is_older_turn(resident, tokens, sequence.tenant):
                    self._drop_idle(resident.slot)
            for stored in self.store:
                if _is_older_turn(stored, tokens, sequence.tenant):
                    self.store.forget(stored)
            self._keep(sequence.slot, tokens, tenant=sequence.tenant, shared=sequence.shared)
        self._release(sequence.slot)
        self._running_slots.append(sequence.slot)
        self._trim_idle()

    def _keep(self, source: int, tokens: array[int], *, tenant: str, shared: int) -> None:
        if not self._idle_slots and self.idle:
            self._put_away(least_recent(self.idle.values())[0])
        if self._idle_slots:
            slot = self._idle_slots.pop()
            self._share(source, slot, len(tokens))
            self.idle[slot] = Resident(slot, tokens, tenant=tenant, shared=shared, last_used=self._step)

    def _trim_idle(self) -> None:
        """Keep idle prefixes within their share of the cells."""
        for resident in least_recent(self.idle.values()):
            idle_cells = self.cells.used - sum(s.evaluated - s.cached for s in self.running)
            if idle_cells <= self.limits.idle_cells:
                return
            self._put_away(resident)

    def _drop_idle(self, slot: int) -> None:
        del self.idle[slot]
        self._release(slot)
        self._idle_slots.append(slot)

    def _release(self, slot: int) -> None:
        self.cells.drop(slot)
        self._operations.append(Drop(slot))

    def _share(self, source: int, target: int, count: int) -> None:
        self.cells.share(source, target, count)
        self._operations.append(Share(source, target, count))


def _is_older_turn(resident: Resident | Stored, tokens: array[int], tenant: str) -> bool:
    """Tell whether all that a resident holds is held by the new tokens of the same tenant too."""
    size = len(resident.tokens)
    is_prelude = resident.shared == size
    if is_prelude or resident.tenant != tenant or size > len(tokens):
        return False
    return common_prefix(resident.tokens, tokens, size) == size
