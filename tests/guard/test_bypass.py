"""Every way around the policy that is known: each is refused, or loses its force."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from tests.guard.guarded import LIMIT, LIMIT_OF, TEXT, UPSTREAM, check, sent

from arriero.errors import InvalidRequest
from arriero.guard.policy import OverLimit
from arriero.guard.routes import GENERATING, Route

HUGE = "1" + "0" * 40
BAD_NUMBERS = ("1e9", "5000.0", "1.0", '"5000"', "-1", "true", "false", "[]", "{}", "[5000]", '""')
LOGPROBS = {
    "logprobs": ("true", "0", "5", '"5"', "1.0", "[]", "{}", '""'),
    "top_logprobs": ("1", "20", "-1", '"0"', "0.0", "true"),
    "prompt_logprobs": ("0", "1", "-1", '"0"', "true", "0.0"),
    "logprob_token_ids": ("[1]", "[]", '"1"'),
    "echo": ("true", "1", '"true"', "0", '"false"'),
    "return_token_ids": ("true", "1", '"yes"'),
    "return_tokens_as_token_ids": ("true", "1", '"on"'),
}


def spellings(name: str) -> list[str]:
    """A member's name as it can be written in JSON."""
    first = f"\\u{ord(name[0]):04x}{name[1:]}"
    last = f"{name[:-1]}\\u{ord(name[-1]):04X}"
    return [name, first, last]


def limit_attempts() -> list[tuple[Route, str, str]]:
    attempts = []
    for route, names in {
        Route.CHAT: ("max_tokens", "max_completion_tokens", "min_tokens", "n", "best_of"),
        Route.COMPLETIONS: ("max_tokens", "min_tokens", "n", "best_of"),
        Route.RESPONSES: ("max_output_tokens",),
    }.items():
        for name, value in itertools.product(names, BAD_NUMBERS):
            attempts += [(route, name, f'"{spelt}":{value}') for spelt in spellings(name)[:2]]
        attempts += [(route, name, f'"{name}":{value}') for name in names for value in (HUGE, "10000")]
    return attempts


def logprob_attempts() -> list[tuple[Route, str, str]]:
    attempts = []
    for route in (Route.CHAT, Route.COMPLETIONS):
        for name, values in LOGPROBS.items():
            if name == "top_logprobs" and route is Route.COMPLETIONS:
                continue  # not on the list of the route: left out
            attempts += [
                (route, name, f'"{spelt}":{value}') for value in values for spelt in spellings(name)[:2]
            ]
    attempts += [(Route.RESPONSES, "top_logprobs", f'"top_logprobs":{value}') for value in ("1", "20", '"1"')]
    attempts += [
        (Route.RESPONSES, "include", f'"include":{value}')
        for value in (
            '["message.output_text.logprobs"]',
            '["message.output_text.\\u006cogprobs"]',
            '["Message.Output_Text.LogProbs"]',
            '"message.output_text.logprobs"',
            '{"message.output_text.logprobs":1}',
            "[1]",
        )
    ]
    return attempts


def unseen_attempts() -> list[tuple[Route, str, str]]:
    """Members that no upstream may see, on every route."""
    names = [
        "extra_body",
        "extra_query",
        "extra_headers",
        "vllm_xargs",
        "kv_transfer_params",
        "ec_transfer_params",
        "lora",
        "lora_request",
        "adapters",
        "adapter_id",
        "lora_path",
        "prompt_embeds",
        "prompt_token_ids",
        "request_id",
        "priority",
        "session_id",
        "mm_processor_kwargs",
        "media_io_kwargs",
        "logits_processors",
        "guided_decoding_backend",
        "return_prompt_text",
        "return_routed_experts",
        "routed_experts",
        "n_predict",
        "max_new_tokens",
        "sampling_params",
        "Max_Tokens",
        "MAX_TOKENS",
        "Model",
        "LOGPROBS",
        "Logprobs",
        "maxTokens",
        "__proto__",
        "texts",
        "data_1",
        "tokenizer",
        "return_hidden_states",
        "return_text_in_logprobs",
        "top_logprobs_num",
        "logprob_start_len",
    ]
    values = ('{"model":"m","max_tokens":999999,"logprobs":5}', "true")
    routes = (Route.CHAT, Route.COMPLETIONS, Route.RESPONSES)
    return [(route, name, f'"{name}":{value}') for route in routes for name in names for value in values]


def switch_attempts() -> list[tuple[Route, str, str]]:
    attempts = [(Route.CHAT, "chat_template", '"chat_template":"{{ 1 }}"')]
    attempts += [
        (Route.RESPONSES, name, f'"{spelt}":{value}')
        for name in ("previous_response_id", "conversation", "prompt", "background")
        for value in ('"resp_1"', "true", "{}", "1")
        for spelt in spellings(name)
    ]
    attempts += [
        (route, "stream", f'"stream":{value}')
        for route in (Route.CHAT, Route.COMPLETIONS, Route.RESPONSES)
        for value in ("1", "0", '"true"', '"yes"', "[]", "{}")
    ]
    attempts += [
        (Route.CHAT, "chat_template_kwargs", f'"chat_template_kwargs":{{"{name}":"x"}}')
        for name in (
            "chat_template",
            "tokenize",
            "tokenizer",
            "return_dict",
            "template",
            "ch\\u0061t_template",
        )
    ]
    attempts += [(Route.CHAT, "chat_template_kwargs", '"chat_template_kwargs":[["tokenize",true]]')]
    return attempts


REFUSED = [*limit_attempts(), *logprob_attempts(), *switch_attempts()]
CROPPED = {
    f'"{name}":{value}'
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")
    for value in (HUGE, "10000")
} | {f'"min_tokens":{value}' for value in (HUGE, "10000")}


@pytest.mark.parametrize(("route", "name", "member"), REFUSED)
@pytest.mark.parametrize("over_limit", OverLimit)
def test_attempt_is_stopped(route: Route, name: str, member: str, over_limit: OverLimit) -> None:
    """A limit or a log probability in any spelling is refused by name, or cropped where that is asked."""
    if over_limit is OverLimit.CROP and member in CROPPED:
        body = sent(route, member, over_limit=over_limit)
        assert body[name] <= LIMIT
        return

    with pytest.raises(InvalidRequest) as caught:
        sent(route, member, over_limit=over_limit)

    assert (caught.value.param or "").startswith(name)


@pytest.mark.parametrize(("route", "name", "member"), unseen_attempts())
def test_attempt_is_not_sent(route: Route, name: str, member: str) -> None:
    """A member that no upstream may see is not sent, in its own spelling or in escapes."""
    escaped = member.replace(name, spellings(name)[1], 1)

    for spelt in (member, escaped):
        body = sent(route, spelt)
        assert set(body) == {*json.loads(f"{{{TEXT[route]}}}"), "model", LIMIT_OF[route]}


@pytest.mark.parametrize("route", sorted(GENERATING, key=str))
@pytest.mark.parametrize(
    "other",
    [
        '"max_tokens":1,"max_tokens":99999',
        '"model":"m","model":"other"',
        '"model":"m","\\u006dodel":"other"',
        '"m\\u006fdel":"m","\\u006d\\u006fdel":"other"',
        '"logprobs":null,"logprobs":5',
        '"logprobs":null,"logpro\\u0062s":5',
        '"metadata":{"a":1,"a":2}',
        '"metadata":[{"a":{"b":1,"\\u0062":2}}]',
    ],
)
def test_member_that_is_there_twice_is_refused(route: Route, other: str) -> None:
    """A name that is there twice is refused at every depth and in every spelling."""
    with pytest.raises(InvalidRequest, match="twice"):
        sent(route, other)


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (Route.EMBEDDINGS, {"input": ["a"] * 101}),
        (Route.EMBEDDINGS, {"input": [[1]] * 101}),
        (Route.EMBEDDINGS, {"input": [[1, 2], "a"]}),
        (Route.EMBEDDINGS, {"input": [["a"] * 101]}),
        (Route.EMBEDDINGS, {"input": {"content": ["a"] * 101}}),
        (Route.EMBEDDINGS, {"input": []}),
        (Route.EMBEDDINGS, {"input": [True]}),
        (Route.EMBEDDINGS, {"input": ["a"], "messages": [{}]}),
        (Route.EMBEDDINGS, {"texts": ["a"] * 101}),
        (Route.EMBEDDINGS, {"input": "a", "encoding_format": "bytes"}),
        (Route.RERANK, {"query": "q", "documents": ["d"] * 101}),
        (Route.RERANK, {"query": "q", "documents": {"content": [{}] * 101}}),
        (Route.RERANK, {"query": "q", "documents": {"content": [{}], "more": ["d"] * 101}}),
        (Route.RERANK, {"query": "q", "documents": "d"}),
        (Route.RERANK, {"query": "q", "documents": []}),
        (Route.RERANK, {"query": ["q"] * 2, "documents": ["d"]}),
        (Route.RERANK, {"query": {"content": [{}, {}]}, "documents": ["d"]}),
        (Route.RERANK, {"documents": ["d"]}),
        (Route.COMPLETIONS, {"prompt": ["p"] * 9}),
        (Route.COMPLETIONS, {"prompt": [[1]] * 9}),
        (Route.COMPLETIONS, {"prompt": [[1], []]}),
        (Route.COMPLETIONS, {"prompt": [1, "a"]}),
        (Route.COMPLETIONS, {"prompt": [1.0]}),
        (Route.COMPLETIONS, {"prompt": None}),
        (Route.COMPLETIONS, {"prompt_embeds": "AAAA"}),
        (Route.COMPLETIONS, {"prompt": "p", "n": 2, "best_of": 1}),
        (Route.COMPLETIONS, {"prompt": "p", "max_tokens": 0}),
        (Route.CHAT, {"messages": "Hi"}),
        (Route.CHAT, {"messages": {"role": "user"}}),
        (Route.CHAT, {"messages": []}),
        (Route.CHAT, {"messages": [{}], "max_tokens": 0}),
        (Route.CHAT, {"messages": [{}], "max_completion_tokens": 0}),
        (Route.CHAT, {"prompt": "Hi"}),
        (Route.RESPONSES, {"input": {}}),
        (Route.RESPONSES, {"input": []}),
        (Route.RESPONSES, {"messages": [{}]}),
        (Route.TOKENIZE, {"prompt": "a", "messages": [{}]}),
        (Route.TOKENIZE, {}),
    ],
)
def test_batch_over_its_limit_is_refused(route: Route, text: dict[str, Any]) -> None:
    """Too many of anything, or anything in an unknown form, is refused."""
    with pytest.raises(InvalidRequest):
        check(route, json.dumps(text))


NUMBERS = [None, -1, 0, 1, 3, 5, 16, 1024, 1025, 99999, 10**30, 1.0, 1e3, True, False, "7", [1], {}]
NUMBERED = ["max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens", "n", "best_of"]
TELLING = ["logprobs", "top_logprobs", "prompt_logprobs", "echo", "return_token_ids", "logprob_token_ids"]
OTHERS = ["stream", "model", "x", "priority", "temperature", "seed", "include", "stream_options"]


def obeys(route: Route, body: dict[str, Any]) -> bool:
    """Say whether an upstream may see this body under the policy of these tests."""
    limits = [body[name] for name in NUMBERED[:3] if name in body]
    return (
        body["model"] == UPSTREAM
        and bool(limits)
        and all(type(limit) is int and 1 <= limit <= LIMIT for limit in limits)
        and (type(least := body.get("min_tokens", 0)) is int and 0 <= least <= max(limits))
        and all(type(body.get(name, 1)) is int and 1 <= body.get(name, 1) <= 4 for name in ("n", "best_of"))
        and not set(TELLING) & body.keys()
        and not {"x", "priority"} & body.keys()
        and isinstance(body.get("stream", False), bool)
    )


@pytest.mark.parametrize("route", sorted(GENERATING, key=str))
def test_whatever_is_sent_obeys_the_policy(route: Route) -> None:
    """Of any mix of members, an upstream sees none that the policy does not allow."""
    dice = random.Random(5)
    seen = 0
    for _ in range(3000):
        names = dice.sample([*NUMBERED, *TELLING, *OTHERS], dice.randrange(5))
        members = json.dumps({name: dice.choice(NUMBERS) for name in names})[1:-1]
        try:
            body = sent(route, members) if members else sent(route, '"seed":1')
        except InvalidRequest:
            continue
        seen += 1
        assert obeys(route, body), members
    assert seen > 300


def test_more_than_400_ways_are_tried() -> None:
    """The table of ways around the policy does not shrink."""
    assert 2 * len(REFUSED) + len(unseen_attempts()) >= 400
