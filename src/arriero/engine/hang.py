"""When an engine process hangs: it has work, says nothing, and does nothing. Pure but for `activity_of`.

One step of a large model on a slow machine may take minutes without a word, and looks like a hang but for
the processor time that it takes. So silence counts only while the process does nothing at all; one that
computes, perhaps forever, is given PATIENCE times as long.
"""

from __future__ import annotations

from pathlib import Path

PATIENCE = 10
LOOKS = 4
"""How often a process is looked at within the time after which it hangs."""
_FAULTS, _USER, _SYSTEM = 11, 13, 14
"""Fields of /proc/PID/stat, from 0: pages read, and the processor time spent."""


class Silence:
    """How long a busy process has been silent, counted in looks.

    Looks, and not a clock, because a machine that was asleep has not waited.
    """

    def __init__(self) -> None:
        self._heard = -1
        self._activity = -1
        self._silent = 0
        self._still = 0

    def look(self, *, is_busy: bool, heard: int, activity: int | None) -> bool:
        """Take one look; say whether the process hangs.

        heard: how many reports have come. activity: what it has done as its system tells; None = not known.
        """
        if not is_busy or heard != self._heard:
            self._silent = self._still = 0
        else:
            self._silent += 1
            self._still = self._still + 1 if activity is None or activity == self._activity else 0
        self._heard = heard
        self._activity = -1 if activity is None else activity
        # With what is unknown no process is still: a long step must not cost a model.
        limit = LOOKS if activity is not None else LOOKS * PATIENCE
        return self._still >= limit or self._silent >= LOOKS * PATIENCE


def activity_of(pid: int) -> int | None:
    """Return a number that grows while a process computes or reads its file; None where nothing tells it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    # The first field behind the name is field 2.
    return sum(int(fields[index - 2]) for index in (_FAULTS, _USER, _SYSTEM))
