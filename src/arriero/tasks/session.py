"""The turns of one conversation on one task, kept as the tokens that are in the model's context."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from arriero.core import Span
from arriero.errors import InvalidRequest
from arriero.tasks.bounds import Asked
from arriero.tasks.prompt import turn_spans

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from arriero.core import Delta
    from arriero.tasks.task import Task


class Session:
    """Owns the context of its conversation: every token of the turns that were completed.

    A turn that fails, or is closed before its last delta, leaves the session as it was before it.
    """

    def __init__(self, task: Task, tenant: str) -> None:
        self._task = task
        self._tenant = tenant
        self._context: tuple[int, ...] = ()
        self._busy = False

    async def complete(self, text: str, asked: Asked | None = None) -> AsyncGenerator[Delta, None]:
        """Stream the answer to the next input; close it (`aclosing`) to stop the work.

        One at a time: a second one before the end of the first raises InvalidRequest. Raises
        PrivateTokenFound and ContextOverflow before the first delta, EngineError in the middle.
        """
        if self._busy:
            raise InvalidRequest("this session is still answering; wait for the end or stop the answer")
        self._busy = True
        try:
            turn = turn_spans(self._task.config, text)
            prompt = (*await self._held(), *turn)
            request = self._task.bounded(asked or Asked(), prompt=prompt, tenant=self._tenant, continued=True)
            request = msgspec.structs.replace(request, return_context=True)
            async with aclosing(self._task.generate(request)) as deltas:
                async for delta in deltas:
                    if delta.finish_reason is not None:
                        assert delta.context, "the model was asked to return the context"
                        self._context = delta.context
                        delta = msgspec.structs.replace(delta, context=())
                    yield delta
        finally:
            self._busy = False

    async def _held(self) -> tuple[Span, ...]:
        """Return what is in the context already: the prelude, that every tenant shares, and earlier turns."""
        prelude = await self._task.prelude()
        turns = self._context[len(prelude) :]
        spans = (Span(tokens=prelude, shared=True), Span(tokens=turns))
        return tuple(span for span in spans if span.tokens)
