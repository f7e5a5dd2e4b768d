"""How the sampling values of one request change a chain, and the chain of a model without a task. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from arriero.errors import InvalidRequest
from arriero.sampling import (
    AnySampler,
    FreqPresence,
    MinP,
    Mirostat1,
    Mirostat2,
    Repetition,
    SamplingParams,
    Temperature,
    TopK,
    TopP,
    ordered,
    replaced,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

S = TypeVar("S", bound=AnySampler)

DEFAULT_SAMPLING: Final = SamplingParams(chain=ordered((TopK(40), TopP(0.95), MinP(0.05), Temperature(0.8))))
"""For a model that is called without a task: what local servers commonly do; no repetition penalty."""

MAX_LOGIT_BIAS = 1024
LARGEST = 2**31 - 1


def with_overrides(
    params: SamplingParams,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    repeat_penalty: float | None = None,
    seed: int | None = None,
    logit_bias: Mapping[str, float] | None = None,
) -> SamplingParams:
    """Return the params with each given value in place of the one there; None leaves it.

    Only the value changes: windows and `min_keep` of the chain stay. temperature 0 is greedy,
    top_k 0, top_p 1, min_p 0 and repeat_penalty 1 switch off. `logit_bias` maps token ids, written
    as strings, to biases. A chain with mirostat keeps it: values that select candidates are
    refused beside it unless they switch off. Raises InvalidRequest naming the value.
    """
    chain = params.chain
    if temperature is not None:
        chain = replaced(chain, Temperature(_within("temperature", temperature, 0, 100)))
    chain = _penalised(chain, frequency_penalty, presence_penalty, repeat_penalty)
    selecting = _selecting(chain, top_k, top_p, min_p)
    if any(isinstance(sampler, Mirostat1 | Mirostat2) for sampler in chain):
        _check_off(selecting)
    else:
        chain = replaced(chain, *selecting)
    return SamplingParams(
        chain=chain,
        seed=params.seed if seed is None else seed & (2**63 - 1),
        logit_bias=params.logit_bias if logit_bias is None else _biases(logit_bias),
    )


def _penalised(
    chain: Sequence[AnySampler], frequency: float | None, presence: float | None, repeat: float | None
) -> tuple[AnySampler, ...]:
    counted = _present(chain, FreqPresence())
    if frequency is not None:
        value = _within("frequency_penalty", frequency, -2, 2)
        counted = msgspec.structs.replace(counted, frequency_penalty=value)
    if presence is not None:
        value = _within("presence_penalty", presence, -2, 2)
        counted = msgspec.structs.replace(counted, presence_penalty=value)
    changes: list[AnySampler] = [] if frequency is None and presence is None else [counted]
    if repeat is not None:
        value = _within("repeat_penalty", repeat, 0, 100)
        changes.append(msgspec.structs.replace(_present(chain, Repetition()), penalty=max(value, 1.0)))
    return replaced(chain, *changes)


def _selecting(
    chain: Sequence[AnySampler], top_k: int | None, top_p: float | None, min_p: float | None
) -> list[AnySampler]:
    changes: list[AnySampler] = []
    if top_k is not None:
        k = int(_within("top_k", top_k, -1, LARGEST))
        changes.append(msgspec.structs.replace(_present(chain, TopK()), k=max(k, 0)))
    if top_p is not None:
        changes.append(msgspec.structs.replace(_present(chain, TopP()), p=_within("top_p", top_p, 0, 1)))
    if min_p is not None:
        changes.append(msgspec.structs.replace(_present(chain, MinP()), p=_within("min_p", min_p, 0, 1)))
    return changes


def _check_off(selecting: Sequence[AnySampler]) -> None:
    for sampler in selecting:
        match sampler:
            case TopK(k=k) if k > 0:
                name = "top_k"
            case TopP(p=p) if p < 1:
                name = "top_p"
            case MinP(p=p) if p > 0:
                name = "min_p"
            case _:
                continue
        raise InvalidRequest(f"{name} has no meaning here: mirostat selects the tokens", param=name)


def _present(chain: Sequence[AnySampler], default: S) -> S:
    """Return the chain's first sampler of the default's class, or the default."""
    return next((sampler for sampler in chain if isinstance(sampler, type(default))), default)


def _within(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:  # nor is what is no number
        raise InvalidRequest(f"{name} must be between {low} and {high}, got {value}", param=name)
    return value


def _biases(written: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    if len(written) > MAX_LOGIT_BIAS:
        raise InvalidRequest(f"logit_bias holds more than {MAX_LOGIT_BIAS} tokens", param="logit_bias")
    return tuple(
        (_token_id(token), _within("logit_bias", bias, -100, 100)) for token, bias in written.items()
    )


def _token_id(written: str) -> int:
    if not (written.isascii() and written.isdigit() and len(written) <= 10 and int(written) <= LARGEST):
        raise InvalidRequest(f"logit_bias: {written[:40]!r} is no token id", param="logit_bias")
    return int(written)
