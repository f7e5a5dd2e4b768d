"""A task: bounds, single requests and stats, on a model that shows what it was fed."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from arriero.config.schema import BiaserConfig, TaskConfig
from arriero.core import Constraint, ConstraintKind, Span
from arriero.errors import EngineError, InvalidRequest, PrivateTokenFound
from arriero.tasks.bounds import Asked
from arriero.tasks.stats import Duration
from arriero.tasks.task import Task
from arriero.testing.echo import BOS, EOS, EchoModel

YES_OR_NO = Constraint(ConstraintKind.REGEX, "yes|no")


def task_on(model: EchoModel, **config: Any) -> Task:
    return Task("t", TaskConfig(model="echo", **config), model, threads_per_session=2)


async def answered(task: Task, prompt: Any, asked: Asked | None = None) -> str:
    request = await task.request(prompt, tenant="me", asked=asked)
    async with aclosing(task.generate(request)) as deltas:
        return "".join([delta.text async for delta in deltas])


async def test_a_single_request_feeds_prelude_and_turn() -> None:
    """Prelude, prefix, input and postfix are fed, special only where the task wrote them."""
    model = EchoModel("yes")

    text = await answered(task_on(model, prelude="P<eos>", prefix="<eos>", postfix="Z"), "a<eos>")

    assert text == "yes"
    assert model.fed == [(BOS, *b"P", EOS, EOS, *b"a<eos>Z")]
    assert model.requests[0].prompt[0] == Span(tokens=(BOS, *b"P", EOS), shared=True)


async def test_messages_are_replayed_with_the_models_end_token() -> None:
    """A chat comes after the prelude, each earlier answer closed by the model's end token."""
    model = EchoModel("yes", add_bos=False)
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]

    await answered(task_on(model, prelude="P", prefix="(", postfix=")"), messages)

    assert model.fed == [(*b"P(a)b", EOS, *b"(c)")]


async def test_the_request_carries_the_tasks_sampling_and_bounds() -> None:
    """Sampling keys, seed, limits, stop sequences and the tenant are in the request."""
    model = EchoModel("hello")
    task = task_on(model, temperature=0, seed=5, max_tokens=3, stop_sequences=("x",))

    text = await answered(task, "a", Asked(max_tokens=100, stop_sequences=("y",)))

    request = model.requests[0]
    assert text == "hel"
    assert (request.sampling.chain, request.sampling.seed) == (task.config.chain, 5)
    assert (request.max_tokens, request.stop_sequences, request.tenant) == (3, ("x", "y"), "me")


async def test_a_private_token_is_refused_before_the_model_is_asked() -> None:
    """Nothing is fed when the input holds a private token."""
    model = EchoModel()

    with pytest.raises(PrivateTokenFound):
        await task_on(model, private_tokens=("!",)).request("a!", tenant="")

    assert model.requests == []


async def test_the_tasks_constraint_is_in_every_request() -> None:
    """Single requests and sessions carry it; stop sequences would cut the answer and are left out."""
    model = EchoModel("yes")
    config = TaskConfig(model="echo", biaser=BiaserConfig(regex="yes|no"), stop_sequences=("e",))
    task = Task("t", config, model, constraint=YES_OR_NO)

    await answered(task, "a", Asked(stop_sequences=("s",)))
    async with aclosing(task.start("me").complete("a")) as deltas:
        assert "".join([delta.text async for delta in deltas]) == "yes"

    assert [request.constraint for request in model.requests] == [YES_OR_NO, YES_OR_NO]
    assert [request.stop_sequences for request in model.requests] == [(), ()]


async def test_a_caller_may_constrain_a_task_that_is_free() -> None:
    """What the caller asks for is in the request."""
    request = await task_on(EchoModel()).request("a", tenant="", asked=Asked(constraint=YES_OR_NO))

    assert request.constraint == YES_OR_NO


async def test_a_caller_cannot_change_the_constraint_of_a_task() -> None:
    """The task's own stands, and the caller is told so."""
    config = TaskConfig(model="echo", biaser=BiaserConfig(regex="yes|no"))
    task = Task("t", config, EchoModel(), constraint=YES_OR_NO)

    with pytest.raises(InvalidRequest, match="the task t has a constraint of its own") as caught:
        await task.request("a", tenant="", asked=Asked(constraint=YES_OR_NO))

    assert caught.value.param == "response_format"


def test_a_biaser_without_its_constraint_is_our_mistake() -> None:
    """A task is never run free by accident."""
    config = TaskConfig(model="echo", biaser=BiaserConfig(regex="yes|no"))

    with pytest.raises(AssertionError, match="biaser"):
        Task("t", config, EchoModel())


async def test_stats_count_what_was_completed() -> None:
    """Turns count, the prelude does not; thread times are those of two threads."""
    task = task_on(EchoModel("yes"), prelude="Prelude", prefix="(", postfix=")")

    before = task.stats
    await answered(task, "abc")
    await answered(task, "d")

    after = task.stats
    assert before is None
    assert after is not None
    assert (after.cycles, after.prompt_tokens, after.predict_tokens) == (2, 8, 6)
    assert (after.prompt_duration, after.predict_duration_threads) == (
        Duration(0, 500_000_000),
        Duration(2, 0),
    )


async def test_failed_and_abandoned_completions_are_not_counted() -> None:
    """Only a completion that reached its last delta is in the stats, and nothing keeps running."""
    model = EchoModel(EngineError("gone"), "long answer")
    task = task_on(model)

    with pytest.raises(EngineError):
        await answered(task, "a")
    async with aclosing(task.generate(await task.request("b", tenant=""))) as deltas:
        await anext(deltas)

    assert task.stats is None
    assert model.running == 0
