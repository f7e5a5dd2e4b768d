"""Several completions of one request: run side by side, told apart by index."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from arriero.core import FinishReason
from arriero.server.streaming import closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

    from arriero.core import Citation, Delta, GenerateRequest, TokenLogprob, Usage


class Generator(Protocol):
    """A model, or a task, which counts what it generates."""

    def generate(self, request: GenerateRequest) -> AsyncIterator[Delta]: ...


def generations(
    generator: Generator, requests: Iterable[GenerateRequest], num_choices: int, *, trace: str = ""
) -> list[AsyncIterator[Delta]]:
    """Return `num_choices` generations of each request; a given seed is counted up from choice to choice."""
    traced = [msgspec.structs.replace(request, trace=trace) if trace else request for request in requests]
    return [
        generator.generate(_seeded(request, choice)) for request in traced for choice in range(num_choices)
    ]


def _seeded(request: GenerateRequest, choice: int) -> GenerateRequest:
    seed = request.sampling.seed
    if seed is None or choice == 0:
        return request
    sampling = msgspec.structs.replace(request.sampling, seed=seed + choice)
    return msgspec.structs.replace(request, sampling=sampling)


async def interleaved(streams: Sequence[AsyncIterator[Delta]]) -> AsyncGenerator[tuple[int, Delta], None]:
    """Yield the deltas of all streams as they come, each with its stream's index.

    The first failure ends them all. Closing this iterator closes every stream.
    """
    if len(streams) == 1:
        async with closing(streams[0]) as deltas:
            async for delta in deltas:
                yield 0, delta
        return
    queue: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue(len(streams))
    jobs = [asyncio.create_task(_pump(index, stream, queue)) for index, stream in enumerate(streams)]
    try:
        running = len(jobs)
        while running:
            index, item = await queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield index, item
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


async def _pump(
    index: int, stream: AsyncIterator[Delta], queue: asyncio.Queue[tuple[int, Delta | BaseException | None]]
) -> None:
    """Hand on one stream, then None, or the exception that ended it."""
    try:
        async with closing(stream) as deltas:
            async for delta in deltas:
                await queue.put((index, delta))
    except Exception as exc:
        await queue.put((index, exc))
    else:
        await queue.put((index, None))


class Choice:
    """What has come of one completion."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason = FinishReason.LENGTH
        self.citations: tuple[Citation, ...] = ()

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.texts)

    def add(self, delta: Delta) -> None:
        """Take the next delta."""
        self.texts.append(delta.text)
        self.logprobs.extend(delta.logprobs)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.citations = delta.citations


def usage_object(usage: Usage) -> dict[str, Any]:
    """Return OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
