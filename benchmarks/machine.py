"""How quiet the machine is: CPU time of everything but the processes under test. Linux only.

Time that the hypervisor took away counts as foreign too.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

TICK = os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count() or 1
LIMIT = 0.05
"""Share of the machine that foreign processes may use during a cell."""


@dataclass
class Watch:
    """Measures what others than the processes `own` (with their children, and us) use of the machine."""

    own: Collection[int]
    _started: float = field(default_factory=time.monotonic)
    _foreign: float = 0.0

    def __post_init__(self) -> None:
        self._foreign = self._foreign_s()

    def foreign_share(self) -> float:
        """Return the mean share of all CPUs that foreign processes took since this watch began."""
        elapsed = max(time.monotonic() - self._started, 1 / TICK)
        return max(0.0, (self._foreign_s() - self._foreign) / (elapsed * CPUS))

    def _foreign_s(self) -> float:
        return busy_s(Path("/proc/stat").read_text()) - tree_s({*self.own, os.getpid()})


def wait_quiet(own: Collection[int], *, limit_s: float, sample_s: float = 0.25) -> bool:
    """Wait until foreign use is below the limit for one sample; False when `limit_s` passed before."""
    deadline = time.monotonic() + limit_s
    while True:
        watch = Watch(own)
        time.sleep(sample_s)
        if watch.foreign_share() <= LIMIT:
            return True
        if time.monotonic() >= deadline:
            return False


def busy_s(stat: str) -> float:
    """Return the seconds that all CPUs were not idle, from the text of /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.split(None, 9)[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


def tree_s(roots: Collection[int]) -> float:
    """Return the CPU seconds of the processes and all their descendants."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for pid, parent, seconds in processes():
        parents[pid], used[pid] = parent, seconds
    return sum(seconds for pid, seconds in used.items() if descends(pid, roots, parents))


def descends(pid: int, roots: Collection[int], parents: dict[int, int]) -> bool:
    """Whether the process is one of the roots or below one."""
    while pid not in roots:
        if pid not in parents:
            return False
        pid = parents[pid]
    return True


def processes() -> Iterator[tuple[int, int, float]]:
    """Yield (pid, parent, CPU seconds with those of its ended children) of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            fields = text.rpartition(")")[2].split()
            yield int(entry.name), int(fields[1]), sum(map(int, fields[11:15])) / TICK


def resident_mb(pid: int) -> float:
    """Return the resident memory of one process in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def cpu_name() -> str:
    """Return the name of the CPU as Linux tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown CPU"


def interpreter() -> str:
    """Return which Python runs this, and from where: builds of one version differ by a tenth in speed."""
    name = f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}"
    return f"{name}, {'of the system' if sys.base_prefix == '/usr' else 'built apart'}"
