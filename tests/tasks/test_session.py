"""The turns of one conversation, on a model that shows what it was fed."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from arriero.config.schema import TaskConfig
from arriero.core import Delta, FinishReason, Role, Span
from arriero.errors import ContextOverflow, EngineError, InvalidRequest, PrivateTokenFound
from arriero.tasks.bounds import Asked
from arriero.tasks.session import Session
from arriero.tasks.task import Task
from arriero.testing.echo import BOS, EOS, EchoModel


def session_on(model: EchoModel, tenant: str = "me", **config: Any) -> Session:
    return Task("t", TaskConfig(model="echo", **config), model).start(tenant)


async def deltas_of(session: Session, text: str, asked: Asked | None = None) -> list[Delta]:
    async with aclosing(session.complete(text, asked)) as deltas:
        return [delta async for delta in deltas]


async def test_turns_follow_each_other_in_the_context() -> None:
    """The prelude is fed once; each turn follows the last answer and its end token, nothing between."""
    model = EchoModel("one", "two", "three")
    session = session_on(model, prelude="P", prefix="(", postfix=")")

    for text in "abc":
        await deltas_of(session, text)

    assert model.fed == [
        (BOS, *b"P(a)"),
        (BOS, *b"P(a)one", EOS, *b"(b)"),
        (BOS, *b"P(a)one", EOS, *b"(b)two", EOS, *b"(c)"),
    ]


async def test_only_the_prelude_is_shared_between_tenants() -> None:
    """Later turns hold the prelude as shared tokens and the conversation as the tenant's own."""
    model = EchoModel("one")
    session = session_on(model, tenant="ann", prelude="P")

    await deltas_of(session, "a")
    await deltas_of(session, "b")

    assert model.requests[1].tenant == "ann"
    assert model.requests[1].prompt == (
        Span(tokens=(BOS, *b"P"), shared=True),
        Span(tokens=tuple(b"aone")),
        Span(tokens=(EOS,)),
        Span(text="b", role=Role.USER),
    )


async def test_without_a_prelude_nothing_is_shared() -> None:
    """A task without a prelude starts with the turn; the model puts its begin token first."""
    model = EchoModel("one")
    session = session_on(model)

    await deltas_of(session, "a")
    await deltas_of(session, "b")

    assert model.fed == [(BOS, *b"a"), (BOS, *b"aone", EOS, *b"b")]
    assert not any(span.shared for request in model.requests for span in request.prompt)


async def test_an_answer_cut_at_the_limit_stays_without_an_end_token() -> None:
    """What the model said up to max_tokens is in the context of the next turn."""
    model = EchoModel("hello")
    session = session_on(model, max_tokens=4)

    deltas = await deltas_of(session, "a", Asked(max_tokens=2))
    await deltas_of(session, "b")

    assert deltas[-1].finish_reason is FinishReason.LENGTH
    assert model.fed[1] == (BOS, *b"aheb")


async def test_deltas_reach_the_caller_without_the_context() -> None:
    """The stream is the model's; the context is for the session alone."""
    deltas = await deltas_of(session_on(EchoModel("hi")), "a")

    assert [delta.text for delta in deltas] == ["h", "i", ""]
    assert deltas[-1].finish_reason is FinishReason.STOP
    assert (deltas[-1].context, deltas[-1].end) == ((), None)


async def test_sessions_do_not_see_each_other() -> None:
    """Two sessions of one task hold their own turns."""
    model = EchoModel("x")
    task = Task("t", TaskConfig(model="echo"), model)
    first, second = task.start("me"), task.start("me")

    await deltas_of(first, "a")
    await deltas_of(second, "b")

    assert model.fed == [(BOS, *b"a"), (BOS, *b"b")]


async def test_a_failed_turn_leaves_the_session_as_it_was() -> None:
    """After an error in the middle the next turn follows the last completed one."""
    model = EchoModel("one", EngineError("gone"), "three")
    session = session_on(model)

    await deltas_of(session, "a")
    with pytest.raises(EngineError):
        await deltas_of(session, "b")
    await deltas_of(session, "c")

    assert model.fed[2] == (BOS, *b"aone", EOS, *b"c")


@pytest.mark.parametrize("num_deltas", [1, 2, 3])
async def test_a_stopped_turn_leaves_the_session_as_it_was(num_deltas: int) -> None:
    """A turn that is closed before its last delta is forgotten, and its work has ended."""
    model = EchoModel("one")
    session = session_on(model)

    async with aclosing(session.complete("a")) as deltas:
        for _ in range(num_deltas):
            await anext(deltas)
    assert model.running == 0
    await deltas_of(session, "b")

    assert model.fed[1] == (BOS, *b"b")


async def test_a_turn_closed_at_its_last_delta_is_kept() -> None:
    """The caller need not read past the delta with the finish reason."""
    model = EchoModel("x")
    session = session_on(model)

    async with aclosing(session.complete("a")) as deltas:
        async for delta in deltas:
            if delta.finish_reason is not None:
                break
    await deltas_of(session, "b")

    assert model.fed[1] == (BOS, *b"ax", EOS, *b"b")


async def test_refused_inputs_leave_the_session_usable() -> None:
    """A private token or too long an input ends that turn only."""
    model = EchoModel("x", context_size=8)
    session = session_on(model, private_tokens=("!",))

    with pytest.raises(PrivateTokenFound):
        await deltas_of(session, "a!")
    with pytest.raises(ContextOverflow):
        await deltas_of(session, "much too long")
    await deltas_of(session, "b")

    assert model.fed == [(BOS, *b"b")]


async def test_one_completion_at_a_time() -> None:
    """A second input during an answer is refused; the answer goes on."""
    session = session_on(EchoModel("ok"))

    async with aclosing(session.complete("a")) as deltas:
        texts = [(await anext(deltas)).text]
        with pytest.raises(InvalidRequest, match="still answering"):
            await deltas_of(session, "b")
        texts += [delta.text async for delta in deltas]

    assert "".join(texts) == "ok"
    assert await deltas_of(session, "c")
