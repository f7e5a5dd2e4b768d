"""The main function of the process that reads one document, and ends.

It is started without environment, and with the parent's import path as its arguments. It takes a job
and the document from its standard input, shuts itself in, reads, and answers on its standard output.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO

import msgspec

from arriero.errors import UnreadableDocument
from arriero.extract import sandbox
from arriero.extract.detect import Format
from arriero.extract.document import Document
from arriero.extract.wire import LENGTH, Answer, Job, Read, Refused

_READERS = {
    Format.PLAIN: "plain",
    Format.CSV: "plain",
    Format.JSON: "plain",
    Format.MARKDOWN: "markdown",
    Format.HTML: "html",
    Format.PDF: "pdf",
    Format.DOCX: "docx",
}


def main(paths: Sequence[str]) -> None:
    """Read one document. `paths`: where Python's modules lie."""
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # whatever a library prints is no part of the answer
        output.write(msgspec.msgpack.encode(_answer(sys.stdin.buffer, paths)))


def _answer(source: BinaryIO, paths: Sequence[str]) -> Answer:
    job = _job(source)
    sandbox.limit(job.limits)
    data = source.read(job.size)
    if len(data) != job.size:
        raise SystemExit(1)  # the parent has gone
    read = _reader(job)
    unconfined = sandbox.shut(paths)
    try:
        return Read(read(data), unconfined)
    except UnreadableDocument as exc:
        return Refused(exc.reason, exc.message, exc.limit)
    except MemoryError:
        words = "reading the document takes too much memory (limit memory_bytes)"
        return Refused("limit", words, "memory_bytes")
    except RecursionError:
        return Refused("limit", "the document nests too deeply (limit depth)", "depth")
    except Exception as exc:  # what a library raises on a document that nobody foresaw
        return Refused("damaged", f"the document is damaged: its reader failed ({type(exc).__name__})")


def _job(source: BinaryIO) -> Job:
    (length,) = LENGTH.unpack(source.read(LENGTH.size))
    return msgspec.msgpack.decode(source.read(length), type=Job)


def _reader(job: Job) -> Callable[[bytes], Document]:
    """Load the one reader that the job needs."""
    name = "pdf_fallback" if job.by_pypdf else _READERS[job.format]
    read = importlib.import_module(f"arriero.extract.{name}").read
    match job.format:
        case Format.PDF | Format.DOCX:
            return lambda data: read(data, job.limits)
        case Format.HTML | Format.MARKDOWN:
            return lambda data: read(data, job.charset, job.limits)
        case _:
            return lambda data: read(data, job.format, job.charset, job.limits)
