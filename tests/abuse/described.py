"""A server with all that the OpenAPI document tells of, and the document with the names that are there.

A generator that follows a document alone would ask for names at random, and meet nothing but 404.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
from tests.abuse.subject import KEY, Subject, running

from arriero.access.key_store import KeyStore, NewKey
from arriero.access.principal import Grants
from arriero.testing.tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT = 2048
CONFIG = """
cache_path = "{folder}/cache"
[auth]
allowed_keys = ["{key}"]
key_store = "{folder}/keys.db"
[server]
bind_address = "127.0.0.1:0"
[models.m]
model_path = "{folder}/m.gguf"
context_size = {context}
max_sequences = 8
max_tokens = 16
threads_per_session = 1
[models.embed]
model_path = "{folder}/embed.gguf"
threads_per_session = 1
[models.far]
upstream = {{ urls = ["http://127.0.0.1:9"], model = "x" }}
[tasks.t]
model = "m"
max_tokens = 8
[memories.n]
store.embedded = {{}}
embedding_model = "embed"
[memories.spare]
store.embedded = {{}}
embedding_model = "embed"
[vector_stores]
enabled = true
"""
MODELS = {"chat": ["m", "task/t", "t", "far"], "completions": ["m", "task/t", "t", "far"]}
MODELS |= {"embeddings": ["embed"], "tokenize": ["m", "far"], "detokenize": ["m"], "responses": ["far"]}


@dataclass(frozen=True)
class Described:
    """A server, a key that may do everything, and its document."""

    subject: Subject
    secret: str
    document: dict[str, Any]


@contextmanager
def described(folder: Path) -> Iterator[Described]:
    """Serve while the block runs, with a few things in it."""
    write_tiny_gguf(folder / "m.gguf", context_size=CONTEXT)
    write_tiny_gguf(folder / "embed.gguf", "bert")
    config = folder / "arriero.toml"
    config.write_text(CONFIG.format(folder=folder, key=KEY, context=CONTEXT))
    key_id, secret = admin(folder)
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config)]
    with running(command, folder / "server.log") as subject:
        headers = {"authorization": f"Bearer {secret}"}
        with httpx2.Client(base_url=subject.url, headers=headers, timeout=60) as client:
            kept, spare = things(client), things(client) | {"memory": "spare"}
            document = client.get("/openapi.json").json()
        yield Described(subject, secret, narrowed(document, kept, spare | {"id": key_id}))


def admin(folder: Path) -> tuple[str, str]:
    """Return the id of a key that may be changed, and the secret of one that may do everything."""
    store = KeyStore(folder / "keys.db")
    _, secret = store.create(NewKey("admin", Grants(admin=True)), time.time())
    spare, _ = store.create(NewKey("spare", Grants(tasks=())), time.time())
    store.close()
    return spare.id, secret


def things(client: httpx2.Client) -> dict[str, str]:
    """Make a document, a file, a store with the file, and a batch of it; return their ids by parameter."""
    text = {"content": "A mule carries what it is given.\n" * 20, "headers": {"content-type": "text/plain"}}
    stored = client.put("/v1/memory/n", params={"name": "mule.txt"}, **text)  # type: ignore[arg-type]
    assert stored.status_code == 200, stored.text
    job = client.get("/v1/memory/n/jobs").json()["jobs"][0]["id"]
    upload = {"file": ("a.txt", b"Mules are patient animals. " * 30, "text/plain")}
    file = client.post("/v1/files", files=upload, data={"purpose": "assistants"}).json()["id"]
    store = client.post("/v1/vector_stores", json={"name": "s"}).json()["id"]
    batch = client.post(f"/v1/vector_stores/{store}/file_batches", json={"file_ids": [file]}).json()["id"]
    found = {"document": stored.headers["x-arriero-document"], "job": job, "file": file, "store": store}
    return {**found, "batch": batch, "model": "m", "task": "t", "memory": "n", "id": "m", "name": "config"}


def narrowed(document: dict[str, Any], kept: dict[str, str], spare: dict[str, str]) -> dict[str, Any]:
    """Return a document whose parameters and models are those that are there; DELETE gets what is to spare.

    It tells of no keys, as most requests would be made with wrong ones: strangers have a test of their own.
    """
    del document["components"]["securitySchemes"]
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            del said["security"]
            is_ending = method == "delete" or path.startswith("/v1/admin")
            for parameter in said["parameters"]:
                if parameter["in"] == "path":
                    name = parameter["name"]
                    known = "embed" if path.endswith("/embedding") else (spare if is_ending else kept)[name]
                    parameter["schema"] = {"type": "string", "enum": [known]}
            body = said.get("requestBody", {}).get("content", {}).get("application/json")
            segment = path.removeprefix("/v1/").strip("/").partition("/")[0]
            if body is not None and segment in MODELS:
                model = {"properties": {"model": {"enum": MODELS[segment]}}}
                body["schema"] = {"allOf": [body["schema"], model]}
                body.pop("example", None)
    return document
