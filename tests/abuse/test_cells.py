"""Prompts that need more of the KV cache than there is, all at once: those that are let in end whole."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.abuse.subject import KEY, Subject, running, scaled
from tests.abuse.tiny import counts

from arriero.testing.tiny_gguf import write_reciting_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2
    from tests.abuse.figures import Figures

CONTEXT = 256
CELLS = 1024
MAX_TOKENS = 40
LETTERS = "bcdfgjkmpqvxyz"
"""Each is a token, and so is `a`; no words are made of them."""
RECITED = "bcdefghijklmnopqrstuvwxyz"
"""What the model says after an `a`."""
ROUNDS = 20
LOOK_S = 0.02
CONFIG = f"""
[auth]
allowed_keys = ["{KEY}"]
[server]
bind_address = "127.0.0.1:0"
max_concurrent = 64
[models.m]
model_path = "{{folder}}/recite.gguf"
context_size = {CONTEXT}
kv_cache_tokens = {CELLS}
max_sequences = 8
threads_per_session = 1
"""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server with a model that recites, whose cells hold four of its longest sequences."""
    folder: Path = tmp_path_factory.mktemp("cells")
    write_reciting_gguf(folder / "recite.gguf")
    config = folder / "arriero.toml"
    config.write_text(CONFIG.format(folder=folder))
    with running(
        [sys.executable, "-m", "arriero", "serve", "--config", str(config)], folder / "log"
    ) as subject:
        yield subject


def prompts(need: int, dice: random.Random) -> list[str]:
    """Return prompts that need so many cells together, completions included."""
    found = []
    while need > 0:
        size = dice.randint(32, CONTEXT - MAX_TOKENS)
        found.append("".join(dice.choices(LETTERS, k=size - 1)) + "a")
        need -= size + MAX_TOKENS
    return found


async def said(client: httpx2.AsyncClient, prompt: str) -> tuple[int, Any]:
    body = {"model": "m", "prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0}
    answer = await client.post("/v1/completions", json=body)
    return answer.status_code, answer.json()


async def most_cells(client: httpx2.AsyncClient, done: asyncio.Event) -> int:
    """Return the most cells that were used until it is done."""
    most = 0
    while not done.is_set():
        most = max(most, (await counts(client, "m"))["used_cells"])
        await asyncio.sleep(LOOK_S)
    return most


@pytest.mark.slow
@pytest.mark.parametrize("times", [1.5, 3.0])
async def test_who_is_let_in_ends_whole(narrow: Subject, figures: Figures, times: float) -> None:
    """None fails or is cut short on its way; what can never fit is refused at once, with both numbers."""
    dice = random.Random(6)
    done = asyncio.Event()
    whole = refused = 0
    async with narrow.client() as client:
        watch = asyncio.create_task(most_cells(client, done))
        for _ in range(scaled(ROUNDS)):
            fitting = prompts(int(times * CELLS), dice)
            long = [LETTERS[0] * size for size in (CONTEXT + 1, 4 * CELLS)]
            asked = [*fitting, *long]
            answers = await asyncio.gather(*(said(client, prompt) for prompt in asked))
            for prompt, (status, answer) in zip(asked, answers, strict=True):
                if prompt in long:
                    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
                    assert f"{len(prompt)} tokens" in answer["error"]["message"]
                    assert f"{CONTEXT} tokens" in answer["error"]["message"]
                    refused += 1
                    continue
                assert status == 200, answer
                told = answer["choices"][0]
                assert (told["text"], told["finish_reason"]) == (RECITED, "stop")
                assert answer["usage"]["prompt_tokens"] == len(prompt)
                whole += 1
        done.set()
        most = await watch

    figures.tell(
        f"the KV cache, {times:g} times asked for",
        whole=whole,
        failed=0,
        refused_up_front=refused,
        cells=CELLS,
        most_used=most,
    )
    assert most <= CELLS
