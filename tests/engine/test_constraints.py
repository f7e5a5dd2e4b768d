"""Constrained completions end to end: a real engine process with real weights."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import jsonschema
import pytest
from tests.engine.engines import opened

from arriero.core import Constraint, ConstraintKind, Delta, FinishReason, GenerateRequest, Span
from arriero.engine.local import LocalModel
from arriero.errors import ContextOverflow, EngineError, InvalidRequest
from arriero.sampling import Dry, Repetition, SamplingParams, Temperature, TopK, TopP
from arriero.testing.tiny_gguf import write_reciting_gguf

GREEDY = SamplingParams(chain=(Temperature(0.0),))
HOT = SamplingParams(chain=(Temperature(1.5),), seed=11)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "ab"]}, "minItems": 1, "maxItems": 3},
        "member": {"type": "boolean"},
    },
    "required": ["name", "age", "tags", "member"],
    "additionalProperties": False,
}


def schema(value: object) -> Constraint:
    return Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(value))


def regex(pattern: str) -> Constraint:
    return Constraint(ConstraintKind.REGEX, pattern)


async def answer(
    model: LocalModel,
    constraint: Constraint | None,
    *,
    prompt: str = "Write JSON about a person.\n",
    sampling: SamplingParams = HOT,
    **more: object,
) -> tuple[str, Delta]:
    settings: dict[str, object] = {"max_tokens": 200, **more}
    request = GenerateRequest(
        prompt=(Span(text=prompt),),
        sampling=sampling,
        constraint=constraint,
        **settings,  # type: ignore[arg-type]
    )
    pieces = [delta async for delta in model.generate(request)]
    return "".join(piece.text for piece in pieces), pieces[-1]


async def test_answers_match_the_schema(model: LocalModel) -> None:
    """Whatever the seed, hot answers validate, are compact, and end by themselves."""
    seeds = [SamplingParams(chain=(Temperature(1.5),), seed=seed) for seed in range(8)]
    for text, last in await asyncio.gather(*(answer(model, schema(PERSON), sampling=s) for s in seeds)):
        value = json.loads(text)
        jsonschema.validate(value, PERSON)
        assert text == json.dumps(value, separators=(",", ":"), ensure_ascii=False) or "\\u" in text
        assert list(value) == list(PERSON["properties"])
        assert last.finish_reason is FinishReason.STOP


async def test_forced_tokens_count(model: LocalModel) -> None:
    """Tokens that were forced count like sampled ones, in the usage and in the context."""
    text, last = await answer(model, schema({"const": "a constant of several tokens"}), return_context=True)

    assert text == '"a constant of several tokens"'
    assert last.usage
    tokens = await model.tokenize([Span(text=text)], add_bos=False)
    assert last.usage.completion_tokens == len(tokens)
    assert sum(len(span.tokens) for span in last.context) == last.usage.prompt_tokens + len(tokens)
    assert last.end is not None


async def test_the_limit_inside_a_value_is_length(model: LocalModel) -> None:
    """An answer cut by max_tokens is reported as such, also inside of forced tokens."""
    text, last = await answer(model, schema(PERSON), max_tokens=2)

    assert last.finish_reason is FinishReason.LENGTH
    assert last.usage
    assert last.usage.completion_tokens == 2
    assert '{"name":"'.startswith(text)


async def test_free_and_constrained_side_by_side(model: LocalModel) -> None:
    """In one batch each sequence has its own constraint or none."""
    number, word, free = await asyncio.gather(
        answer(model, regex("[0-9]{3}")),
        answer(model, regex("(yes|no)")),
        answer(model, None, prompt="The capital of France is", max_tokens=8, sampling=GREEDY),
    )

    assert re.fullmatch("[0-9]{3}", number[0])
    assert word[0] in ("yes", "no")
    assert free[1].finish_reason is FinishReason.LENGTH
    assert number[1].finish_reason is word[1].finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    "chain",
    [
        (Temperature(0.0),),
        (Repetition(2.0, 64), Temperature(1.0)),
        (Dry(multiplier=5.0), TopK(1), Temperature(1.0)),
        (TopK(5), TopP(0.1), Temperature(0.5)),
    ],
)
async def test_samplers_never_break_a_constraint(model: LocalModel, chain: tuple[object, ...]) -> None:
    """Penalties and truncation choose among what is allowed, and there is always something."""
    text, last = await answer(model, regex("(ab){20}"), sampling=SamplingParams(chain=chain))  # type: ignore[arg-type]

    assert text == "ab" * 20
    assert last.finish_reason is FinishReason.STOP


async def test_log_probabilities_of_every_token(model: LocalModel) -> None:
    """With log probabilities each token has one, the forced ones too."""
    request = GenerateRequest(
        prompt=(Span(text="Yes or no? "),), sampling=HOT, constraint=schema({"const": [1, 2, 3]}), logprobs=0
    )
    pieces = [delta async for delta in model.generate(request)]

    logprobs = [logprob for piece in pieces for logprob in piece.logprobs]
    assert b"".join(logprob.data for logprob in logprobs) == b"[1,2,3]"
    assert all(logprob.logprob is not None and logprob.logprob <= 0 for logprob in logprobs)


async def test_a_grammar_that_cannot_be_compiled(model: LocalModel) -> None:
    """A constraint that makes no sense is refused with a reason; the engine goes on."""
    with pytest.raises(InvalidRequest, match="unclosed group"):
        await answer(model, regex("(a"))
    assert (await answer(model, regex("a")))[0] == "a"


async def test_private_tokens_and_constraints(tmp_path: Path) -> None:
    """What a constraint demands is never a private token: that is an error, and so is half of one."""
    weights = write_reciting_gguf(tmp_path / "recite.gguf", "abcdefghijklmnop")
    async with opened(weights, context_size=64, cells=512) as model:
        with pytest.raises(EngineError, match="private"):
            await answer(model, regex("def"), prompt="c", private_tokens=("e",))
        with pytest.raises(EngineError, match="private"):
            await answer(model, regex("def"), prompt="c", private_tokens=("ef",))
        assert (await answer(model, regex("d(e|f)"), prompt="c", private_tokens=("e",)))[0] == "df"


async def test_no_room_for_the_shortest_answer(tmp_path: Path) -> None:
    """A context with no room for what must be said is refused beforehand."""
    weights = write_reciting_gguf(tmp_path / "recite.gguf", "abcdefghijklmnop")
    async with opened(weights, context_size=32, cells=512) as model:
        with pytest.raises(ContextOverflow, match="shortest"):
            await answer(model, regex("x{20}"), prompt="abcdefghabcdefgh")


async def test_closing_while_it_is_compiled(model: LocalModel) -> None:
    """A request that is closed at once leaves nothing behind."""
    request = GenerateRequest(prompt=(Span(text="a"),), sampling=HOT, constraint=schema(PERSON))
    stream = model.generate(request)
    reader = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await stream.aclose()

    assert (await answer(model, regex("a")))[0] == "a"
    assert model.stats.running == model.stats.waiting == 0
