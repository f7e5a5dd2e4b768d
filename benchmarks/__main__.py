"""The command: start the servers side by side, run the cells in turn, print the tables.

For each model: every round runs every cell on every server, in an order that moves with the round.
A cell in which foreign processes used too much of the machine is run again, at most twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvloop

from benchmarks import machine, parts, report, server
from benchmarks.report import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.figures import Figure
    from benchmarks.parts import Part
    from benchmarks.server import Server, Variant

REPEATS = 2
QUIET_WAIT_S = 20.0
PARTS = ("decode", "prompt", "prelude")
"""Measured unless `--parts` says otherwise; `neighbour` and `constrained` only then."""
VARIANTS = ("peer", "peer-swa-full", "arriero", "arriero-wheel")
SKIPPED = {("peer-swa-full", "decode"), ("peer-swa-full", "prompt"), ("arriero-wheel", "prelude")}
"""They say nothing new: a full window changes only the reuse, the wheel's library only the arithmetic."""
PAIRS = (("peer", "arriero"), ("peer-swa-full", "arriero"), ("peer", "arriero-wheel"))


@dataclass(frozen=True)
class Start:
    """How one server came up."""

    model: str
    variant: str
    command: str
    ready_s: float
    idle_mb: float
    later_mb: float


@dataclass(frozen=True)
class Results:
    """All that a run leaves behind."""

    head: dict[str, str]
    starts: list[Start]
    samples: list[Sample]


def main() -> None:
    """Run the benchmark that the command line asks for."""
    # Ended from outside, the servers must end too: let `finally` do it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options = arguments().parse_args()
    if not options.peer.is_file():
        raise SystemExit(f"--peer: no such file: {options.peer}")
    results = Results(head=heading(options), starts=[], samples=[])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for model in options.model:
            runner.run(measure_model(model.resolve(), options, results))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    (options.out / "results.md").write_text(text := markdown(results))
    print(text)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/run", description="Arriero against llama-server.")
    add = parser.add_argument
    add("--peer", type=Path, required=True, help="the llama-server binary")
    add("--model", type=Path, action="append", required=True, help="a GGUF file; may be repeated")
    add("--library", type=Path, help="libllama for Arriero; default: the one beside the peer")
    add("--full", action="store_true", help="five rounds of everything (the default)")
    add("--quick", action="store_true", help="one round of fewer cells: a look, not a measurement")
    add("--rounds", type=int, help="default 5; with --quick 1")
    add("--parts", type=words, default=list(PARTS), help="of decode,prompt,prelude,neighbour,constrained")
    add("--servers", type=words, default=list(VARIANTS), help=f"of {','.join(VARIANTS)}")
    add("--threads", type=int, default=2)
    add("--peer-env", action="append", default=[], metavar="NAME=VALUE", help="environment of the peer")
    add("--out", type=Path, default=Path(".work/benchmarks"), help="where results go")
    return parser


def words(text: str) -> list[str]:
    """Return the words of a list with commas."""
    return text.split(",")


async def measure_model(model: Path, options: argparse.Namespace, results: Results) -> None:
    """Start all servers of one model, run every round, and end them."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arriero-bench-")))
        options.out.mkdir(parents=True, exist_ok=True)
        servers = [
            stack.enter_context(server.running(variant, options.out))
            for variant in variants(model, folder, options)
        ]
        for number in range(options.rounds or (1 if options.quick else 5)):
            for part in cells(options):
                for one in turn(servers, number):
                    if (one.variant.name, part.kind) not in SKIPPED:
                        results.samples.extend(await measured(model.stem, one, part, number))
        results.starts.extend(started(model.stem, one) for one in servers)


def variants(model: Path, folder: Path, options: argparse.Namespace) -> list[Variant]:
    """Return the servers of one model that were asked for."""
    threads = options.threads
    library = options.library or options.peer.resolve().parent / "libllama.so"
    peer_env = dict(pair.split("=", 1) for pair in options.peer_env)
    known = {
        "peer": lambda: server.peer("peer", options.peer, model, threads=threads, env=peer_env),
        "peer-swa-full": lambda: server.peer(
            "peer-swa-full", options.peer, model, threads=threads, env=peer_env, extra=["--swa-full"]
        ),
        "arriero": lambda: server.arriero("arriero", folder, model, threads=threads, library=library),
        "arriero-wheel": lambda: server.arriero(
            "arriero-wheel", folder, model, threads=threads, library=None
        ),
    }
    names = [name for name in VARIANTS if name in options.servers]
    if not server.has_sliding_window(model):
        names = [name for name in names if name != "peer-swa-full"]
    return [known[name]() for name in names]


def cells(options: argparse.Namespace) -> list[Part]:
    """Return the cells of one round."""
    if options.quick:
        return parts.chosen(options.parts, widths=(1, 8), sessions=(8,))
    return parts.chosen(options.parts, widths=(1, 4, 8, 16), sessions=(1, 8, 16))


def turn(servers: Sequence[Server], number: int) -> list[Server]:
    """Return the servers in the order of a round: the other way round each time."""
    return list(servers) if number % 2 == 0 else list(reversed(servers))


async def measured(model: str, one: Server, part: Part, number: int) -> list[Sample]:
    """Run one cell, again if it was disturbed, and return the least disturbed run."""
    runs: list[tuple[float, list[Figure]]] = []
    for attempt in range(1 + REPEATS):
        machine.wait_quiet([one.pid], limit_s=QUIET_WAIT_S)
        watch = machine.Watch([one.pid])
        figures = await part.run(one, f"{number} {part.label} {attempt}")
        runs.append((watch.foreign_share(), figures))
        tell(model, one, figures, number, foreign=runs[-1][0])
        if runs[-1][0] <= machine.LIMIT:
            break
    foreign, figures = min(runs, key=lambda run: run[0])
    disturbed = foreign > machine.LIMIT
    return [Sample(model, one.variant.name, number, figure, foreign, disturbed) for figure in figures]


def tell(model: str, one: Server, figures: Sequence[Figure], number: int, *, foreign: float) -> None:
    """Show a run while the benchmark goes on."""
    for figure in figures:
        value = f"{report.number(figure.value)} {figure.measure.unit}"
        print(
            f"{time.strftime('%H:%M:%S')} {model} round {number + 1} {one.variant.name}: "
            f"{figure.measure.name}: {value} (foreign {foreign:.1%})",
            file=sys.stderr,
            flush=True,
        )


def started(model: str, one: Server) -> Start:
    """Return how the server came up, and its memory now that it has worked."""
    command = " ".join(one.variant.command)
    return Start(model, one.variant.name, command, one.ready_s, one.idle_mb, machine.resident_mb(one.pid))


def heading(options: argparse.Namespace) -> dict[str, str]:
    """Return what the run was: date, commit, machine, command and peer."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": git.stdout.strip() or "none",
        "machine": f"{machine.CPUS} CPUs, {machine.cpu_name()}",
        "interpreter": machine.interpreter(),
        "command": " ".join(["benchmarks/run", *sys.argv[1:]]),
        "peer": f"llama-server {server.version(options.peer)}, environment {options.peer_env or 'as it is'}",
    }


def markdown(results: Results) -> str:
    """Return the whole report."""
    blocks = ["\n".join(f"- {key}: {value}" for key, value in results.head.items())]
    for model in dict.fromkeys(sample.model for sample in results.samples):
        samples = [sample for sample in results.samples if sample.model == model]
        blocks.append(f"### {model}")
        for theirs, ours in PAIRS:
            if found := report.compare(samples, theirs=theirs, ours=ours):
                blocks.append(report.comparison_table(found, theirs=theirs, ours=ours))
        blocks.append(report.overhead_table(samples))
        blocks.append(start_table([start for start in results.starts if start.model == model]))
    return "\n\n".join(block for block in blocks if block) + "\n"


def start_table(starts: Sequence[Start]) -> str:
    """Return the Markdown table of how the servers came up."""
    rows = [
        (s.variant, f"{s.ready_s:.2f}", report.number(s.idle_mb), report.number(s.later_mb)) for s in starts
    ]
    return report.table(("server", "ready s", "main process idle MB", "after the run MB"), rows)


if __name__ == "__main__":
    main()
