"""Who is asking, and `may`: the one place that says what they may do. Pure.

Everything that is not granted is denied. A resource is "model/NAME", "task/NAME", "memory/NAME" or
"server". The model of a task is used through the task, without a grant of its own: that is what tasks are
for. The memory of a task holds texts of others, so a task can be used only by whom its memory is granted to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from arriero.config.auth import DEFAULT_PRIORITY, KeyLimits

if TYPE_CHECKING:
    from arriero.config.auth import Priority
    from arriero.config.schema import Config

Names = tuple[str, ...] | None
"""The names that are granted; None = all there are."""


class Grants(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a key opens. A list that is absent grants all names, an empty one none."""

    models: Names = None
    tasks: Names = None
    memories: Names = None
    writable_memories: Names = None
    """Which of `memories` may also be written."""
    admin: bool = False
    """Whether the bearer may make and revoke keys."""


EVERYTHING = Grants()
NOTHING = Grants(models=(), tasks=(), memories=())


class Need(NamedTuple):
    """What the use of a task takes beside the right to the task."""

    action: str
    resource: str


Needs = Mapping[str, tuple[Need, ...]]
"""For each task that needs more than its own grant: "task/NAME" -> needs."""


class Source(str, Enum):
    """What the principal is known by."""

    NOBODY = "nobody"
    CONFIG = "config"
    STORE = "store"
    TOKEN = "token"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. Without grants it may do nothing.

    tenant: keys private caches and counts; the same for each request of a key. Empty = nobody known.
    name: for logs and lists; never the key itself.
    digest: of the key, to look it up again; empty where there is none.
    expires_at: Unix time after which the token, or the key, is worth nothing.
    claimed_priority: what a token says itself; it stays when the configuration's limits change.
    jti: the name of a token, by which it can be revoked.
    """

    tenant: str = ""
    name: str = ""
    source: Source = Source.NOBODY
    grants: Grants = NOTHING
    needs: Needs = field(default_factory=dict)
    limits: KeyLimits = field(default_factory=KeyLimits)
    digest: bytes = field(default=b"", repr=False)
    expires_at: float | None = None
    claimed_priority: Priority | None = None
    jti: str | None = None

    @property
    def priority(self) -> Priority:
        """Who goes first where requests wait."""
        return self.limits.priority or DEFAULT_PRIORITY


def may(principal: Principal, action: str, resource: str) -> bool:
    """Say whether a principal may do `action` to `resource`.

    Actions: "use" of models and tasks, "read" and "write" of memories, "admin" of the server.
    """
    return _is_granted(principal.grants, action, resource) and all(
        _is_granted(principal.grants, *need) for need in principal.needs.get(resource, ())
    )


def _is_granted(grants: Grants, action: str, resource: str) -> bool:
    kind, _, name = resource.partition("/")
    match action, kind:
        case "use", "model":
            return _holds(grants.models, name)
        case "use", "task":
            return _holds(grants.tasks, name)
        case "read", "memory":
            return _holds(grants.memories, name)
        case "write", "memory":
            return _holds(grants.memories, name) and _holds(grants.writable_memories, name)
        case "admin", "server":
            return grants.admin and resource == "server"
        case _:
            return False


def _holds(names: Names, name: str) -> bool:
    return bool(name) and (names is None or name in names)


def needs_of(config: Config) -> Needs:
    """Return what the tasks of a configuration need: recall reads a memory, storing prompts writes it."""
    return {f"task/{name}": needs for name in config.tasks if (needs := tuple(_task_needs(config, name)))}


def _task_needs(config: Config, name: str) -> list[Need]:
    memorization = config.tasks[name].memorization
    if memorization is None:
        return []
    resource = f"memory/{memorization.memory}"
    reads = [Need("read", resource)] if memorization.retrieve else []
    return reads + ([Need("write", resource)] if memorization.store_prompts else [])
