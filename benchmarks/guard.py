"""The guard beside nginx, LiteLLM and its own plain ASGI form: what a request, an event and a stream cost.

    python -m benchmarks.guard --nginx PATH --litellm PATH --seconds 5 --rounds 5 --out DIR

Linux with two free cores: the proxy under test has the first one, clients and upstream share the second.
Rounds are interleaved: each runs every cell of every proxy. Where clients or upstream are the limit, the
CPU time of the proxy for each request or event is the fair figure, so it stands beside each rate.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.guard_peers import Peer, peers
from benchmarks.machine import Watch
from benchmarks.report import number, table
from benchmarks.server import free_port, wait_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PROXY_CORE, LOAD_CORE = "0", "1"
IDLE_STREAMS = 1000
SETTLE_S = 60.0
FOREIGN = 0.12
"""Share of the machine that others may use during a cell that counts as quiet."""


@dataclass(frozen=True)
class Cell:
    """One load, and which figures are taken of it."""

    name: str
    arguments: tuple[str, ...]
    figures: tuple[str, ...]


CELLS = (
    Cell("requests, 64 connections", ("requests", "--connections", "64"), ("answers_per_s", "us_per_answer")),
    Cell(
        "requests at 200/s",
        ("rate", "--connections", "64", "--rate", "200"),
        ("p50_us", "p99_us", "us_per_answer"),
    ),
    Cell(
        "events as fast as they go, 64 streams",
        ("streams", "--connections", "64", "--count", "2000"),
        ("events_per_s", "us_per_event"),
    ),
    Cell(
        "events as fast as they go, 512 streams",
        ("streams", "--connections", "512", "--count", "500"),
        ("events_per_s", "us_per_event"),
    ),
    Cell(
        "3,200 events/s, 64 streams",
        ("streams", "--connections", "64", "--count", "100000", "--gap-ms", "20"),
        ("events_per_s", "us_per_event", "p50_us", "p99_us"),
    ),
    Cell(
        "10,240 events/s, 512 streams",
        ("streams", "--connections", "512", "--count", "100000", "--gap-ms", "50"),
        ("events_per_s", "us_per_event"),
    ),
    Cell(
        "first event, 8 streams",
        ("streams", "--connections", "8", "--count", "20", "--gap-ms", "10"),
        ("first_p50_us",),
    ),
)
UNITS = {
    "answers_per_s": "requests/s",
    "events_per_s": "events/s",
    "us_per_answer": "CPU µs a request",
    "us_per_event": "CPU µs an event",
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "first_p50_us": "µs to the first event",
    "kib_per_stream": "KiB an idle stream",
    "mib": "MiB of memory",
}


@dataclass(frozen=True)
class Sample:
    """One figure of one proxy in one round."""

    proxy: str
    cell: str
    figure: str
    round: int
    value: float
    foreign: float


def main() -> None:
    """Measure, and write `guard.json` and `guard.md`."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    upstream_port = free_port()
    with started(python("benchmarks.guard_upstream", upstream_port), LOAD_CORE, options.out / "upstream.log"):
        wait_port(upstream_port)
        for number_of_round in range(options.rounds):
            for peer in peers(options, upstream_port):
                samples += _round(peer, number_of_round, options)
    (options.out / "guard.json").write_text(json.dumps([vars(sample) for sample in samples], indent=1))
    text = report(samples)
    (options.out / "guard.md").write_text(text + "\n")
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a cell")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(".work/benchmarks"))
    parser.add_argument("--nginx", default=shutil.which("nginx"), help="the binary; default: from PATH")
    parser.add_argument("--litellm", default=shutil.which("litellm"), help="the script; default: from PATH")
    parser.add_argument("--only", nargs="*", help="names of the proxies to run")
    parser.add_argument("--cells", nargs="*", help="beginnings of the names of the cells to run")
    return parser.parse_args()


def _round(peer: Peer, number_of_round: int, options: argparse.Namespace) -> list[Sample]:
    samples: list[Sample] = []
    with started(peer.command, peer.core, options.out / f"{peer.name}.log", peer.env) as process:
        wait_port(peer.port, limit_s=300)
        settle(peer)
        for cell in CELLS:
            if options.cells and not any(cell.name.startswith(name) for name in options.cells):
                continue
            if peer.is_slow and cell.name not in SLOW_CELLS:
                continue
            watch, before = Watch([process.pid, os.getpid()]), cpu_us(process.pid)
            seen = _load(peer, cell.arguments, options.seconds)
            used_us, foreign = cpu_us(process.pid) - before, watch.foreign_share()
            if seen["bad"] or (peer.rewrites and seen["leaks"]):
                print(f"{peer.name}, {cell.name}: {seen['bad']} bad, {seen['leaks']} leaks", file=sys.stderr)
            # Rates leave out the warm-up; the CPU time is that of the whole cell.
            for kind in ("answer", "event"):
                count = seen[f"all_{kind}s"]
                seen[f"us_per_{kind}"] = used_us / count if count else 0.0
            settle(peer)  # many clients have left at once
            samples += [
                Sample(peer.name, cell.name, figure, number_of_round, seen[figure], foreign)
                for figure in cell.figures
            ]
        if not peer.is_slow and not options.cells:
            samples.append(_idle(peer, process.pid, number_of_round))
    return samples


SLOW_CELLS = ("requests, 64 connections", "first event, 8 streams")
"""What a proxy is asked that would need minutes for the others."""


def settle(peer: Peer) -> None:
    """Wait until the proxy answers in order; the first requests also teach it what it learns."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        if _load(peer, ("requests", "--connections", "4"), 1.0)["answers_per_s"] > 0:
            return
    raise SystemExit(f"{peer.name} does not answer any more; see its log")


def _load(peer: Peer, arguments: tuple[str, ...], seconds: float) -> dict[str, float]:
    command = ["taskset", "-c", LOAD_CORE, *load_command(peer, arguments), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 120)
    if done.returncode:
        raise SystemExit(f"the clients of {peer.name} failed: {done.stderr.splitlines()[-1:]}")
    seen: dict[str, float] = json.loads(done.stdout)
    return seen


def load_command(peer: Peer, arguments: tuple[str, ...]) -> list[str]:
    """Return how the clients of a proxy are started."""
    options = ["--port", str(peer.port), "--model", peer.model]
    return [*python("benchmarks.guard_load", *arguments), *options]


def _idle(peer: Peer, pid: int, number_of_round: int) -> Sample:
    """Hold many streams that say one event and fall silent; return what each costs in memory."""
    before = resident_kib(pid)
    plan = ("hold", "--connections", str(IDLE_STREAMS), "--count", "2", "--gap-ms", "3600000")
    with subprocess.Popen(
        load_command(peer, plan), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as load:
        assert load.stdout is not None
        load.stdout.readline()
        time.sleep(3)
        cost = (resident_kib(pid) - before) / IDLE_STREAMS
        load.communicate("")
    return Sample(peer.name, f"{IDLE_STREAMS} idle streams", "kib_per_stream", number_of_round, cost, 0.0)


@contextlib.contextmanager
def started(
    command: list[str], core: str, log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on one core while the block runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", core, *command],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def python(module: str, *arguments: object) -> list[str]:
    """Return how a module of this interpreter is started."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def cpu_us(pid: int) -> float:
    """Return the CPU time of a process and its children, in µs."""
    total = 0
    for process in tree(pid):
        for task in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e3


def resident_kib(pid: int) -> float:
    """Return the memory of a process and its children that is theirs, shared pages by their share."""
    total = 0
    for process in tree(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return float(total)


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def report(samples: list[Sample]) -> str:
    """Return the Markdown table: medians of the rounds, and in brackets how many times nginx's they are."""
    proxies = list(dict.fromkeys(sample.proxy for sample in samples))
    rows = []
    for cell, figure in dict.fromkeys((sample.cell, sample.figure) for sample in samples):
        values = {proxy: _median(samples, proxy, cell, figure) for proxy in proxies}
        quiet = [s.foreign <= FOREIGN for s in samples if (s.cell, s.figure) == (cell, figure)]
        shown = [_shown(values[proxy], values.get("nginx")) for proxy in proxies]
        rows.append((cell, UNITS[figure], *shown, f"{sum(quiet)} of {len(quiet)}"))
    return table(("load", "figure", *proxies, "quiet cells"), rows)


def _median(samples: list[Sample], proxy: str, cell: str, figure: str) -> float | None:
    values = [s.value for s in samples if (s.proxy, s.cell, s.figure) == (proxy, cell, figure)]
    return median(values) if values else None


def _shown(value: float | None, base: float | None) -> str:
    if value is None:
        return ""
    return number(value) if not base or value is base else f"{number(value)} ({value / base:.2f})"


if __name__ == "__main__":
    main()
