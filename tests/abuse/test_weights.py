"""Damaged weights: whatever a file says, it is loaded, refused, or ends the process that reads it alone."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from collections import Counter
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

MUTANTS = 300
LONGEST_READ_S = 2.0
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


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files that were right before."""
    folder = tmp_path_factory.mktemp("mutants")
    whole = write_tiny_gguf(folder / "whole.gguf")
    places, data, rng = places_of(whole), whole.read_bytes(), random.Random(6)
    files = [folder / f"{number}.gguf" for number in range(scaled(MUTANTS))]
    for file in files:
        file.write_bytes(mutant(data, places, rng))
    return files


@pytest.mark.slow
def test_damaged_weights_end_at_most_the_process_that_reads_them(
    mutants: list[Path], figures: Figures
) -> None:
    """Soon, without a hang, and without a fault of ours; each refusal names the file."""
    command = [sys.executable, "-m", "tests.abuse.loader", *map(str, mutants)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=True)
    told = [line.split(maxsplit=2) for line in ended.stdout.splitlines()]

    seen = Counter(kind for _, kind, *_ in told)
    figures.tell("damaged weights", files=len(told), longest_s=max(float(s) for s, *_ in told), **seen)
    assert len(told) == len(mutants)
    assert seen["hang"] == 0
    assert seen["traceback"] == 0, ended.stderr
    refusals = zip(mutants, told, strict=True)
    assert [line for file, line in refusals if line[1] == "refused" and file.name not in line[2]] == []


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
def test_damaged_metadata_is_read_or_refused(mutants: list[Path], figures: Figures) -> None:
    """The reader of metadata ends soon with what it read, or with one error that names the file."""
    seen: Counter[str] = Counter()
    longest_s = 0.0
    for file in mutants:
        started = time.process_time()
        seen[metadata_of(file)] += 1
        longest_s = max(longest_s, time.process_time() - started)

    figures.tell("damaged metadata", longest_s=longest_s, **seen)
    assert longest_s < LONGEST_READ_S
