"""The log of the server process: one line for each event, as logfmt or JSON, on stderr.

A thread writes, so that a full disk or a pipe that nobody reads holds up no request: what does not fit into
the queue is dropped and counted.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import msgspec

from arriero.server.request_log import Batch, moment, written
from arriero.server.request_log import logger as request_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arriero.config.telemetry import TelemetryConfig

MAX_QUEUED = 10_000
CLOSE_S = 2.0


class LogWriter(logging.Handler):
    """Owns the queue of what is to be written, and the thread that writes it."""

    def __init__(self, stream: TextIO, *, is_json: bool, max_queued: int = MAX_QUEUED) -> None:
        super().__init__()
        self.dropped = 0
        self._stream = stream
        self._is_json = is_json
        self._max_queued = max_queued
        self._records: deque[logging.LogRecord] = deque()
        self._news = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; never waits."""
        if len(self._records) >= self._max_queued:
            self.dropped += num_lines(record)
            return
        self._records.append(record)
        self._news.set()

    def close(self) -> None:
        """Write what is queued, within a short time."""
        self._is_closed = True
        self._news.set()
        self._thread.join(CLOSE_S)
        super().close()

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            is_last = self._is_closed
            self._write()
            if is_last:
                return

    def _write(self) -> None:
        texts = []
        held = 0
        while self._records:
            record = self._records.popleft()
            try:
                texts.append(text_of(record, is_json=self._is_json))
                held += num_lines(record)
            except Exception:
                self.dropped += num_lines(record)
        if texts:
            try:
                self._stream.write("\n".join(texts) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # a log that cannot be written is no reason to stop
                self.dropped += held


def num_lines(record: logging.LogRecord) -> int:
    """Return how many lines a record stands for: those of requests stand for many."""
    return sum(len(said) for said in record.args or () if isinstance(said, Batch)) or 1


def text_of(record: logging.LogRecord, *, is_json: bool) -> str:
    """Return the line of a record. Those of requests are lines already."""
    if record.name == request_logger.name:
        return record.getMessage()
    said: dict[str, str] = {
        "time": moment(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    if record.exc_info:
        said["exception"] = logging.Formatter().formatException(record.exc_info)
    if is_json:
        return msgspec.json.encode(said).decode()
    return " ".join([f"{name}={written(value)}" for name, value in said.items()])


@contextmanager
def logging_to_stderr(telemetry: TelemetryConfig) -> Iterator[LogWriter]:
    """Write the log while the block runs, as the configuration says."""
    writer = LogWriter(sys.stderr, is_json=telemetry.log_format == "json")
    root = logging.getLogger()
    root.addHandler(writer)
    root.setLevel(telemetry.log_level.upper())
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # else a line for each request that we send
    try:
        yield writer
    finally:
        root.removeHandler(writer)
        writer.close()
