"""A completion of a task as the body that an upstream gets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from arriero.core import Constraint, ConstraintKind, GenerateRequest, Role, Span
from arriero.errors import InvalidRequest
from arriero.grammar import constraint as grammar
from arriero.sampling import (
    AnySampler,
    Dry,
    FreqPresence,
    MinP,
    Mirostat2,
    Repetition,
    SamplingParams,
    Temperature,
    TopK,
    TopP,
    Xtc,
)
from arriero.tasks.remote_request import (
    constraint_parameters,
    literal_options,
    messages,
    parameters,
    prompt_text,
    sampling_parameters,
)

SYSTEM, USER, ASSISTANT = Role.SYSTEM, Role.USER, Role.ASSISTANT
TURN = (Span(text="(", special=True, role=USER), Span(text="hi"), Span(text=")", special=True))
SCHEMA = Constraint(ConstraintKind.JSON_SCHEMA, '{"type":"boolean"}')


def said(sampler: AnySampler, dialect: Any) -> dict[str, Any]:
    return sampling_parameters(SamplingParams(chain=(sampler,)), dialect)


def test_a_text_holds_all_parts() -> None:
    """Nothing stands between them."""
    prompt = (Span(text="P", role=SYSTEM), *TURN, Span(text="yes", role=ASSISTANT), Span(text="</s>"), *TURN)

    assert prompt_text(prompt) == "P(hi)yes</s>(hi)"


def test_each_role_begins_a_message() -> None:
    """The prelude is the system's; turns that follow each other stay apart."""
    prompt = (Span(text="P", role=SYSTEM), *TURN, Span(text="yes", role=ASSISTANT), *TURN, *TURN)

    assert [(message["role"], message["content"]) for message in messages(prompt)] == [
        ("system", "P"),
        ("user", "(hi)"),
        ("assistant", "yes"),
        ("user", "(hi)"),
        ("user", "(hi)"),
    ]


@pytest.mark.parametrize(
    "prompt", [(), (Span(text="P", role=SYSTEM),), (*TURN, Span(text="a", role=ASSISTANT))]
)
def test_a_chat_must_end_with_the_user(prompt: tuple[Span, ...]) -> None:
    """What there is nothing to answer in is refused before the upstream is asked."""
    with pytest.raises(InvalidRequest, match="nothing to answer") as caught:
        messages(prompt)

    assert caught.value.param == "prompt"


def test_an_empty_text_is_refused() -> None:
    """A completion of nothing is none."""
    with pytest.raises(InvalidRequest, match="nothing to answer"):
        prompt_text(())


@pytest.mark.parametrize("dialect", [None, "openai", "vllm"])
@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (Temperature(0.5), {"temperature": 0.5}),
        (Temperature(0), {"temperature": 0}),
        (TopP(0.9), {"top_p": 0.9}),
        (TopP(2), {"top_p": 1.0}),
        (TopP(0), {"top_p": 1e-6}),
        (FreqPresence(0.25, -0.5), {"frequency_penalty": 0.25, "presence_penalty": -0.5}),
    ],
)
def test_what_every_server_knows(sampler: AnySampler, expected: dict[str, float], dialect: Any) -> None:
    """The parameters of OpenAI's protocol need no dialect."""
    assert said(sampler, dialect) == expected


@pytest.mark.parametrize(
    ("sampler", "expected", "key"),
    [
        (TopK(20), {"top_k": 20}, "top_k"),
        (MinP(0.05), {"min_p": 0.05}, "min_p"),
        (Repetition(1.1), {"repetition_penalty": 1.1}, "repeat_penalty"),
    ],
)
def test_what_vllm_knows(sampler: AnySampler, expected: dict[str, float], key: str) -> None:
    """Its own parameters are sent to it, and refused by the task's key for other servers."""
    assert said(sampler, "vllm") == expected
    for dialect in (None, "openai"):
        with pytest.raises(InvalidRequest, match=f"{key} is no parameter of OpenAI's protocol") as caught:
            said(sampler, dialect)
        assert caught.value.param == key


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (TopK(0), {"top_k": 0}),
        (MinP(0), {"min_p": 0}),
        (Repetition(1.0), {"repetition_penalty": 1.0}),
    ],
)
def test_what_is_switched_off(sampler: AnySampler, expected: dict[str, float]) -> None:
    """vLLM is told, since a model may bring defaults along; for others there is nothing to say."""
    assert said(sampler, "vllm") == expected
    assert said(sampler, None) == {}


@pytest.mark.parametrize(
    ("sampler", "param", "words"),
    [
        (Dry(1.0), "samplers", "dry"),
        (Xtc(0.5), "samplers", "xtc"),
        (Mirostat2(), "samplers", "mirostat2"),
        (TopK(5, min_keep=2), "samplers", "topk as it is written"),
        (Repetition(1.1, last_n=8), "repetition_penalty_last_n", "leave last_n out"),
        (FreqPresence(0.1, last_n=8), "repetition_penalty_last_n", "leave last_n out"),
    ],
)
def test_what_no_upstream_knows(sampler: AnySampler, param: str, words: str) -> None:
    """It is refused by name, never left out."""
    with pytest.raises(InvalidRequest, match=words) as caught:
        said(sampler, "vllm")

    assert caught.value.param == param


def test_a_sampler_may_be_there_once() -> None:
    """A second penalty of the same kind has no place in a request."""
    chain = (Repetition(1.1), Repetition(1.2))

    with pytest.raises(InvalidRequest, match="takes repetition once"):
        sampling_parameters(SamplingParams(chain=chain), "vllm")


def test_the_members_beside_the_prompt() -> None:
    """Seed, biases and stop sequences are sent; vLLM leaves the stop sequence in, so that it is seen here."""
    stops = tuple("abcdef")
    sampling = SamplingParams(seed=7, logit_bias=((3, -1.5),))
    request = GenerateRequest(prompt=(), sampling=sampling, stop_sequences=stops)
    common = {"seed": 7, "logit_bias": {"3": -1.5}}

    assert parameters(request, None) == {**common, "stop": stops[:4]}
    assert parameters(request, "vllm") == {**common, "stop": stops, "include_stop_str_in_output": True}
    assert parameters(GenerateRequest(prompt=(), sampling=SamplingParams()), "vllm") == {}


def test_log_probabilities_are_refused() -> None:
    """They are of tokens that nobody here knows."""
    request = GenerateRequest(prompt=(), sampling=SamplingParams(), logprobs=0)

    with pytest.raises(InvalidRequest) as caught:
        parameters(request, "vllm")

    assert caught.value.param == "logprobs"


def encoded(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (None, {}),
        (SCHEMA, {"structured_outputs": {"json": {"type": "boolean"}}}),
        (grammar.regex("[a-z]+"), {"structured_outputs": {"regex": "[a-z]+"}}),
        (grammar.choice(["a b", "ü|", "c"]), {"structured_outputs": {"choice": ["a b", "ü|", "c"]}}),
        (grammar.lark("start: /a+/"), {"structured_outputs": {"grammar": "start: /a+/"}}),
    ],
)
def test_constraints_of_vllm(constraint: Constraint | None, expected: dict[str, Any]) -> None:
    """Each kind has its member; a choice is told as its texts."""
    assert encoded(constraint_parameters(constraint, "vllm")) == expected


def test_constraints_of_openai() -> None:
    """A JSON Schema is a response format, with its order; nothing else can be said."""
    schema = Constraint(ConstraintKind.JSON_SCHEMA, '{"b":1,"a":2}')

    said = msgspec.json.encode(constraint_parameters(schema, "openai"))

    assert b'"strict":true,"schema":{"b":1,"a":2}' in said
    with pytest.raises(InvalidRequest, match="JSON Schemas only, no regex"):
        constraint_parameters(grammar.regex("a"), "openai")


def test_constraints_need_a_dialect() -> None:
    """An upstream that might ignore one is not trusted with it."""
    with pytest.raises(InvalidRequest, match="dialect") as caught:
        constraint_parameters(SCHEMA, None)

    assert caught.value.param == "response_format"


@pytest.mark.parametrize("regex", ["a+", "[ab]", "a.", "(a|b)", "a b", r"\d"])
def test_other_expressions_are_no_choice(regex: str) -> None:
    """Only texts with bars between them are."""
    assert literal_options(regex) is None
