"""One completion of a task as a request to an upstream: its prompt, its sampling, its constraint. Pure.

What has no counterpart there is refused by the name that callers and tasks use for it. What a caller may
have of the model is not decided here: the request goes to the model's guard as any other does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from arriero.core import ConstraintKind, Role
from arriero.errors import InvalidRequest
from arriero.sampling import FreqPresence, MinP, Repetition, Temperature, TopK, TopP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.config.remote import Dialect
    from arriero.core import Constraint, GenerateRequest, Span
    from arriero.sampling import AnySampler, SamplingParams

MAX_STOPS = 4
"""What OpenAI takes; the others end the answer here."""
LEAST_TOP_P = 1e-6
"""Servers refuse zero. Like zero, this leaves the best token."""

# What `constraint.choice` writes: letters, digits, numbered characters, and the bars between the texts.
_CHOICE = re.compile(r"(?:[A-Za-z0-9|]|\\x\{[0-9a-f]{1,6}\})+")
_NUMBERED = re.compile(r"\\x\{([0-9a-f]{1,6})\}")


def prompt_text(prompt: Sequence[Span]) -> str:
    """Return a prompt as one text. Raises InvalidRequest when there is none."""
    text = "".join(span.text for span in prompt)
    if not text:
        raise InvalidRequest("there is nothing to answer: the prompt is empty", param="prompt")
    return text


def messages(prompt: Sequence[Span]) -> list[dict[str, str]]:
    """Return a prompt as messages. Raises InvalidRequest unless the last one is there to be answered."""
    said: list[dict[str, str]] = []
    for span in prompt:
        if span.role is not None or not said:
            said.append({"role": (span.role or Role.USER).value, "content": ""})
        said[-1]["content"] += span.text
    if not said or said[-1]["role"] != Role.USER.value:
        raise InvalidRequest("there is nothing to answer: the last message must be a user's", param="prompt")
    return said


def parameters(request: GenerateRequest, dialect: Dialect | None) -> dict[str, Any]:
    """Return the members of a request beside its prompt and its limit. Raises InvalidRequest."""
    if request.logprobs is not None:
        raise InvalidRequest("a task on a remote model tells no log probabilities", param="logprobs")
    stops = request.stop_sequences if dialect == "vllm" else request.stop_sequences[:MAX_STOPS]
    return {
        **sampling_parameters(request.sampling, dialect),
        **({"stop": stops} if stops else {}),
        # What ended the answer is then seen here, as it is on a model that runs here.
        **({"include_stop_str_in_output": True} if stops and dialect == "vllm" else {}),
        **constraint_parameters(request.constraint, dialect),
    }


def sampling_parameters(sampling: SamplingParams, dialect: Dialect | None) -> dict[str, Any]:
    """Return the members of a chain, a seed and biases. Raises InvalidRequest."""
    said: dict[str, Any] = {}
    for sampler in sampling.chain:
        members = _members(sampler, dialect)
        if members.keys() & said.keys():
            name = type(sampler).__name__.lower()
            raise InvalidRequest(f"an upstream takes {name} once", param="samplers")
        said |= members
    if sampling.seed is not None:
        said["seed"] = sampling.seed
    if sampling.logit_bias:
        said["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
    return said


def _members(sampler: AnySampler, dialect: Dialect | None) -> dict[str, float]:
    """Return the members of one sampler. Those of vLLM may be left out elsewhere if they do nothing."""
    match sampler:
        case Temperature(temperature=temperature):
            return {"temperature": temperature}
        case TopP(p=p, min_keep=1):
            return {"top_p": max(LEAST_TOP_P, min(p, 1.0))}
        case FreqPresence(frequency_penalty=frequency, presence_penalty=presence):
            _check_window(sampler)
            return {"frequency_penalty": frequency, "presence_penalty": presence}
        case TopK(k=k, min_keep=1):
            return _of_vllm("top_k", "top_k", max(k, 0), dialect, off=k <= 0)
        case MinP(p=p, min_keep=1):
            return _of_vllm("min_p", "min_p", p, dialect, off=p == 0)
        case Repetition(penalty=penalty):
            _check_window(sampler)
            return _of_vllm("repeat_penalty", "repetition_penalty", penalty, dialect, off=penalty == 1)
        case _:
            name = type(sampler).__name__.lower()
            raise InvalidRequest(f"no upstream has a parameter for {name} as it is written", param="samplers")


def _of_vllm(key: str, name: str, value: float, dialect: Dialect | None, *, off: bool) -> dict[str, float]:
    if dialect == "vllm":
        return {name: value}
    if off:
        return {}
    message = f"{key} is no parameter of OpenAI's protocol; servers that know vLLM's have the dialect vllm"
    raise InvalidRequest(message, param=key)


def _check_window(sampler: Repetition | FreqPresence) -> None:
    if sampler.last_n != type(sampler)().last_n:
        message = "an upstream's penalties look at all tokens; leave last_n out"
        raise InvalidRequest(message, param="repetition_penalty_last_n")


def constraint_parameters(constraint: Constraint | None, dialect: Dialect | None) -> dict[str, Any]:
    """Return the members that constrain an answer. Raises InvalidRequest."""
    if constraint is None:
        return {}
    if dialect is None:
        message = "the upstream's dialect does not say that it can constrain answers"
        raise InvalidRequest(message, param="response_format")
    if dialect == "vllm":
        return {"structured_outputs": _structured(constraint)}
    if constraint.kind is not ConstraintKind.JSON_SCHEMA:
        message = f"OpenAI's protocol knows JSON Schemas only, no {constraint.kind.value}"
        raise InvalidRequest(message, param="response_format")
    schema = {"name": "answer", "strict": True, "schema": msgspec.Raw(constraint.source.encode())}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _structured(constraint: Constraint) -> dict[str, Any]:
    match constraint.kind:
        case ConstraintKind.JSON_SCHEMA:
            return {"json": msgspec.Raw(constraint.source.encode())}
        case ConstraintKind.REGEX:
            options = literal_options(constraint.source)
            return {"regex": constraint.source} if options is None else {"choice": options}
        case ConstraintKind.LARK:
            return {"grammar": constraint.source}
        case _:
            assert_never(constraint.kind)


def literal_options(regex: str) -> list[str] | None:
    """Return the texts of which a regular expression is one, if it is nothing but these."""
    if _CHOICE.fullmatch(regex) is None:
        return None
    return [_NUMBERED.sub(lambda found: chr(int(found[1], 16)), option) for option in regex.split("|")]
