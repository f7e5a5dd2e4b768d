"""Whole answers: the public name, untouched numbers, and nothing that was not understood."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arriero.guard.answer import rewritten_answer
from arriero.guard.failure import UpstreamFailed
from arriero.guard.names import Names
from arriero.guard.policy import Policy
from arriero.guard.routes import Route
from arriero.guard.shapes import Telling

UPSTREAM = "meta-llama/Llama-3.1-8B-Instruct"
PUBLIC = "pocket_network"
NAMES = Names(Policy(public_name=PUBLIC, upstream_name=UPSTREAM))


def told(route: Route, text: str, *, logprobs: bool = False) -> str:
    return rewritten_answer(route, text.encode(), Telling(NAMES, logprobs=logprobs)).decode()


def test_completion_names_the_public_model() -> None:
    """Name and tell-tales change; text that was generated does not, even when it is the name."""
    text = f'"text":"\\u0049 am {UPSTREAM}","finish_reason":"stop","stop_reason":null,"token_ids":[1]'
    answer = (
        f'{{"id":"c","model":"{UPSTREAM}","system_fingerprint":"vllm-H100","metrics":{{"gpu":1}},'
        f'"prompt_token_ids":[1],"kv_transfer_params":null,"choices":[{{"index":0,{text},"logprobs":null}}],'
        '"usage":{"prompt_tokens":1}}'
    )

    assert told(Route.COMPLETIONS, answer) == (
        f'{{"id":"c","model":"{PUBLIC}","system_fingerprint":null,'
        f'"choices":[{{"index":0,"text":"\\u0049 am {UPSTREAM}","finish_reason":"stop","stop_reason":null,'
        '"logprobs":null}],"usage":{"prompt_tokens":1}}'
    )


def test_logprobs_keep_their_digits_where_allowed() -> None:
    """Log probabilities come through to the last digit, with the null that comes first."""
    spelt = '{"token_logprobs":[null,-0.10000000000000001],"top_logprobs":[null,{"a":-1E-7}]}'
    answer = f'{{"model":"m","choices":[{{"text":"a","logprobs":{spelt}}}]}}'

    assert spelt in told(Route.COMPLETIONS, answer, logprobs=True)
    assert json.loads(told(Route.COMPLETIONS, answer))["choices"] == [{"text": "a", "logprobs": None}]


@pytest.mark.parametrize("vector", ["[0.10,-1.0E-05,0.333333333333333314829616256247]", '"AAAAPw=="'])
def test_vectors_keep_their_digits(vector: str) -> None:
    """Vectors come through byte for byte."""
    answer = f'{{"object":"list","data":[{{"index":0,"embedding":{vector}}}],"model":"{UPSTREAM}","x":1}}'

    assert told(Route.EMBEDDINGS, answer) == (
        f'{{"object":"list","data":[{{"index":0,"embedding":{vector}}}],"model":"{PUBLIC}"}}'
    )


@pytest.mark.parametrize(
    ("route", "answer", "expected"),
    [
        (
            Route.RERANK,
            {
                "id": "r",
                "model": UPSTREAM,
                "results": [{"index": 1, "relevance_score": 0.5, "document": "d"}],
            },
            {"id": "r", "model": PUBLIC, "results": [{"index": 1, "relevance_score": 0.5, "document": "d"}]},
        ),
        (
            Route.MODELS,
            {
                "object": "list",
                "data": [{"id": UPSTREAM, "root": UPSTREAM, "parent": "x", "max_model_len": 9}],
            },
            {"object": "list", "data": [{"id": PUBLIC}]},
        ),
        (Route.TOKENIZE, {"count": 2, "max_model_len": 9, "tokens": [1, 2]}, {"count": 2, "tokens": [1, 2]}),
        (
            Route.RESPONSES,
            {"model": UPSTREAM, "error": None, "output": [{"id": f"msg-{UPSTREAM}", "host": "h"}]},
            {"model": PUBLIC, "error": None, "output": [{"id": f"msg-{PUBLIC}"}]},
        ),
        (
            Route.CHAT,
            {"choices": [{"message": {"content": UPSTREAM, "novelty": UPSTREAM}}]},
            {"choices": [{"message": {"content": UPSTREAM, "novelty": PUBLIC}}]},
        ),
    ],
)
def test_answers_of_each_route(route: Route, answer: Any, expected: Any) -> None:
    """Each route tells what its shape lists; inside messages, what is unknown is cleaned."""
    assert json.loads(told(route, json.dumps(answer))) == expected


def test_the_reason_of_an_incomplete_response_names_nobody() -> None:
    """Addresses and paths in it are cleaned as in any error text."""
    said = {"output": [], "incomplete_details": {"reason": f"{UPSTREAM} at http://10.0.0.3:8000/v1"}}

    expected = {"output": [], "incomplete_details": {"reason": f"{PUBLIC} at [upstream]"}}
    assert json.loads(told(Route.RESPONSES, json.dumps(said))) == expected


def test_empty_answer_stays_empty() -> None:
    """An answer without a body has none."""
    assert told(Route.CHAT, "") == ""


@pytest.mark.parametrize(
    "body",
    [
        b"<html>ok</html>",
        b"[1]",
        b'"meta-llama"',
        b"{}",
        b'{"model":"m"}',
        b'{"choices":[]',
        b'{"choices":[{"text":"\xff"}]}',
        b'{"choices":[{"text":"\\ud800"}]}',
        b'{"choices":[]}{"choices":[]}',
        b'{"error":{"message":"meta-llama/Llama-3.1-8B-Instruct"},"choices":[]}',
        b'{"object":"error","message":"/models/x/y failed","choices":[]}',
        b'{"choices":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_a_failure(body: bytes) -> None:
    """What is not JSON of the route, or an error with a good status, is the upstream's failure."""
    with pytest.raises(UpstreamFailed) as caught:
        rewritten_answer(Route.CHAT, body, Telling(NAMES, logprobs=False))

    assert "lama" not in caught.value.message
    assert "/models" not in caught.value.message
