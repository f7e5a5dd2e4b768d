"""Damaged weights: whatever a file says, it is loaded, refused, or ends the process that reads it alone."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import pytest
from tests.abuse.subject import ROOT, scaled

from arriero.errors import ConfigError
from arriero.guard.gguf import read_metadata
from arriero.testing.tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

MUTANTS = 2_000
AT_A_TIME = 500
"""So many files are there at the same time, of half a megabyte each."""
SEED = 6
LONGEST_LOAD_S = 10.0
LONGEST_READ_S = 2.0
"""Of processor time, as a machine may be busy."""
NUMBERS = (0, 1, 2, 3, 8, 9, 12, 13, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**61, 2**63, 2**64 - 1)


def places_of(file: Path) -> list[tuple[int, int]]:
    """Return where the numbers and texts of a file's head stand, and how long each is."""
    reader = gguf.GGUFReader(file)
    places = [(4, 4), (8, 8), (16, 8)]
    for field in (*reader.fields.values(), *(tensor.field for tensor in reader.tensors)):
        offset = field.offset
        for part in field.parts:
            places.append((int(offset), part.nbytes))
            offset += part.nbytes
    return [(offset, size) for offset, size in places if size]


def mutant(whole: bytes, places: list[tuple[int, int]], rng: random.Random) -> bytes:
    """Return a file that is wrong in one to three places of its head, or in its length."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        # Most places belong to the vocabulary; the others are as likely as all of it.
        offset, size = rng.choice(rng.choice((places[:3], places[:200], places[-200:], places)))
        if offset + size > len(data):
            break  # it was cut before
        match rng.randrange(6):
            case 0 | 1 | 2:
                number = struct.pack("<Q", rng.choice(NUMBERS))[: min(size, 8)]
                data[offset : offset + len(number)] = number
            case 3:
                data[offset + rng.randrange(size)] ^= 1 << rng.randrange(8)
            case 4:
                other, length = rng.choice(places)
                data[offset:offset] = data[other : other + length]
            case _:
                del data[offset : offset + rng.choice((size, size, len(data)))]
    return bytes(data)


def batches(folder: Path) -> Iterator[list[Path]]:
    """Yield files that were right before, which are there until the next ones are asked for."""
    whole = write_tiny_gguf(folder / "whole.gguf")
    places, data, rng = places_of(whole), whole.read_bytes(), random.Random(SEED)
    for numbers in batched(range(scaled(MUTANTS)), AT_A_TIME):
        files = [folder / f"{number}.gguf" for number in numbers]
        for file in files:
            file.write_bytes(mutant(data, places, rng))
        yield files
        for file in files:
            file.unlink()


def batched(numbers: range, size: int) -> Iterator[range]:
    return (numbers[begin : begin + size] for begin in range(0, len(numbers), size))


@pytest.mark.slow
def test_damaged_weights_end_at_most_the_process_that_reads_them(tmp_path: Path, figures: Figures) -> None:
    """Soon, without a hang, and without a fault of ours; each refusal names the file."""
    seen: Counter[str] = Counter()
    longest_s = 0.0
    for files in batches(tmp_path):
        command = [sys.executable, "-m", "tests.abuse.loader", *map(str, files)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=True)
        told = [line.split(maxsplit=2) for line in ended.stdout.splitlines()]
        seen += Counter(kind for _, kind, *_ in told)
        longest_s = max(longest_s, *(float(took_s) for took_s, *_ in told))
        refusals = zip(files, told, strict=True)
        assert [line for file, line in refusals if line[1] == "refused" and file.name not in line[2]] == []
        assert seen["traceback"] == 0, ended.stderr

    figures.tell("damaged weights", files=seen.total(), longest_cpu_s=longest_s, **seen)
    assert seen["hang"] == 0
    assert longest_s < LONGEST_LOAD_S


def metadata_of(file: Path) -> str:
    """Read the metadata of a file; return what became of it."""
    try:
        read_metadata(file)
    except ConfigError as exc:
        refusal = exc.message
    else:
        return "read"
    assert str(file) in refusal
    return "refused"


@pytest.mark.slow
def test_damaged_metadata_is_read_or_refused(tmp_path: Path, figures: Figures) -> None:
    """The reader of metadata ends soon with what it read, or with one error that names the file."""
    seen: Counter[str] = Counter()
    longest_s = 0.0
    for files in batches(tmp_path):
        for file in files:
            started = time.process_time()
            seen[metadata_of(file)] += 1
            longest_s = max(longest_s, time.process_time() - started)

    figures.tell("damaged metadata", longest_cpu_s=longest_s, **seen)
    assert longest_s < LONGEST_READ_S
