"""The command: documents to text, Arriero beside markitdown, by processor time and by words.

    python -m benchmarks.extract --peer PYTHON [--documents DIR]

PYTHON is an interpreter that has `markitdown[pdf,docx]`. Every document is read by both in turn, each in a
process of its own. Reported for each: processor seconds with and without the start of the process, pages
or documents per second from them, and the F1 of words against the text that the document was made of
(generated documents) or that `pdftotext` finds in it (the PDFs of DIR; left out if it is not installed).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pypdfium2

from arriero.errors import UnreadableDocument
from arriero.extract.extract import extract
from arriero.testing.small_docx import docx, paragraph, style, table
from arriero.testing.small_pdf import Text, column, pdf
from benchmarks.report import number
from benchmarks.report import table as rows_table

MARKITDOWN = """
import sys, time, json
from markitdown import MarkItDown
reader = MarkItDown()
began = time.process_time()
text = reader.convert(sys.argv[1]).text_content
print(json.dumps([time.process_time() - began, text]))
"""
ARRIERO = """
import sys, time, json
from pathlib import Path
from arriero.extract import docx, pdf
from arriero.extract.limits import Limits
data = Path(sys.argv[1]).read_bytes()
began = time.process_time()
text = (pdf if sys.argv[1].endswith("pdf") else docx).read(data, Limits()).text
print(json.dumps([time.process_time() - began, text]))
"""
WORD = re.compile(r"\w+")
SYLLABLES = ["ba", "co", "di", "fe", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "wo", "zu", "ke"]


@dataclass(frozen=True)
class Sample:
    """A document: its file, the words that it holds if they are known, its pages (a DOCX: 1)."""

    path: Path
    words: Counter[str] | None
    pages: int


@dataclass(frozen=True)
class Reading:
    """How one program read one document. `f1`: None where there is nothing to compare with."""

    total_s: float
    reading_s: float
    f1: float | None


def main() -> None:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(prog="benchmarks.extract", description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="a Python that has markitdown")
    parser.add_argument("--documents", type=Path, help="a directory of PDF and DOCX files")
    parser.add_argument("--pages", type=int, default=100, help="pages of the generated PDF (default 100)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="arriero-extract-") as folder:
        samples = [*generated(Path(folder), options.pages), *found(options.documents)]
        lines = [row for sample in samples for row in compared(sample, options.peer)]
    head = ("document", "pages", "program", "CPU s", "pages/s", "without start: CPU s", "pages/s", "word F1")
    print(rows_table(head, lines))


def generated(folder: Path, pages: int) -> Iterator[Sample]:
    """Yield a PDF and DOCX files of known words."""
    chance = random.Random(1)
    for kind, make, count in (
        ("book.pdf", book, pages),
        ("short.docx", report, 30),
        ("long.docx", report, 3_000),
    ):
        data, text = make(chance, count)
        (folder / kind).write_bytes(data)
        yield Sample(folder / kind, words(text), count if kind.endswith("pdf") else 1)


def found(folder: Path | None) -> Iterator[Sample]:
    """Yield the documents of a directory."""
    paths = sorted(folder.rglob("*")) if folder else []
    for path in paths:
        if path.suffix == ".docx":
            yield Sample(path, None, 1)
        elif path.suffix == ".pdf":
            text = pdftotext(path)
            yield Sample(path, words(text) if text else None, len(pypdfium2.PdfDocument(path)))


def pdftotext(path: Path) -> str | None:
    """Return what poppler reads, if it is there."""
    if not shutil.which("pdftotext"):
        return None
    return subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True, check=True).stdout


def book(chance: random.Random, pages: int) -> tuple[bytes, str]:
    """Return a PDF of two columns with headings, running heads and divided words, and its text."""
    made, text = [], []
    for page in range(pages):
        title = sentence(chance, 4)
        left, right = ([sentence(chance, 8) for _ in range(45)] for _ in range(2))
        head = [Text(72, 770, "A running head"), Text(300, 20, str(page + 1))]
        columns = column(divided(left), top=690) + column(divided(right), x=330, top=690)
        made.append([*head, Text(72, 720, title, 18), *columns])
        text += [title, *left, *right]
    return pdf(made), "\n".join(text)


def divided(lines: Sequence[str]) -> list[str]:
    """Return lines with the first word of every third one begun on the line before."""
    divided_lines = list(lines)
    for place in range(1, len(lines), 3):
        first, _, rest = divided_lines[place].partition(" ")
        divided_lines[place - 1] += f" {first[:2]}-"
        divided_lines[place] = f"{first[2:]} {rest}"
    return divided_lines


def report(chance: random.Random, paragraphs: int) -> tuple[bytes, str]:
    """Return a DOCX of headings, paragraphs and tables, and its text."""
    parts, text = [], []
    for place in range(paragraphs):
        said = sentence(chance, 60 if place % 10 else 5)
        parts.append(paragraph(said, style=None if place % 10 else "h1"))
        text.append(said)
        if place % 50 == 25:
            cells = tuple(sentence(chance, 2) for _ in range(4))
            parts.append(table(cells, cells))
            text += cells * 2
    return docx("".join(parts), styles=style("h1", "heading 1")), "\n".join(text)


def sentence(chance: random.Random, count: int) -> str:
    """Return words of two to four syllables."""
    return " ".join("".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))) for _ in range(count))


def words(text: str) -> Counter[str]:
    """Return how often each word stands in a text."""
    return Counter(WORD.findall(text.casefold()))


def compared(sample: Sample, peer: Path) -> Iterator[tuple[str, ...]]:
    """Yield a row for each program."""
    for name, reading in (("arriero", ours(sample)), ("markitdown", peers(sample, peer))):
        total, alone = sample.pages / reading.total_s, sample.pages / max(reading.reading_s, 1e-6)
        f1 = "-" if reading.f1 is None else f"{reading.f1:.4f}"
        times = (f"{reading.total_s:.2f}", number(total), f"{reading.reading_s:.3f}", number(alone))
        yield (sample.path.name, str(sample.pages), name, *times, f1)


def ours(sample: Sample) -> Reading:
    """Read with Arriero: as a server does, and again in one process to see the reading alone."""
    began = children_s()
    try:
        text = asyncio.run(extract(sample.path.read_bytes(), name=sample.path.name)).text
    except UnreadableDocument as exc:
        print(f"{sample.path.name}: {exc}", file=sys.stderr)
        return Reading(children_s() - began, children_s() - began, None)
    total = children_s() - began
    return Reading(total, ran(Path(sys.executable), ARRIERO, sample)[0], f1(sample.words, text))


def peers(sample: Sample, peer: Path) -> Reading:
    """Read with markitdown, in a process of its own."""
    began = children_s()
    reading_s, text = ran(peer, MARKITDOWN, sample)
    return Reading(children_s() - began, reading_s, f1(sample.words, text))


def ran(python: Path, program: str, sample: Sample) -> tuple[float, str]:
    """Return the processor seconds of the reading alone, and the text."""
    command = [python, "-c", program, sample.path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{sample.path.name}: {done.stderr.splitlines()[-1:]}", file=sys.stderr)
        return 0.0, ""
    seconds, text = json.loads(done.stdout.splitlines()[-1])
    return seconds, text


def children_s() -> float:
    """Return the processor seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def f1(expected: Counter[str] | None, text: str) -> float | None:
    """Return the F1 of the words that were read."""
    if expected is None:
        return None
    read = words(text)
    return 2 * (expected & read).total() / max(1, expected.total() + read.total())


if __name__ == "__main__":
    main()
