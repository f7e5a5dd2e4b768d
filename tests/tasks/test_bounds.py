"""How far a caller may change what a task asks of its model."""

from __future__ import annotations

import pytest

from arriero.config.schema import TaskConfig
from arriero.core import Constraint, ConstraintKind, GenerateRequest, Span
from arriero.errors import InvalidRequest
from arriero.sampling import SamplingParams, Temperature
from arriero.tasks.bounds import Asked, bounded

OWN = SamplingParams(seed=1)
PROMPT = (Span(text="x"),)


def request(task: TaskConfig, asked: Asked) -> GenerateRequest:
    return bounded(task, OWN, asked, prompt=PROMPT, tenant="t")


def test_a_caller_who_asks_for_nothing_gets_the_task_as_configured() -> None:
    """All of the task's settings are in the request."""
    task = TaskConfig(model="m", max_tokens=7, stop_sequences=("a", "b"), private_tokens=("p",))

    assert request(task, Asked()) == GenerateRequest(
        prompt=PROMPT,
        sampling=OWN,
        max_tokens=7,
        stop_sequences=("a", "b"),
        private_tokens=("p",),
        tenant="t",
    )


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [(None, None, None), (None, 5, 5), (5, None, 5), (5, 4, 4), (5, 6, 5), (5, 0, 0), (0, 5, 0)],
)
def test_max_tokens_may_be_lowered_but_not_raised(
    own: int | None, asked: int | None, expected: int | None
) -> None:
    """The smaller of the task's limit and the caller's holds."""
    assert request(TaskConfig(model="m", max_tokens=own), Asked(max_tokens=asked)).max_tokens == expected


def test_a_negative_limit_is_refused() -> None:
    """max_tokens below zero is the caller's error."""
    with pytest.raises(InvalidRequest, match="max_tokens must be 0 or more, got -1") as caught:
        request(TaskConfig(model="m"), Asked(max_tokens=-1))

    assert caught.value.param == "max_tokens"


def test_what_was_asked_is_in_the_request() -> None:
    """Stop sequences add to the task's, sampling replaces it, logprobs are passed on."""
    sampling = SamplingParams(chain=(Temperature(0),))
    asked = Asked(sampling=sampling, stop_sequences=("b", "c"), logprobs=2)

    made = request(TaskConfig(model="m", stop_sequences=("a", "b")), asked)

    assert (made.sampling, made.stop_sequences, made.logprobs) == (sampling, ("a", "b", "c"), 2)


@pytest.mark.parametrize(
    ("constraint", "bias_prompt", "expected"),
    [
        (None, None, ("a", "b")),
        (None, "so", ("a", "b")),
        (Constraint(ConstraintKind.REGEX, "x"), None, ()),
        (Constraint(ConstraintKind.REGEX, "x"), "so", ("a", "b")),
    ],
)
def test_stop_sequences_are_for_free_text(
    constraint: Constraint | None, bias_prompt: str | None, expected: tuple[str, ...]
) -> None:
    """They are in the request if any of its text is free."""
    task = TaskConfig(model="m", stop_sequences=("a",), bias_prompt=bias_prompt)

    made = bounded(task, OWN, Asked(stop_sequences=("b",)), prompt=PROMPT, tenant="", constraint=constraint)

    assert (made.constraint, made.stop_sequences) == (constraint, expected)
