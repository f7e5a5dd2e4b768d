"""A remote model as a task uses it: `core.Model` over the guard, so that its rules hold for tasks too.

Nothing is known of the model's tokens here: it is fed text, and a conversation is kept as text.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from arriero.core import Delta, FinishReason, GenerateRequest, ModelInfo, Role, Span
from arriero.errors import NotSupported
from arriero.guard.routes import Route
from arriero.guard.told import Stream
from arriero.tasks.remote_answer import Answer
from arriero.tasks.remote_request import messages, parameters, prompt_text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from arriero.config.remote import Dialect
    from arriero.core import Token
    from arriero.guard.forward import Guard

Form = Literal["completion", "chat"]
ROUTES: dict[Form, Route] = {"completion": Route.COMPLETIONS, "chat": Route.CHAT}


class RemoteModel:
    """Implements `core.Model` for the tasks of one form. Holds nothing between two completions.

    end_token: what stands in a text after an answer that the model has ended itself.
    """

    def __init__(
        self, guard: Guard, *, form: Form, dialect: Dialect | None = None, end_token: str = ""
    ) -> None:
        self._guard = guard
        self._form: Form = form
        self._dialect: Dialect | None = dialect
        self._end = end_token if form == "completion" else ""

    @property
    def name(self) -> str:
        return self._guard.policy.public_name

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            architecture="",
            description="a remote model",
            context_size=self._guard.policy.max_context or 0,
            train_context_size=0,
            embedding_size=0,
            num_tokens=0,
            num_parameters=0,
            size_bytes=0,
            generates=True,
            chat_template=None,
            bos="",
            eos=self._end,
            add_bos=False,
            special_tokens=(),
            pooling="none",
            library="",
        )

    async def tokenize(self, prompt: Sequence[Span], *, add_bos: bool) -> list[Token]:
        raise NotSupported("the tokens of a remote model are not known here")

    async def detokenize(self, tokens: Sequence[int]) -> str:
        raise NotSupported("the tokens of a remote model are not known here")

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream one completion; see `core.Model.generate`. Raises what the guard raises, too."""
        answer = Answer(
            request.stop_sequences, request.private_tokens, constrained=request.constraint is not None
        )
        clock = _Clock()
        async with aclosing(self._texts(request, answer)) as texts:
            async for text in texts:
                clock.note_text()
                yield Delta(text=text)
        yield self._last(request, answer, clock)

    def _body(self, request: GenerateRequest) -> bytes:
        prompt: dict[str, Any]
        if self._form == "chat":
            prompt = {"messages": messages(request.prompt)}
        else:
            prompt = {"prompt": prompt_text(request.prompt)}
        limit = self._limit(request.max_tokens)
        return msgspec.json.encode(
            {
                "model": self.name,
                **prompt,
                **parameters(request, self._dialect),
                **({} if limit is None else {"max_tokens": limit}),
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )

    def _limit(self, asked: int | None) -> int | None:
        """Return the lower of what is asked for and what the guard allows.

        Without either, a chat gets what its upstream gives; a completion would get 16 tokens.
        """
        policy = self._guard.policy
        bound = policy.max_tokens or policy.max_context
        if asked is None:
            return bound if self._form == "completion" else None
        return asked if bound is None else min(asked, bound)

    async def _texts(self, request: GenerateRequest, answer: Answer) -> AsyncGenerator[str, None]:
        """Yield what may be shown, piece by piece; at the end the answer knows how it ended."""
        headers = ((b"traceparent", request.trace.encode()),) if request.trace else ()
        told = await self._guard.forward(ROUTES[self._form], self._body(request), headers)
        if not isinstance(told, Stream):
            if text := answer.whole(told.body):
                yield text
        else:
            try:
                while not answer.is_cut and (data := await told.piece()):
                    if text := answer.feed(data):
                        yield text
            finally:
                told.close()
        if text := answer.end():
            yield text

    def _last(self, request: GenerateRequest, answer: Answer, clock: _Clock) -> Delta:
        context, end = self._left_behind(request, answer) if request.return_context else ((), None)
        prompt_s, predict_s = clock.times()
        return Delta(
            finish_reason=answer.finish_reason,
            stop_sequence=answer.stop_sequence,
            usage=answer.usage,
            context=context,
            end=end,
            prompt_s=prompt_s,
            predict_s=predict_s,
        )

    def _left_behind(self, request: GenerateRequest, answer: Answer) -> tuple[tuple[Span, ...], Span | None]:
        """Return the prompt with the answer, and the end. A stop sequence stays in a text, not in a chat."""
        stop_sequence = (answer.stop_sequence or "") if self._form == "completion" else ""
        said = Span(text=answer.text + stop_sequence, role=Role.ASSISTANT)
        is_ended = answer.finish_reason is FinishReason.STOP and answer.stop_sequence is None
        return (*request.prompt, said), Span(text=self._end, special=True) if is_ended and self._end else None


class _Clock:
    """Notes when a completion began, and when its first text came."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._text_s: float | None = None

    def note_text(self) -> None:
        if self._text_s is None:
            self._text_s = time.perf_counter()

    def times(self) -> tuple[float, float]:
        """Return the seconds to the first text, and from there to now."""
        now = time.perf_counter()
        text_s = self._text_s or now
        return text_s - self._began_s, now - text_s
