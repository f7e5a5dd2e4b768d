"""A task on a remote model: what the scripted upstream gets of it, and what comes back through the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from arriero.config.load import parse_config
from arriero.core import Delta, FinishReason, Model, Usage
from arriero.errors import InvalidRequest, NotSupported, PayloadTooLarge, PrivateTokenFound
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.runtime import open_runtime
from arriero.tasks.bounds import Asked
from arriero.tasks.remote import RemoteModel
from arriero.tasks.task import Task
from arriero.testing.upstream import Answer, End, Script, Upstream, chat, chat_chunk, events, whole

SECRET = "org/Secret-Model-7B"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
CONFIG = """
[auth]
public = true
[models.m]
{model}
[models.m.upstream]
urls = ["{url}"]
model = "{secret}"
{upstream}
[tasks.t]
model = "m"
{task}
"""


def text_chunk(text: str, finish: str | None = None, **members: Any) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": finish} | members
    return {"id": "cmpl-1", "object": "text_completion", "model": SECRET, "choices": [choice]}


def saying(*texts: str, finish: str = "stop", **members: Any) -> Answer:
    """Return a completion as a stream with its usage."""
    said = [text_chunk(text) for text in texts]
    usage = {"id": "cmpl-1", "object": "text_completion", "model": SECRET, "choices": [], "usage": USAGE}
    return events(*said, text_chunk("", finish, **members), usage)


def chatting(*texts: str) -> Answer:
    said = [chat_chunk(text, model=SECRET) for text in texts]
    usage = {**chat_chunk(None, model=SECRET), "choices": [], "usage": USAGE}
    return events(*said, chat_chunk(None, model=SECRET, finish="stop"), usage)


@asynccontextmanager
async def task_on(
    *scripts: Script, model: str = "max_tokens = 64", upstream: str = "", task: str = ""
) -> AsyncIterator[tuple[Task, Upstream]]:
    """Give the task `t` on a scripted upstream, built from a configuration as a user writes it."""
    async with Upstream.of(*scripts) as server:
        keys = {"model": model, "url": server.url, "secret": SECRET, "upstream": upstream, "task": task}
        async with open_runtime(parse_config(CONFIG.format(**keys), {})) as runtime:
            yield runtime.tasks["t"], server


async def deltas_of(task: Task, prompt: Any = "hi", asked: Asked | None = None) -> list[Delta]:
    request = await task.request(prompt, tenant="me", asked=asked)
    async with aclosing(task.generate(request)) as deltas:
        return [delta async for delta in deltas]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


TEXTS = 'prelude = "P"\nprefix = "<u>"\npostfix = "<a>"'


async def test_a_completion_is_fed_one_text() -> None:
    """Prelude, prefix, input and postfix are the prompt; only written sampling keys are sent."""
    keys = f"{TEXTS}\ntemperature = 0.5\nseed = 7\nmax_tokens = 9\nstop_sequences = ['.']"
    async with task_on(saying("Hel", "lo"), task=keys) as (task, upstream):
        deltas = await deltas_of(task)

    assert text_of(deltas) == "Hello"
    assert deltas[-1].finish_reason is FinishReason.STOP
    assert deltas[-1].usage == Usage(5, 2)
    assert upstream.requests[0].path == "/v1/completions"
    assert upstream.requests[0].json == {
        "model": SECRET,
        "prompt": "P<u>hi<a>",
        "temperature": 0.5,
        "seed": 7,
        "stop": ["."],
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_chat_is_fed_messages() -> None:
    """The prelude is the system's message; without a limit the guard gives its own."""
    async with task_on(chatting("Hel", "lo"), task=f'form = "chat"\n{TEXTS}') as (task, upstream):
        deltas = await deltas_of(task)

    assert text_of(deltas) == "Hello"
    assert upstream.requests[0].path == "/v1/chat/completions"
    assert upstream.requests[0].json == {
        "model": SECRET,
        "messages": [{"role": "system", "content": "P"}, {"role": "user", "content": "<u>hi<a>"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 64,
    }


async def test_messages_are_replayed() -> None:
    """A whole chat is fed in the form of the task, earlier answers with the model's end token in a text."""
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    keys = 'max_tokens = 64\nend_token = "</s>"'
    async with task_on(saying("x"), model=keys, task=TEXTS) as (task, upstream):
        await deltas_of(task, messages)
        assert upstream.requests[0].json["prompt"] == "P<u>a<a>b</s><u>c<a>"

    async with task_on(chatting("x"), model=keys, task=f'form = "chat"\n{TEXTS}') as (task, upstream):
        await deltas_of(task, messages)
        assert [one["content"] for one in upstream.requests[0].json["messages"]] == [
            "P",
            "<u>a<a>",
            "b",
            "<u>c<a>",
        ]
        with pytest.raises(InvalidRequest, match="must be a user's"):
            await deltas_of(task, messages[:2])


@pytest.mark.parametrize(
    ("form", "script", "told"),
    [
        ("completion", saying("one"), ["P(a)", "P(a)one</s>(b)"]),
        ("chat", chatting("one"), [["P", "(a)"], ["P", "(a)", "one", "(b)"]]),
    ],
)
async def test_a_session_keeps_its_turns_as_text(form: str, script: Answer, told: list[Any]) -> None:
    """The second prompt begins with the first turn."""
    texts = f'form = "{form}"\nprelude = "P"\nprefix = "("\npostfix = ")"'
    async with task_on(script, model='max_tokens = 9\nend_token = "</s>"', task=texts) as (task, upstream):
        session = task.start("me")
        for text in "ab":
            async with aclosing(session.complete(text)) as deltas:
                last = [delta async for delta in deltas][-1]

    assert (last.context, last.end) == ((), None)
    fed = [request.json.get("prompt") or request.json["messages"] for request in upstream.requests]
    assert [one if isinstance(one, str) else [said["content"] for said in one] for one in fed] == told


async def test_a_failed_turn_leaves_the_session_as_it_was() -> None:
    """The next prompt follows the last turn that was whole."""
    broken = Answer(saying("b").parts[:2], End.RESET)
    async with task_on(saying("a"), broken, saying("c")) as (task, upstream):
        session = task.start("me")
        for text in "xyz":
            try:
                async with aclosing(session.complete(text)) as deltas:
                    said = [delta async for delta in deltas]
            except UpstreamFailed:
                assert text == "y"

    assert text_of(said) == "c"
    assert upstream.requests[2].json["prompt"] == "xaz"


async def test_stop_sequences_and_private_tokens_are_kept_here() -> None:
    """Whatever the upstream does, neither is shown; one that goes on after a stop is let go."""
    script = Answer(saying("on<x>e", " E", "ND tw", "o").parts[:5], End.STALL)
    keys = 'stop_sequences = ["END"]\nprivate_tokens = ["<x>"]'
    async with task_on(script, task=keys) as (task, upstream):
        deltas = await deltas_of(task)
        async with asyncio.timeout(10):
            await upstream.gone.wait()
        with pytest.raises(PrivateTokenFound):
            await deltas_of(task, "a<x>")

    assert text_of(deltas) == "one "
    assert (deltas[-1].finish_reason, deltas[-1].stop_sequence) == (FinishReason.STOP, "END")
    assert deltas[-1].usage is None


async def test_a_bias_prompt_makes_two_requests() -> None:
    """The hidden answer is fed before the bias prompt, its stop sequence too, and both are counted."""
    keys = 'max_tokens = 8\nstop_sequences = ["\\n"]\nbias_prompt = "So:"\nbiaser.choice = ["yes", "no"]'
    scripts = (saying("think\n"), saying("yes"))
    async with task_on(*scripts, upstream='dialect = "vllm"', task=keys) as (task, upstream):
        deltas = await deltas_of(task)

    assert text_of(deltas) == "yes"
    assert [request.json["prompt"] for request in upstream.requests] == ["hi", "hithink\nSo:"]
    assert "structured_outputs" not in upstream.requests[0].json
    assert upstream.requests[1].json["structured_outputs"] == {"choice": ["yes", "no"]}
    assert "stop" not in upstream.requests[1].json
    assert deltas[-1].usage == Usage(5, 4)


async def test_a_bias_prompt_in_a_chat_is_a_turn() -> None:
    """The hidden answer is the assistant's message, the bias prompt the user's."""
    keys = 'form = "chat"\nbias_prompt = "So:"'
    async with task_on(chatting("think"), chatting("yes"), task=keys) as (task, upstream):
        assert text_of(await deltas_of(task)) == "yes"

    assert upstream.requests[1].json["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "think"},
        {"role": "user", "content": "So:"},
    ]


@pytest.mark.parametrize(
    ("model", "task", "asked", "expected"),
    [
        ("max_tokens = 10", "max_tokens = 20", None, 10),
        ("max_tokens = 20", "max_tokens = 10", None, 10),
        ("max_tokens = 20", "max_tokens = 10", 5, 5),
        ("max_tokens = 20", "", 30, 20),
        ("max_tokens = 20\nover_limit = 'reject'", "", 30, 20),
        ("max_context = 30", "", None, 27),
        ("", "max_tokens = 10", None, 10),
    ],
)
async def test_the_lowest_limit_holds(model: str, task: str, asked: int | None, expected: int) -> None:
    """Of the caller's, the task's and the model's, and of what the prompt leaves of the context."""
    scripts = (whole({"count": 3}), saying("x")) if "context" in model else (saying("x"),)
    async with task_on(*scripts, model=model, task=task) as (on, upstream):
        await deltas_of(on, "x" * 40 if "context" in model else "hi", Asked(max_tokens=asked))

    assert upstream.requests[-1].json["max_tokens"] == expected


async def test_the_guard_checks_tasks_too() -> None:
    """Its rules are those of any request: here the size of a body."""
    async with task_on(saying("x"), model="max_tokens = 8\nmax_body_bytes = 300") as (task, upstream):
        with pytest.raises(PayloadTooLarge):
            await deltas_of(task, "x" * 300)

    assert upstream.requests == []


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (whole({"error": {"message": f"{SECRET} is broken"}}, 500), UpstreamFailed),
        (whole({}, 504), UpstreamTimeout),
        (whole({"message": f"{SECRET}: bad"}, 400), InvalidRequest),
        (saying("one").broken_off(300), UpstreamFailed),
        (events({"error": {"message": f"{SECRET} is broken"}}), UpstreamFailed),
    ],
)
async def test_failures_tell_nothing_of_the_upstream(script: Answer, error: type[Exception]) -> None:
    """Before the answer or in the middle, the error names neither host nor model, and nothing is counted."""
    async with task_on(script) as (task, upstream):
        with pytest.raises(error) as caught:
            await deltas_of(task)

    assert "Secret" not in str(caught.value)
    assert str(upstream.port) not in str(caught.value)
    assert task.stats is None


async def test_a_closed_answer_lets_the_upstream_go() -> None:
    """Closing the stream in the middle ends the request at the upstream."""
    async with task_on(Answer(saying("one", "two").parts[:2], End.STALL)) as (task, upstream):
        async with aclosing(task.generate(await task.request("hi", tenant=""))) as deltas:
            assert (await anext(deltas)).text == "one"
        async with asyncio.timeout(10):
            await upstream.gone.wait()


async def test_an_upstream_that_does_not_stream() -> None:
    """Its whole answer is told as one piece."""
    async with task_on(whole(chat("Hello", model=SECRET)), task='form = "chat"') as (task, _):
        deltas = await deltas_of(task)

    assert [delta.text for delta in deltas] == ["Hello", ""]
    assert deltas[-1].usage == Usage(3, 2)


async def test_stats_count_what_the_upstream_told() -> None:
    """A completion is a cycle, with the tokens of its usage; threads are none of ours."""
    async with task_on(saying("Hello")) as (task, _):
        await deltas_of(task)
        stats = task.stats

    assert stats is not None
    assert (stats.cycles, stats.prompt_tokens, stats.predict_tokens) == (1, 5, 2)
    assert (stats.predict_duration_threads.secs, stats.predict_duration_threads.nanos) == (0, 0)


async def test_its_tokens_are_not_known() -> None:
    """It is a model, but one that takes and tells text only."""
    async with task_on(saying("Hello")) as (task, _):
        model: Model = task.model
        assert isinstance(model, RemoteModel)
        with pytest.raises(NotSupported):
            await model.tokenize((), add_bos=True)
        with pytest.raises(NotSupported):
            await model.detokenize((1,))
