"""A server with all that the OpenAPI document tells of, and the document with the names that are there.

A generator that follows a document alone would ask for names at random, and meet nothing but 404.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
from tests.abuse.tiny import tiny_engines

from arriero.access.key_store import KeyStore, NewKey
from arriero.access.principal import Grants

if TYPE_CHECKING:
    from pathlib import Path

    from tests.abuse.subject import Subject

CONFIG = """
[models.far]
upstream = { urls = ["http://127.0.0.1:9"], model = "x" }
[memories.n]
store.embedded = {}
embedding_model = "embed"
[memories.spare]
store.embedded = {}
embedding_model = "embed"
[vector_stores]
enabled = true
"""
GENERATORS = ["right", "task/talk", "talk", "far"]
MODELS = {"chat": GENERATORS, "completions": GENERATORS, "embeddings": ["embed"], "responses": ["far"]}
MODELS |= {"tokenize": ["right", "far"], "detokenize": ["right"]}


@dataclass(frozen=True)
class Described:
    """A server, a key that may do everything, a file that is there, and its document."""

    subject: Subject
    secret: str
    file: str
    document: dict[str, Any]


@contextmanager
def described(folder: Path) -> Iterator[Described]:
    """Serve while the block runs, with a few things in it."""
    key_id, secret = admin(folder)
    with tiny_engines(folder, CONFIG, max_tokens=16) as engines:
        headers = {"authorization": f"Bearer {secret}"}
        with httpx2.Client(base_url=engines.subject.url, headers=headers, timeout=60) as client:
            kept, spare = things(client), things(client) | {"memory": "spare"}
            document = client.get("/openapi.json").json()
        yield Described(
            engines.subject, secret, kept["file"], narrowed(document, kept, spare | {"id": key_id})
        )


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
    named = {"model": "right", "task": "talk", "memory": "n", "id": "right", "name": "config"}
    return {**found, "batch": batch, **named}


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
