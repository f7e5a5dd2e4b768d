"""Every member of every JSON body of the OpenAPI document, with values at its bounds and past them."""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.abuse.bodies import GOOD
from tests.abuse.subject import KEY, Subject, post, scaled
from tests.abuse.test_bodies import Asker

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

PAIRS = 5_000
LONGEST_S = 5.0
"""For a busy machine, and answers of a hundred tokens."""
RAW = [
    "null", "true", "false", "0", "-0", "-1", "1", "2", "0.5", "-0.5", "1.0", "1e308", "-1e308", "5e-324",
    "1e999", "9007199254740993", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808",
    "-9223372036854775809", "18446744073709551616", "NaN", "Infinity", '""', '"1"', '"a"', '"\\u0000"',
    "[]", "[null]", '["a"]', "[-1]", "[[1]]", "{}", '{"a":1}', '{"1":1e999}', '{"-1":1}', '{"1":101}',
    "[" + ",".join(["1"] * 100_000) + "]", '"' + "a" * 100_000 + '"', "1" * 400, "[" * 200 + "]" * 200,
    "[" + ",".join(['"a"'] * 100_000) + "]",
]  # fmt: skip
ROUTES = [route for route in GOOD if not route.startswith("/v1/task")]


def members(subject: Subject, route: str) -> list[str]:
    """Return the members that the OpenAPI document names for a route's body, and one that it does not."""
    with closing(Asker(subject)) as asker:
        ask = f"GET /openapi.json HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\r\n"
        document = msgspec.json.decode(asker.answer(ask.encode())[2])
    template = route.replace("/model/m/", "/model/{model}/")
    schema = document["paths"][template]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return [*sorted(properties(document, schema)), "nothing_of_this_name"]


def properties(document: dict[str, Any], schema: dict[str, Any]) -> set[str]:
    """Return the members of an object, whatever it is put together from."""
    if "$ref" in schema:
        return properties(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    parts = [part for name in ("allOf", "anyOf", "oneOf") for part in schema.get(name, ())]
    return set(schema.get("properties", ())).union(*(properties(document, part) for part in parts))


def changed(route: str, odd: dict[str, str]) -> bytes:
    """Return a good body with other values, which are given as they are written."""
    good = {name: value for name, value in GOOD[route].items() if name in NEEDED and name not in odd}
    parts = [
        f"{msgspec.json.encode(name).decode()}:{msgspec.json.encode(good[name]).decode()}" for name in good
    ]
    return ("{" + ",".join([*parts, *(f'"{name}":{value}' for name, value in odd.items())]) + "}").encode()


TOO_MANY = b"lists, objects and texts"
"""What is said of a body of too many parts, wherever in it they stand."""
NEEDED = {"model", "messages", "prompt", "input", "text", "tokens", "max_tokens"}


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_each_member_at_its_bounds(subject: Subject, figures: Figures, route: str) -> None:
    """It is served, or refused at once by the name of the member; never a failure, never a hang."""
    statuses: Counter[int] = Counter()
    refusals: list[float] = []
    unnamed: list[tuple[str, str, bytes]] = []
    longest_s = 0.0
    with closing(Asker(subject)) as asker:
        for name in members(subject, route):
            for value in RAW:
                started = time.monotonic()
                status, _, answer = asker.answer(post(route, changed(route, {name: value})))
                took_s = time.monotonic() - started
                statuses[status] += 1
                longest_s = max(longest_s, took_s)
                assert status == 200 or 400 <= status < 500, (name, value[:100], status, answer[:500])
                if status != 200:
                    refusals.append(took_s)
                    is_named = name.encode() in answer or TOO_MANY in answer
                    if not is_named and value != '""' and is_json(value):
                        unnamed.append((name, value[:40], answer[:200]))

    figures.tell(
        f"members at their bounds, {route}",
        statuses={str(status): count for status, count in sorted(statuses.items())},
        refusal_median_ms=sorted(refusals)[len(refusals) // 2] * 1e3,
        longest_answer_s=longest_s,
    )
    assert not unnamed, unnamed[:5]
    assert longest_s < LONGEST_S


def is_json(value: str) -> bool:
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


@pytest.mark.slow
def test_members_in_pairs(subject: Subject, figures: Figures) -> None:
    """Two odd values at a time: each answer is one of 200 and 4xx."""
    rng = random.Random(25)
    statuses: Counter[int] = Counter()
    names = {route: members(subject, route) for route in ROUTES}
    short = [value for value in RAW if len(value) < 1000]
    with closing(Asker(subject)) as asker:
        for _ in range(scaled(PAIRS)):
            route = rng.choice(ROUTES)
            pair = rng.sample(names[route], min(2, len(names[route])))
            body = changed(route, {name: rng.choice(short) for name in pair})
            status, _, answer = asker.answer(post(route, body))
            statuses[status] += 1
            assert status == 200 or 400 <= status < 500, (route, body, status, answer[:500])

    figures.tell(
        "members in pairs",
        statuses={str(status): count for status, count in sorted(statuses.items())},
    )
