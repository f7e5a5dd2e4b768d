"""What comes of an upstream's answer, however it is cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from arriero.core import FinishReason, Usage
from arriero.errors import EngineError
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.tasks.remote_answer import Answer

DONE = b"data: [DONE]\n\n"


def event(payload: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(payload) + b"\n\n"


def text(said: str, finish: str | None = None, **members: Any) -> bytes:
    return event({"choices": [{"index": 0, "text": said, "finish_reason": finish, **members}]})


USAGE = event(
    {
        "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
    }
)
STREAM = text("Grüße") + b":\n\n" + text(", Welt") + text("", "stop") + USAGE + DONE


def answer(*stops: str, privates: tuple[str, ...] = (), constrained: bool = False) -> Answer:
    return Answer(stops, privates, constrained=constrained)


def fed(reader: Answer, *pieces: bytes) -> str:
    return "".join([*map(reader.feed, pieces), reader.end()])


def test_a_stream_is_read_at_every_cut() -> None:
    """Text, end and usage are the same wherever the bytes were cut."""
    for place in range(1, len(STREAM)):
        reader = answer()
        pieces = [STREAM[start:end] for start, end in pairwise([0, place, len(STREAM)])]

        assert fed(reader, *pieces) == "Grüße, Welt" == reader.text
        assert (reader.finish_reason, reader.stop_sequence) == (FinishReason.STOP, None)
        assert reader.usage == Usage(3, 2, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"text": "Hi", "finish_reason": "length"}], "usage": {"prompt_tokens": 1}},
        {"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "length"}]},
        {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "length"}]},
    ],
)
def test_every_form_of_an_answer(body: dict[str, Any]) -> None:
    """A whole answer is read as well, of completions and of chats."""
    reader = answer()

    assert reader.whole(msgspec.json.encode(body)) + reader.end() == "Hi"
    assert reader.finish_reason is FinishReason.LENGTH


def test_stop_sequences_end_the_answer_here_too() -> None:
    """One that comes in pieces is not shown; an upstream that goes on is to be let go."""
    reader = answer("END")

    assert [reader.feed(text(said)) for said in ("a E", "N", "D b")] == ["a ", "", ""]
    assert (reader.stop_sequence, reader.finish_reason, reader.is_cut) == ("END", FinishReason.STOP, False)
    assert reader.feed(text("c")) == ""
    assert reader.is_cut
    assert reader.end() == ""


def test_an_upstream_that_stops_tells_its_usage() -> None:
    """After a stop sequence that it left in, the rest of the stream is read."""
    reader = answer("END")

    assert fed(reader, text("a END"), text("", "stop"), USAGE, DONE) == "a "
    assert (reader.stop_sequence, reader.is_cut, reader.usage) == ("END", False, Usage(3, 2, 1))


def test_a_stop_sequence_that_the_upstream_took_out() -> None:
    """vLLM names it beside the finish reason; what was held back for it is shown."""
    reader = answer("END", "EVER")

    assert fed(reader, text("a E"), text("", "stop", stop_reason="END"), DONE) == "a E"
    assert (reader.stop_sequence, reader.finish_reason) == ("END", FinishReason.STOP)


@pytest.mark.parametrize("reason", [128001, ["END"], "other", None])
def test_other_reasons_to_stop_are_the_models_own(reason: object) -> None:
    """A token id, or what is no stop sequence of the task, is the model's own end."""
    reader = answer("END")
    fed(reader, text("a", "stop", stop_reason=reason), DONE)

    assert (reader.stop_sequence, reader.finish_reason) == (None, FinishReason.STOP)


def test_private_tokens_are_left_out() -> None:
    """Also where they come in pieces."""
    assert fed(answer(privates=("<x>",)), text("a<"), text("x>b"), text("", "stop"), DONE) == "ab"


def test_a_private_token_in_a_constrained_answer_is_a_failure() -> None:
    """What remains without it would not match."""
    with pytest.raises(EngineError, match="private token"):
        answer(privates=("<x>",), constrained=True).feed(text("a<x>b"))


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (
            event({"error": {"message": "it broke off", "code": "upstream_failed"}}),
            UpstreamFailed,
            "broke off",
        ),
        (event({"error": {"message": "slow", "code": "upstream_timeout"}}), UpstreamTimeout, "slow"),
        (event({"error": {}}), UpstreamFailed, "failed"),
        (b"data: nonsense\n\n", UpstreamFailed, "no event"),
        (event({"choices": 3}), UpstreamFailed, "no event"),
        (b"data: " + b"x" * (1 << 21), UpstreamFailed, "too long"),
    ],
)
def test_failures_are_raised(data: bytes, error: type[Exception], words: str) -> None:
    """What the stream says of its failure, and what is no stream, ends the answer."""
    with pytest.raises(error, match=words):
        answer().feed(text("a") + data)


def test_an_answer_without_an_end_is_a_failure() -> None:
    """It is never taken for a whole one."""
    reader = answer()
    reader.feed(text("a"))

    with pytest.raises(UpstreamFailed, match="before it was complete"):
        reader.end()
