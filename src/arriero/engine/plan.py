"""What one step of an engine does: operations on slots, in order, then one batch, and who is in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from arriero.engine.prefix_store import Stored
from arriero.engine.sequence import Sequence

MAX_PROMPT_OUTPUTS = 32
"""Prompt tokens of which logits may be wanted in one batch: each costs a row of the whole vocabulary."""


@dataclass(frozen=True, slots=True)
class Share:
    """Let `target` share the first `count` tokens of `source`."""

    source: int
    target: int
    count: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget a slot."""

    slot: int


@dataclass(frozen=True, slots=True)
class CopyOut:
    """Fill a stored prefix from a slot."""

    slot: int
    stored: Stored


@dataclass(frozen=True, slots=True)
class CopyIn:
    """Let an empty slot hold a stored prefix."""

    stored: Stored
    slot: int


Operation = Share | Drop | CopyOut | CopyIn


@dataclass(slots=True)
class Row:
    """Evaluate the next `count` tokens of a sequence; logits are wanted of its last one."""

    sequence: Sequence
    count: int

    @property
    def num_outputs(self) -> int:
        """Number of tokens that have logits, once the row is evaluated."""
        return self.count if self.sequence.all_outputs else int(not self.sequence.pending)


@dataclass(slots=True)
class Plan:
    """One step: slot operations in order, then one batch."""

    operations: list[Operation] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return sum(row.count for row in self.rows)

    def batch(self) -> tuple[list[int], list[int], list[int], list[bool]]:
        """Return the tokens of the batch with their positions, slots and whether logits are wanted."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        outputs: list[bool] = []
        for row in self.rows:
            sequence, count, first = row.sequence, row.count, row.sequence.evaluated
            tokens += sequence.tokens[first : first + count]
            positions += range(first, first + count)
            slots += [sequence.slot] * count
            outputs += [sequence.all_outputs] * count
            outputs[-1] |= count == sequence.pending
        return tokens, positions, slots, outputs


def decode_rows(decoding: list[Sequence], room: int) -> list[Row]:
    """Give each one token, then the oldest first what else is certain to follow (forced tokens)."""
    room -= len(decoding)
    rows = []
    for sequence in decoding:
        more = min(sequence.pending - 1, room)
        room -= more
        rows.append(Row(sequence, 1 + more))
    return rows


def prefill_rows(prompts: list[Sequence], room: int) -> list[Row]:
    """Give the oldest up to half of the room, then the shortest first; what is left goes to the oldest."""
    if not prompts or room <= 0:
        return []
    chosen = _first_with_all_outputs(prompts)
    prompts = [s for s in prompts if not s.all_outputs or s is chosen]
    oldest = prompts[0]
    counts = {oldest.id: min(oldest.pending, max(1, room // 2))}
    room -= counts[oldest.id]
    for sequence in sorted(prompts[1:], key=lambda s: s.pending):
        counts[sequence.id] = min(sequence.pending, room)
        room -= counts[sequence.id]
    counts[oldest.id] += min(oldest.pending - counts[oldest.id], room)
    if chosen:
        counts[chosen.id] = min(counts[chosen.id], MAX_PROMPT_OUTPUTS)
    return [Row(sequence, counts[sequence.id]) for sequence in prompts if counts[sequence.id]]


def _first_with_all_outputs(prompts: list[Sequence]) -> Sequence | None:
    return next((sequence for sequence in prompts if sequence.all_outputs), None)
