"""What a task takes from a memory and gives to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from arriero.config.load import parse_config
from arriero.errors import ConfigError
from arriero.memory.job import Outcome, Source
from arriero.memory.memory import Memory
from arriero.memory.open import open_memories
from arriero.memory.recall import Recall
from arriero.testing.echo import EchoModel
from arriero.testing.word_embedder import WordEmbedder

CONFIG = """
[models.w]
url = "http://127.0.0.1:1/w.gguf"
[memories.n]
embedding_model = "w"
store = { hora = {} }
[tasks.t]
model = "w"
memorization = { memory = "n", MEMORIZATION }
"""


@pytest.fixture
async def memory() -> AsyncIterator[Memory]:
    """A memory of three texts."""
    config = parse_config(CONFIG.replace("MEMORIZATION", "retrieve = 1"), {})
    async with open_memories(config, {"w": WordEmbedder()}) as memories:
        for name, said in (("a", "cats sleep"), ("b", "cats eat fish and more fish"), ("c", "ships sail")):
            await memories["n"].ingest(Source(name=name, data=said.encode()))
        yield memories["n"]


def recall_of(memory: Memory, memorization: str, *, context_size: int = 4096) -> Recall:
    """Return a task's recall; its model counts characters."""
    config = parse_config(CONFIG.replace("MEMORIZATION", memorization), {}).tasks["t"].memorization
    assert config is not None
    return Recall(memory, config, EchoModel(context_size=context_size))


@pytest.mark.parametrize(
    ("memorization", "text"),
    [
        ("store_prompts = false", ""),
        ("retrieve = 0", ""),
        ("retrieve = 1", "cats eat fish and more fish"),
        ("retrieve = 2", "cats eat fish and more fish\ncats sleep"),
        ("retrieve = 2, max_tokens = 37", "cats eat fish and more fish"),
        ("retrieve = 2, max_tokens = 38", "cats eat fish and more fish\ncats sleep"),
        # One that does not fit makes room for the next.
        ("retrieve = 2, max_tokens = 10", "cats sleep"),
        ("retrieve = 2, max_tokens = 1", ""),
        (
            "retrieve = 1, template = '[{number}] {title}{page}: {{{text}}}'",
            "[1] b: {cats eat fish and more fish}",
        ),
    ],
)
async def test_the_best_that_fits_is_placed(memory: Memory, memorization: str, text: str) -> None:
    """Joined by a newline, with nothing before or after, as the template says."""
    recalled = await recall_of(memory, memorization).for_prompt("do cats eat fish")

    assert recalled.text == text
    assert len(recalled.passages) == (text.count("cats") > 0) + text.count("\n")


async def test_without_a_bound_a_quarter_of_the_context_is_used(memory: Memory) -> None:
    """Of the task's model."""
    recalled = await recall_of(memory, "retrieve = 2", context_size=40).for_prompt("do cats eat fish")

    assert recalled.text == "cats sleep"


async def test_prompts_are_stored_once_when_the_task_says_so(memory: Memory) -> None:
    """And found afterwards."""
    silent, storing = (
        recall_of(memory, f"retrieve = 1, store_prompts = {value}") for value in ("false", "true")
    )

    assert await silent.remember("dogs bark") is None
    assert await storing.remember(" ") is None
    assert await storing.remember("dogs bark") is Outcome.STORED
    assert await storing.remember("dogs bark") is Outcome.UNCHANGED
    assert (await storing.for_prompt("dogs bark")).text == "dogs bark"


@pytest.mark.parametrize("template", ["{nope}", "{text!r}", "{text:>9}", "{", "{}"])
async def test_a_wrong_template_is_refused_at_the_start(template: str) -> None:
    """With the key."""
    config = parse_config(CONFIG.replace("MEMORIZATION", f"retrieve = 1, template = '{template}'"), {})

    with pytest.raises(ConfigError, match=r"tasks\.t\.memorization\.template"):
        async with open_memories(config, {"w": WordEmbedder()}):
            raise AssertionError("it was opened")
