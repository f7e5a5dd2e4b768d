"""Takes system calls away from a process for good: sockets, new processes, signals and limits of others.

Landlock covers files and TCP only; this closes other networks, and keeps a process that was taken over
from starting or hurting another.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_X32_CALLS = 0x40000000

_FOR_ALL = "pidfd_send_signal 424 io_uring_setup 425 clone3 435 pidfd_getfd 438"


class _Machine(NamedTuple):
    """The word for a kind of machine, and the names and numbers of the calls that are denied on it."""

    architecture: int
    calls: str


_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        "socket 41 connect 42 accept 43 sendto 44 sendmsg 46 bind 49 listen 50 socketpair 53 accept4 288"
        " clone 56 fork 57 vfork 58 execve 59 execveat 322 unshare 272 setns 308 mount 165 keyctl 250 bpf 321"
        " kill 62 tkill 200 tgkill 234 rt_sigqueueinfo 129 rt_tgsigqueueinfo 297 prlimit64 302 ptrace 101"
        " process_vm_readv 310 process_vm_writev 311 perf_event_open 298 userfaultfd 323 ",
    ),
    "aarch64": _Machine(
        0xC00000B7,
        "socket 198 connect 203 accept 202 sendto 206 sendmsg 211 bind 200 listen 201 socketpair 199"
        " accept4 242 clone 220 execve 221 execveat 281 unshare 97 setns 268 mount 40 keyctl 219 bpf 280"
        " kill 129 tkill 130 tgkill 131 rt_sigqueueinfo 138 rt_tgsigqueueinfo 240 prlimit64 261 ptrace 117"
        " process_vm_readv 270 process_vm_writev 271 perf_event_open 241 userfaultfd 282 ",
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def deny() -> None:
    """Let the calls fail from now on. Privileges must have been frozen (no_new_privs). Raises OSError."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        raise OSError(errno.ENOSYS, "the system calls of this kind of machine are not known")
    code = _filter(machine)
    program = _Program(len(code) // 8, code)
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _filter(machine: _Machine) -> bytes:
    """Return the program: another architecture ends the process, a denied call fails, all others pass."""
    calls = [int(word) for word in (machine.calls + _FOR_ALL).split() if word.isdecimal()]
    code = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_JUMP_IF_EQUAL, machine.architecture, yes=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
        _step(_JUMP_IF_AT_LEAST, _X32_CALLS, yes=len(calls) + 1),
    ]
    code += [_step(_JUMP_IF_EQUAL, call, yes=len(calls) - place) for place, call in enumerate(calls)]
    return b"".join([*code, _step(_RETURN, _ALLOW), _step(_RETURN, _ERROR | errno.EPERM)])


def _step(code: int, value: int, *, yes: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, 0, value)
