"""What one step of an engine does: operations on slots, in order, then one batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from arriero.engine.prefix_store import Stored
from arriero.engine.sequence import Sequence


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
