"""Streams of an upstream: names, truth about their end, and independence of how bytes were cut."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from arriero.errors import Unavailable
from arriero.guard.names import Names
from arriero.guard.policy import Policy
from arriero.guard.routes import Route
from arriero.guard.shapes import Telling
from arriero.guard.stream import Framing, StreamRewriter

UPSTREAM = "meta-llama/Llama-3.1-8B-Instruct"
PUBLIC = "pocket_network"
HOST = "vllm-7.internal:8000"
POLICY = Policy(public_name=PUBLIC, upstream_name=UPSTREAM, secrets=(HOST,))
TELLING = Telling(Names(POLICY), logprobs=False)
DONE = b"data: [DONE]\n\n"
CONTENTS = ("Hi", " there\\n", f'{UPSTREAM} says \\"model\\"', "é \U0001f600 \\ud83d\\ude00", "", "a\\\\")


def chunk(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1763772000,
        "model": UPSTREAM,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    } | more


def event(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n"


def content_event(spelt: str) -> bytes:
    """An event as vLLM writes it, with content that is already JSON text."""
    return event(chunk({"content": "HOLE"})).replace(b"HOLE", spelt.encode())


ROLE = event(chunk({"role": "assistant", "content": ""}))
FINISH = event(chunk({}, "stop", system_fingerprint="vllm-0.15-H100-tp8"))
USAGE = event(chunk({}) | {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}})
STREAM = ROLE + b"".join(map(content_event, CONTENTS)) + FINISH + USAGE + DONE


def rewriter(route: Route = Route.CHAT, **options: Any) -> StreamRewriter:
    return StreamRewriter(route, TELLING, **options)


def told(pieces: list[bytes], stream: StreamRewriter | None = None) -> bytes:
    stream = stream or rewriter()
    return b"".join(map(stream.feed, pieces)) + stream.close()


def payloads(data: bytes) -> list[Any]:
    """What a client reads of a stream."""
    events = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    return [text.decode() if text == b"[DONE]" else json.loads(text) for text in events]


def error_of(data: bytes) -> dict[str, Any]:
    """The error with which a stream ends, which tells no completion."""
    last = payloads(data)[-1]
    assert b"[DONE]" not in data
    assert set(last) == {"error"}
    error: dict[str, Any] = last["error"]
    return error


def test_names_change_and_nothing_else() -> None:
    """A client reads the upstream's events with the public name and no tell-tales."""
    expected = payloads(STREAM.replace(f'"model": "{UPSTREAM}"'.encode(), f'"model": "{PUBLIC}"'.encode()))
    expected[-3]["system_fingerprint"] = None

    assert payloads(told([STREAM])) == expected


def test_generated_text_is_passed_byte_for_byte() -> None:
    """Generated text keeps its spelling, also where it holds the upstream's name."""
    out = told([STREAM])

    for spelt in CONTENTS:
        assert f'"delta":{{"content":"{spelt}"}}'.encode() in out


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_every_cut_gives_the_same_output(ends: bytes) -> None:
    """Two pieces, cut at any byte, say what one piece says, whatever ends the lines."""
    stream = STREAM.replace(b"\n", ends)
    whole = told([stream])

    assert payloads(whole)[-1] == "[DONE]"
    for cut in range(len(stream) + 1):
        assert told([stream[:cut], stream[cut:]]) == whole
    assert told([bytes([byte]) for byte in stream]) == whole


def test_many_cuts_give_the_same_output() -> None:
    """Any number of pieces says what one piece says, in a stream that fails as well."""
    broken = ROLE + content_event("a") * 3 + b"data: {garbage\n\n" + FINISH + DONE
    dice = random.Random(7)
    for stream in (STREAM, broken):
        whole = told([stream])
        for _ in range(300):
            cuts = sorted(dice.choices(range(len(stream)), k=dice.randrange(1, 9)))
            pieces = [stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)])]
            assert told(pieces) == whole


def test_events_are_told_at_once() -> None:
    """An event that has arrived whole is not held back."""
    stream = rewriter()

    outs = [stream.feed(event) for event in (ROLE, content_event("a"), content_event("b"), FINISH, DONE)]

    assert [out.count(b"data: ") for out in outs] == [1] * 5
    assert (stream.is_ended, stream.is_failed) == (True, False)


@pytest.mark.parametrize(
    "text",
    [
        'x","model":"evil',
        'x"},"logprobs":{"content":[1]},"x":{"a":"b',
        "x\\",
        "x\ny",
        "x\n\ndata: y",
        "x\x00",
        "\\x41",
        "\\u12",
        "\\ud800",
        "\\udc00",
    ],
)
def test_learnt_form_takes_nothing_but_text(text: str) -> None:
    """What would leave the string of a learnt event is parsed in full, as if nothing had been learnt."""
    taught, untaught = rewriter(), rewriter()
    taught.feed(content_event("a") * 3)
    untaught.feed(USAGE)

    crafted = content_event(text)

    assert taught.feed(crafted) == untaught.feed(crafted)


def test_learnt_form_needs_both_of_its_sides() -> None:
    """A block in which the learnt sides overlap is not of the learnt form."""
    taught, untaught = rewriter(), rewriter()
    taught.feed(content_event("a") * 3)
    untaught.feed(USAGE)

    crafted = content_event("a").replace(b'"a"', b'"')

    assert taught.feed(crafted) == untaught.feed(crafted)


def test_learnt_events_keep_to_the_bound() -> None:
    """An event of a learnt form may have as many bytes as any other, and no more."""
    size = len(content_event("a" * 100))
    for bound, is_failed in ((size, False), (size - 1, True)):
        stream = rewriter(max_event_bytes=bound)
        stream.feed(content_event("a"))

        stream.feed(content_event("a" * 100))

        assert stream.is_failed is is_failed


def test_line_ends_may_be_cut_in_two() -> None:
    """A line end whose second byte comes later is one line end."""
    stream = rewriter()

    out = stream.feed(b'data: {"choices":\r') + stream.feed(b"\ndata: []}\r\n\r") + stream.feed(b"\n")

    assert out == b'data: {"choices":[]}\n\n'


def test_line_ends_may_be_mixed() -> None:
    """A line feed after a CR of an earlier line is an end of its own, at any cut."""
    stream = b': x\rdata: {"choices":[]}\n\n' + FINISH + DONE
    whole = told([stream])

    assert payloads(whole)[-1] == "[DONE]"
    assert {told([stream[:cut], stream[cut:]]) for cut in range(len(stream))} == {whole}


def test_invalid_utf8_in_a_learnt_event_ends_the_stream() -> None:
    """Half a character is no text."""
    stream = rewriter()
    stream.feed(content_event("a") * 2)

    out = stream.feed(content_event("HALF").replace(b"HALF", b"\xf0\x9f"))

    assert error_of(out)["code"] == "upstream_failed"


def test_interleaved_choices_and_tool_calls() -> None:
    """Several kinds of events in one stream each come through unharmed."""

    def choice(index: int, delta: Any, finish: str | None = None) -> bytes:
        payload = chunk(delta, finish)
        payload["choices"][0]["index"] = index
        return event(payload)

    call = {"tool_calls": [{"function": {"arguments": f'{{"a": "{UPSTREAM}'}}]}
    events = [choice(i % 2, delta) for i in range(20) for delta in ({"content": f"t{i}"}, call)]
    stream = b"".join([*events, choice(0, {}, "stop"), choice(1, {}, "tool_calls"), DONE])

    out = payloads(told([stream], rewriter(choices=2)))

    expected = payloads(stream)
    for payload in expected[:-1]:
        payload["model"] = PUBLIC
    assert out == expected


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        ROLE,
        ROLE + FINISH,
        ROLE + content_event("a") + DONE,
        DONE,
        USAGE + DONE,
        ROLE + FINISH + b"data: [DON",
        ROLE + b"data: {\n\n" + FINISH + DONE,
        ROLE + b"data: null\n\n" + FINISH + DONE,
        ROLE + b"data: [1]\n\n" + FINISH + DONE,
        ROLE + b"data: {}\n\n" + FINISH + DONE,
        ROLE + event(chunk({}, "abort")) + DONE,
        ROLE + event(chunk({}, "error")) + DONE,
        ROLE + b"data: \xff\n\n" + FINISH + DONE,
        ROLE + b"<html>502 Bad Gateway</html>\n\n",
        ROLE + event({"error": {"message": "x"}}) + FINISH + DONE,
        ROLE + event({"object": "error", "message": "x"}) + FINISH + DONE,
        ROLE + event(chunk({}) | {"choices": 3}) + FINISH + DONE,
        ROLE + event(chunk({}) | {"choices": [{"index": "0"}]}) + FINISH + DONE,
        ROLE + FINISH.replace(b'"index": 0', b'"index": 7') + DONE,
        ROLE + FINISH.replace(b'"index": 0', b'"index": -1') + DONE,
        FINISH[:-1] + b"\xf0" + DONE,
        ROLE + content_event("a" * 5000) + FINISH + DONE,
        b"data: " + b"a" * 5000,
        b": " + b"a" * 5000,
        b"[" * 5000 + b"\n\n",
        ROLE + b'data: {"choices":' + b"[" * 3000 + b"\n\n" + FINISH + DONE,
    ],
)
def test_broken_stream_ends_in_an_error(stream: bytes) -> None:
    """A stream that is not whole never looks complete, however it broke."""
    rewritten = rewriter(max_event_bytes=4096)

    out = told([stream], rewritten)

    assert error_of(out)["type"] == "server_error"
    assert (rewritten.is_ended, rewritten.is_failed) == (True, True)
    assert rewritten.feed(FINISH + DONE) + rewritten.close() == b""


@pytest.mark.parametrize("cut", range(0, len(STREAM) - len(DONE), 7))
def test_stream_cut_anywhere_is_not_complete(cut: int) -> None:
    """An upstream that goes away early is never taken for one that has finished."""
    assert error_of(told([STREAM[:cut]]))["code"] == "upstream_failed"


def test_failure_of_the_connection_is_told() -> None:
    """The owner of a stream ends it with what happened, and half an event is not told."""
    stream = rewriter()
    out = stream.feed(ROLE + b"data: {")

    out += stream.close(Unavailable("the upstream went away"))

    assert error_of(out) == {
        "message": "the upstream went away",
        "type": "server_error",
        "param": None,
        "code": "unavailable",
    }


@pytest.mark.parametrize("tail", [DONE, DONE[:-1], DONE[:-2]])
def test_last_blank_line_may_be_missing(tail: bytes) -> None:
    """The last event counts when the connection ends after it."""
    assert payloads(told([ROLE + FINISH + tail]))[-1] == "[DONE]"


def test_nothing_follows_the_end() -> None:
    """What an upstream sends after its end is not told."""
    assert told([STREAM, content_event("more"), DONE]) == told([STREAM + content_event("more")])


def test_nothing_follows_the_end_in_one_piece() -> None:
    """The end may stand in the midst of a piece."""
    assert payloads(told([ROLE, FINISH + DONE + content_event("more")]))[-1] == "[DONE]"


def test_only_generated_text_is_learnt() -> None:
    """A place that looks like generated text but is not is cleaned in every event."""
    stream = rewriter()

    out = [stream.feed(event(chunk({"novelty": {"content": text}}))) for text in ("a", "b", UPSTREAM)]

    assert [payloads(data)[0]["choices"][0]["delta"] for data in out] == [
        {"novelty": {"content": text}} for text in ("a", "b", PUBLIC)
    ]


def test_errors_of_the_upstream_are_told_without_names() -> None:
    """An error inside a stream keeps its message, less names, addresses and paths."""
    message = f"{UPSTREAM} at http://{HOST}/v1 10.0.0.3:8000 from /opt/models/x died: Llama-3.1-8B-Instruct"

    said = error_of(told([ROLE + event({"error": {"message": message, "code": 500}})]))["message"]

    assert said == (f"{PUBLIC} at [upstream] [upstream] from [upstream] died: {PUBLIC}")


@pytest.mark.parametrize(
    ("spelt", "data"),
    [
        (b'data:{"choices":[]}\n\n', b'data: {"choices":[]}\n\n'),
        (b'id: 7\nretry: 9\ndata: {"choices":[]}\n\n', b'data: {"choices":[]}\n\n'),
        (b'data: {"choices":\ndata: []}\n\n', b'data: {"choices":[]}\n\n'),
        (b'\xef\xbb\xbfdata: {"choices":[]}\n\n', b'data: {"choices":[]}\n\n'),
        (b'\xef\xbb\xbfdata: {"choices":[]}\n\n\xef\xbb\xbfdata: x\n\n', b'data: {"choices":[]}\n\n'),
        (b'event: x.y\ndata: {"choices":[]}\n\n', b'event: x.y\ndata: {"choices":[]}\n\n'),
        (b'event: vllm-7 \ndata: {"choices":[]}\n\n', b'data: {"choices":[]}\n\n'),
        (b": vllm-7.internal is alive\n\n", b":\n\n"),
        (
            b'data: {"choices":[{"delta":{"annotations":[1,\ndata: 2]}}]}\n\n',
            b'data: {"choices":[{"delta":{"annotations":[1, 2]}}]}\n\n',
        ),
        (b"\n\n\n", b""),
    ],
)
def test_framing_is_written_anew(spelt: bytes, data: bytes) -> None:
    """Only payloads come through; every line around them is our own."""
    assert rewriter().feed(spelt) == data


def test_logprobs_pass_only_where_allowed() -> None:
    """Log probabilities and tokens are kept to the digit, or taken out."""
    payload = chunk({"content": "a"}, prompt_token_ids=[1])
    payload["choices"][0] |= {"logprobs": {"content": [{"logprob": -0.10}]}, "token_ids": [7]}
    data = event(payload).replace(b"-0.1", b"-0.10")

    hidden = payloads(rewriter().feed(data))[0]
    shown = StreamRewriter(Route.CHAT, Telling(Names(POLICY), logprobs=True)).feed(data)

    assert hidden == chunk({"content": "a"}, model=PUBLIC)
    assert b'{"content": [{"logprob": -0.10}]}' in shown
    assert b"[7]" in shown


def response_event(kind: str, **members: Any) -> bytes:
    payload = {"type": kind, "sequence_number": 1} | members
    return f"event: {kind}\n".encode() + event(payload)


def test_responses_name_the_model_inside() -> None:
    """Events of a response hold its name two levels down; the text that was generated stays."""
    response = {"id": "resp_1", "object": "response", "model": UPSTREAM, "output": [], "host": HOST}
    delta = response_event("response.output_text.delta", delta=f"I am {UPSTREAM}", logprobs=[1])
    stream = (
        response_event("response.created", response=response)
        + delta
        + response_event("response.completed", response=response)
    )

    out = told([stream], rewriter(Route.RESPONSES))

    created, text, completed = payloads(out)
    expected = {"id": "resp_1", "object": "response", "model": PUBLIC, "output": []}
    assert created["response"] == completed["response"] == expected
    assert (text["delta"], text["logprobs"]) == (f"I am {UPSTREAM}", None)
    assert out.startswith(b"event: response.created\n")


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_response_ends_with_its_own_word(kind: str) -> None:
    """A response is complete when an event says how it ended, and broken without one."""
    stream, cut = rewriter(Route.RESPONSES), rewriter(Route.RESPONSES)

    told([response_event(kind, response={"output": []})], stream)
    out = told([response_event("response.output_text.delta", delta="a")], cut)

    assert (stream.is_ended, stream.is_failed, cut.is_failed) == (True, False, True)
    assert payloads(out)[-1]["type"] == "error"
    assert b"event: error\n" in out


@pytest.mark.parametrize(
    ("kind", "member", "inside"),
    [("response.failed", "error", "message"), ("response.incomplete", "incomplete_details", "reason")],
)
def test_what_a_response_says_of_its_failure_names_nobody(kind: str, member: str, inside: str) -> None:
    """Addresses and paths in the reason of a response are cleaned as in any error text."""
    said = f"{UPSTREAM} at http://10.0.0.3:8000/v1 from /opt/models/x died"
    stream = response_event(kind, response={"output": [], member: {"code": "server_error", inside: said}})

    (payload,) = payloads(told([stream], rewriter(Route.RESPONSES)))

    assert payload["response"][member] == {
        "code": "server_error",
        inside: f"{PUBLIC} at [upstream] from [upstream] died",
    }


def test_a_failed_event_that_has_a_name_is_one_event() -> None:
    """The error of a stream stands under our own event name, said once."""
    named = b"event: vllm.error\n" + event({"error": {"message": "x"}})

    out = told([named], rewriter(Route.RESPONSES))

    assert out.count(b"event:") == 1
    assert out.startswith(b"event: error\n")


def test_lines_are_rewritten_one_by_one() -> None:
    """NDJSON comes through line by line at any cut, and its broken end is a line with an error."""
    events = [chunk({"content": UPSTREAM}), chunk({"content": "b"}), chunk({}, "stop")]
    stream = b"".join(json.dumps(payload).encode() + b"\n" for payload in events)
    lines = {"framing": Framing.LINES}
    whole = told([stream], rewriter(**lines))

    assert [json.loads(line) for line in whole.splitlines()] == [
        payload | {"model": PUBLIC} for payload in events
    ]
    for cut in range(len(stream)):
        assert told([stream[:cut], stream[cut:]], rewriter(**lines)) == whole
    broken = told([stream[:-30]], rewriter(**lines)).splitlines()[-1]
    assert json.loads(broken)["error"]["code"] == "upstream_failed"
