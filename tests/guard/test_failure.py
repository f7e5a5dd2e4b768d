"""What callers are told when an upstream refuses or fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arriero.errors import ArrieroError, ContextOverflow, InvalidRequest, Overloaded, PayloadTooLarge
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout, refusal
from arriero.guard.names import Names
from arriero.guard.policy import Policy

UPSTREAM = "meta-llama/Llama-3.1-8B-Instruct"
NAMES = Names(Policy(public_name="pocket_network", upstream_name=UPSTREAM, secrets=("vllm:8000", "vllm")))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, UpstreamFailed),
        (307, UpstreamFailed),
        (400, InvalidRequest),
        (401, UpstreamFailed),
        (403, UpstreamFailed),
        (404, UpstreamFailed),
        (405, UpstreamFailed),
        (408, UpstreamTimeout),
        (409, InvalidRequest),
        (410, UpstreamFailed),
        (413, PayloadTooLarge),
        (415, UpstreamFailed),
        (422, InvalidRequest),
        (429, Overloaded),
        (500, UpstreamFailed),
        (502, UpstreamFailed),
        (503, Overloaded),
        (504, UpstreamTimeout),
        (599, UpstreamFailed),
    ],
)
def test_status_says_whose_fault_it_is(status: int, kind: type[ArrieroError]) -> None:
    """A caller's fault stays one; a wrong key or path is the operator's, and no body of it is told."""
    body = f'{{"error":{{"message":"The model `{UPSTREAM}` at http://vllm:8000 does not exist."}}}}'

    error = refusal(status, body.encode(), NAMES)

    assert type(error) is kind
    assert "lama" not in error.message
    assert "vllm" not in error.message


@pytest.mark.parametrize(
    ("answer", "message", "param"),
    [
        ({"error": {"message": f"bad {UPSTREAM}", "param": "seed"}}, "bad pocket_network", "seed"),
        ({"error": "bad"}, "bad", None),
        ({"object": "error", "message": "bad", "param": "x"}, "bad", "x"),
        ({"detail": "bad"}, "bad", None),
        ({"detail": [{"loc": ["body", "n"]}]}, '[{"loc":["body","n"]}]', None),
        ("bad", "bad", None),
        (
            {"error": {"message": "see /srv/models/llama/x.py:7 on 10.1.2.3"}},
            "see [upstream]:7 on [upstream]",
            None,
        ),
        ({"error": {"message": "x" * 5000}}, "x" * 2000, None),
        ({"error": None}, "the upstream refused the request", None),
        ({}, "the upstream refused the request", None),
        ([1], "the upstream refused the request", None),
    ],
)
def test_refusals_of_every_form_are_read(answer: Any, message: str, param: str | None) -> None:
    """Whatever form an upstream's refusal has, its message comes through clean."""
    error = refusal(400, json.dumps(answer).encode(), NAMES)

    assert isinstance(error, InvalidRequest)
    assert (error.message, error.param) == (message, param)


@pytest.mark.parametrize("body", [b"", b"Bad Request", b"<html>vllm:8000</html>", b"\xff", b"[" * 100_000])
def test_refusals_that_cannot_be_read(body: bytes) -> None:
    """A refusal that is not JSON is told in our words."""
    assert refusal(400, body, NAMES).message == "the upstream refused the request"


@pytest.mark.parametrize(
    "said",
    [
        {"message": "This model's maximum context length is 4096 tokens. However, you requested 9999"},
        {"message": "too long", "code": "context_length_exceeded"},
    ],
)
def test_long_prompts_are_named(said: dict[str, str]) -> None:
    """A prompt that the upstream finds too long is refused with the word that clients know."""
    assert isinstance(refusal(400, json.dumps({"error": said}).encode(), NAMES), ContextOverflow)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("", 1), ("7", 7), ("0", 1), ("99999", 600), ("999999", 1), ("-1", 1), ("soon", 1), ("9" * 50, 1)],
)
def test_hint_to_try_again_is_bounded(retry_after: str, seconds: int) -> None:
    """An overloaded upstream's hint is passed on within reason."""
    error = refusal(429, b"", NAMES, retry_after=retry_after)

    assert isinstance(error, Overloaded)
    assert error.retry_after_s == seconds
