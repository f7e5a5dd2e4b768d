"""A task: a model used in a configured way. Starts sessions, answers single requests, keeps its stats."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from arriero.core import Span
from arriero.errors import InvalidRequest, NotSupported
from arriero.sampling import SamplingParams
from arriero.tasks.bounds import Asked, bounded
from arriero.tasks.phases import two_phases
from arriero.tasks.prompt import prelude_spans, replay_spans, turn_spans
from arriero.tasks.session import Session
from arriero.tasks.stats import TaskStats

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from arriero.config.schema import TaskConfig
    from arriero.core import Constraint, Delta, GenerateRequest, Model
    from arriero.engine.message import Message

NOT_YET = ("memorization",)


class Task:
    """Owns its stats and the tokens of its prelude; used from one event loop.

    constraint: of the task's biaser, as `constraint.task_constraints` makes it.
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
        threads_per_session: int = 8,
    ) -> None:
        assert (constraint is None) == (config.biaser is None), "a biaser must not go without its constraint"
        self.name = name
        self.config = config
        self.model = model
        self.constraint = constraint
        self.sampling = SamplingParams(chain=config.chain, seed=config.seed)
        self.stats: TaskStats | None = None
        self._threads = threads_per_session
        self._prelude: tuple[int, ...] | None = None

    def start(self, tenant: str) -> Session:
        """Begin a conversation. Raises NotSupported naming a key of the task that cannot be honoured."""
        self._check_supported()
        return Session(self, tenant)

    async def request(
        self, prompt: str | Sequence[Message], *, tenant: str, asked: Asked | None = None
    ) -> GenerateRequest:
        """Return the request of a single completion, for `generate`.

        prompt: one input, or the messages of a whole chat, replayed as `prompt.replay_spans` says.
        Raises PrivateTokenFound, InvalidRequest, NotSupported, Unavailable.
        """
        self._check_supported()
        is_chat = not isinstance(prompt, str)
        if isinstance(prompt, str):
            turns = turn_spans(self.config, prompt)
        else:
            turns = replay_spans(self.config, prompt, end=self.model.info.eos)
        prelude = await self.prelude()
        held = (Span(tokens=prelude, shared=True),) if prelude else ()
        return self.bounded(asked or Asked(), prompt=(*held, *turns), tenant=tenant, continued=is_chat)

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
        async with aclosing(self._answer(request)) as deltas:
            async for delta in deltas:
                if delta.finish_reason is not None:
                    stats = self.stats or TaskStats()
                    self.stats = stats.counting(delta, held_tokens=held_tokens, threads=self._threads)
                yield delta

    def _answer(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        bias_prompt = self.config.bias_prompt
        if not bias_prompt:
            return self.model.generate(request)
        return two_phases(self.model, request, bias_prompt=bias_prompt, show_hidden=self.config.show_hidden)

    async def prelude(self) -> tuple[int, ...]:
        """Return the tokens of the prelude, the model's begin token first if it wants one."""
        if self._prelude is None:
            spans = prelude_spans(self.config)
            tokens = await self.model.tokenize(spans, add_bos=True) if spans else []
            self._prelude = tuple(token.token for token in tokens)
        return self._prelude

    def _check_supported(self) -> None:
        for key in unsupported_keys(self.config):
            raise NotSupported(f"tasks.{self.name}.{key} is not supported by this version")


def unsupported_keys(config: TaskConfig) -> list[str]:
    """Return the keys of a task that this version cannot honour; its requests are refused."""
    return [key for key in NOT_YET if getattr(config, key) is not None]
