"""The guard's rules for models that run here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arriero.config.load import parse_config
from arriero.errors import InvalidRequest
from arriero.guard.local import has_rules, local_policy, ruled
from arriero.guard.policy import OverLimit
from arriero.guard.routes import Route


def sent(route: Route, members: dict[str, Any], keys: str, *, has_own_limit: bool = False) -> dict[str, Any]:
    """Return what is left of a request under a model's keys."""
    model = parse_config(f"[models.m]\nurl = 'http://h.example/m'\n{keys}\n", {}).local_models["m"]
    text = {"messages": [{"role": "user", "content": "x"}]} if route is Route.CHAT else {"prompt": "x"}
    body = json.dumps({"model": "m", **text, **members}).encode()
    told = json.loads(ruled(route, body, local_policy("m", model), has_own_limit=has_own_limit)[0])
    return {name: value for name, value in told.items() if name not in {"model", *text}}


CHAT, COMPLETIONS = Route.CHAT, Route.COMPLETIONS
NO_LOGPROBS = "allow_logprobs = false"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", False),
        ("public_name = 'p'", False),
        ("over_limit = 'reject'", False),
        ("max_tokens = 1", True),
        (NO_LOGPROBS, True),
        ("max_n = 15", True),
    ],
)
def test_which_keys_are_rules(keys: str, expected: bool) -> None:
    """A name is no rule, and a way to treat limits none without a limit."""
    model = parse_config(f"[models.m]\nurl = 'http://h.example/m'\n{keys}\n", {}).local_models["m"]

    assert has_rules(model) is expected


def test_the_policy_of_a_configuration() -> None:
    """The keys of the model are its rules, under the name that callers know."""
    text = (
        "[models.m]\nurl = 'http://h.example/m'\npublic_name = 'p'\nmax_tokens = 3\nover_limit = 'reject'\n"
    )
    policy = local_policy("m", parse_config(text + "max_n = 2\n", {}).local_models["m"])

    assert (policy.public_name, policy.max_tokens, policy.max_n) == ("p", 3, 2)
    assert (policy.allow_logprobs, policy.over_limit) == (True, OverLimit.REJECT)


@pytest.mark.parametrize("route", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    "members",
    [
        {"logprobs": True},
        {"logprobs": 0},
        {"logprobs": 5},
        {"logprobs": "1"},
        {"logprobs": True, "top_logprobs": 3},
        {"top_logprobs": 1},
        {"prompt_logprobs": 1},
        {"echo": True},
        {"echo": 1},
        {"return_token_ids": True},
        {"return_tokens_as_token_ids": True},
        {"logprob_token_ids": [1]},
    ],
)
def test_log_probabilities_are_refused(route: Route, members: dict[str, Any]) -> None:
    """In every spelling and by every side door, by the name of the member."""
    with pytest.raises(InvalidRequest, match="not allowed for this model") as caught:
        sent(route, members, NO_LOGPROBS)

    assert caught.value.param in members


@pytest.mark.parametrize(
    "members", [{"logprobs": False}, {"logprobs": None}, {"top_logprobs": 0}, {"echo": False}]
)
def test_what_asks_for_nothing_is_left_out(members: dict[str, Any]) -> None:
    """Clients write such defaults."""
    assert sent(CHAT, members, NO_LOGPROBS) == {}


CROP, REJECT = "max_tokens = 8", "max_tokens = 8\nover_limit = 'reject'"


@pytest.mark.parametrize(
    ("route", "members", "expected"),
    [
        (CHAT, {}, {"max_tokens": 8}),
        (CHAT, {"max_tokens": None}, {"max_tokens": 8}),
        (CHAT, {"max_tokens": 5}, {"max_tokens": 5}),
        (CHAT, {"max_tokens": 9}, {"max_tokens": 8}),
        (CHAT, {"max_completion_tokens": 9}, {"max_completion_tokens": 8}),
        (CHAT, {"max_completion_tokens": 9, "max_tokens": 7}, {"max_completion_tokens": 8, "max_tokens": 7}),
        (CHAT, {"max_tokens": 9, "min_tokens": 9}, {"max_tokens": 8, "min_tokens": 8}),
        (COMPLETIONS, {}, {"max_tokens": 8}),
        (COMPLETIONS, {"max_tokens": 10**30}, {"max_tokens": 8}),
    ],
)
def test_limits_are_cropped(route: Route, members: dict[str, Any], expected: dict[str, Any]) -> None:
    """In every spelling; a request without a limit gets the model's."""
    assert sent(route, members, CROP) == expected


@pytest.mark.parametrize(
    ("route", "members"),
    [
        (CHAT, {"max_tokens": 9}),
        (CHAT, {"max_completion_tokens": 9}),
        (CHAT, {"max_tokens": 8, "min_tokens": 9}),
        (COMPLETIONS, {"max_tokens": 9}),
        (CHAT, {"max_tokens": 0}),
        (CHAT, {"max_tokens": -1}),
        (CHAT, {"max_tokens": "9"}),
        (CHAT, {"max_tokens": 9.0}),
        (CHAT, {"max_tokens": True}),
    ],
)
def test_limits_are_refused(route: Route, members: dict[str, Any]) -> None:
    """Over the model's where it says so, and what is no whole number always."""
    with pytest.raises(InvalidRequest):
        sent(route, members, REJECT)


def test_what_is_bounded_already_gets_no_limit() -> None:
    """A task bounds its answers itself; what a caller asks for is checked all the same."""
    assert sent(COMPLETIONS, {}, CROP, has_own_limit=True) == {}
    assert sent(COMPLETIONS, {"max_tokens": 9}, CROP, has_own_limit=True) == {"max_tokens": 8}


@pytest.mark.parametrize(
    ("n", "words"), [(3, "at most 2"), (0, "at least 1"), ("2", "whole number"), (1.5, "whole")]
)
def test_answers_to_one_prompt_are_bounded(n: object, words: str) -> None:
    """`n` is a whole number up to the model's."""
    assert sent(CHAT, {"n": 2}, "max_n = 2") == {"n": 2}
    with pytest.raises(InvalidRequest, match=words) as caught:
        sent(CHAT, {"n": n}, "max_n = 2")

    assert caught.value.param == "n"
