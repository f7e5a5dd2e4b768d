"""The echo model: a model without weights."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from arriero.core import Delta, FinishReason, GenerateRequest, Model, Span, Usage
from arriero.errors import ContextOverflow, EngineError
from arriero.sampling import SamplingParams
from arriero.testing.echo import BOS, EOS, EchoModel


def request(*prompt: Span, max_tokens: int | None = None, return_context: bool = False) -> GenerateRequest:
    return GenerateRequest(
        prompt=prompt, sampling=SamplingParams(), max_tokens=max_tokens, return_context=return_context
    )


async def deltas_of(model: EchoModel, asked: GenerateRequest) -> list[Delta]:
    async with aclosing(model.generate(asked)) as deltas:
        return [delta async for delta in deltas]


async def test_the_echo_model_is_a_model() -> None:
    """It has what the protocol asks for, and its tokens go both ways."""
    model: Model = EchoModel()

    tokens = [
        token.token for token in await model.tokenize([Span(text="<eos>é", special=True)], add_bos=True)
    ]

    assert tokens == [BOS, EOS, *"é".encode()]
    assert await model.detokenize(tokens) == "<bos><eos>é"


async def test_replies_come_in_turn() -> None:
    """Each request gets the next reply, and the last reply repeats."""
    model = EchoModel("aé", "b")

    texts = [
        "".join(delta.text for delta in await deltas_of(model, request(Span(text="x")))) for _ in range(3)
    ]

    assert texts == ["aé", "b", "b"]


@pytest.mark.parametrize(
    ("max_tokens", "text", "reason", "context"),
    [
        (None, "abc", FinishReason.STOP, (BOS, *b"<eos>abc")),
        (3, "abc", FinishReason.STOP, (BOS, *b"<eos>abc")),
        (2, "ab", FinishReason.LENGTH, (BOS, *b"<eos>ab")),
        (0, "", FinishReason.LENGTH, (BOS, *b"<eos>")),
    ],
)
async def test_the_last_delta_tells_the_end(
    max_tokens: int | None, text: str, reason: FinishReason, context: tuple[int, ...]
) -> None:
    """A reply is cut at max_tokens; reason, usage, context and end come last."""
    asked = request(Span(text="<eos>"), max_tokens=max_tokens, return_context=True)

    deltas = await deltas_of(EchoModel("abc"), asked)

    assert "".join(delta.text for delta in deltas) == text
    assert (deltas[-1].finish_reason, deltas[-1].context) == (reason, (Span(tokens=context),))
    assert deltas[-1].end == (Span(tokens=(EOS,)) if reason is FinishReason.STOP else None)
    assert deltas[-1].usage == Usage(prompt_tokens=6, completion_tokens=len(text))


async def test_an_exception_comes_in_the_middle() -> None:
    """A reply that is an exception fails after the first delta, and nothing keeps running."""
    model = EchoModel(EngineError("gone"))

    with pytest.raises(EngineError, match="gone"):
        await deltas_of(model, request(Span(text="x")))

    assert model.running == 0


async def test_a_prompt_as_long_as_the_context_is_refused() -> None:
    """The context must hold one token more than the prompt."""
    with pytest.raises(ContextOverflow):
        await deltas_of(EchoModel(context_size=3), request(Span(text="xy")))

    assert await deltas_of(EchoModel(context_size=4), request(Span(text="xy")))
