"""An answer in two phases: a hidden free one, the bias prompt, the one that is returned."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from arriero.config.schema import BiaserConfig, TaskConfig
from arriero.core import Constraint, ConstraintKind, Delta, FinishReason, Role, Span, Usage
from arriero.errors import ContextOverflow, EngineError
from arriero.tasks.bounds import Asked
from arriero.tasks.task import Task
from arriero.testing.echo import BOS, EOS, EchoModel

YES = Constraint(ConstraintKind.REGEX, "yes|no")


def task_on(model: EchoModel, **config: Any) -> Task:
    constrained = {"biaser": BiaserConfig(regex="yes|no"), "bias_prompt": "So:", **config}
    constraint = YES if constrained["biaser"] else None
    return Task("t", TaskConfig(model="echo", **constrained), model, constraint=constraint)


async def deltas_of(task: Task, prompt: str = "a", asked: Asked | None = None) -> list[Delta]:
    request = await task.request(prompt, tenant="me", asked=asked)
    async with aclosing(task.generate(request)) as deltas:
        return [delta async for delta in deltas]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


async def test_only_the_second_answer_is_returned() -> None:
    """The free answer without its end token, then the bias prompt, stand before what is returned."""
    model = EchoModel("thought", "yes")

    deltas = await deltas_of(task_on(model, prelude="P", prefix="(", postfix=")"))

    assert text_of(deltas) == "yes"
    assert not any(delta.hidden for delta in deltas)
    assert model.fed == [(BOS, *b"P(a)"), (BOS, *b"P(a)thoughtSo:")]


async def test_the_second_prompt_shares_the_prelude_and_trusts_the_bias_prompt() -> None:
    """The context is handed on as tokens, the prelude for all tenants, the rest for this one."""
    model = EchoModel("b", "yes")

    await deltas_of(task_on(model, prelude="P", bias_prompt="<eos>"))

    free, answer = model.requests
    assert (free.continued, answer.continued) == (True, False)
    assert answer.prompt == (
        Span(tokens=(BOS, *b"P"), shared=True),
        Span(tokens=tuple(b"ab")),
        Span(text="<eos>", special=True, role=Role.USER),
    )
    assert model.fed[1] == (BOS, *b"Pab", EOS)


async def test_the_constraint_holds_for_the_second_answer_only() -> None:
    """Stop sequences end the free answer, max_tokens bounds each, log probabilities are of the second."""
    model = EchoModel("thought", "yes")
    task = task_on(model, stop_sequences=("x",), max_tokens=3)

    await deltas_of(task, asked=Asked(stop_sequences=("y",), logprobs=1))

    free, answer = model.requests
    assert (free.constraint, free.stop_sequences, free.max_tokens, free.logprobs) == (
        None,
        ("x", "y"),
        3,
        None,
    )
    assert (answer.constraint, answer.stop_sequences, answer.max_tokens, answer.logprobs) == (YES, (), 3, 1)


async def test_without_a_constraint_the_second_answer_is_free_too() -> None:
    """A bias prompt alone gives two free answers, each ended by the stop sequences."""
    model = EchoModel("one", "two")

    deltas = await deltas_of(task_on(model, biaser=None, stop_sequences=("x",)))

    assert text_of(deltas) == "two"
    assert [request.stop_sequences for request in model.requests] == [("x",), ("x",)]


async def test_an_empty_bias_prompt_is_none() -> None:
    """As with an empty prelude, nothing is fed and there is one answer."""
    model = EchoModel("yes")

    assert text_of(await deltas_of(task_on(model, bias_prompt=""))) == "yes"
    assert len(model.requests) == 1


async def test_an_answer_cut_at_max_tokens_is_of_length_whatever_the_first_was() -> None:
    """The reason is that of the second answer; a cut first one leads on without an end token to remove."""
    model = EchoModel("thought", "no", "thought", "yes")
    task = task_on(model, max_tokens=2)

    whole, cut = await deltas_of(task), await deltas_of(task)

    assert whole[-1].finish_reason is FinishReason.STOP
    assert cut[-1].finish_reason is FinishReason.LENGTH
    assert model.fed[1] == (BOS, *b"athSo:")


async def test_usage_and_stats_count_both_phases() -> None:
    """Prompt tokens are those of the turn and the bias prompt, completion tokens those of both answers."""
    task = task_on(EchoModel("thought", "yes"), prelude="P", show_hidden=True)

    deltas = await deltas_of(task)

    assert deltas[-1].usage == Usage(prompt_tokens=len(b"<Pa") + len(b"So:"), completion_tokens=10)
    assert sum(delta.tokens for delta in deltas) == 10
    assert task.stats is not None
    assert (task.stats.cycles, task.stats.prompt_tokens, task.stats.predict_tokens) == (1, 4, 10)
    assert (task.stats.prompt_duration.nanos, task.stats.predict_duration.secs) == (500_000_000, 1)


@pytest.mark.parametrize("show_hidden", [True, False])
async def test_hidden_text_is_streamed_where_it_may_be_seen(show_hidden: bool) -> None:
    """It is never in `text`; its tokens are told by the next delta, seen or not."""
    deltas = await deltas_of(task_on(EchoModel("ab", "yes"), show_hidden=show_hidden))

    assert "".join(delta.hidden for delta in deltas) == ("ab" if show_hidden else "")
    assert text_of(deltas) == "yes"
    assert sum(delta.tokens for delta in deltas) == 5


@pytest.mark.parametrize("num_deltas", [1, 2, 3, 4])
async def test_a_closed_answer_ends_the_phase_that_runs(num_deltas: int) -> None:
    """Closing stops the work, in the first phase and in the second, and counts nothing."""
    model = EchoModel("ab", "yes")
    task = task_on(model, show_hidden=True)

    async with aclosing(task.generate(await task.request("a", tenant="me"))) as deltas:
        for _ in range(num_deltas):
            await anext(deltas)

    assert len(model.requests) == (1 if num_deltas < 3 else 2)
    assert model.running == 0
    assert task.stats is None


async def test_a_failure_in_the_first_phase_ends_the_answer() -> None:
    """The second phase is not begun."""
    model = EchoModel(EngineError("gone"), "yes")

    with pytest.raises(EngineError, match="gone"):
        await deltas_of(task_on(model))

    assert len(model.requests) == 1
    assert model.running == 0


async def test_a_hidden_answer_that_fills_the_context_is_named() -> None:
    """The message tells a too long free answer from a too long prompt."""
    model = EchoModel("thought", "yes", context_size=8)

    with pytest.raises(ContextOverflow, match="the hidden answer leaves no room for the bias prompt: "):
        await deltas_of(task_on(model))


async def test_a_session_keeps_both_phases() -> None:
    """The next turn follows the hidden answer, the bias prompt and the answer."""
    model = EchoModel("thought", "yes", "again", "no")
    session = task_on(model, prelude="P").start("me")

    for text in "ab":
        async with aclosing(session.complete(text)) as deltas:
            assert [delta.context async for delta in deltas][-1] == ()

    assert model.fed[2] == (BOS, *b"PathoughtSo:yes", EOS, *b"b")
    assert model.fed[3] == (BOS, *b"PathoughtSo:yes", EOS, *b"bagainSo:")
