"""Who may do what: a server with something of every kind, those who ask it, and a small table of rules.

The table is written from the documents alone (docs/access.md), and knows nothing of the product's code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2
from tests.abuse.subject import Subject, running

from arriero.access.key_store import KeyStore, NewKey
from arriero.access.principal import Grants
from arriero.testing.tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from pathlib import Path

STATIC = "static-0123456789abcdef0123456789abcdef"
SECRET = "a secret of tokens that is long enough"
CONFIG = """
cache_path = "{folder}/cache"
[auth]
allowed_keys = ["{static}"]
key_store = "{folder}/keys.db"
jwt_private_key = {{ symmetric = "{secret}" }}
jwt_revoked_file = "{folder}/revoked.txt"
[server]
bind_address = "127.0.0.1:0"
max_concurrent = 16
[pokt]
model = "alef"
[models.alef]
model_path = "{folder}/a.gguf"
context_size = 4096
max_tokens = 2
allow_logprobs = false
threads_per_session = 1
[models.inner]
public_name = "b"
model_path = "{folder}/b.gguf"
context_size = 4096
max_tokens = 3900
threads_per_session = 1
[models.e]
model_path = "{folder}/e.gguf"
threads_per_session = 1
[models.hidden]
public_name = "r"
upstream = {{ urls = ["http://127.0.0.1:9"], model = "x" }}
routes = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank",
  "/tokenize"]
[tasks.ta]
model = "alef"
[tasks.tb]
model = "inner"
max_tokens = 2
[tasks.tn]
model = "alef"
memorization = {{ memory = "n", retrieve = 1 }}
[tasks.tw]
model = "alef"
memorization = {{ memory = "n", store_prompts = true }}
[tasks.tr]
model = "hidden"
max_tokens = 2
[memories.n]
store.embedded = {{}}
embedding_model = "e"
[memories.o]
store.embedded = {{}}
embedding_model = "e"
[vector_stores]
enabled = true
"""
LOCAL = ("alef", "b", "e")
REMOTE = ("r",)
TASKS = ("ta", "tb", "tn", "tw", "tr")
MEMORIES = ("n", "o")
READ_BY = {"tn": "n"}
WRITTEN_BY = {"tw": "n"}
SHELF = "vector_stores"
"""The name among memories that stands for files and vector stores."""

IN, UNAUTHORIZED, FORBIDDEN, UNKNOWN = 200, 401, 403, 404
Names = tuple[str, ...] | None


@dataclass(frozen=True)
class Asker:
    """Somebody who asks, and what was granted; None = all names. key: None = none is borne."""

    name: str
    key: str | None
    models: Names = None
    tasks: Names = None
    memories: Names = None
    writable: Names = None
    is_admin: bool = False
    is_known: bool = True

    # The table of rules: each answers IN, FORBIDDEN or UNKNOWN.

    def model(self, name: str, kinds: tuple[str, ...] = LOCAL + REMOTE) -> int:
        """A model, by the name that callers use."""
        return self._one(self.models, name, kinds)

    def task(self, name: str) -> int:
        """A task brings its model along, and never its memory."""
        return self._one(self.tasks, name, TASKS) if self._has_memory(name) else FORBIDDEN

    def named(self, id: str) -> int:
        """What stands as `model` in OpenAI's requests; a task that may not be used is any other name."""
        if id.startswith("task/"):
            return self.task(id.removeprefix("task/"))
        if id in TASKS and self.task(id) == IN:
            return IN
        return self.model(id)

    def read(self, memory: str) -> int:
        """A memory that is read."""
        return self._one(self.memories, memory, MEMORIES)

    def write(self, memory: str) -> int:
        """A memory that is written must be granted for reading, too."""
        found = self.read(memory)
        return found if _has(self.writable, memory) else FORBIDDEN

    def shelf(self, *, writes: bool) -> int:
        """Files and vector stores."""
        may = _has(self.memories, SHELF) and (not writes or _has(self.writable, SHELF))
        return IN if may else FORBIDDEN

    def thing(self, owner: str, *, writes: bool) -> int:
        """A file, or a vector store that a caller made: the caller's, and every admin's."""
        found = self.shelf(writes=writes)
        return UNKNOWN if found == IN and not (self.is_admin or self.name == owner) else found

    def store(self, id: str, *, writes: bool) -> int:
        """A configured memory under the routes of vector stores; one that may not be read is not there."""
        if self.read(id) == IN:
            return self.write(id) if writes else IN
        return self.absent(writes=writes)

    def absent(self, *, writes: bool) -> int:
        """An id of the shelf that nothing has."""
        return UNKNOWN if self.shelf(writes=writes) == IN else FORBIDDEN

    def admin(self) -> int:
        """The admin API and the metrics."""
        return IN if self.is_admin else FORBIDDEN

    def anybody(self) -> int:
        """What every key opens."""
        return IN

    def _one(self, granted: Names, name: str, all_names: tuple[str, ...]) -> int:
        if not _has(granted, name):
            return FORBIDDEN
        return IN if name in all_names else UNKNOWN

    def _has_memory(self, task: str) -> bool:
        reads, writes = READ_BY.get(task), WRITTEN_BY.get(task)
        if reads is not None and self.read(reads) != IN:
            return False
        return writes is None or self.write(writes) == IN


def _has(granted: Names, name: str) -> bool:
    return granted is None or name in granted


@dataclass
class World:
    """A server, who asks it, and the ids of what is in it. `keys`: ids of stored keys by their names."""

    subject: Subject
    folder: Path
    askers: list[Asker] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def asker(self, name: str) -> Asker:
        """Return who has this name."""
        return next(one for one in self.askers if one.name == name)

    def client(self, asker: Asker) -> httpx2.AsyncClient:
        """Return a client that bears the key of somebody, if that one has any."""
        headers = {} if asker.key is None else {"authorization": f"Bearer {asker.key}"}
        return httpx2.AsyncClient(base_url=self.subject.url, headers=headers, timeout=60)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Serve while the block runs."""
    for seed, name in enumerate(("a", "b")):
        write_tiny_gguf(folder / f"{name}.gguf", seed=seed, context_size=4096)
    write_tiny_gguf(folder / "e.gguf", "bert")
    (folder / "revoked.txt").write_text("revoked\n")
    config = folder / "arriero.toml"
    config.write_text(CONFIG.format(folder=folder, static=STATIC, secret=SECRET))
    askers, keys = _askers(folder)
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config)]
    with running(command, folder / "server.log") as subject:
        yield World(subject, folder, askers, keys=keys)


NONE: dict[str, Names] = {"models": (), "tasks": (), "memories": ()}
STORED: dict[str, dict[str, Any]] = {
    "some tasks": NONE | {"tasks": ("ta", "tn", "tr")},
    "tasks by all models": {"tasks": ("ta",), "memories": ()},
    "some models": NONE | {"models": ("alef", "r", "inner")},
    "all but memories": {"memories": ()},
    "one memory, to read": {"models": (), "memories": ("n",), "writable": ()},
    "one memory": {"models": ("e",), "tasks": ("tw",), "memories": ("n", SHELF), "writable": ("n", SHELF)},
    "shelf alone": NONE | {"memories": (SHELF,)},
    "admin": {"is_admin": True},
    "admin of nothing": NONE | {"is_admin": True},
}
TOKENS: dict[str, dict[str, Names]] = {
    "token of all": {},
    "token of nothing": NONE,
    "token of some": {"tasks": ("tb", "nothing"), "models": ("b", "nothing"), "memories": ("o", "nothing")},
}


def _askers(folder: Path) -> tuple[list[Asker], dict[str, str]]:
    """Return everybody, and the ids of stored keys."""
    nobody: dict[str, Any] = {**NONE, "is_known": False}
    ended = {"tasks": None, "models": None}
    askers = [
        Asker("nobody", None, **nobody),
        Asker("wrong key", "wrong", **nobody),
        Asker("static key", STATIC),
        Asker("expired token", token(exp=time.time() - 3600, sub="late", **ended), **nobody),
        Asker("revoked token", token(jti="revoked", sub="gone", **ended), **nobody),
        Asker("forged token", token(secret="another secret of the same length", sub="forged"), **nobody),
    ]
    store = KeyStore(folder / "keys.db")
    keys: dict[str, str] = {}
    for name, rights in STORED.items():
        key, secret = store.create(NewKey(name, _grants(rights)), time.time())
        keys[name] = key.id
        askers.append(Asker(name, secret, **rights))
    key, secret = store.create(NewKey("revoked key", Grants(admin=True)), time.time())
    store.revoke(key.id, time.time())
    askers.append(Asker("revoked key", secret, **nobody))
    key, secret = store.create(NewKey("rotated key", Grants()), time.time())
    store.rotate(key.id, time.time())
    askers.append(Asker("rotated key", secret, **nobody))
    keys["spare"], _ = store.create(NewKey("spare", Grants(tasks=())), time.time())[0].id, ""
    store.close()
    for name, lists in TOKENS.items():
        askers.append(Asker(name, token(sub=name, **lists), **lists))
    return askers, keys


def _grants(rights: dict[str, Any]) -> Grants:
    return Grants(
        models=rights.get("models"),
        tasks=rights.get("tasks"),
        memories=rights.get("memories"),
        writable_memories=rights.get("writable"),
        admin=rights.get("is_admin", False),
    )


def token(*, secret: str = SECRET, **claims: Any) -> str:
    """Return a JSON Web Token, made here by hand. A list of None is left out."""
    said = {"exp": time.time() + 3600, **{name: value for name, value in claims.items() if value is not None}}
    head = json.dumps({"alg": "HS256", "typ": "JWT"}).encode()
    signed = f"{_coded(head)}.{_coded(json.dumps(said).encode())}"
    return f"{signed}.{_coded(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
