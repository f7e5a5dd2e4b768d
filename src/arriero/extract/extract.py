"""Document bytes to text with structure, each document in a process of its own.

The process is shut in (`sandbox.py`), has its limits, and is gone afterwards, however it ends. Whoever
calls bounds how many run at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import assert_never

import msgspec

import arriero
from arriero.errors import Unavailable, UnreadableDocument
from arriero.extract.detect import Format, charset_of, detect
from arriero.extract.document import Document
from arriero.extract.limits import Limits, damaged, limit_hit
from arriero.extract.wire import Answer, Job, Read, Refused, head, max_answer_bytes

logger = logging.getLogger(__name__)

_PIECE_BYTES = 256 * 1024
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from arriero.extract.child import main; main(sys.path)"
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_answers = msgspec.msgpack.Decoder(Answer)

DEFAULT = Limits()


async def extract(
    data: bytes, *, name: str = "", media_type: str | None = None, limits: Limits = DEFAULT
) -> Document:
    """Return the text of a document. Its own first bytes tell its format, else `media_type` or `name`.

    Raises UnreadableDocument, or Unavailable if no process can be started. A cancelled call leaves
    nothing running.
    """
    if len(data) > limits.input_bytes:
        raise limit_hit("input_bytes", f"the document is larger than {limits.input_bytes} bytes")
    form = detect(data, name=name, media_type=media_type)
    job = Job(form, charset_of(media_type), len(data), limits)
    try:
        return await _read(job, data)
    except _Crashed as exc:
        if form is not Format.PDF:
            raise exc.error from None
        first = exc.error
    except UnreadableDocument as exc:
        if form is not Format.PDF or exc.reason != "damaged":
            raise
        first = exc
    return await _read_again(msgspec.structs.replace(job, by_pypdf=True), data, first)


class _Crashed(Exception):
    """The child died of the document; `error` tells the caller."""

    def __init__(self, error: UnreadableDocument) -> None:
        super().__init__(error.message)
        self.error = error


async def _read_again(job: Job, data: bytes, first: UnreadableDocument) -> Document:
    """Read with the second reader; where it fails too, the first one's words count."""
    try:
        return await _read(job, data)
    except _Crashed:
        raise first from None
    except UnreadableDocument as exc:
        raise (first if exc.reason == "damaged" else exc) from None


async def _read(job: Job, data: bytes) -> Document:
    """Run one child. Raises _Crashed, UnreadableDocument, Unavailable."""
    process = await _start()
    try:
        async with asyncio.timeout(job.limits.wall_s):
            answer = await _talk(process, job, data)
            code = await process.wait()
    except TimeoutError:
        raise limit_hit("wall_s", f"reading the document takes longer than {job.limits.wall_s:g} s") from None
    finally:
        await _end(process)
    return _document(answer, code, job.limits)


def _document(answer: bytes, code: int, limits: Limits) -> Document:
    if code < 0:
        raise _death(-code, limits)
    if code > 0:
        raise Unavailable(f"documents cannot be read: the process for it ended with code {code}")
    try:
        said = _answers.decode(answer)
    except msgspec.DecodeError:
        raise _Crashed(damaged("the document is damaged: it misleads its reader")) from None
    match said:
        case Read(document, unconfined):
            if unconfined:
                _warn_of(unconfined)
            return document
        case Refused(reason, message, limit):
            error = UnreadableDocument(reason, message, limit=limit)
            raise _Crashed(error) if limit == "memory_bytes" else error
        case _:
            assert_never(said)


def _death(number: int, limits: Limits) -> Exception:
    """Return why a signal ended the child."""
    if number == signal.SIGXCPU:
        return limit_hit("cpu_s", f"reading the document takes more than {limits.cpu_s} s of processor time")
    # Native code that gets no memory ends its process, as does a fault in it.
    name = signal.Signals(number).name
    return _Crashed(damaged(f"the document is damaged, or too large for memory: its reader died of {name}"))


@cache
def _warn_of(missing: tuple[str, ...]) -> None:
    logger.warning("documents are read with less protection: this system has no %s", " and no ".join(missing))


# -- the process


async def _start() -> asyncio.subprocess.Process:
    paths = [str(Path(arriero.__path__[0]).parent), *filter(None, sys.path)]
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, *dict.fromkeys(paths)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={key: os.environ[key] for key in _ENVIRONMENT if key in os.environ},
            cwd="/",
            start_new_session=True,
        )
    except OSError as exc:
        raise Unavailable(f"documents cannot be read: no process can be started: {exc}") from exc


async def _talk(process: asyncio.subprocess.Process, job: Job, data: bytes) -> bytes:
    """Send the job and the document; return the answer, cut one byte after what it may be long."""
    assert process.stdin
    assert process.stdout
    sending = asyncio.create_task(_send(process.stdin, job, data), name="send a document")
    try:
        return await _receive(process.stdout, max_answer_bytes(job.limits) + 1)
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


async def _send(stream: asyncio.StreamWriter, job: Job, data: bytes) -> None:
    view = memoryview(data)
    with contextlib.suppress(ConnectionError):  # the child's end tells more than this
        stream.write(head(job))
        for start in range(0, len(data), _PIECE_BYTES):
            stream.write(view[start : start + _PIECE_BYTES])
            await stream.drain()
    stream.close()


async def _receive(stream: asyncio.StreamReader, most: int) -> bytes:
    received = bytearray()
    while len(received) < most and (piece := await stream.read(_PIECE_BYTES)):
        received += piece
    return bytes(received[:most])


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the child if it still runs, and wait until it has gone."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
