"""Server-sent events: the written form, and reading under any cut of the input."""

from __future__ import annotations

import pytest

from arriero.sse import Decoder, EventTooLong, ServerSentEvent, comment, encode, encode_json


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (ServerSentEvent("Hello", id="token"), b"id:token\ndata:Hello\n\n"),
        (ServerSentEvent(" foo", id="token"), b"id:token\ndata:  foo\n\n"),
        (ServerSentEvent("\n", id="token"), b"id:token\ndata:\ndata:\n\n"),
        (ServerSentEvent("a\r\nb\rc\nd"), b"data:a\ndata:b\ndata:c\ndata:d\n\n"),
        (ServerSentEvent("\u00e9\u2028", event="x"), "event:x\ndata:\u00e9\u2028\n\n".encode()),
        (ServerSentEvent("", retry_ms=5), b"retry:5\ndata:\n\n"),
    ],
)
def test_an_event_is_written_byte_for_byte(event: ServerSentEvent, wire: bytes) -> None:
    """No space follows a colon unless the value begins with one; line ends become lines."""
    assert encode(event) == wire


def test_json_and_comments_have_their_own_forms() -> None:
    """JSON has a space after the colon, as OpenAI's clients expect; a comment begins with the colon."""
    assert encode_json(b"{}") == b"data: {}\n\n"
    assert comment("keep-alive-text") == b":keep-alive-text\n\n"


STREAM = (
    "\ufeffdata: one\n\n: comment\nevent:e\nid: 7\ndata:two\r\ndata:  and\r\n\r\n"
    "data\rretry: 10\r\rid\0: x\nunknown: y\nevent: lost\n\ndata:\u00e9\U0001f600\nid:a\0b\nretry:1x\n\n"
    "data: cut"
).encode()
EVENTS = [
    ServerSentEvent("one"),
    ServerSentEvent("two\n and", event="e", id="7"),
    ServerSentEvent("", id="7", retry_ms=10),
    ServerSentEvent("\u00e9\U0001f600", id="7"),
]


def read(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = Decoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_events_are_read_as_the_standard_says() -> None:
    """BOM, comments, all line ends, unknown fields, bad ids and retries, several data lines."""
    assert read(STREAM) == EVENTS


@pytest.mark.parametrize("stream", [STREAM, STREAM.replace(b"\n", b"\r\n"), STREAM.replace(b"\n", b"\r")])
def test_any_cut_gives_the_same_events(stream: bytes) -> None:
    """Each cut in two, and bytes one at a time with empty ones between, read the same."""
    whole = read(stream)

    assert all(read(stream[:cut], stream[cut:]) == whole for cut in range(len(stream) + 1))
    assert read(*[piece for at in range(len(stream)) for piece in (stream[at : at + 1], b"")]) == whole


@pytest.mark.parametrize("text", ["a", " a", "a\nb", "\n", "", "  ", "a\n\n b", ":x", "\u2028"])
def test_what_is_written_is_read_again(text: str) -> None:
    """Every text without CR survives the way."""
    event = ServerSentEvent(text, event="e", id="i")

    assert read(encode(event)) == [event]


@pytest.mark.parametrize(
    ("stream", "cut"), [(b"", False), (b"data:a\n\n", False), (b"data:a\n", True), (b"dat", True)]
)
def test_the_end_of_input_tells_whether_an_event_was_cut_off(stream: bytes, cut: bool) -> None:
    """An event without its blank line is not an event."""
    decoder = Decoder()
    decoder.feed(stream)

    assert decoder.flush() is cut


@pytest.mark.parametrize("stream", [b"data:" + b"x" * 20, b"data:x\n" * 4, b"data:" + b"x" * 20 + b"\n\n"])
def test_an_event_above_the_bound_is_refused(stream: bytes) -> None:
    """One long line, and many lines of one event, both stop at the bound."""
    with pytest.raises(EventTooLong, match="24 bytes"):
        Decoder(max_event_bytes=24).feed(stream)


def test_small_events_never_reach_the_bound() -> None:
    """The bound is for each event, not for the stream."""
    assert len(Decoder(max_event_bytes=24).feed(b"data:x\n\n" * 100)) == 100
