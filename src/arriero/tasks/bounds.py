"""What a caller may ask of one completion, and what a task makes of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from arriero.core import Constraint, GenerateRequest, Span
from arriero.errors import InvalidRequest
from arriero.sampling import SamplingParams

if TYPE_CHECKING:
    from arriero.config.schema import TaskConfig


class Asked(msgspec.Struct, frozen=True):
    """What the caller of a task asks for; all of it may be left out.

    sampling: in place of the task's; make it from `Task.sampling` by `with_overrides`.
    max_tokens: lowers the task's own, never raises it.
    stop_sequences: in addition to the task's own.
    constraint: what the answer must match; only on a task that has none of its own.
    """

    sampling: SamplingParams | None = None
    max_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    logprobs: int | None = None
    constraint: Constraint | None = None


def bounded(
    task: TaskConfig,
    sampling: SamplingParams,
    asked: Asked,
    *,
    prompt: tuple[Span, ...],
    tenant: str,
    continued: bool = False,
    constraint: Constraint | None = None,
) -> GenerateRequest:
    """Return the request that honours what was asked within the task's bounds.

    Stop sequences end free text only, so that a constrained answer is whole.
    """
    has_free_text = constraint is None or bool(task.bias_prompt)
    stop_sequences = tuple(dict.fromkeys((*task.stop_sequences, *asked.stop_sequences)))
    return GenerateRequest(
        prompt=prompt,
        sampling=asked.sampling or sampling,
        max_tokens=_lower(task.max_tokens, asked.max_tokens),
        stop_sequences=stop_sequences if has_free_text else (),
        private_tokens=task.private_tokens,
        tenant=tenant,
        logprobs=asked.logprobs,
        continued=continued,
        constraint=constraint,
    )


def _lower(own: int | None, asked: int | None) -> int | None:
    if asked is None:
        return own
    if asked < 0:
        raise InvalidRequest(f"max_tokens must be 0 or more, got {asked}", param="max_tokens")
    return asked if own is None else min(own, asked)
