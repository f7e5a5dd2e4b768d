"""The turns of one conversation on one task, kept as its model keeps them: as tokens, or as text."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from arriero.errors import InvalidRequest
from arriero.tasks.bounds import Asked
from arriero.tasks.memorized import TaskRequest
from arriero.tasks.prompt import turn_spans

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from arriero.core import Delta, Span
    from arriero.tasks.task import Task


class Session:
    """Owns what the turns that were completed leave behind, with which the next prompt begins.

    A turn that fails, or is closed before its last delta, leaves the session as it was before it.
    """

    def __init__(self, task: Task, tenant: str, trace: str = "") -> None:
        self._task = task
        self._tenant = tenant
        self._trace = trace
        self._held: tuple[Span, ...] | None = None
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
            recalled, citations = await self._task.recalled(text)
            turn = turn_spans(self._task.config, text, recall=recalled)
            held = await self._task.prelude() if self._held is None else self._held
            prompt = (*held, *turn)
            request = self._task.bounded(asked or Asked(), prompt=prompt, tenant=self._tenant, continued=True)
            request = msgspec.structs.replace(request, return_context=True, trace=self._trace)
            if self._task.has_memory:
                request = TaskRequest.of(request, text, citations)
            async with aclosing(self._task.generate(request)) as deltas:
                async for delta in deltas:
                    if delta.finish_reason is not None:
                        assert delta.context, "the model was asked to return the context"
                        self._held = (*delta.context, delta.end) if delta.end else delta.context
                        delta = msgspec.structs.replace(delta, context=(), end=None)
                    yield delta
        finally:
            self._busy = False
