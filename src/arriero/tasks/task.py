"""A task: a model used in a configured way. Starts sessions, answers single requests, keeps its stats."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from arriero.core import Span
from arriero.errors import InvalidRequest
from arriero.sampling import SamplingParams
from arriero.tasks.bounds import Asked, bounded
from arriero.tasks.memorized import TaskRequest, cited, remember, without
from arriero.tasks.phases import two_phases
from arriero.tasks.prompt import last_input, prelude_spans, replay_spans, turn_spans
from arriero.tasks.session import Session
from arriero.tasks.stats import TaskStats

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from arriero.config.schema import TaskConfig
    from arriero.core import Citation, Constraint, Delta, GenerateRequest, Model
    from arriero.engine.message import Message
    from arriero.memory.recall import Recall


class Task:
    """Owns its stats and its prelude as the model is fed it; used from one event loop.

    constraint: of the task's biaser, as `constraint.task_constraints` makes it.
    recall: its use of a memory, if its configuration names one.
    sampling: the task's own chain and seed.
    stats: None until a completion has finished.
    """

    def __init__(
        self,
        name: str,
        config: TaskConfig,
        model: Model,
        *,
        constraint: Constraint | None = None,
        recall: Recall | None = None,
        threads_per_session: int = 8,
    ) -> None:
        assert (constraint is None) == (config.biaser is None), "a biaser must not go without its constraint"
        self.name = name
        self.config = config
        self.model = model
        self.constraint = constraint
        # A model that runs elsewhere has sampling defaults of its own.
        chain = config.chain if model.info.num_tokens else config.written_chain
        self.sampling = SamplingParams(chain=chain, seed=config.seed)
        self.stats: TaskStats | None = None
        self._recall = recall
        self._threads = threads_per_session
        self._prelude: tuple[Span, ...] | None = None

    def start(self, tenant: str, trace: str = "") -> Session:
        """Begin a conversation. trace: as in `GenerateRequest`."""
        return Session(self, tenant, trace)

    async def request(
        self, prompt: str | Sequence[Message], *, tenant: str, asked: Asked | None = None
    ) -> GenerateRequest:
        """Return the request of a single completion, for `generate`.

        prompt: one input, or the messages of a whole chat, replayed as `prompt.replay_spans` says.
        Raises PrivateTokenFound, InvalidRequest, Unavailable.
        """
        is_chat = not isinstance(prompt, str)
        if isinstance(prompt, str):
            text = prompt
            recalled, citations = await self.recalled(text)
            turns = turn_spans(self.config, text, recall=recalled)
        else:
            text = last_input(prompt)
            recalled, citations = await self.recalled(text)
            turns = replay_spans(self.config, prompt, end=self.model.info.eos, recall=recalled)
        fed = (*await self.prelude(), *turns)
        request = self.bounded(asked or Asked(), prompt=fed, tenant=tenant, continued=is_chat)
        return TaskRequest.of(request, text, citations) if self.has_memory else request

    @property
    def has_memory(self) -> bool:
        """Whether the task reads or writes a memory."""
        return self._recall is not None

    async def recalled(self, text: str) -> tuple[str, tuple[Citation, ...]]:
        """Return what the memory has for an input, and what it is made of. Raises Unavailable."""
        if self._recall is None or self.config.memorization is None:
            return "", ()
        found = await self._recall.for_prompt(text)
        memory = self.config.memorization.memory
        return without(found.text, self.config.private_tokens), cited(memory, found.passages)

    def bounded(
        self, asked: Asked, *, prompt: tuple[Span, ...], tenant: str, continued: bool
    ) -> GenerateRequest:
        """Return the request for a prompt, within the task's bounds, for `generate`."""
        if asked.constraint is not None and self.constraint is not None:
            message = f"the task {self.name} has a constraint of its own; leave response_format out"
            raise InvalidRequest(message, param="response_format")
        return bounded(
            self.config,
            self.sampling,
            asked,
            prompt=prompt,
            tenant=tenant,
            continued=continued,
            constraint=self.constraint or asked.constraint,
        )

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream a completion of this task and count it once it has finished.

        Tokens in the prompt (rather than text) were there before the turn and are not counted.
        """
        held_tokens = sum(len(span.tokens) for span in request.prompt)
        memorized, request = (
            (request, request.plain()) if isinstance(request, TaskRequest) else (None, request)
        )
        async with aclosing(self._answer(request)) as deltas:
            async for delta in deltas:
                if delta.finish_reason is not None:
                    stats = self.stats or TaskStats()
                    self.stats = stats.counting(delta, held_tokens=held_tokens, threads=self._threads)
                    if memorized is not None:
                        delta = await self._memorized(delta, memorized)
                yield delta

    async def _memorized(self, last: Delta, request: TaskRequest) -> Delta:
        """Remember the input, and return the last delta with what was recalled for it."""
        assert self._recall is not None
        await remember(self._recall, request.input, task=self.name)
        return msgspec.structs.replace(last, citations=request.citations)

    def _answer(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        bias_prompt = self.config.bias_prompt
        if not bias_prompt:
            return self.model.generate(request)
        return two_phases(self.model, request, bias_prompt=bias_prompt, show_hidden=self.config.show_hidden)

    async def prelude(self) -> tuple[Span, ...]:
        """Return the prelude: as tokens where they are known, with the begin token if the model wants one."""
        if self._prelude is None:
            spans = prelude_spans(self.config)
            if spans and self.model.info.num_tokens:
                tokens = await self.model.tokenize(spans, add_bos=True)
                spans = (Span(tokens=tuple(token.token for token in tokens), shared=True),)
            self._prelude = spans
        return self._prelude
