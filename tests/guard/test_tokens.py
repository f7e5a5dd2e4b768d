from __future__ import annotations

import asyncio
import json
import math
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arriero.errors import ConfigError, InvalidRequest, Overloaded
from arriero.guard import tokens
from arriero.guard.countable import Conversation, Texts
from arriero.guard.gguf import read_metadata
from arriero.guard.gguf_tokenizer import tokenizer_documents
from arriero.guard.tokens import TokenCounter, bytes_growth
from arriero.testing.tiny_gguf import write_tiny_gguf

HELLO = Conversation(messages=({"role": "user", "content": "hello world"},))


def plain(conversation: Conversation) -> str:
    """Render a conversation as its contents, one after another."""
    return "".join(message["content"] for message in conversation.messages)


def no_render(conversation: Conversation) -> str:
    raise AssertionError("nothing is to be rendered")


def tiny(path: Path, family: str) -> str:
    metadata = read_metadata(write_tiny_gguf(path / f"{family}.gguf", family))
    return json.dumps(tokenizer_documents(metadata, max_length=64)["tokenizer"])


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Callable[..., TokenCounter]]:
    """Makes counters of the tiny llama, which begins each text with a token, and closes them."""
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    opened: list[TokenCounter] = []

    def make(render: Callable[[Conversation], str] = plain) -> TokenCounter:
        opened.append(TokenCounter(tiny(tmp_path, "llama"), render))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (Texts(texts=("",)), 1),
        (Texts(texts=("hello world",), special=False), 2),
        (Texts(texts=("hello world",)), 3),
        (Texts(texts=("hello", "hello world the", "the")), 4),
        (Texts(texts=("<s>hello",)), 3),
        (Texts(texts=("\ud800",)), 3),
        (Texts(longest_tokens=7), 7),
        (HELLO, 2),
        (Conversation(messages=HELLO.messages, special=True), 3),
    ],
)
async def test_exact(counter: Callable[..., TokenCounter], prompt: Any, expected: int) -> None:
    """A prompt is counted as the model gets it, the longest of several."""
    assert await counter().count(prompt) == expected


async def test_bound_that_is_enough(counter: Callable[..., TokenCounter]) -> None:
    """No exact count is made when the bytes alone show that there are few enough tokens."""
    counted = counter()
    bound = 2 * len("hello world") + 1

    assert await counted.count(Texts(texts=("hello world",)), enough=bound) == bound
    assert await counted.count(Texts(texts=("hello world",)), enough=bound - 1) == 3
    assert await counted.count(HELLO, enough=bound - 1) == bound - 1


async def test_kept(counter: Callable[..., TokenCounter]) -> None:
    """A text that was counted with begin tokens is counted anew without them; the oldest counts go."""
    counted = counter()

    for _ in range(2):
        assert await counted.count(Texts(texts=("hello",))) == 2
        assert await counted.count(Texts(texts=("hello",), special=False)) == 1
    many = tuple(str(number) for number in range(tokens.MAX_COUNTS + 10))
    await counted.count(Texts(texts=many))
    assert len(counted._counts) == tokens.MAX_COUNTS


async def test_refusing_template(counter: Callable[..., TokenCounter]) -> None:
    """What the template says of the messages reaches the caller."""

    def refuse(conversation: Conversation) -> str:
        raise InvalidRequest("roles must alternate", param="messages")

    with pytest.raises(InvalidRequest, match="roles must alternate"):
        await counter(refuse).count(HELLO)


async def test_too_many(counter: Callable[..., TokenCounter]) -> None:
    """Prompts wait for their count up to a bound; those that left make room again."""
    go_on = threading.Event()

    def wait(conversation: Conversation) -> str:
        go_on.wait(10)
        return "hello"

    counted = counter(wait)
    waiting = [asyncio.ensure_future(counted.count(HELLO)) for _ in range(tokens.MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await counted.count(HELLO)
    waiting.pop().cancel()
    await asyncio.sleep(0)
    waiting.append(asyncio.ensure_future(counted.count(HELLO)))
    await asyncio.sleep(0)
    go_on.set()

    assert await asyncio.gather(*waiting) == [1] * tokens.MAX_WAITING


async def test_loop_runs_on(counter: Callable[..., TokenCounter]) -> None:
    """The event loop turns while a long text is counted."""
    turns = 0
    job = asyncio.ensure_future(counter().count(Texts(texts=("hello world " * 20_000,))))
    while not job.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert await job > 40_000
    assert turns > 5


def test_directory(tmp_path: Path) -> None:
    """A tokenizer that is missing, too large or broken is refused by the name of its file."""
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    file = tmp_path / "tokenizer.json"
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        TokenCounter.from_directory(tmp_path, no_render)
    for content in (b"", b"[]", b'{"model":{"type":"Nonesuch"}}', b"\xff"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"tokenizer\.json"):
            TokenCounter.from_directory(tmp_path, no_render)
    with file.open("wb") as large:
        large.truncate(tokens.MAX_FILE_BYTES + 1)
    with pytest.raises(ConfigError, match="larger than 64 MiB"):
        TokenCounter.from_directory(tmp_path, no_render)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "bert"])
@pytest.mark.parametrize("extra", [None, "NFC", "NFD", "NFKC", "Lowercase"])
def test_growth_is_a_bound(tmp_path: Path, family: str, extra: str | None) -> None:
    """No character of Unicode becomes more tokens than its bytes and the growth allow."""
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    document = json.loads(tiny(tmp_path, family))
    if extra:
        steps = [document["normalizer"], {"type": extra}]
        document["normalizer"] = {"type": "Sequence", "normalizers": [step for step in steps if step]}
    growth = bytes_growth(document)
    reference = tokenizers.Tokenizer.from_str(json.dumps(document))
    characters = [chr(code) for code in range(0, sys.maxunicode, 7)]
    characters = [one for one in characters if not "\ud800" <= one <= "\udfff"][:0x1000]
    characters += ["\U0001d160", "\ufdfa", "\ufb2c", "\u1e9e", "a", " "]
    encoded = reference.encode_batch_fast(characters, add_special_tokens=False)

    assert all(
        len(found) <= growth * len(one.encode()) for found, one in zip(encoded, characters, strict=True)
    )


@pytest.mark.parametrize(
    ("normalizer", "growth"),
    [
        (None, 1),
        ({"type": "NFC"}, 3),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}, 6),
        ({"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, 3),
        ({"type": "Replace", "pattern": {"Regex": "a"}, "content": "b" * 99}, math.inf),
        ({"type": "Precompiled", "precompiled_charsmap": ""}, math.inf),
        ({"type": "Nonesuch"}, math.inf),
    ],
)
def test_growth(normalizer: dict[str, Any] | None, growth: float) -> None:
    """The growth is known for known steps; for any other there is no bound."""
    tokenizer = {
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "model": {"vocab": {}},
    }

    assert bytes_growth(tokenizer) == growth
