"""Reads what a task says about sampling into the chain of `arriero.sampling`. Pure.

1. Entries are joined with `/`, lower-cased and split on `/` or blanks: one sampler each, written
   `name` or `name:key=value:key=value`. `_` and `-` do not count in names and keys.
2. A key is an option's name or an unambiguous beginning of one; a sampler with one option takes the
   bare value. Samplers of `REPEATABLE` are added at every mention, the others are reconfigured.
3. `repetition` and `temperature` are added when absent; `topk` and `topp` too, unless a mirostat is there.
4. Two mirostats, or a mirostat beside a sampler that selects candidates, are refused.
5. The order of application is fixed: `arriero.sampling.ORDER`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from arriero.config.problem import hint
from arriero.sampling import (
    ORDER,
    AnySampler,
    FreqPresence,
    LocallyTypical,
    MinP,
    Mirostat1,
    Mirostat2,
    Repetition,
    Sampler,
    SeqRepetition,
    TailFree,
    Temperature,
    TopA,
    TopK,
    TopNSigma,
    TopP,
    Xtc,
    ordered,
)

NAMES: dict[str, type[Sampler]] = {kind.__name__.lower(): kind for kind in ORDER}
REPEATABLE = (Repetition, FreqPresence, SeqRepetition)
MIROSTATS = (Mirostat1, Mirostat2)
SELECTING = (TopNSigma, TopK, TailFree, LocallyTypical, TopP, TopA, MinP, Xtc)
MAY_BE_NEGATIVE = frozenset({"frequency_penalty", "presence_penalty", "flat_penalty", "stacking_penalty"})
NOT_IN_STRINGS = frozenset({"breakers"})
STANDARD_KEYS = (
    "top_k",
    "top_p",
    "repeat_penalty",
    "temperature",
    "repetition_penalty_last_n",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
)
"""The keys of a task that have no effect when the task has a `samplers` list."""

UNSIGNED = re.compile(r"\+?[0-9]{1,10}")
FLOAT = re.compile(r"[+-]?(?:inf|infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)")
LARGEST_UNSIGNED = 2**31 - 1
LARGEST_FLOAT = 3.4028234e38
"""Infinity is read as this, the largest float32, so that no later arithmetic makes a NaN of it."""


class SamplerError(ValueError):
    """A sampler string that cannot be used. `entry` is its index, None for the list as a whole."""

    def __init__(self, message: str, entry: int | None = None) -> None:
        super().__init__(message)
        self.entry = entry


class SamplingKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task may say about sampling. Defaults are for models here; upstreams have their own."""

    samplers: Annotated[
        tuple[str, ...] | None,
        Meta(description="Sampler chain as strings. When it is there, the plain keys below have no effect."),
    ] = None
    top_k: Annotated[
        Annotated[int, Meta(ge=0, le=LARGEST_UNSIGNED)] | None,
        Meta(description="Keep the k best tokens. 0 = all. Absent = 40."),
    ] = None
    top_p: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Keep the smallest set with this probability. 1 = all. Absent = 0.95."),
    ] = None
    repeat_penalty: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Penalty for tokens seen of late. 1 and below = none. Absent = 1.3."),
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Flatness of the draw. 0 = always the best token. Absent = 0.8."),
    ] = None
    repetition_penalty_last_n: Annotated[
        Annotated[int, Meta(ge=0, le=LARGEST_UNSIGNED)] | None,
        Meta(description="How many recent tokens the penalties look at. Absent = 64."),
    ] = None
    min_p: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="Drop tokens below this share of the best one's probability. Absent or 0 = none."),
    ] = None
    frequency_penalty: Annotated[
        float | None,
        Meta(description="Subtracted from a logit for each recent occurrence of its token. Absent = 0."),
    ] = None
    presence_penalty: Annotated[
        float | None, Meta(description="Subtracted once from the logit of each recent token. Absent = 0.")
    ] = None
    seed: Annotated[
        Annotated[int, Meta(ge=0, le=2**63 - 1)] | None,
        Meta(description="Seed of the draw. Absent = a fresh one each time."),
    ] = None


def sampling_chain(keys: SamplingKeys) -> tuple[AnySampler, ...]:
    """Return the chain of a task. Raises SamplerError for a bad `samplers` list."""
    written = written_chain(keys)
    return ordered([*written, *_missing(written)])


def written_chain(keys: SamplingKeys) -> tuple[AnySampler, ...]:
    """Return what a task says of its chain, without the defaults. Raises SamplerError."""
    return _written(keys) if keys.samplers is None else _mentioned(keys.samplers)


def parsed(entries: Sequence[str]) -> tuple[AnySampler, ...]:
    """Return the chain that a `samplers` list describes. Raises SamplerError."""
    mentioned = _mentioned(entries)
    return ordered([*mentioned, *_missing(mentioned)])


def _mentioned(entries: Sequence[str]) -> tuple[AnySampler, ...]:
    chain: list[Sampler] = []
    for index, entry in enumerate(entries):
        for mention in re.split(r"[/\s]+", entry.lower()):
            try:
                _add(chain, mention)
            except SamplerError as exc:
                raise SamplerError(str(exc), index) from None
    _check_mirostat(chain)
    return ordered(cast("list[AnySampler]", chain))


def _written(keys: SamplingKeys) -> tuple[AnySampler, ...]:
    """Return the samplers of the plain keys."""
    last_n = Repetition().last_n if keys.repetition_penalty_last_n is None else keys.repetition_penalty_last_n
    chain: list[AnySampler] = []
    if keys.repeat_penalty is not None or keys.repetition_penalty_last_n is not None:
        penalty = Repetition().penalty if keys.repeat_penalty is None else keys.repeat_penalty
        chain.append(Repetition(penalty=max(penalty, 1.0), last_n=last_n))
    if keys.frequency_penalty or keys.presence_penalty:
        chain.append(FreqPresence(keys.frequency_penalty or 0.0, keys.presence_penalty or 0.0, last_n))
    if keys.top_k is not None:
        chain.append(TopK(k=keys.top_k))
    if keys.top_p is not None:
        chain.append(TopP(p=keys.top_p))
    if keys.min_p:
        chain.append(MinP(p=keys.min_p))
    if keys.temperature is not None:
        chain.append(Temperature(temperature=keys.temperature))
    return ordered(chain)


def _add(chain: list[Sampler], mention: str) -> None:
    """Add the sampler of one mention to the chain, or reconfigure the one that is there."""
    if not mention:
        return
    name, _, options = mention.partition(":")
    kind = _kind(name)
    present = next((index for index, sampler in enumerate(chain) if type(sampler) is kind), None)
    if kind in REPEATABLE or present is None:
        chain.append(_configured(kind(), options))
    else:
        chain[present] = _configured(chain[present], options)


def _kind(name: str) -> type[Sampler]:
    kind = NAMES.get(_folded(name))
    if kind is None:
        near = hint(_folded(name), sorted(NAMES), otherwise=f"; samplers are {', '.join(NAMES)}")
        raise SamplerError(f'unknown sampler "{name[:80]}"{near}')
    return kind


def _configured(sampler: Sampler, options: str) -> Sampler:
    """Return the sampler with the options of `key=value:key=value` set, one after the other."""
    for option in filter(None, map(str.strip, options.split(":"))):
        key, separator, value = option.partition("=")
        if not separator:
            key, value = "", option
        name = _option(type(sampler), key.strip())
        sampler = msgspec.structs.replace(sampler, **_setting(sampler, name, value.strip()))
    return sampler


def _option(kind: type[Sampler], key: str) -> str:
    """Return the option that the key names. An exact match wins over an abbreviation."""
    name = kind.__name__.lower()
    options = [field.name for field in msgspec.structs.fields(kind) if field.name not in NOT_IN_STRINGS]
    exact = [option for option in options if _folded(option) == _folded(key)]
    begun = exact or [option for option in options if _folded(option).startswith(_folded(key))]
    if len(begun) == 1:
        return begun[0]
    if not key:
        raise SamplerError(f'{name}: say which option, for example "{name}:{options[0]}=..."')
    if begun:
        raise SamplerError(f'{name}: "{key}" could be {" or ".join(begun)}')
    near = hint(key, options, otherwise=f"; options are {', '.join(options)}")
    raise SamplerError(f'{name}: unknown option "{key[:80]}"{near}')


def _setting(sampler: Sampler, name: str, written: str) -> dict[str, Any]:
    """Return the fields to replace when option `name` is set to the written value."""
    where = f"{type(sampler).__name__.lower()}:{name}"
    default = getattr(type(sampler)(), name)
    if isinstance(default, int):
        return {name: _unsigned(written, where)}
    value = _float(written, where)
    if value < 0 and name not in MAY_BE_NEGATIVE:
        raise SamplerError(f"{where}: expected 0 or more, got {written}")
    if name == "penalty":
        return {name: max(value, 1.0)}
    return {"tau": value, "mu": None} if name == "tau" else {name: value}


def _unsigned(written: str, where: str) -> int:
    value = int(written) if UNSIGNED.fullmatch(written) else None
    if value is None or value > LARGEST_UNSIGNED:
        raise SamplerError(f'{where}: expected a whole number from 0, got "{written[:80]}"')
    return value


def _float(written: str, where: str) -> float:
    if not FLOAT.fullmatch(written):
        raise SamplerError(f'{where}: expected a number, got "{written[:80]}"')
    value = float(written)
    return math.copysign(LARGEST_FLOAT, value) if abs(value) > LARGEST_FLOAT else value


def _check_mirostat(chain: Sequence[Sampler]) -> None:
    mirostats = [sampler for sampler in chain if isinstance(sampler, MIROSTATS)]
    if len(mirostats) > 1:
        raise SamplerError("mirostat1 and mirostat2 exclude each other; keep one")
    selecting = [type(sampler).__name__.lower() for sampler in chain if isinstance(sampler, SELECTING)]
    if mirostats and selecting:
        name = type(mirostats[0]).__name__.lower()
        raise SamplerError(f"{name} selects tokens by itself; take out {', '.join(selecting)}")


def _missing(chain: Sequence[Sampler]) -> list[AnySampler]:
    """Return the defaults that the list does not mention."""
    kinds = {type(sampler) for sampler in chain}
    defaults: list[AnySampler] = [Repetition(), Temperature()]
    if not kinds & set(MIROSTATS):
        defaults += [TopK(), TopP()]
    return [sampler for sampler in defaults if type(sampler) not in kinds]


def _folded(name: str) -> str:
    return name.replace("_", "").replace("-", "")
