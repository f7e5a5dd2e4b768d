"""One generation inside the engine, and what it holds in the KV cache.

A sequence is WAITING until it is admitted, PREFILL while its prompt is evaluated, DECODE while it
generates, FINISHED at the end. The scheduler owns the state; the engine appends tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as TokenList
from enum import Enum, auto


class State(Enum):
    """Where a sequence is in its life."""

    WAITING = auto()
    PREFILL = auto()
    DECODE = auto()
    FINISHED = auto()


class Sequence:
    """Tokens of one generation. `tokens[:evaluated]` are in the KV cache, under `slot`.

    reserve: the most KV cells that it may ever need (prompt and completion).
    shared: number of leading tokens that every tenant may reuse.
    continued: what it generates is worth keeping as a prefix too, not only its prompt.
    source: the slot of the idle prefix that it began with; -1 = none.
    all_outputs: logits are wanted of every prompt token, so that the whole prompt must be evaluated,
        in small steps, and is neither taken from a prefix nor kept as one.
    """

    __slots__ = (
        "all_outputs",
        "cached",
        "continued",
        "evaluated",
        "id",
        "prompt_size",
        "reserve",
        "shared",
        "slot",
        "source",
        "state",
        "tenant",
        "tokens",
    )

    def __init__(
        self,
        id: int,
        prompt: TokenList[int],
        *,
        reserve: int,
        tenant: str = "",
        shared: int = 0,
        all_outputs: bool = False,
        continued: bool = True,
    ) -> None:
        self.id = id
        self.tokens = array("i", prompt)
        self.prompt_size = len(prompt)
        self.reserve = max(reserve, len(prompt))
        self.tenant = tenant
        self.shared = min(shared, len(prompt))
        self.all_outputs = all_outputs
        self.continued = continued
        self.state = State.WAITING
        self.slot = -1
        self.source = -1
        self.evaluated = 0
        self.cached = 0

    @property
    def pending(self) -> int:
        """Number of tokens that are still to be evaluated."""
        return len(self.tokens) - self.evaluated

    @property
    def growth(self) -> int:
        """Number of KV cells that it may still come to need."""
        return self.reserve - self.evaluated
