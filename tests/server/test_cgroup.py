"""What Linux's files say of memory, as they are on machines, in containers and in systemd units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from arriero.server.cgroup import Usage, memory_usage

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024
V1_ROOT = "sys/fs/cgroup/memory"
V2_ROOT = "sys/fs/cgroup"
UNLIMITED = "9223372036854771712"


def meminfo(total: int, available: int) -> dict[str, str]:
    """Return the machine's own numbers, in KiB."""
    return {
        "proc/meminfo": f"MemTotal:       {total} kB\nMemFree:        1 kB\n"
        f"MemAvailable:   {available} kB\nHugePages_Total:       0\n"
    }


def v1(group: str, limit: object, used: int, active: int = 0, inactive: int = 0) -> dict[str, str]:
    return {
        f"{V1_ROOT}/{group}/memory.limit_in_bytes": f"{limit}\n",
        f"{V1_ROOT}/{group}/memory.usage_in_bytes": f"{used}\n",
        f"{V1_ROOT}/{group}/memory.stat": f"cache 9\ninactive_file 9\ntotal_inactive_file {inactive}\n"
        f"total_active_file {active}\n",
    }


def v2(group: str, limit: object, used: int, active: int = 0, inactive: int = 0) -> dict[str, str]:
    return {
        f"{V2_ROOT}/{group}/memory.max": f"{limit}\n",
        f"{V2_ROOT}/{group}/memory.current": f"{used}\n",
        f"{V2_ROOT}/{group}/memory.stat": f"anon 1\ninactive_file {inactive}\nactive_file {active}\n",
    }


def own(*lines: str) -> dict[str, str]:
    return {"proc/self/cgroup": "".join(f"{line}\n" for line in lines)}


def write(root: Path, files: dict[str, str]) -> None:
    """Write files below a root."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


MACHINE = meminfo(1000, 400)
OF_MACHINE = Usage(600 * KIB, 1000 * KIB, is_machine=True)

CASES: dict[str, tuple[dict[str, str], Usage | None]] = {
    "a machine": (MACHINE, OF_MACHINE),
    "no Linux": ({}, None),
    "an old kernel": ({"proc/meminfo": "MemTotal: 1000 kB\n"}, None),
    "garbage": ({"proc/meminfo": "MemTotal: many kB\nMemAvailable:\n\n"}, None),
    "v2, a unit": (MACHINE | own("0::/a/b.service") | v2("a/b.service", 1000, 700), Usage(700, 1000)),
    "v2, a namespace": (MACHINE | own("0::/") | v2("", 1000, 300), Usage(300, 1000)),
    "v2, no limit": (MACHINE | own("0::/a") | v2("a", "max", 700), OF_MACHINE),
    "v2, a fuller parent": (
        MACHINE | own("0::/a/b") | v2("a/b", 1000, 500) | v2("a", 2000, 1900),
        Usage(1900, 2000),
    ),
    "v2, file cache": (
        MACHINE | own("0::/a") | v2("a", 1000, 900, active=200, inactive=300),
        Usage(400, 1000),
    ),
    "v2, more cache than use": (MACHINE | own("0::/a") | v2("a", 1000, 100, active=200), Usage(0, 1000)),
    "v2, a limit of nothing": (MACHINE | own("0::/a") | v2("a", 0, 700), OF_MACHINE),
    "v2, above the machine": (MACHINE | own("0::/a") | v2("a", 1001 * KIB, 700), OF_MACHINE),
    "v1": (MACHINE | own("5:cpu,cpuacct:/x", "4:memory:/a") | v1("a", 1000, 700, 50, 50), Usage(600, 1000)),
    "v1, no limit": (MACHINE | own("4:memory:/a") | v1("a", UNLIMITED, 700), OF_MACHINE),
    "v1, a container": (MACHINE | own("4:memory:/docker/1") | v1("", 1000, 700), Usage(700, 1000)),
    "v1 and v2": (MACHINE | own("4:memory:/a", "0::/") | v1("a", 1000, 800), Usage(800, 1000)),
    "v2, a group of another root": (MACHINE | own("0::/../x") | v2("", 1000, 300), Usage(300, 1000)),
    "a limit, no machine": (own("0::/a") | v2("a", 1000, 300), Usage(300, 1000)),
}


@pytest.mark.parametrize(("files", "usage"), CASES.values(), ids=CASES)
def test_the_limit_that_comes_first_is_read(
    tmp_path: Path, files: dict[str, str], usage: Usage | None
) -> None:
    """The fullest group with a limit below the machine's memory, else the machine; caches are not used."""
    write(tmp_path, files)

    assert memory_usage(tmp_path) == usage
