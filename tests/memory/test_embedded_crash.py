"""What is acknowledged survives: a killed process, a cut of the power, a full disk, a damaged file."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.memory.crash_writer import Operation, clear, copied, held, model, operation, perform, write
from tests.memory.killing import killed_run, preloaded
from tests.memory.store_contract import IDENTITY

from arriero.errors import ConfigError, Damaged, Unavailable
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedded_check import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerContext

State = dict[str, tuple[int, int]]
DISK_WRITER = "tests.memory.disk_writer"


@pytest.fixture(scope="module")
def children() -> ForkServerContext:
    """Return what starts children that have imported everything."""
    return preloaded("tests.memory.crash_writer")


def possible(start: State, seed: int, last: int | None) -> list[State]:
    """Return what may be held: with all that was acknowledged, and perhaps with the operation after it."""
    done = [operation(seed, place) for place in range((last if last is not None else -1) + 1)]
    return [model(start, done), model(start, [*done, operation(seed, len(done))])]


async def opened_state(path: Path) -> State:
    """Return what a memory holds that is opened now."""
    store = await EmbeddedStore.open(path, IDENTITY)
    try:
        return await held(store)
    finally:
        await store.close()


@pytest.mark.parametrize(
    "rounds", [6, pytest.param(500, marks=pytest.mark.slow)], ids=["some", "five hundred"]
)
async def test_a_killed_writer_loses_nothing(
    children: ForkServerContext, tmp_path: Path, rounds: int
) -> None:
    """After each kill -9 the memory opens with all acknowledged documents, each of them whole."""
    path = tmp_path / "m.db"
    state: State = {}
    acknowledged = 0
    for seed in range(rounds):
        last = await asyncio.to_thread(killed_run, children, write, path, seed, within_s=0.15)
        found = await opened_state(path)
        assert found in possible(state, seed, last), f"round {seed}, after operation {last}"
        state = found
        acknowledged += (last if last is not None else -1) + 1

    assert acknowledged > rounds
    assert check(path).faults == ()


def wait_smaller(path: Path, size: int) -> None:
    """Return when a file has at most so many bytes."""
    end = time.monotonic() + 60
    while path.stat().st_size > size:
        assert time.monotonic() < end, f"{path} still has {path.stat().st_size} bytes"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("rounds", "num_documents"),
    [(4, 40), pytest.param(40, 1000, marks=pytest.mark.slow)],
    ids=["some", "a hundred thousand chunks"],
)
async def test_a_killed_clear_takes_all_or_nothing(
    children: ForkServerContext, tmp_path: Path, rounds: int, num_documents: int
) -> None:
    """What was cleared stays so, what was not can be cleared then, and the room is given back."""
    whole, path = tmp_path / "whole.db", tmp_path / "m.db"
    store = await EmbeddedStore.open(whole, IDENTITY)
    for place in range(num_documents):
        await perform(store, Operation("put", f"d{place}", place, 100))
    await store.close()
    shutil.copy(whole, path)
    store = await EmbeddedStore.open(path, IDENTITY)
    begin = time.monotonic()
    await store.clear()
    takes_s = time.monotonic() - begin
    await store.close()

    seen = set()
    for seed in range(rounds):
        copied(whole, path)
        last = await asyncio.to_thread(killed_run, children, clear, path, seed, within_s=1.5 * takes_s)
        store = await EmbeddedStore.open(path, IDENTITY)
        held_now = (await store.counts()).documents
        assert held_now == 0 or (held_now == num_documents and last in (None, -1)), f"round {seed}"
        if held_now:
            assert await store.clear() == held_now
        await asyncio.to_thread(wait_smaller, path, max(4 << 20, whole.stat().st_size // 3))
        await store.close()
        seen.add(held_now)

    assert rounds < 9 or seen == {0, num_documents}, "kills came both before and after"
    assert check(path).faults == ()


async def recorded(folder: Path, count: int) -> tuple[bytes, bytes, list[tuple[int, State]]]:
    """Write operations; return database, log, and the states by the length of the log that holds them.

    Nothing is moved from the log into the database meanwhile, so the log only grows.
    """
    path = folder / "m.db"
    store = await EmbeddedStore.open(path, IDENTITY)
    await perform(store, operation(1, 0))
    states = [(log_of(path).stat().st_size, await held(store))]
    for place in range(1, count):
        await perform(store, operation(1, place))
        states.append((log_of(path).stat().st_size, await held(store)))
    database, log = path.read_bytes(), log_of(path).read_bytes()
    await store.close()
    return database, log, states


def log_of(path: Path) -> Path:
    """Return SQLite's log of a database."""
    return path.with_name(path.name + "-wal")


def cuts(length: int, first: int, count: int) -> Iterator[int]:
    """Yield lengths of a log: around the ends of pages, and anywhere."""
    chance = random.Random(length)
    for _ in range(count):
        frame = 32 + 8216 * chance.randrange(first // 8216, length // 8216 + 1)
        yield min(length, max(first, frame + chance.choice((0, 0, 1, -1, 24, 512, chance.randrange(8216)))))


@pytest.mark.parametrize("cut_count", [8, pytest.param(3000, marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("tail", ["lost", "zeros", "noise"])
async def test_a_cut_of_the_power_loses_nothing(tmp_path: Path, cut_count: int, tail: str) -> None:
    """Wherever the log ends after its last sync, what was acknowledged by then is there."""
    database, log, states = await recorded(tmp_path, 40)
    after = tmp_path / "after"
    after.mkdir()
    path = after / "m.db"
    for cut in cuts(len(log), states[0][0], cut_count):
        rest = {"lost": b"", "zeros": bytes(len(log) - cut), "noise": random.Random(cut).randbytes(9000)}
        path.write_bytes(database)
        log_of(path).write_bytes(log[:cut] + rest[tail])

        found = await opened_state(path)

        acknowledged = max(place for place, (length, _) in enumerate(states) if length <= cut)
        assert found in [state for _, state in states[acknowledged : acknowledged + 2]], f"cut at {cut}"


async def test_a_cut_while_the_log_is_moved_loses_nothing(tmp_path: Path) -> None:
    """With the log still there, any mixture of old and new pages of the database is repaired from it."""
    database, log, states = await recorded(tmp_path, 40)
    moved = (tmp_path / "m.db").read_bytes()
    after = tmp_path / "after"
    after.mkdir()
    chance = random.Random(0)
    for _ in range(8):
        size = chance.choice((len(database), len(moved), chance.randrange(len(database), len(moved) + 1)))
        mixed = bytearray(database.ljust(size, b"\0"))
        for page in range(0, size, 4096):
            if chance.random() < 0.5:
                mixed[page : page + 4096] = moved[page : min(page + 4096, size)]
        (after / "m.db").write_bytes(mixed)
        log_of(after / "m.db").write_bytes(log)

        assert await opened_state(after / "m.db") == states[-1][1]


@pytest.mark.parametrize("rounds", [15, pytest.param(2000, marks=pytest.mark.slow)], ids=["some", "many"])
async def test_damage_never_goes_unseen(tmp_path: Path, rounds: int) -> None:
    """What is read from a damaged file is right, or an error names the file; nor does a check crash."""
    _, _, states = await recorded(tmp_path, 40)
    whole = (tmp_path / "m.db").read_bytes()
    path = tmp_path / "hurt.db"
    chance = random.Random(0)
    refused = 0
    for _ in range(rounds):
        content = bytearray(whole)
        begin = chance.randrange(len(content))
        content[begin : begin + 64] = chance.randbytes(64)
        path.write_bytes(content)
        try:
            assert await opened_state(path) == states[-1][1]
        except ConfigError:  # another model, or another format: those words are what was hurt
            pass
        except Unavailable as refusal:
            refused += f"{path}: damaged" in refusal.message
        with contextlib.suppress(Unavailable, ConfigError):
            check(path)

    assert refused > 1


@pytest.mark.parametrize(
    ("whole", "hurt"),
    [
        (b"CREATE TABLE chunk (", b"CREATE TAB\xd5\xff chunk ("),
        (b"CREATE TABLE meta (", b"CREATE TABLE atem ("),
    ],
    ids=["no text", "no table"],
)
async def test_hurt_tables_are_damage(tmp_path: Path, whole: bytes, hurt: bytes) -> None:
    """Whatever SQLite says of them, in letters or not, the error names the file."""
    path = tmp_path / "m.db"
    await (await EmbeddedStore.open(path, IDENTITY)).close()
    content = path.read_bytes()
    assert content.count(whole) == 1
    path.write_bytes(content.replace(whole, hurt))

    with pytest.raises(Damaged, match=re.escape(f"{path}: damaged")):
        await EmbeddedStore.open(path, IDENTITY)


def run_disk_writer(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the child that fills a disk."""
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-m", DISK_WRITER, *arguments], cwd=root, capture_output=True, text=True, timeout=120
    )


def test_a_full_disk_makes_the_memory_read_only_until_there_is_room() -> None:
    """On a real small disk: clear errors, searches go on, deleting works, and so does storing afterwards."""
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
        ).returncode
    ):
        pytest.skip("a small disk cannot be mounted here")
    root = Path(__file__).resolve().parents[2]
    script = f"mount -t tmpfs -o size=48m none /mnt && exec {sys.executable} -m {DISK_WRITER} disk /mnt/m.db"

    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=root, capture_output=True, text=True, timeout=120
    )

    assert done.stdout.splitlines()[-1:] == ["recovered"], done.stdout + done.stderr


@pytest.mark.slow
def test_a_bound_on_the_size_of_files_makes_the_memory_read_only(tmp_path: Path) -> None:
    """Where the system refuses to let a file grow, storing fails clearly and all the rest goes on."""
    done = run_disk_writer("bound", str(tmp_path / "m.db"))

    assert done.stdout.splitlines()[-1:] == ["recovered"], done.stdout + done.stderr
