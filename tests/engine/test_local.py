"""A local model end to end: a real engine process with real weights."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
from tests.engine.engines import opened

from arriero.core import Delta, FinishReason, GenerateRequest, Span
from arriero.engine.local import LocalModel
from arriero.engine.scheduler import REST_STEPS
from arriero.errors import (
    ConfigError,
    ContextOverflow,
    EngineError,
    InvalidRequest,
    NotSupported,
    Unavailable,
)
from arriero.sampling import SamplingParams, Temperature, TopK

GREEDY = SamplingParams(chain=(Temperature(0.0),))
WARM = SamplingParams(chain=(TopK(40), Temperature(0.8)), seed=7)


def ask(
    text: str, *, max_tokens: int | None = 16, sampling: SamplingParams = GREEDY, **more: object
) -> GenerateRequest:
    return GenerateRequest(prompt=(Span(text=text),), sampling=sampling, max_tokens=max_tokens, **more)  # type: ignore[arg-type]


async def deltas(model: LocalModel, request: GenerateRequest) -> list[Delta]:
    return [delta async for delta in model.generate(request)]


async def answer(model: LocalModel, request: GenerateRequest) -> tuple[str, Delta]:
    pieces = await deltas(model, request)
    return "".join(piece.text for piece in pieces), pieces[-1]


async def wait_until_idle(model: LocalModel) -> None:
    """Make the engine report once more, after everything before."""
    await answer(model, ask("idle?", max_tokens=1))
    assert model.stats.running == model.stats.waiting == 0


async def test_streams_text_and_counts(model: LocalModel) -> None:
    """A completion comes in several deltas; the last one alone has the reason and the usage."""
    pieces = await deltas(model, ask("The capital of France is", max_tokens=8))

    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + [FinishReason.LENGTH]
    assert len(pieces) >= 4
    assert "Paris" in "".join(piece.text for piece in pieces)
    assert sum(piece.tokens for piece in pieces) == 8
    usage = pieces[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, 8)


async def test_max_tokens_of_zero_and_one(model: LocalModel) -> None:
    """No token and one token are exactly that."""
    for limit in (0, 1):
        text, last = await answer(model, ask("Once upon a", max_tokens=limit))
        assert last.usage is not None
        assert last.usage.completion_tokens == limit
        assert bool(text) == bool(limit)


async def test_equal_requests_alone_give_equal_text(model: LocalModel) -> None:
    """With the prompt in the cache and nobody else running, greedy and seeded answers repeat."""
    for sampling in (GREEDY, WARM):
        request = ask("Here is a story about a llama and a mule that", max_tokens=24, sampling=sampling)
        await answer(model, request)
        second, third = [(await answer(model, request))[0] for _ in range(2)]
        assert second == third


async def test_other_seeds_give_other_text(model: LocalModel) -> None:
    """Seeds matter."""
    seeded = [SamplingParams(chain=(Temperature(1.2),), seed=seed) for seed in range(4)]
    texts = {
        (await answer(model, ask("My favourite animal is", sampling=sampling)))[0] for sampling in seeded
    }
    assert len(texts) >= 3


async def test_eight_streams_run_side_by_side(model: LocalModel) -> None:
    """The deltas of eight streams come interleaved, not one stream after the other."""
    order: list[int] = []

    async def stream(number: int) -> None:
        async for _ in model.generate(ask(f"Story number {number}:", max_tokens=20, ignore_eos=True)):
            order.append(number)  # noqa: PERF401 - the order over all streams matters

    await asyncio.gather(*(stream(number) for number in range(8)))

    middle = order[len(order) // 3 : 2 * len(order) // 3]
    assert len(set(middle)) == 8


async def test_more_streams_than_places_are_all_served(model: LocalModel) -> None:
    """Requests beyond max_sequences wait their turn and come to their end."""
    ends = await asyncio.gather(*(answer(model, ask(f"Number {n} is", max_tokens=4)) for n in range(20)))
    assert all(last.finish_reason for _, last in ends)


async def test_a_stop_sequence_ends_the_answer_unseen(model: LocalModel) -> None:
    """Text before the stop sequence is returned, nothing of it and nothing after it."""
    free, _ = await answer(model, ask("Count: one, two, three,", max_tokens=16))
    stop = free[5:9]
    text, last = await answer(model, ask("Count: one, two, three,", max_tokens=16, stop_sequences=(stop,)))

    assert text == free[: free.index(stop)]
    assert (last.finish_reason, last.stop_sequence) == (FinishReason.STOP, stop)


async def test_private_tokens_are_swallowed(model: LocalModel) -> None:
    """A private text never appears in an answer; the answer goes on."""
    free, _ = await answer(model, ask("Count: one, two, three,", max_tokens=16))
    private = free.split()[1]
    text, _ = await answer(model, ask("Count: one, two, three,", max_tokens=16, private_tokens=(private,)))

    assert private in free
    assert private not in text
    assert len(text) > 0


async def test_special_tokens_in_user_text_stay_text(model: LocalModel) -> None:
    """The name of a control token is one token in trusted text and several in user text."""
    trusted = await model.tokenize([Span(text="<|im_end|>", special=True)], add_bos=False)
    untrusted = await model.tokenize([Span(text="<|im_end|>")], add_bos=False)

    assert len(trusted) == 1
    assert trusted[0].token not in {token.token for token in untrusted}
    assert "".join(token.text for token in untrusted) == "<|im_end|>"
    assert await model.detokenize([trusted[0].token]) == "<|im_end|>"


async def test_a_prompt_that_does_not_fit_is_refused(model: LocalModel) -> None:
    """Too long a prompt is refused before anything is fed, however long it is; the model goes on."""
    for text in ("word " * 600, "x" * 3_000_000):
        with pytest.raises(ContextOverflow, match="context"):
            await answer(model, ask(text))
    assert (await answer(model, ask("Still there?")))[1].finish_reason


async def test_a_full_context_ends_with_length(model: LocalModel) -> None:
    """Generation stops at the end of the context and says so."""
    _, last = await answer(model, ask("la " * 500, max_tokens=None, ignore_eos=True))

    assert last.finish_reason is FinishReason.LENGTH
    assert last.usage is not None
    assert last.usage.prompt_tokens + last.usage.completion_tokens == 512


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (GenerateRequest(prompt=(Span(text=""),), sampling=GREEDY), "prompt"),
        (GenerateRequest(prompt=(Span(tokens=(10**6,)),), sampling=GREEDY), "prompt"),
        (ask("Hi", sampling=SamplingParams(logit_bias=((10**6, 1.0),))), "logit_bias"),
    ],
)
async def test_impossible_requests_name_the_member(
    model: LocalModel, request_: GenerateRequest, param: str
) -> None:
    """What cannot be done is refused by the name of the member at fault."""
    with pytest.raises(InvalidRequest) as caught:
        await answer(model, request_)
    assert caught.value.param == param


async def test_a_second_turn_reuses_the_first(model: LocalModel) -> None:
    """The tokens of the first turn, answer included, are not evaluated again."""
    animal = "The llama is an animal of the mountains"
    first = await deltas(model, ask(animal, max_tokens=12, return_context=True, tenant="t", continued=True))
    context = first[-1].context
    request = GenerateRequest(
        prompt=(*context, Span(text=" And then")), sampling=GREEDY, max_tokens=4, tenant="t"
    )
    _, last = await answer(model, request)

    assert last.usage is not None
    assert last.usage.cached_tokens == sum(len(span.tokens) for span in context) - 1


async def test_private_text_of_another_tenant_is_not_reused(model: LocalModel) -> None:
    """An equal prompt of another tenant is a cache hit only in its shared part."""
    shared = "You answer questions about animals of the mountains, briefly and in a friendly voice. " * 2
    secret = Span(text="My secret number is 4711 and my name is Rosa Luna.")

    async def counts(tenant: str) -> tuple[int, int]:
        prompt = (Span(text=shared, shared=True), secret)
        request = GenerateRequest(prompt=prompt, sampling=GREEDY, max_tokens=2, tenant=tenant)
        usage = (await answer(model, request))[1].usage
        assert usage is not None
        return usage.cached_tokens, usage.prompt_tokens

    cached = [await counts("a"), await counts("b"), await counts("b")]
    size = len(await model.tokenize([Span(text=shared)], add_bos=True))
    total = cached[0][1]

    assert cached == [(0, total), (size, total), (total - 1, total)]


async def test_sessions_over_one_new_prelude_evaluate_it_once(model: LocalModel) -> None:
    """Of sessions that start together over one prelude, all but one find it in the cache."""
    prelude = "The herd walks over the pass at dawn, and the driver sings an old song. " * 12
    size = len(await model.tokenize([Span(text=prelude)], add_bos=True))

    async def session(number: int) -> int:
        request = GenerateRequest(
            prompt=(Span(text=prelude, shared=True), Span(text=f"Question {number}?")),
            sampling=GREEDY,
            max_tokens=4,
            tenant=str(number),
        )
        usage = (await answer(model, request))[1].usage
        assert usage is not None
        return usage.cached_tokens

    assert sorted(await asyncio.gather(*(session(n) for n in range(6)))) == [0] + [size] * 5


async def test_unused_prefixes_rest_in_main_memory_and_come_back(model: LocalModel) -> None:
    """A decode moves them out of its way, what they share once; the same prompts go on as before."""
    base = "Seven llamas carried salt over the pass. " * 6
    prompts = [base + own * 6 for own in ("The driver sings of home. ", "A condor turns above them. ")]

    async def asked(prompt: str) -> tuple[str, int]:
        text, last = await answer(model, ask(prompt, max_tokens=5))
        assert last.usage is not None
        return text, last.usage.prompt_tokens - last.usage.cached_tokens

    for prompt in prompts:
        await asked(prompt)
    before = [await asked(prompt) for prompt in prompts]
    await deltas(model, ask("Once upon a time", max_tokens=3 * REST_STEPS, ignore_eos=True))
    assert model.stats.stored_prefixes >= 2
    assert model.stats.stored_bytes > 0
    assert [await asked(prompt) for prompt in prompts] == before
    assert [count for _, count in before] == [1, 1]


async def test_cancelling_frees_the_place(model: LocalModel) -> None:
    """Closing the iterator after one delta stops the work; so does cancelling the waiting job."""
    async with aclosing(model.generate(ask("A very long story:", max_tokens=400, ignore_eos=True))) as stream:  # type: ignore[type-var]
        await anext(stream)
    job = asyncio.create_task(answer(model, ask("Another long story:", max_tokens=400, ignore_eos=True)))
    await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job

    before = model.stats.completion_tokens
    await wait_until_idle(model)
    assert model.stats.completion_tokens - before < 10


async def test_logprobs_are_log_probabilities(model: LocalModel) -> None:
    """Each token has its logprob; a greedy token is the likeliest of the alternatives."""
    pieces = await deltas(model, ask("The capital of France is", max_tokens=5, logprobs=3))
    entries = [entry for piece in pieces for entry in piece.logprobs]

    assert len(entries) == 5
    for entry in entries:
        assert entry.logprob is not None
        assert entry.logprob <= 0
        assert entry.top[0][:1] == (entry.token,)
        assert math.isclose(entry.top[0][2], entry.logprob, abs_tol=1e-6)
        assert entry.top[0][2] >= entry.top[1][2] >= entry.top[2][2]


async def test_prompt_logprobs_cover_the_prompt(model: LocalModel) -> None:
    """Echoed logprobs: none for the first token, one for each further token of a prompt of many steps."""
    text = "The quick brown fox jumps over the lazy dog, and " * 8
    tokens = await model.tokenize([Span(text=text)], add_bos=True)
    pieces = await deltas(model, ask(text, max_tokens=0, logprobs=0, prompt_logprobs=True))
    entries = [entry for piece in pieces for entry in piece.logprobs]

    assert [entry.token for entry in entries] == [token.token for token in tokens]
    assert sum(bool(piece.logprobs) for piece in pieces) > 1
    assert entries[0].logprob is None
    assert all(entry.logprob is not None and entry.logprob <= 0 for entry in entries[1:])
    assert np.mean([entry.logprob for entry in entries[-20:]]) > -1


async def test_min_tokens_forbids_an_early_end(model: LocalModel) -> None:
    """A completion with min_tokens is at least that long although the model would stop."""
    prompt = "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n"
    spans = (Span(text=prompt, special=True),)
    request = GenerateRequest(prompt=spans, sampling=GREEDY, max_tokens=60, min_tokens=60)
    _, last = await answer(model, request)

    assert last.usage is not None
    assert last.usage.completion_tokens == 60


async def test_long_prompts_do_not_stop_running_streams(model: LocalModel) -> None:
    """While a long prompt is evaluated, a running stream gets tokens."""
    during = 0
    is_reading = asyncio.Event()

    async def stream() -> None:
        nonlocal during
        async for _ in model.generate(ask("Tell me more:", max_tokens=120, ignore_eos=True)):
            is_reading.set()
            during += long_prompt is not None and not long_prompt.done()

    long_prompt: asyncio.Task[tuple[str, Delta]] | None = None
    running = asyncio.create_task(stream())
    await is_reading.wait()
    text = " ".join(str(n * 7919 % 1000) for n in range(110))
    long_prompt = asyncio.create_task(answer(model, ask(text, max_tokens=1)))
    await asyncio.gather(running, long_prompt)

    assert during >= 2


# -- embeddings


async def vectors(model: LocalModel, inputs: Sequence[str], **more: bool) -> np.ndarray:
    result = await model.embed(inputs, **more)
    return np.stack([np.frombuffer(vector, "<f4") for vector in result.vectors])


async def test_embeddings_tell_like_from_unlike(embedder: LocalModel) -> None:
    """Vectors have length 1, and sentences of like meaning are nearer."""
    a, b, c = await vectors(
        embedder, ["A cat sits on the mat.", "A kitten rests on a rug.", "Stock markets fell."]
    )

    assert a.shape == (384,)
    assert np.allclose([a @ a, b @ b, c @ c], 1, atol=1e-5)
    assert a @ b > a @ c + 0.2


async def test_a_batch_gives_the_vectors_of_single_inputs(embedder: LocalModel) -> None:
    """More inputs than one batch holds come back whole and in order; eight bits a weight cost some digits."""
    texts = [
        f"Sentence number {n} is about {'mules' if n % 2 else 'llamas'}." * (1 + n % 5) for n in range(70)
    ]
    together = await vectors(embedder, texts)
    for n in (0, 31, 32, 69):
        (alone,) = await vectors(embedder, [texts[n]])
        assert together[n] @ alone > 0.999
        assert max(vector @ alone for vector in np.delete(together, n, 0)) < together[n] @ alone


async def test_raw_embeddings_are_not_normalised(embedder: LocalModel) -> None:
    """`normalize=False` gives the vector as it came from the model."""
    (raw,) = await vectors(embedder, ["Hello"], normalize=False)
    (unit,) = await vectors(embedder, ["Hello"])
    assert np.allclose(raw / np.linalg.norm(raw), unit, atol=1e-5)
    assert not math.isclose(float(np.linalg.norm(raw)), 1, abs_tol=1e-3)


async def test_an_input_too_long_or_empty_is_named(embedder: LocalModel) -> None:
    """The refusal names the input's place; the embedder goes on."""
    with pytest.raises(ContextOverflow, match="input 1 "):
        await embedder.embed(["short", "long " * 600])
    with pytest.raises(InvalidRequest, match="input 0 is empty"):
        await embedder.embed([""])
    assert len(await vectors(embedder, ["fine"])) == 1


async def test_an_embedding_model_does_not_generate(embedder: LocalModel) -> None:
    """Asking an encoder for text is refused in words."""
    with pytest.raises(NotSupported, match="only embeds"):
        await answer(embedder, ask("Hi"))
    assert embedder.info.embeds


async def test_a_chat_model_embeds_too(model: LocalModel) -> None:
    """Any model gives embeddings, also while it generates; its file says that it was not made for them."""
    assert not model.info.embeds
    running = asyncio.create_task(answer(model, ask("A story:", max_tokens=30, ignore_eos=True)))
    (vector,) = await vectors(model, ["Hello there"])
    assert vector.shape == (576,)
    assert np.isfinite(vector).all()
    assert (await running)[1].finish_reason is FinishReason.LENGTH


# -- faults


async def test_a_killed_engine_fails_its_streams_and_comes_back(smollm2: Path, model: LocalModel) -> None:
    """SIGSEGV in a stream: that stream gets an error, the other model goes on, a restart follows."""
    async with opened(smollm2) as victim:
        undisturbed = asyncio.create_task(answer(model, ask("Meanwhile,", max_tokens=60, ignore_eos=True)))
        stream = victim.generate(ask("A story that never ends:", max_tokens=None, ignore_eos=True))
        await anext(stream)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGSEGV)
        with pytest.raises(EngineError, match="SIGSEGV"):
            async for _ in stream:
                pass
        with pytest.raises(Unavailable):
            await answer(victim, ask("Are you there?"))
        assert (await undisturbed)[1].finish_reason is FinishReason.LENGTH
        async with asyncio.timeout(20):
            while not victim.is_ready:  # noqa: ASYNC110 - its restart is nobody's event
                await asyncio.sleep(0.05)
        assert (await answer(victim, ask("And now?")))[1].finish_reason
        assert victim.restarts == 1


async def test_a_broken_file_is_refused(tmp_path: Path, smollm2: Path) -> None:
    """Garbage and a truncated file end in a ConfigError that names the file, never in a hang."""
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"GGUF" + bytes(range(256)) * 100)
    truncated = tmp_path / "truncated.gguf"
    with smollm2.open("rb") as whole:
        truncated.write_bytes(whole.read(3_000_000))
    for path in (garbage, truncated):
        with pytest.raises(ConfigError, match=path.name):
            async with opened(path):
                pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "gpt2"}, "'gpt2'.*'llama'"),
        ({"architecture": "gptj"}, "gptj"),
        ({"lora_adapters": ("/nowhere/adapter.gguf",)}, "adapter.gguf"),
        ({"library": "/nowhere/libllama.so"}, "libllama.so"),
    ],
)
async def test_a_wrong_setting_is_refused_at_the_start(
    smollm2: Path, changes: dict[str, object], message: str
) -> None:
    """What does not fit the file is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=message):
        async with opened(smollm2, **changes):
            pass
