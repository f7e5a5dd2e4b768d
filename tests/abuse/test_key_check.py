"""The check of a key, without a server: how long it takes does not tell how much of a key is right.

As `dudect` does it: two kinds of keys take turns at random, the longest times are left out, for they are of
other programs, and Welch's t says whether what is left of the two differs.
"""

from __future__ import annotations

import gc
import operator
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.abuse.subject import scaled

from arriero.access.key_store import KeyStore, NewKey
from arriero.access.keyring import Keyring
from arriero.access.secret import ALPHABET, PREFIX, RANDOM_LENGTH
from arriero.errors import Unauthorized

if TYPE_CHECKING:
    from pathlib import Path

    from tests.abuse.figures import Figures

SAMPLES = 100_000
"""Of each of two kinds."""
AT_A_TIME = 10_000
"""Of both kinds."""
KEPT = 0.8
"""Of all times, the shortest: no interrupt and no other process is among them."""
MOST_T = 4.5
"""Chance alone goes beyond that once in 150,000 times."""
SEED = 6
FEW = 6
"""So many characters are wrong at least: keys are other ones each time, and so is their checksum."""
STATIC = [f"static-{random.Random(number).randbytes(32).hex()}" for number in range(20)]
Maker = Callable[[random.Random], str]
"""Makes wrong keys of one kind."""


def wrong(key: str, begin: int, end: int) -> Maker:
    """Return what makes keys that are wrong between two places."""
    before, count, after = key[:begin], end - begin, key[end:]
    return lambda rng: before + "".join(rng.choices(ALPHABET, k=count)) + after


PAIRS: dict[str, Callable[[str, int, int], tuple[Maker, Maker]]] = {
    "first against last": lambda key, begin, end: (
        wrong(key, begin, begin + FEW),
        wrong(key, end - FEW, end),
    ),
    "first against all": lambda key, begin, end: (wrong(key, begin, begin + FEW), wrong(key, begin, end)),
    "too short, last against all": lambda key, begin, end: (
        wrong(key[:-1], end - FEW, end - 1),
        wrong(key[:-1], begin, end - 1),
    ),
    "too long, last against all": lambda key, begin, end: (
        wrong(key + "a", end - FEW, end),
        wrong(key + "a", begin, end),
    ),
}
"""Kinds of keys that nobody may tell apart, made of a right one and of where its secret part begins and ends.

How long a key is, how ours begin and what their checksum is, is no secret.
"""


def times_of(check: Callable[[str], object], kinds: tuple[Maker, Maker], each: int) -> list[list[int]]:
    """Return how many nanoseconds the check of keys of each kind takes, the kinds in any order."""
    rng = random.Random(SEED)
    times: list[list[int]] = [[], []]
    for _ in range(2 * each // AT_A_TIME):
        turns = [0, 1] * (AT_A_TIME // 2)
        rng.shuffle(turns)
        # All are made first, and then copied one after the other, so that both kinds lie alike in memory.
        made = [kinds[kind](rng).encode() for kind in turns]
        asked = [(times[kind], key.decode()) for kind, key in zip(turns, made, strict=True)]
        with undisturbed():
            for taken, key in asked:
                started = time.perf_counter_ns()
                try:
                    check(key)
                except Unauthorized:
                    taken.append(time.perf_counter_ns() - started)
    assert len(times[0]) == len(times[1]), "one of the wrong keys was right"
    return times


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the collector of garbage away."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def welch(times: list[list[int]]) -> tuple[float, float]:
    """Return by how many standard errors the means of two kinds differ, and what a standard error is."""
    most = np.quantile(np.concatenate(times), KEPT)
    one, other = (np.array([taken for taken in kind if taken <= most]) for kind in times)
    error = float(np.sqrt(one.var() / len(one) + other.var() / len(other)))
    return float(one.mean() - other.mean()) / error, error


def early_exit(key: str) -> None:
    """Compare as nobody should: up to the first difference."""
    if not all(map(operator.eq, STATIC[0], key)):
        raise Unauthorized("wrong")


def test_the_measure_sees_a_comparison_that_ends_early() -> None:
    """A key that is wrong in its first character is told from one that is wrong in its last."""
    t, _ = welch(times_of(early_exit, PAIRS["first against last"](STATIC[0], 0, 20), AT_A_TIME))

    assert t < -MOST_T


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("place", ["configuration", "store"])
def test_the_check_of_a_key_does_not_tell_how_much_is_right(
    tmp_path: Path, figures: Figures, place: str, pair: str
) -> None:
    """Keys of one form are refused in the same time, wherever they are wrong, among many that are known."""
    store = KeyStore(tmp_path / "keys.db")
    secrets = [store.create(NewKey(f"{number}"), time.time())[1] for number in range(20)]
    keyring = Keyring(STATIC, store=store)
    key, part = STATIC[3], (0, len(STATIC[3]))
    if place == "store":
        key, part = secrets[3], (len(PREFIX), len(PREFIX) + RANDOM_LENGTH)
    keyring.identify(key)
    number = max(AT_A_TIME, scaled(SAMPLES))
    times = times_of(keyring.identify, PAIRS[pair](key, *part), number)
    keyring.close()
    t, error_ns = welch(times)

    told = {"samples": 2 * len(times[0]), "median_us": float(np.median(times)) / 1e3}
    figures.tell(f"check of a key of the {place}, {pair}", **told, t=t, would_see_ns=MOST_T * error_ns)
    assert abs(t) < MOST_T
