"""Headers in both directions."""

from __future__ import annotations

import pytest

from arriero.guard.headers import Media, answer_headers, media_of, upstream_headers

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_upstreams_see_our_headers_only() -> None:
    """Nothing of the caller's framing, identity or routing reaches an upstream."""
    caller = [
        (b"Host", b"evil"),
        (b"Authorization", b"Bearer caller"),
        (b"Cookie", b"a=b"),
        (b"Content-Type", b"text/plain; charset=utf-16"),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Length", b"7"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"authorization, keep-alive"),
        (b"Expect", b"100-continue"),
        (b"X-Forwarded-For", b"1.2.3.4"),
        (b"X-Request-Id", b"x"),
        (b"Accept-Encoding", b"gzip"),
        (b"TraceParent", TRACE),
    ]

    headers = upstream_headers(caller, stream=True, authorization=b"Bearer ours")

    assert headers == [
        (b"content-type", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"accept", b"text/event-stream"),
        (b"authorization", b"Bearer ours"),
        (b"traceparent", TRACE),
    ]


@pytest.mark.parametrize("traces", [[b"x\r\ny: z"], [TRACE, TRACE], [TRACE + b"-extra"], [TRACE.upper()]])
def test_traces_of_another_form_are_left_out(traces: list[bytes]) -> None:
    """Only one well-formed trace is passed on, and no key is made up."""
    headers = upstream_headers(
        [(b"traceparent", value) for value in traces], stream=False, authorization=None
    )

    assert [name for name, _ in headers] == [b"content-type", b"accept-encoding", b"accept"]


def test_callers_see_our_headers_only() -> None:
    """Nothing that an upstream says of itself reaches a caller."""
    upstream = {
        b"server": b"uvicorn",
        b"date": b"x",
        b"connection": b"keep-alive",
        b"transfer-encoding": b"chunked",
        b"content-encoding": b"gzip",
        b"set-cookie": b"a",
        b"openai-model": b"m",
        b"x-model": b"m",
        b"location": b"http://inside/",
        b"retry-after": b"7",
    }
    json_type, event_type = (b"content-type", b"application/json"), (b"content-type", b"text/event-stream")

    assert answer_headers(upstream, Media.JSON) == (json_type, (b"retry-after", b"7"))
    assert answer_headers({b"retry-after": b"soon"}, Media.JSON) == (json_type,)
    assert answer_headers({}, Media.EVENTS)[0] == event_type


@pytest.mark.parametrize(
    ("content_type", "media"),
    [
        (b"application/json", Media.JSON),
        (b"Application/JSON; charset=utf-8", Media.JSON),
        (b"text/event-stream;charset=utf-8", Media.EVENTS),
        (b"TEXT/Event-Stream", Media.EVENTS),
        (b"application/x-ndjson", Media.LINES),
        (b"text/plain", Media.OTHER),
        (b"", Media.OTHER),
        (b"application/jsonp", Media.OTHER),
    ],
)
def test_media_are_told_by_their_type(content_type: bytes, media: Media) -> None:
    """Case and parameters of a content type do not matter, all else does."""
    assert media_of(content_type) is media
