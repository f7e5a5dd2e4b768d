"""What needs a model made for the purpose: adapters, sliding windows, exact ends of a text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.engine.engines import opened

from arriero.core import Delta, FinishReason, GenerateRequest, Span
from arriero.engine.local import LocalModel
from arriero.engine.prompt import TOKENS_AT_ONCE
from arriero.engine.scheduler import REST_STEPS
from arriero.sampling import SamplingParams, Temperature
from arriero.testing.tiny_gguf import write_reciting_gguf, write_tiny_gguf, write_tiny_lora

GREEDY = SamplingParams(chain=(Temperature(0.0),))
LONG = "a sliding window sees only the last few tokens of a text that is longer than it is "


async def answer(model: LocalModel, text: str, *, tenant: str = "", **more: object) -> tuple[str, Delta]:
    settings: dict[str, object] = {"max_tokens": 16, **more}
    request = GenerateRequest(prompt=(Span(text=text),), sampling=GREEDY, tenant=tenant, **settings)  # type: ignore[arg-type]
    pieces = [delta async for delta in model.generate(request)]
    return "".join(piece.text for piece in pieces), pieces[-1]


async def test_an_adapter_changes_the_answer(tmp_path: Path) -> None:
    """A LoRA adapter is applied to everything that the model says."""
    weights = write_tiny_gguf(tmp_path / "tiny.gguf", "llama")
    adapter = write_tiny_lora(tmp_path / "adapter.gguf")
    texts = []
    for adapters in ((), (str(adapter),)):
        async with opened(weights, context_size=64, cells=256, lora_adapters=adapters) as model:
            texts.append((await answer(model, "hello world", ignore_eos=True))[0])
    assert texts[0] != texts[1]


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
async def test_a_sliding_window_model_reuses_prefixes(tmp_path: Path, family: str) -> None:
    """Far behind the window, a prefix is found in the cache and continued as if it had been fed anew."""
    weights = write_tiny_gguf(tmp_path / "tiny.gguf", family, context_size=256)
    async with opened(weights, context_size=256, cells=1024) as model:
        ends = [await answer(model, LONG, tenant=tenant, ignore_eos=True) for tenant in ("a", "a", "b")]

    cached = [last.usage.cached_tokens for _, last in ends if last.usage]
    assert cached[0] == cached[2] == 0
    assert cached[1] > 40
    assert len({text for text, _ in ends}) == 1


async def test_short_memory_costs_the_prefixes_that_rest(tmp_path: Path) -> None:
    """Their copies are given up, what runs goes on, and the same prompt is evaluated anew."""
    weights = write_tiny_gguf(tmp_path / "tiny.gguf", context_size=256)
    long = {"max_tokens": 3 * REST_STEPS, "ignore_eos": True}
    async with opened(weights, context_size=256, cells=1024) as model:
        await answer(model, LONG)
        await answer(model, "once", **long)
        before = model.stats.stored_bytes
        running = asyncio.create_task(answer(model, "once", **long))
        await asyncio.sleep(0)
        model.shrink()
        await model.tokenize((Span(text="a"),), add_bos=False)  # answered after what was said before
        after = model.stats.stored_bytes
        _, told = await running
        _, last = await answer(model, LONG)

    assert told.usage is not None
    assert last.usage is not None
    assert (before > 0, after) == (True, 0)
    assert told.usage.completion_tokens == 3 * REST_STEPS
    assert last.usage.cached_tokens == 0


async def test_the_tokens_of_a_long_text_come_in_order(tmp_path: Path) -> None:
    """None, one, a part of the answer and a little more: all come, whatever is asked meanwhile."""
    weights = write_tiny_gguf(tmp_path / "tiny.gguf")
    asked = [tuple(range(3, 3 + size)) for size in (0, 1)]
    asked += [(*(7,) * (size - 1), 8) for size in (TOKENS_AT_ONCE, TOKENS_AT_ONCE + 1, 3 * TOKENS_AT_ONCE)]
    async with opened(weights, context_size=64, cells=256) as model:
        jobs = [model.tokenize([Span(tokens=ids)], add_bos=False) for ids in asked]
        told = [tuple(token.token for token in tokens) for tokens in await asyncio.gather(*jobs)]

    assert told == asked


async def test_recited_text_ends_where_it_ends(tmp_path: Path) -> None:
    """The model's own end is `stop`, a limit `length`, a stop sequence cuts exactly; streams do not mix."""
    weights = write_reciting_gguf(tmp_path / "recite.gguf", "abcdefghijklmnop")
    async with opened(weights, context_size=64, cells=512) as model:
        whole, cut, limited, private = await asyncio.gather(
            answer(model, "c"),
            answer(model, "c", stop_sequences=("hi", "xyz")),
            answer(model, "c", max_tokens=3),
            answer(model, "c", private_tokens=("gh", "j")),
        )

    assert (whole[0], whole[1].finish_reason) == ("defghijklmnop", FinishReason.STOP)
    assert (cut[0], cut[1].finish_reason, cut[1].stop_sequence) == ("defg", FinishReason.STOP, "hi")
    assert (limited[0], limited[1].finish_reason) == ("def", FinishReason.LENGTH)
    assert private[0] == "defiklmnop"


async def test_logit_bias_forbids_and_forces(tmp_path: Path) -> None:
    """A bias of -100 keeps a token out, one of +100 forces it in."""
    weights = write_reciting_gguf(tmp_path / "recite.gguf", "abcdefghijklmnop")
    async with opened(weights, context_size=64, cells=512) as model:
        (token,) = await model.tokenize([Span(text="d")], add_bos=False)
        texts = []
        for bias in (-100.0, 100.0):
            sampling = SamplingParams(chain=(Temperature(0.0),), logit_bias=((token.token, bias),))
            request = GenerateRequest(prompt=(Span(text="c"),), sampling=sampling, max_tokens=4)
            texts.append("".join([delta.text async for delta in model.generate(request)]))
    assert "d" not in texts[0]
    assert texts[1] == "dddd"
