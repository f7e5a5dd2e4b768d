from __future__ import annotations

import platform
import signal
import subprocess
import sys

import pytest

from arriero.extract import landlock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

SHUT = """
import ctypes, os, resource, socket, subprocess, sys, threading
from arriero.extract import sandbox
from arriero.extract.limits import Limits
sandbox.limit(Limits(cpu_s=%d))
assert sandbox.shut(sys.path) == ()
"""


def tried(deed: str, *, cpu_s: int = 20) -> subprocess.CompletedProcess[str]:
    """Run a deed in a shut-in process."""
    return subprocess.run(
        [sys.executable, "-c", SHUT % cpu_s + deed], capture_output=True, text=True, check=False, timeout=30
    )


needs_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"}, reason="this machine's calls are not known"
)


@needs_landlock
@needs_seccomp
@pytest.mark.parametrize(
    "deed",
    [
        "open('/etc/passwd')",
        "os.listdir('/tmp')",
        "open('/tmp/arriero-must-not-be', 'w')",
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX)",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
        "os.kill(-1, 0)",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
    ],
)
def test_what_is_none_of_its_business_fails(deed: str) -> None:
    """Files, networks, programs and other processes are out of reach."""
    done = tried(deed)

    assert (done.returncode, "PermissionError" in done.stderr) == (1, True), done.stderr


@needs_landlock
def test_what_it_needs_works() -> None:
    """Its own library can be read, memory and standard streams used."""
    done = tried("import html.parser, pypdf, pypdfium2\nprint(len(bytes(100_000_000)))")

    assert (done.stdout, done.stderr) == ("100000000\n", "")


def test_memory_is_bounded() -> None:
    """What asks for more than the limit gets an error, not the machine's memory."""
    assert "MemoryError" in tried("bytes(3 << 30)").stderr


def test_what_spins_is_ended() -> None:
    """A process is gone when its processor time is."""
    assert tried("while True: pass", cpu_s=1).returncode == -signal.SIGXCPU
