"""An answer in two phases: a free one, which is hidden, and after the bias prompt the one that is returned.

The second begins with what is in the context after the first, so that nothing is evaluated twice:

    prompt | free answer | bias prompt | answer end

The end of the free answer, if it came to one, is left out: the bias prompt goes on in its place.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from arriero.core import Delta, Usage
from arriero.errors import ContextOverflow
from arriero.tasks.prompt import bias_spans

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from arriero.core import GenerateRequest, Model


async def two_phases(
    model: Model, request: GenerateRequest, *, bias_prompt: str, show_hidden: bool
) -> AsyncGenerator[Delta, None]:
    """Stream the answer after a free one; the last delta counts both.

    show_hidden: the text of the free answer is streamed too, as `hidden` of its deltas.
    Raises ContextOverflow also when the free answer has filled the context.
    """
    hidden_tokens = 0
    async with aclosing(model.generate(free_request(request))) as deltas:
        async for delta in deltas:
            hidden_tokens += delta.tokens
            if show_hidden and delta.text:
                yield Delta(hidden=delta.text, tokens=hidden_tokens)
                hidden_tokens = 0
    free = delta
    async with aclosing(model.generate(answer_request(request, free, bias_prompt))) as deltas:
        try:
            async for delta in deltas:
                counted = delta if delta.finish_reason is None else counting_both(free, delta)
                yield msgspec.structs.replace(counted, tokens=delta.tokens + hidden_tokens)
                hidden_tokens = 0
        except ContextOverflow as exc:
            message = f"the hidden answer leaves no room for the bias prompt: {exc.message}"
            raise ContextOverflow(message, param=exc.param) from exc


def free_request(request: GenerateRequest) -> GenerateRequest:
    """Return the request of the hidden phase."""
    return msgspec.structs.replace(
        request, constraint=None, logprobs=None, continued=True, return_context=True
    )


def answer_request(request: GenerateRequest, free: Delta, bias_prompt: str) -> GenerateRequest:
    """Return the request of the second phase. `free` is the last delta of the first.

    Stop sequences end free text only, never a constrained one.
    """
    assert free.context, "the model was asked to return the context"
    return msgspec.structs.replace(
        request,
        prompt=(*free.context, *bias_spans(bias_prompt)),
        stop_sequences=() if request.constraint else request.stop_sequences,
    )


def counting_both(free: Delta, answer: Delta) -> Delta:
    """Return the last delta of the answer with the tokens and times of both phases.

    Prompt tokens are those of the caller's prompt and of the bias prompt.
    """
    first, second = free.usage or Usage(), answer.usage or Usage()
    # A model whose tokens are not known here has counted them all the same.
    kept = sum(len(span.tokens) for span in free.context) or first.prompt_tokens + first.completion_tokens
    usage = Usage(
        prompt_tokens=first.prompt_tokens + max(0, second.prompt_tokens - kept),
        completion_tokens=first.completion_tokens + second.completion_tokens,
        cached_tokens=first.cached_tokens,
    )
    return msgspec.structs.replace(
        answer,
        usage=usage,
        prompt_s=free.prompt_s + answer.prompt_s,
        predict_s=free.predict_s + answer.predict_s,
    )
