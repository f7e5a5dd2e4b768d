"""Tasks that read and write a memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from arriero.config.load import parse_config
from arriero.errors import Unavailable
from arriero.memory.job import Source
from arriero.memory.open import open_memories
from arriero.memory.passage import Passage, Query
from arriero.memory.recall import Recall
from arriero.tasks.memorized import cited, without
from arriero.tasks.task import Task
from arriero.testing.echo import EOS, EchoModel
from arriero.testing.word_embedder import WordEmbedder

if TYPE_CHECKING:
    from arriero.core import Delta
    from arriero.memory.memory import Memory

CONFIG = """
[models.m]
url = "http://127.0.0.1:1/m.gguf"
[memories.n]
embedding_model = "m"
store = { hora = {} }
[tasks.t]
model = "m"
prefix = "("
postfix = ")"
private_tokens = ["<x>"]
memorization = { memory = "n", MEMORIZATION }
"""


@pytest.fixture
async def embedder() -> WordEmbedder:
    """The model behind the memory's vectors."""
    return WordEmbedder()


@pytest.fixture
async def memory(embedder: WordEmbedder) -> AsyncIterator[Memory]:
    """A memory of two documents."""
    config = parse_config(CONFIG.replace("MEMORIZATION", "retrieve = 1"), {})
    async with open_memories(config, {"m": embedder}) as memories:
        for name, said in (("zoo.txt", "cats eat <x> fish"), ("sea.txt", "ships sail")):
            await memories["n"].ingest(Source(name=name, data=said.encode()))
        yield memories["n"]


def task_on(model: EchoModel, memory: Memory, memorization: str = "retrieve = 1") -> Task:
    config = parse_config(CONFIG.replace("MEMORIZATION", memorization), {}).tasks["t"]
    assert config.memorization is not None
    return Task("t", config, model, recall=Recall(memory, config.memorization, model))


async def deltas_of(stream: Any) -> list[Delta]:
    async with aclosing(stream) as deltas:
        return [delta async for delta in deltas]


async def stored(memory: Memory, text: str) -> list[str]:
    return [passage.text for passage in await memory.recall(Query(text, limit=1, mode="text"))]


async def test_what_is_recalled_stands_before_the_prefix(memory: Memory) -> None:
    """Of a single request and of each turn of a session; private tokens are taken out of it."""
    model = EchoModel("yes", "yes", "yes", add_bos=False)
    task = task_on(model, memory)
    session = task.start("me")

    await deltas_of(task.generate(await task.request("cats?", tenant="me")))
    await deltas_of(session.complete("cats?"))
    await deltas_of(session.complete("ships?"))

    assert model.fed[0] == (*b"cats eat  fish(cats?)",)
    assert model.fed[2] == (*b"cats eat  fish(cats?)yes", EOS, *b"ships sail(ships?)")


async def test_in_a_chat_the_last_user_message_is_what_is_asked(memory: Memory) -> None:
    """The recalled text stands before its turn; earlier turns are as they were sent."""
    model = EchoModel("yes", add_bos=False)
    task = task_on(model, memory)
    messages = [
        {"role": "user", "content": "cats?"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "ships?"},
    ]
    await deltas_of(task.generate(await task.request(messages, tenant="me")))

    assert model.fed == [(*b"(cats?)no", EOS, *b"ships sail(ships?)")]


async def test_the_last_delta_tells_the_sources(memory: Memory) -> None:
    """By memory, document and place; no other delta does, and nothing is cited when nothing was recalled."""
    *others, last = await deltas_of(task_on(EchoModel("yes"), memory).start("me").complete("cats?"))
    *_, silent = await deltas_of(
        task_on(EchoModel("yes"), memory, "retrieve = 0").start("me").complete("cats?")
    )
    (citation,) = last.citations

    assert (citation.memory, citation.name, citation.start, citation.end) == ("n", "zoo.txt", 0, 17)
    assert not any(delta.citations for delta in others)
    assert silent.citations == ()


def test_a_source_tells_both_scores() -> None:
    """That of the recall, and the reranker's of a memory that has one."""
    passage = Passage(
        text="cats", score=0.4, rerank_score=0.9, document_id="d", name="a", title="", page=None,
        section=(), start=0, end=4, first=0, last=0,
    )  # fmt: skip
    (citation,) = cited("n", [passage])

    assert (citation.score, citation.rerank_score) == (0.4, 0.9)


async def test_prompts_are_stored_after_their_completion(memory: Memory) -> None:
    """Once it is complete; not those of a task that does not, nor one whose answer was stopped."""
    storing = "retrieve = 0, store_prompts = true"
    await deltas_of(task_on(EchoModel("yes"), memory, storing).start("me").complete("zebras run"))
    await deltas_of(task_on(EchoModel("yes"), memory, "retrieve = 0").start("me").complete("yaks walk"))
    async with aclosing(task_on(EchoModel("yes"), memory, storing).start("me").complete("gnus stand")) as cut:
        await anext(cut)

    assert await stored(memory, "zebras") == ["zebras run"]
    assert await stored(memory, "yaks") == []
    assert await stored(memory, "gnus") == []


async def test_a_prompt_that_cannot_be_stored_is_answered(
    memory: Memory, embedder: WordEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is whole; the log says what was lost."""
    embedder.failures = [Unavailable("the model is away")] * 9
    task = task_on(EchoModel("yes"), memory, "retrieve = 0, store_prompts = true")
    with caplog.at_level(logging.WARNING):
        deltas = await deltas_of(task.start("me").complete("gnus stand"))

    assert "".join(delta.text for delta in deltas) == "yes"
    assert "task t: a prompt was not stored: the model is away" in caplog.text


async def test_a_memory_that_cannot_be_asked_is_an_error(memory: Memory, embedder: WordEmbedder) -> None:
    """Nothing is answered without what the task is to draw on; the next turn goes on."""
    session = task_on(EchoModel("yes"), memory).start("me")
    embedder.failures = [Unavailable("the model is away")]
    with pytest.raises(Unavailable, match="the model is away"):
        await deltas_of(session.complete("cats?"))

    assert "".join(delta.text for delta in await deltas_of(session.complete("cats?"))) == "yes"


@pytest.mark.parametrize(
    ("text", "left"), [("a|x|b", "ab"), ("|||x|x||", "||"), ("|x", "|x"), ("<yy>", ""), ("<<yy>yy>", "")]
)
def test_private_tokens_are_taken_out(text: str, left: str) -> None:
    """Also those that taking one out would form."""
    assert without(text, ("|x|", "<yy>")) == left
