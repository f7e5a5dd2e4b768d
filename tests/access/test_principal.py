"""What a principal may do, beside an independent statement of the rules."""

from __future__ import annotations

from itertools import product

import msgspec
import pytest

from arriero.access.principal import EVERYTHING, Grants, Names, Need, Principal, may, needs_of
from arriero.config.load import parse_config

LISTS: tuple[Names, ...] = (None, (), ("a",), ("b",), ("a", "b"))
ACTIONS = ("use", "read", "write", "admin", "delete", "")
RESOURCES = ("model/a", "task/a", "task/recalls", "task/stores", "memory/a", "memory/c", "server")
NEEDS = {
    "task/recalls": (Need("read", "memory/a"),),
    "task/stores": (Need("read", "memory/b"), Need("write", "memory/b")),
}


def allowed(grants: dict[str, object]) -> set[tuple[str, str]]:
    """The rules once more, slowly: a set of all pairs that are allowed, built up rule by rule."""
    everything = {"models": {"a", "b"}, "tasks": {"a", "b", "recalls", "stores"}, "memories": {"a", "b", "c"}}
    held = {
        kind: names if grants[kind] is None else names & set(grants[kind])  # type: ignore[call-overload]
        for kind, names in everything.items()
    }
    writable = grants["writable_memories"]
    pairs: set[tuple[str, str]] = set()
    for name in held["models"]:
        pairs.add(("use", f"model/{name}"))
    for name in held["memories"]:
        pairs.add(("read", f"memory/{name}"))
        if writable is None or name in writable:  # type: ignore[operator]
            pairs.add(("write", f"memory/{name}"))
    for name in held["tasks"]:
        if name == "recalls" and ("read", "memory/a") not in pairs:
            continue
        if name == "stores" and not {("read", "memory/b"), ("write", "memory/b")} <= pairs:
            continue
        pairs.add(("use", f"task/{name}"))
    if grants["admin"]:
        pairs.add(("admin", "server"))
    return pairs


def test_may_agrees_with_the_rules_in_every_case() -> None:
    """Each combination of grants, action and resource is answered as the slow statement does."""
    tasks: tuple[Names, ...] = (None, (), ("a",), ("recalls", "stores"))
    num_checks = num_allowed = 0
    for models, tasks_, memories, writable, admin in product(LISTS[:3], tasks, LISTS, LISTS, (False, True)):
        grants = {
            "models": models,
            "tasks": tasks_,
            "memories": memories,
            "writable_memories": writable,
            "admin": admin,
        }
        principal = Principal(grants=Grants(**grants), needs=NEEDS)  # type: ignore[arg-type]
        pairs = allowed(grants)
        for action, resource in product(ACTIONS, RESOURCES):
            expected = (action, resource) in pairs
            assert may(principal, action, resource) is expected, (grants, action, resource)
            num_checks += 1
            num_allowed += expected

    assert num_checks >= 1200
    assert 0 < num_allowed < num_checks / 2


@pytest.mark.parametrize(
    "resource", ["", "model", "model/", "/a", "server/", "server/a", "tasks/a", "memory", "admin"]
)
def test_what_is_no_resource_is_denied(resource: str) -> None:
    """Even to whoever may do everything."""
    principal = Principal(grants=Grants(admin=True))

    assert [action for action in ACTIONS if may(principal, action, resource)] == []


def test_whoever_is_not_known_may_do_nothing() -> None:
    """A principal without grants is denied everything; denial is the default."""
    asked = product(ACTIONS, RESOURCES)
    assert [pair for pair in asked if may(Principal(), *pair)] == []
    assert may(Principal(grants=EVERYTHING), "use", "model/any")


def test_a_misspelt_grant_is_no_grant() -> None:
    """A list that is absent opens all names, so a wrong word must not pass for an absent list."""
    with pytest.raises(msgspec.ValidationError, match="task"):
        msgspec.convert({"task": []}, Grants)


def test_a_principal_can_be_logged() -> None:
    """The digest by which its key is looked up is not told."""
    assert "digest" not in repr(Principal(digest=b"abcd"))


CONFIG = """
[models.m]
url = "http://127.0.0.1:1/m.gguf"
[memories.notes]
store = { embedded = {} }
embedding_model = "m"
[tasks.plain]
model = "m"
[tasks.recalls]
model = "m"
memorization = { memory = "notes", retrieve = 2 }
[tasks.stores]
model = "m"
memorization = { memory = "notes", retrieve = 2, store_prompts = true }
[tasks.idle]
model = "m"
memorization = { memory = "notes" }
"""


def test_tasks_need_their_memories() -> None:
    """Recall reads, storing prompts writes; a task's model is part of the task and needs no grant."""
    assert needs_of(parse_config(CONFIG, {})) == {
        "task/recalls": (("read", "memory/notes"),),
        "task/stores": (("read", "memory/notes"), ("write", "memory/notes")),
    }
