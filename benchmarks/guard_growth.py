"""How the guard and nginx grow with streams: CPU time of an event, and memory, at 1 to 1,024 streams.

    python -m benchmarks.guard_growth --nginx PATH --seconds 10 --rounds 3

All streams together bear the same number of events a second, so that only the number of streams differs; of
each cell only the time counts in which all of them run. Writes the picture, and beside it all samples as
JSON, and prints the table. Cores as in `benchmarks.guard`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING

from benchmarks.guard import (
    LOAD_CORE,
    UNITS,
    Sample,
    cpu_us,
    load_command,
    python,
    report,
    resident_kib,
    settle,
    started,
)
from benchmarks.guard_peers import peers
from benchmarks.machine import Watch
from benchmarks.plot import Panel, svg
from benchmarks.server import free_port, wait_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.guard_peers import Peer

STREAMS = (1, 8, 64, 256, 512, 1024)
EVENTS_PER_S = 1000
"""Of all streams of a cell together: one stream can be told an event each millisecond, no more."""
FIGURES = ("us_per_event", "mib")
WARM_UP_S = 1.5


def main() -> None:
    """Measure, draw, and print the table."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    port = free_port()
    with started(python("benchmarks.guard_upstream", port), LOAD_CORE, options.out / "upstream.log"):
        wait_port(port)
        for number in range(options.rounds):
            for peer in peers(options, port):
                samples += _round(peer, number, options)
    options.plot.with_suffix(".json").write_text(json.dumps([vars(one) for one in samples], indent=1) + "\n")
    options.plot.write_text(picture(samples))
    print(report(samples))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a cell")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(".work/benchmarks"), help="where logs go")
    parser.add_argument("--plot", type=Path, default=Path("benchmarks/guard_growth.svg"))
    parser.add_argument("--nginx", default=shutil.which("nginx"), help="the binary; default: from PATH")
    parser.set_defaults(litellm=None, only=("nginx", "arriero"))
    return parser.parse_args()


def _round(peer: Peer, number: int, options: argparse.Namespace) -> Iterator[Sample]:
    with started(peer.command, peer.core, options.out / f"{peer.name}.log", peer.env) as process:
        wait_port(peer.port, limit_s=300)
        settle(peer)
        for streams in STREAMS:
            yield from _cell(peer, process.pid, streams, number=number, seconds=options.seconds)


def _cell(peer: Peer, pid: int, streams: int, *, number: int, seconds: float) -> Iterator[Sample]:
    """Open the streams; once all run, count events, CPU time and memory for a while."""
    gap_ms = max(1, 1000 * streams // EVENTS_PER_S)
    plan = ("hold", "--connections", str(streams), "--count", "1000000", "--gap-ms", str(gap_ms))
    command = ["taskset", "-c", LOAD_CORE, *load_command(peer, plan)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        load.stdout.readline()
        time.sleep(WARM_UP_S + gap_ms / 1000)
        watch, used_us = Watch([pid, os.getpid()]), cpu_us(pid)
        events = _events(load.stdin, load.stdout)
        time.sleep(seconds)
        events = _events(load.stdin, load.stdout) - events
        used_us = cpu_us(pid) - used_us
        values = (used_us / max(events, 1), resident_kib(pid) / 1024)
        foreign = watch.foreign_share()
        load.communicate()
    for figure, value in zip(FIGURES, values, strict=True):
        yield Sample(peer.name, f"{streams} streams", figure, number, value, foreign)


def _events(ask: IO[str], answer: IO[str]) -> int:
    """Return how many events the clients have been told so far."""
    ask.write("\n")
    ask.flush()
    return int(answer.readline())


def picture(samples: Sequence[Sample]) -> str:
    """Return the picture of the medians of the rounds."""
    numbers = [int(cell.split()[0]) for cell in dict.fromkeys(sample.cell for sample in samples)]
    proxies = list(dict.fromkeys(sample.proxy for sample in samples))
    panels = [
        Panel(
            UNITS[figure],
            "streams",
            numbers,
            {proxy: [_median(samples, proxy, f"{n} streams", figure) for n in numbers] for proxy in proxies},
        )
        for figure in FIGURES
    ]
    return svg(panels)


def _median(samples: Sequence[Sample], proxy: str, cell: str, figure: str) -> float:
    return median(s.value for s in samples if (s.proxy, s.cell, s.figure) == (proxy, cell, figure))


if __name__ == "__main__":
    main()
