"""The log of the process: lines, and what happens when nobody takes them."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from arriero.server.log import LogWriter, text_of
from arriero.server.request_log import Batch, Line, moment, written


def record(message: str, *args: object, name: str = "arriero.x") -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "", 0, message, args, None)


LINE = Line(
    time=moment(1.5),
    id="r1",
    method="GET",
    route="/v1/x",
    status=200,
    ms=2.5,
    bytes=3,
    key="a b",
    outcome="ok",
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a\nb", '"a\\nb"'),
        (2.5, "2.5"),
        ('"', '"\\""'),
    ],
)
def test_a_value_stays_on_its_line(value: object, expected: str) -> None:
    """What would end a value or a line is quoted."""
    assert written(value) == expected


def test_a_line_as_logfmt_and_as_json() -> None:
    """Both forms hold the same fields; what is not known is left out."""
    assert str(Batch([LINE], is_json=False)) == (
        "time=1970-01-01T00:00:01.500Z id=r1 method=GET route=/v1/x status=200 ms=2.5 bytes=3"
        ' key="a b" outcome=ok'
    )
    said = json.loads(str(Batch([LINE], is_json=True)))
    assert said["time"] == "1970-01-01T00:00:01.500Z"
    assert list(said) == ["time", "id", "method", "route", "status", "ms", "bytes", "key", "outcome"]


def test_a_message_cannot_forge_a_line() -> None:
    """Line ends in a message are escaped in both forms."""
    for is_json in (False, True):
        assert "\n" not in text_of(record("a %s", "x\nlevel=info"), is_json=is_json)


def test_lines_of_requests_are_written_as_they_are() -> None:
    """They are lines already."""
    one = record("%s", Batch([LINE, LINE], is_json=False), name="arriero.requests")

    assert len(text_of(one, is_json=False).splitlines()) == 2


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1790000000.001, "2026-09-21T14:13:20.001Z"),
        (59.9996, "1970-01-01T00:01:00.000Z"),
    ],
)
def test_moments(time_s: float, expected: str) -> None:
    """Times are told to the nearest millisecond, in UTC."""
    assert moment(time_s) == expected


def test_the_writer_writes_what_is_queued_before_it_closes() -> None:
    """Nothing is lost at the end."""
    stream = io.StringIO()
    writer = LogWriter(stream, is_json=True)
    for number in range(100):
        writer.handle(record("line %d", number))
    writer.close()

    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        f"line {number}" for number in range(100)
    ]


def test_a_pipe_that_nobody_reads_holds_nothing_up() -> None:
    """What does not fit is dropped and counted, and `handle` returns."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        writer = LogWriter(stream, is_json=False, max_queued=10)
        for _ in range(200):
            writer.handle(record("x" * 70_000))
        dropped = writer.dropped
        drain = threading.Thread(target=_drain, args=(reading,))
        drain.start()
        writer.close()
    drain.join()

    assert dropped >= 150


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_counted() -> None:
    """Lines that cannot be written are dropped, and the writer goes on."""
    with suppress(OSError), Path("/dev/full").open("w") as stream:
        writer = LogWriter(stream, is_json=False)
        writer.handle(record("x"))
        writer.close()

    assert writer.dropped == 1


def _drain(descriptor: int) -> None:
    while os.read(descriptor, 1 << 20):
        pass
    os.close(descriptor)
