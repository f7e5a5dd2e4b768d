"""Frames between the API process and an engine process."""

from __future__ import annotations

import pytest

from arriero.core import Delta, FinishReason, GenerateRequest, Span, Usage
from arriero.engine import wire
from arriero.errors import EngineError
from arriero.sampling import Dry, SamplingParams, Temperature, TopK

COMMANDS: list[wire.Command] = [
    wire.Generate(
        1,
        GenerateRequest(
            prompt=(Span(text="Hällo", special=True, shared=True), Span(tokens=(1, 2, 3))),
            sampling=SamplingParams(
                chain=(Dry(multiplier=0.8), TopK(k=3), Temperature()), logit_bias=((5, -1.5),)
            ),
            max_tokens=3,
            stop_sequences=("\n",),
        ),
    ),
    wire.Abort(1),
    wire.Embed(2, ("text", (1, 2)), None),
]


def test_commands_survive_every_cut() -> None:
    """Whatever the cuts, the same commands come out, in order."""
    data = b"".join(map(wire.encode, COMMANDS))
    for size in (1, 2, 3, 7, 64, len(data)):
        frames = wire.Frames()
        bodies = [body for at in range(0, len(data), size) for body in frames.feed(data[at : at + size])]
        assert [wire.command_decoder.decode(body) for body in bodies] == COMMANDS


def test_reports_survive() -> None:
    """A step with its deltas and counters comes out as it went in."""
    last = Delta(text="é", tokens=2, finish_reason=FinishReason.STOP, usage=Usage(1, 2, 0))
    step = wire.Step(((7, Delta(text="a")), (8, last)), wire.EngineStats(steps=3))
    (body,) = wire.Frames().feed(wire.encode(step))
    assert wire.report_decoder.decode(body) == step


def test_an_absurd_length_is_refused() -> None:
    """A frame beyond the bound is an error, not a wait for gigabytes."""
    with pytest.raises(EngineError, match="bytes"):
        wire.Frames().feed(b"\xff\xff\xff\xff")
