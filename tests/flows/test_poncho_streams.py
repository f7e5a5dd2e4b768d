"""Streams through a sidecar by a Poncho file: what comes of them, however their upstream writes or fails.

The rows are those of `test_poncho_rows.py`.
"""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from tests.flows.process import DEADLINE_S, POLL_S, arriero
from tests.flows.sidecar import CHAT, PUBLIC, REAL, Sidecar, sidecar_config, turns

from arriero.testing.serving import client_of
from arriero.testing.upstream import (
    Answer,
    End,
    Upstream,
    chat_chunk,
    chat_stream,
    chunked,
    event,
    events,
    whole,
)


@pytest.mark.parametrize("cut", ["one segment", "each byte"])
async def test_stream(sidecar: Sidecar, cut: str) -> None:
    """Rows 68, 69, 72, 76: every event has the public name however the bytes come, and no fingerprint."""
    stream = chat_stream("Hel", "lo", f" {REAL}", model=REAL)
    sidecar.backend.script = stream.cut(*(range(1, len(stream.bytes)) if cut == "each byte" else ()))
    response = await sidecar.post(CHAT, {"messages": turns(), "max_tokens": 1, "stream": True})

    *events, done = response.text.removesuffix("\n\n").split("\n\n")
    pieces = [json.loads(event.removeprefix("data: ")) for event in events]
    assert done == "data: [DONE]"
    assert response.headers["content-type"] == "text/event-stream"
    assert {piece["model"] for piece in pieces} == {PUBLIC}
    assert {piece.get("system_fingerprint") for piece in pieces} <= {None}
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == f"Hello {REAL}"


async def test_refused_stream(sidecar: Sidecar) -> None:
    """Row 77: a refusal of a stream is JSON."""
    sidecar.backend.script = whole({"error": {"message": "no"}}, 400)
    response = await sidecar.post(CHAT, {"messages": turns(), "max_tokens": 1, "stream": True})

    assert (response.status_code, response.headers["content-type"]) == (400, "application/json")


BEGUN = chat_chunk("Hel", model=REAL)
OVER = chat_chunk(None, model=REAL, finish="stop")


@pytest.mark.parametrize(
    "answer",
    [
        events(BEGUN, {"error": {"message": f"{REAL} at http://10.0.0.7:8000/v1 in /srv/{REAL}"}}),
        events(BEGUN, {"object": "error", "message": REAL}),
        events(BEGUN),  # [DONE], though nothing says that the answer is over
        events(BEGUN, OVER, done=False),
        events(BEGUN, done=False),
        events(BEGUN, b'{"choices":[{"index":0,"delta":{"content":"\xff"}}]}'),
        events(BEGUN, f"<html>{REAL}</html>".encode()),
        chunked(event(BEGUN), event(OVER) + b"data: [DONE]\n\n").broken_off(100),
        events(BEGUN, OVER).broken_off(450, End.RESET),
    ],
    ids=["error", "old error", "false end", "no end", "silence", "not UTF-8", "html", "cut off", "reset"],
)
async def test_false_ends(sidecar: Sidecar, answer: Answer) -> None:
    """Row 74: a stream that goes wrong ends in an error, never in [DONE], and names nothing."""
    sidecar.backend.script = answer
    response = await sidecar.post(CHAT, {"messages": turns(), "max_tokens": 1, "stream": True})

    last = response.text.rstrip("\n").rpartition("\n\n")[2].removeprefix("data: ")
    assert "message" in json.loads(last)["error"]
    assert "[DONE]" not in response.text
    for secret in (REAL, "Llama", "10.0.0.7", "/srv", str(sidecar.upstream.port)):
        assert secret not in response.text + str(response.headers)


async def test_first_event_at_once(sidecar: Sidecar) -> None:
    """Row 81: an event is told when it is there, however long the next one takes."""
    gate = asyncio.Event()
    first, *rest = chat_stream("Hel", "lo", model=REAL).parts[1:]
    head = chat_stream(model=REAL).parts[0]
    sidecar.backend.script = Answer((head, first, gate, *rest))
    body = {"messages": turns(), "max_tokens": 1, "stream": True}
    async with sidecar.client.stream("POST", CHAT, json=body) as response:
        pieces = response.aiter_raw()
        assert b'"Hel"' in await asyncio.wait_for(anext(pieces), DEADLINE_S)
        gate.set()
        told = b"".join([piece async for piece in pieces])

    assert told.endswith(b"data: [DONE]\n\n")


async def test_lines(sidecar: Sidecar) -> None:
    """Row 82: of a stream of lines each is rewritten, and stays a line."""
    lines = [json.dumps(chunk).encode() + b"\n" for chunk in (BEGUN, OVER)]
    sidecar.backend.script = chunked(*lines, content_type="application/x-ndjson")
    response = await sidecar.post(CHAT, {"messages": turns(), "max_tokens": 1, "stream": True})

    assert response.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["model"] for line in response.text.splitlines()] == [PUBLIC] * 2
    assert REAL not in response.text


async def test_client_leaves_while_waiting(sidecar: Sidecar) -> None:
    """Row 67: a client that leaves before the answer ends the work within a second."""
    sidecar.backend.script = Answer((), End.STALL)
    sidecar.upstream.gone.clear()
    asked = asyncio.ensure_future(sidecar.post(CHAT, {"messages": turns(), "max_tokens": 1}))
    while not sidecar.backend.generations:  # noqa: ASYNC110 - what is watched has no event
        await asyncio.sleep(0.01)
    asked.cancel()

    await asyncio.wait_for(sidecar.upstream.gone.wait(), DEADLINE_S)


async def test_the_end(tmp_path: Path) -> None:
    """Rows 87 and 99: a stream is told whole before the server ends; no log bears its key or text."""
    gate = asyncio.Event()
    head, first, *rest = chat_stream("Hel", "lo", model=REAL).parts
    async with Upstream.of(Answer((head, first, gate, *rest))) as upstream:
        config = sidecar_config(tmp_path, upstream.port, level="debug")
        process = await serving(config)
        assert process.stdout is not None
        assert process.stderr is not None
        url = (await process.stdout.readline()).decode().split()[-1]
        said = {"messages": turns("canary-text"), "max_tokens": 1, "stream": True}
        key = {"authorization": "Bearer canary-key"}
        async with (
            client_of(url, timeout=DEADLINE_S) as client,
            client.stream("POST", CHAT, json=said, headers=key) as response,
        ):
            pieces = response.aiter_raw()
            told = await asyncio.wait_for(anext(pieces), DEADLINE_S)
            process.send_signal(signal.SIGTERM)
            await wait_refused(url)
            gate.set()
            told += b"".join([piece async for piece in pieces])
        log = (await process.stderr.read()).decode()

    assert told.endswith(b"data: [DONE]\n\n")
    assert await process.wait() == 0
    assert "route=/v1/chat/completions status=200" in log
    assert "canary" not in log


async def serving(config: Path) -> asyncio.subprocess.Process:
    """Start a server whose output is read."""
    command = arriero("serve", "--config", str(config), "--port", "0")
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def wait_refused(url: str) -> None:
    """Wait until no new connection is taken."""
    host, port = url.removeprefix("http://").split(":")
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(POLL_S)
