"""What is counted of one request."""

from __future__ import annotations

import pytest

from arriero.core import Delta, FinishReason, Usage
from arriero.server.record import GuardedMeter, Meter, Record

LAST = Delta(finish_reason=FinishReason.STOP, usage=Usage(10, 5, 4))


def test_a_finished_completion_counts_as_it_is_told() -> None:
    """The usage of the last delta stands, whatever came before it."""
    meter = Meter(prompt_size=4000)
    for delta in (Delta(text="a", tokens=1), Delta(text="b", tokens=1), LAST):
        meter.add(0, delta)

    assert meter.used() == meter.told() == Usage(10, 5, 4)
    assert len(meter.stamps[0]) == 3


def test_a_completion_that_was_left_counts_what_came() -> None:
    """The tokens so far, and a prompt that is estimated by its size."""
    meter = Meter(prompt_size=401)
    meter.add(0, Delta(text="a", tokens=3))
    meter.add(0, Delta(text="of an upstream"))

    assert meter.used() == Usage(prompt_tokens=101, completion_tokens=4)
    assert meter.told() == Usage()


def test_what_never_began_costs_nothing() -> None:
    """A request that was refused, or was left while it waited, has used no tokens."""
    assert Meter(prompt_size=400).used() == Usage()
    assert GuardedMeter(400).used() == Usage()


def test_the_prompt_of_several_choices_counts_once() -> None:
    """Completions add up, the prompt does not."""
    meter = Meter(4, num_choices=2)
    for index in range(4):
        meter.add(index, LAST)

    assert meter.told() == Usage(20, 20, 8)


TOLD = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens": 3,"total_tokens":10}}\n\n'

ENDED = b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4}'


@pytest.mark.parametrize(
    ("pieces", "expected", "reason"),
    [
        ([b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":7}}'], Usage(7, 0), "stop"),
        ([ENDED + b"}"], Usage(9, 4), "stop"),
        ([ENDED + b"}\n\n", TOLD], Usage(7, 3), "stop"),
        ([ENDED.replace(b'"prompt', b'"total_tokens":13,"prompt') + b"}"], Usage(9, 4), "stop"),
        ([ENDED.replace(b',"completion', b',"total_tokens":13,"completion') + b"}"], Usage(9, 4), "stop"),
        ([b"data: {}\n\n", TOLD, b"data: [DONE]\n\n"], Usage(7, 3), ""),
        ([b"data: {}\n\n", TOLD + b"data: [DONE]\n\n"], Usage(7, 3), ""),
        ([b'{"usage":{"input_tokens":7,"output_tokens":3}}'], Usage(7, 3), ""),
        ([b"data: {}\n\n", b"data: {}\n\n", b"data: [DONE]\n\n"], Usage(100, 3), ""),
        ([rb'{"text":"\"usage\":{\"prompt_tokens\":1}"}'], Usage(100, 1), ""),
        ([b'{"finish_reason":"secret"}'], Usage(100, 1), ""),
    ],
)
def test_usage_of_an_upstream(pieces: list[bytes], expected: Usage, reason: str) -> None:
    """Told usage counts, also from the last but one piece; else pieces do. No text passes for usage."""
    meter = GuardedMeter(400)
    for piece in pieces:
        meter.add(piece)

    assert meter.used() == expected
    assert meter.finish_reason == reason


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (b'data: {"error":{"message":"x"}}\n\n', True),
        (b'event: error\ndata: {"type":"error"}\n\n', True),
        (b'{"error":{"message":"x"}}\n', True),
        (rb'data: {"text":"{\"error\":"}' + b"\n\n", False),
        (b"data: [DONE]\n\n", False),
    ],
)
def test_a_stream_that_failed_is_known(last: bytes, expected: bool) -> None:
    """The event of an error is one; a text that speaks of errors is none."""
    meter = GuardedMeter(1)
    meter.add(last)

    assert meter.has_failed is expected


def test_a_request_adds_up_its_parts() -> None:
    """Completions, an upstream's answer and embeddings count together."""
    record = Record()
    record.turn("abcd").add(0, LAST)
    record.extra = Usage(prompt_tokens=2)

    assert record.used() == Usage(12, 5, 4)
    assert record.finish_reason == "stop"
