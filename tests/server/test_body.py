"""Request bodies: the bound holds before the body is read, and what is wrong is named."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import msgspec
import pytest

from arriero.guard.body import LARGE_BYTES
from arriero.server.body import MAX_PARTS, beside, described, num_parts

BOUND = "[server]\nmax_body_bytes = 1000"
JSON = {"content-type": "application/json"}


def sized(size: int) -> bytes:
    """Return a JSON body of exactly this size."""
    frame = len(json.dumps({"prompt": ""}))
    return json.dumps({"prompt": "x" * (size - frame)}).encode()


async def test_a_body_at_the_bound_is_read_and_one_byte_more_is_not(serving: Any) -> None:
    """Declared lengths are checked against the bound exactly."""
    async with serving(None, BOUND) as client:
        fits = await client.post("/v1/task/t/completion", content=sized(1000), headers=JSON)
        above = await client.post("/v1/task/t/completion", content=sized(1001), headers=JSON)

    assert fits.status_code == 200
    assert above.status_code == 413
    assert above.text.startswith("Failed to buffer the request body: length limit exceeded")


@pytest.mark.parametrize("framing", ["content-length: 9999999999", "transfer-encoding: chunked"])
@pytest.mark.parametrize("path", ["/v1/task/t/completion", "/v1/chat/completions", "/v1/tokenize"])
async def test_an_endless_body_is_refused_unread(
    serving: Any, address_of: Any, framing: str, path: str
) -> None:
    """Declared or chunked, 413 comes while the client still sends, and soon the connection closes."""
    async with serving() as client:
        reader, writer = await asyncio.open_connection(*address_of(client))
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sesame\r\n"
        writer.write(f"{head}content-type: application/json\r\n{framing}\r\n\r\n".encode())
        sender = asyncio.create_task(send_zeros(writer, chunked="chunked" in framing))
        answer = await reader.read(1000)
        sent = await sender
        writer.close()
        alive = await client.get("/status")

    assert answer.startswith(b"HTTP/1.1 413")
    assert sent < 100_000_000
    assert alive.status_code == 200


async def send_zeros(writer: asyncio.StreamWriter, *, chunked: bool) -> int:
    """Send until the other side closes; return how much was sent."""
    piece = b"0" * 65536
    framed = b"10000\r\n" + piece + b"\r\n" if chunked else piece
    sent = 0
    try:
        async with asyncio.timeout(10):
            while True:
                writer.write(framed)
                await writer.drain()
                sent += len(piece)
    except OSError:
        return sent


async def test_a_client_that_sends_first_and_reads_then_gets_its_answer(serving: Any) -> None:
    """50 MB from a client that does not listen while it sends: 413, not a broken connection."""
    async with serving() as client:
        response = await client.post("/v1/chat/completions", content=bytes(50 << 20), headers=JSON)

    assert (response.status_code, response.json()["error"]["code"]) == (413, "payload_too_large")


async def test_a_client_that_waits_for_100_sends_no_body(serving: Any, address_of: Any) -> None:
    """`Expect: 100-continue` with too large a body is answered 413 at once."""
    async with serving() as client:
        reader, writer = await asyncio.open_connection(*address_of(client))
        writer.write(
            b"POST /v1/tokenize HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sesame\r\n"
            b"content-type: application/json\r\ncontent-length: 99999999\r\nexpect: 100-continue\r\n\r\n"
        )
        answer = await reader.read(1000)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"model":"m","text":NaN}', b'{"model":"m","text":"\\ud83d"}', b"\xff", b"[" * 100_000],
)
async def test_broken_json_is_the_callers_fault(serving: Any, body: bytes) -> None:
    """No broken body is answered with a 5xx."""
    async with serving() as client:
        response = await client.post("/v1/tokenize", content=body, headers=JSON)

    assert response.status_code == 400
    assert response.json()["code"] == "invalid_request"


async def test_a_client_that_leaves_its_body_is_no_error(
    serving: Any, address_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever goes in the middle of a body leaves no traceback in the log."""
    head = "POST /v1/tokenize HTTP/1.1\r\nhost: a\r\nauthorization: Bearer sesame\r\n"
    rest = "content-type: application/json\r\ncontent-length: 9\r\n\r\n{"
    async with serving() as client:
        _, writer = await asyncio.open_connection(*address_of(client))
        writer.write((head + rest).encode())
        await writer.drain()
        await client.get("/livez")
        writer.close()
        await client.get("/livez")

    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "Content-Type"),
        ({"content-type": "text/plain"}, "Content-Type"),
        ({"content-type": "application/x-www-form-urlencoded"}, "Content-Type"),
        ({**JSON, "content-encoding": "gzip"}, "Content-Encoding"),
        ([*JSON.items(), ("content-encoding", "identity"), ("content-encoding", "gzip")], "Content-Encoding"),
    ],
)
async def test_another_media_type_is_refused(serving: Any, headers: Any, text: str) -> None:
    """Only plain JSON is read."""
    async with serving() as client:
        response = await client.post("/v1/tokenize", content=b"{}", headers=headers)

    assert response.status_code == 415
    assert text in response.json()["detail"]


async def test_a_charset_and_a_json_suffix_are_accepted(serving: Any) -> None:
    """Parameters and vendor types are still JSON."""
    body = b'{"model":"m","text":"a"}'
    async with serving() as client:
        for media_type in ("application/json; charset=utf-8", "Application/JSON", "application/x+json"):
            response = await client.post("/v1/tokenize", content=body, headers={"content-type": media_type})
            assert response.status_code == 200


class Inner(msgspec.Struct):
    x: int


class Outer(msgspec.Struct):
    a: Inner
    b: list[int] = []
    c: dict[str, int] = {}


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ("{}", "missing field `a`", "a"),
        ('{"a":{}}', "missing field `a.x`", "a.x"),
        ('{"a":{"x":"1"}}', "a.x: Expected `int`, got `str`", "a.x"),
        ('{"a":{"x":1},"b":[1,"2"]}', "b[1]: Expected `int`, got `str`", "b[1]"),
        ('{"a":{"x":1},"c":{"k":"2"}}', "c[...]: Expected `int`, got `str`", "c[...]"),
        ("[]", "Expected `object`, got `array`", None),
    ],
)
def test_a_validation_error_names_its_member(body: str, message: str, param: str | None) -> None:
    """msgspec's messages are taken apart."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(body, type=Outer)

    assert described(caught.value) == (message, param)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"", 0),
        (b"12", 0),
        (b"[1, 2, null, true]", 1),
        (b'{"a": "b"}', 3),
        (b'[[], {}, ["a"]]', 5),
        (rb'["[{\\", "\"[{", "\\\\", []]', 5),
        (rb'["\\\"[", {"\u005b": "]"}]', 5),
    ],
)
def test_parts_are_counted_outside_of_texts(body: bytes, count: int) -> None:
    """Lists, objects and texts count; what stands in texts does not, however it is escaped."""
    assert num_parts(body) == count


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/tokenize", "/v1/task/t/completion"])
async def test_a_body_of_too_many_parts_is_refused(serving: Any, path: str) -> None:
    """As many as may be are read, one more is the caller's fault."""
    known = {"model": "m", "messages": [{"role": "user", "content": "x"}], "text": "x", "prompt": "x"}
    own = num_parts(msgspec.json.encode({**known, "more": []}))
    async with serving() as client:
        fits = await client.post(path, json={**known, "more": [[]] * (MAX_PARTS - own)})
        above = await client.post(path, json={**known, "more": [[]] * (MAX_PARTS - own + 1)})

    assert (fits.status_code, above.status_code) == (200, 400)
    assert "more than 100000 lists, objects and texts" in above.text


async def test_brackets_and_quotes_in_a_text_are_no_parts(serving: Any) -> None:
    """A megabyte of code is one text."""
    body = {"model": "m", "text": "x", "more": '["{' * 150_000}
    async with serving() as client:
        answer = await client.post("/v1/tokenize", json=body)

    assert answer.json()["count"] == 1


async def test_much_work_is_done_in_a_thread() -> None:
    """Of a size from which on it would hold up the event loop, and only then."""
    here = threading.get_ident()

    assert await beside(LARGE_BYTES - 1, threading.get_ident) == here
    assert await beside(LARGE_BYTES, threading.get_ident) != here
