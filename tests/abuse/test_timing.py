"""How long an answer takes tells nothing: not what another key has asked, nor how much of a key is right."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import pytest
from tests.abuse.subject import KEY, OTHER_KEY, Subject, scaled
from tests.abuse.tiny import LONG_KEY, Engines, tiny_engines

from arriero.access.key_store import KeyStore, NewKey
from arriero.access.secret import PREFIX

if TYPE_CHECKING:
    import socket

    from tests.abuse.figures import Figures

MOST_Z = 4.0
"""Chance alone goes beyond that once in 16,000 times."""
SEED = 6
MOST_SKEW = 0.05
"""How far from a half the area may be, where the rounds are so many that chance does not move it as far."""
ROUNDS_OF_PROMPTS = 200
ROUNDS_OF_KEYS = 3000
FEWEST = 30
FEWEST_OF_KEYS = 1500
WORDS = ["quick", "brown", "fox", "lazy", "dog", "day", "long", "once", "secret"]
PROMPT_WORDS = 100
LAST = 6
"""How many characters of a key are wrong; enough to be other ones each time."""


def signed_rank_z(differences: list[float]) -> float:
    """Return by how many standard deviations Wilcoxon's signed ranks lean to one side.

    Ranks, because the times of a busy machine have tails that no mean survives.
    """
    some = np.array([one for one in differences if one])
    ranks = np.argsort(np.argsort(np.abs(some))) + 1
    count = len(some)
    expected, variance = count * (count + 1) / 4, count * (count + 1) * (2 * count + 1) / 24
    return float((ranks[some > 0].sum() - expected) / np.sqrt(variance))


def compared(times: dict[str, list[float]], one: str, other: str) -> float:
    """Return how clearly the times of two kinds differ, round by round."""
    return signed_rank_z([a - b for a, b in zip(times[one], times[other], strict=True)])


def area_under_curve(one: list[float], other: list[float]) -> tuple[float, float]:
    """Return how likely a time of one kind is longer than one of the other, and how far chance moves that.

    It is the area under the ROC curve of who tells the two apart by their times.
    """
    every = np.array([*one, *other])
    ranks = np.argsort(np.argsort(every)) + 1
    m, n = len(one), len(other)
    area = (ranks[:m].sum() - m * (m + 1) / 2) / (m * n)
    return float(area), float(np.sqrt((m + n + 1) / (12 * m * n)))


def milliseconds(times: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each kind."""
    return {f"{kind}_ms": 1000 * statistics.median(some) for kind, some in times.items()}


def test_the_measure_sees_what_leans_and_nothing_else() -> None:
    """Differences around zero have no side, however wild some are; a small shift of all of them has one."""
    rng = random.Random(SEED)
    around = [rng.gauss(0, 1) * (1000 if rng.random() < 0.1 else 1) for _ in range(1000)]

    assert abs(signed_rank_z(around)) < MOST_Z
    assert signed_rank_z([one + 0.3 for one in around]) > MOST_Z
    assert signed_rank_z([one - 0.3 for one in around]) < -MOST_Z


def test_the_area_is_the_share_of_right_guesses() -> None:
    """Of four pairs of times one kind is longer in three; where it always is, the area is one."""
    assert area_under_curve([2.0, 4.0], [1.0, 3.0])[0] == 0.75
    assert area_under_curve([3.0, 4.0], [1.0, 2.0])[0] == 1.0


@pytest.mark.slow
def test_the_first_token_does_not_tell_what_another_key_asked(engines: Engines, figures: Figures) -> None:
    """A prompt that another key has just asked takes as long as one that nobody has; one's own is faster."""
    rng = random.Random(SEED)
    times: dict[str, list[float]] = {"asked_by_another": [], "never_asked": [], "own_again": []}
    with client_of(engines.subject, KEY) as victim, client_of(engines.subject, OTHER_KEY) as attacker:
        for _ in range(max(FEWEST, scaled(ROUNDS_OF_PROMPTS))):
            asked, never = prompt(rng), prompt(rng)
            first_token_s(victim, asked)
            pair = [("asked_by_another", asked), ("never_asked", never)]
            rng.shuffle(pair)
            for kind, text in pair:
                times[kind].append(first_token_s(attacker, text))
            times["own_again"].append(first_token_s(attacker, pair[1][1]))
    told = compared(times, "asked_by_another", "never_asked")
    own = compared(times, "own_again", "never_asked")
    area, chance = area_under_curve(times["asked_by_another"], times["never_asked"])
    own_area, _ = area_under_curve(times["own_again"], times["never_asked"])

    rounds, areas = len(times["own_again"]), {"area": area, "own_area": own_area}
    figures.tell("time to first token", rounds=rounds, **milliseconds(times), z=told, own_z=own, **areas)
    assert own < -MOST_Z, "the measure would not notice a cached prompt"
    assert abs(told) < MOST_Z
    assert abs(area - 0.5) < max(MOST_SKEW, MOST_Z * chance)


def client_of(subject: Subject, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=subject.url, headers={"authorization": f"Bearer {key}"}, timeout=60)


def prompt(rng: random.Random) -> str:
    """Return a text that nobody has asked, from its first words on."""
    return f"{rng.getrandbits(64):x} " + " ".join(rng.choice(WORDS) for _ in range(PROMPT_WORDS))


def first_token_s(client: httpx2.Client, text: str) -> float:
    """Return how long the first piece of an answer takes."""
    body = {"model": "right", "prompt": text, "max_tokens": 1, "stream": True, "ignore_eos": True}
    started = time.perf_counter()
    with client.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.status_code == 200, answer.read()
        pieces = answer.iter_raw()
        next(pieces)
        taken_s = time.perf_counter() - started
        for _ in pieces:
            pass
    return taken_s


@pytest.mark.slow
def test_a_refusal_does_not_tell_how_much_of_a_key_is_right(tmp_path: Path, figures: Figures) -> None:
    """Keys that are right but for their last characters are refused as fast as any other of that length."""
    store = KeyStore(tmp_path / "keys.db")
    _, secret = store.create(NewKey("stored"), time.time())
    store.close()
    kinds: dict[str, Callable[[random.Random], str]] = {
        "like_static": lambda rng: noise(rng, LONG_KEY, -LAST),
        "random_static": lambda rng: noise(rng, LONG_KEY, 0),
        "like_stored": lambda rng: noise(rng, secret, -LAST),
        "random_stored": lambda rng: noise(rng, secret, len(PREFIX)),
        "right": lambda rng: secret,
    }
    with tiny_engines(tmp_path) as engines, closing(engines.subject.connect()) as connection:
        times = refusals(connection, kinds, max(FEWEST_OF_KEYS, scaled(ROUNDS_OF_KEYS)))
    static = compared(times, "like_static", "random_static")
    stored = compared(times, "like_stored", "random_stored")
    right = compared(times, "right", "random_stored")

    told = {"static_z": static, "stored_z": stored, "right_z": right}
    figures.tell("refusals of keys", rounds=len(times["right"]), **milliseconds(times), **told)
    assert abs(right) > MOST_Z, "the measure would not notice a difference"
    assert abs(static) < MOST_Z
    assert abs(stored) < MOST_Z


def noise(rng: random.Random, key: str, kept: int) -> str:
    """Return a key of the same length that is like another in its first characters only."""
    return key[:kept] + "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in key[kept:])


def refusals(
    connection: socket.socket, kinds: dict[str, Callable[[random.Random], str]], rounds: int
) -> dict[str, list[float]]:
    """Return how long the answers to keys of each kind take, every kind once in each round, in any order."""
    rng = random.Random(SEED)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        # Made before any is sent, so that no answer is measured after more work than another.
        asked = [(kind, request(kinds[kind](rng))) for kind in rng.sample(list(kinds), len(kinds))]
        for kind, sent in asked:
            times[kind].append(answer_s(connection, sent, 200 if kind == "right" else 401))
    return times


def request(key: str) -> bytes:
    return f"GET /version HTTP/1.1\r\nhost: abuse\r\nauthorization: Bearer {key}\r\n\r\n".encode()


def answer_s(connection: socket.socket, sent: bytes, status: int) -> float:
    """Ask on an open connection; return how long the answer takes."""
    started = time.perf_counter()
    connection.sendall(sent)
    answer = connection.recv(65536)
    taken_s = time.perf_counter() - started
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    return taken_s
