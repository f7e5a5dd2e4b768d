"""How much memory this server and its children may use, and do: of their control groups, else of the machine.

Reads what Linux tells in files; elsewhere nothing is known. The file cache does not count as used, for the
kernel gives it up when memory is needed; mapped weights are in it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/")


class Usage(NamedTuple):
    """Memory in bytes. `is_machine`: of the whole machine, so that others use it as well."""

    used: int
    limit: int
    is_machine: bool = False

    @property
    def share(self) -> float:
        """How much of the limit is used."""
        return self.used / self.limit


class Files(NamedTuple):
    """What a version of control groups calls its files, and the beginning of names in `memory.stat`."""

    mount: str
    limit: str
    used: str
    stat_prefix: str


V1 = Files("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
V2 = Files("sys/fs/cgroup", "memory.max", "memory.current", "")


def memory_usage(root: Path = ROOT) -> Usage | None:
    """Return how things stand where memory ends first; None = it is not known.

    That is the fullest of the groups that this process is in, or the machine where no group has less.
    """
    machine = _machine(root)
    groups = [group for group in _groups(root) if machine is None or group.limit < machine.limit]
    return max(groups, key=lambda group: group.share, default=machine)


def _groups(root: Path) -> Iterator[Usage]:
    """Yield the usage of each group with a limit. Within a container the inner ones may not be seen."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        files = V1 if controllers else V2
        inner = PurePosixPath(path.lstrip("/"))
        for group in (inner, *inner.parents):
            usage = _group(root / files.mount / group, files)
            if usage is not None:
                yield usage


def _group(directory: Path, files: Files) -> Usage | None:
    limit, used = _text(directory / files.limit).strip(), _text(directory / files.used).strip()
    if not (limit.isdecimal() and used.isdecimal() and int(limit)):  # "max" says that there is no limit
        return None
    stat = _numbers(directory / "memory.stat")
    cached = sum(stat.get(f"{files.stat_prefix}{kind}_file", 0) for kind in ("active", "inactive"))
    return Usage(max(0, int(used) - cached), int(limit))


def _machine(root: Path) -> Usage | None:
    numbers = _numbers(root / "proc/meminfo")
    total, available = numbers.get("MemTotal:", 0), numbers.get("MemAvailable:")
    if not total or available is None:
        return None
    return Usage((total - available) * 1024, total * 1024, is_machine=True)


def _numbers(file: Path) -> dict[str, int]:
    """Return the lines `NAME NUMBER` of a file."""
    lines = (line.split() for line in _text(file).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
