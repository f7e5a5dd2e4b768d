"""What is measured: each part is one cell that a server runs, and the figures that come of it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from benchmarks import text
from benchmarks.constrained import COMPLICATED, SIMPLE, Constrained
from benchmarks.figures import Figure, Measure, batch_details, counted
from benchmarks.stream import completion, run_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.server import Server

PRELUDE_WORDS = 490
PRELUDE_ANSWER_TOKENS = 8
PROMPT_WORDS = 1000


class Part(Protocol):
    """A cell. `seed` is new for every run, the same for all servers of one round."""

    @property
    def kind(self) -> str: ...

    @property
    def label(self) -> str: ...

    async def run(self, server: Server, seed: str) -> list[Figure]: ...


@dataclass(frozen=True)
class Decode:
    """Streams of one short prompt at once: tokens per second after the first token of each.

    One token per stream, untimed, comes first.
    """

    kind = "decode"
    streams: int
    tokens: int

    @property
    def label(self) -> str:
        return f"decode {self.streams}"

    async def run(self, server: Server, seed: str) -> list[Figure]:
        await run_together(server.port, self._requests(1))
        before = server.engine_counters()
        batch = await run_together(server.port, self._requests(self.tokens))
        details = {**batch_details([batch]), **counted(before, server.engine_counters())}
        measure = Measure(f"decode, {self.streams} streams", "tokens/s", rate=True)
        return [Figure(measure, batch.decode_rate, details)]

    def _requests(self, tokens: int) -> list[bytes]:
        return [completion(text.DECODE_PROMPT, max_tokens=tokens, seed=i) for i in range(self.streams)]


@dataclass(frozen=True)
class Neighbour:
    """The decode cell while another process keeps one CPU busy."""

    kind = "neighbour"
    decode: Decode

    @property
    def label(self) -> str:
        return f"neighbour {self.decode.streams}"

    async def run(self, server: Server, seed: str) -> list[Figure]:
        busy = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
        try:
            figures = await self.decode.run(server, seed)
        finally:
            busy.kill()
            await busy.wait()
        measure = Measure(f"decode, {self.decode.streams} streams, busy neighbour", "tokens/s", rate=True)
        return [replace(figure, measure=measure) for figure in figures]


@dataclass(frozen=True)
class Prompt:
    """A long prompt that no cache knows: its tokens per second until the first text."""

    kind = "prompt"
    words: int = PROMPT_WORDS

    @property
    def label(self) -> str:
        return "prompt"

    async def run(self, server: Server, seed: str) -> list[Figure]:
        request = completion(text.words(self.words, "prompt", seed), max_tokens=1, seed=1)
        batch = await run_together(server.port, [request])
        prompt = batch.outcomes[0]
        tokens = prompt.prompt_tokens - prompt.cached_tokens
        measure = Measure("prompt", "tokens/s", rate=True)
        return [Figure(measure, tokens / prompt.first_s, batch_details([batch]))]


@dataclass(frozen=True)
class Prelude:
    """Sessions that start at once over one shared prelude: mean time to first text.

    Cold: the prelude is new. Warm: the same again, with other user parts.
    """

    kind = "prelude"
    sessions: int

    @property
    def label(self) -> str:
        return f"prelude {self.sessions}"

    async def run(self, server: Server, seed: str) -> list[Figure]:
        return [await self._round(server, seed, state) for state in ("cold", "warm")]

    async def _round(self, server: Server, seed: str, state: str) -> Figure:
        prompts = text.prelude_prompts(
            self.sessions, prelude_words=PRELUDE_WORDS, prelude=seed, users=f"{seed} {state}"
        )
        requests = [completion(p, max_tokens=PRELUDE_ANSWER_TOKENS, seed=i) for i, p in enumerate(prompts)]
        batch = await run_together(server.port, requests)
        measure = Measure(f"first token, {state} prelude, {self.sessions} sessions", "ms", rate=False)
        return Figure(measure, batch.mean_first_s * 1e3, batch_details([batch]))


DECODE_TOKENS = {1: 96, 4: 64, 8: 48, 16: 40}
"""Streams -> tokens of each: a cell of a few seconds."""


def chosen(names: Sequence[str], *, widths: Sequence[int], sessions: Sequence[int]) -> list[Part]:
    """Return the parts of the given names in their order."""
    parts: dict[str, list[Part]] = {
        "decode": [Decode(streams, DECODE_TOKENS.get(streams, 48)) for streams in widths],
        "prompt": [Prompt()],
        "prelude": [Prelude(count) for count in sessions],
        "constrained": [Constrained(form, n, 8 // n + 1) for form in (SIMPLE, COMPLICATED) for n in (1, 8)],
        "neighbour": [Neighbour(Decode(streams, 24)) for streams in (1, 8)],
    }
    return [part for name in names for part in parts[name]]
