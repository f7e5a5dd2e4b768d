"""Every request that somebody can make of the server in `rights.py`, with the rule for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.abuse.rights import IN, LOCAL, MEMORIES, REMOTE, SHELF, TASKS, UNKNOWN, Asker, World

Rule = Callable[[Asker], int]
MODEL_NAMES = [*LOCAL, *REMOTE, "inner", "hidden", "nothing"]
IDS = [*MODEL_NAMES, *TASKS, *(f"task/{name}" for name in (*TASKS, "nothing"))]
MEMORY_NAMES = [*MEMORIES, SHELF, "nothing"]
OWNERS = ["static key", "token of all", "one memory"]
THING = re.compile(r"\b(?:file-|vs_|vsfb_)\w+")
"""The ids of files, stores and batches."""
CAT = "The cat sat on the mat."
TEXT = {"content-type": "text/plain"}


@dataclass(frozen=True)
class Row:
    """A request, and the rule for it. name: what is asked for; it may stand in a refusal."""

    method: str
    path: str
    rule: Rule
    name: str = ""
    sent: dict[str, Any] = field(default_factory=dict)
    changes: bool = False
    """Whether other answers change with it; then it is asked by those alone who must not be let in."""
    outer: Rule | None = None
    """The rule for what holds the thing that is asked for: more is told to those who may use that."""

    def family(self, asker: Asker) -> tuple[object, ...]:
        """What requests of somebody have in common that differ in a name alone."""
        path = self.path.replace(self.name, "*") if self.name else self.path
        is_task = self.name.startswith("task/")
        outer = self.outer and self.outer(asker)
        return asker.name, self.method, THING.sub("*", path), *sorted(self.sent), is_task, outer


def said(**members: Any) -> dict[str, Any]:
    """Return a JSON body."""
    return {"json": members}


def using(rule: str, *names: Any, **how: bool) -> Rule:
    """Return a rule of the table for a name."""
    return lambda asker: getattr(asker, rule)(*names, **how)  # type: ignore[no-any-return]


def within(outer: Rule, *, is_there: bool) -> Rule:
    """Return the rule for something in what has the rule `outer`."""
    return lambda asker: UNKNOWN if (answer := outer(asker)) == IN and not is_there else answer


def both(one: Rule, other: Rule) -> Rule:
    """Return the rule for what takes two things; the first refusal is told."""
    return lambda asker: other(asker) if (answer := one(asker)) == IN else answer


def on_models() -> Iterator[Row]:
    """Models by their own routes, and by OpenAI's."""
    for name in MODEL_NAMES:
        native = using("model", name, LOCAL)
        for path in (f"/v1/model/{name}/embedding", f"/v1/model/{name}/tokenization"):
            yield Row("GET", f"{path}?prompt=x", native, name)
            yield Row("POST", path, native, name, said(prompt="x"))
        yield Row("POST", "/v1/tokenize", native, name, said(model=name, text="x"))
        yield Row("POST", "/v1/detokenize", native, name, said(model=name, tokens=[1]))
    for id in IDS:
        named = using("named", id)
        messages = [{"role": "user", "content": "x"}]
        yield Row("GET", f"/v1/models/{id}", named, id)
        yield Row("POST", "/v1/completions", named, id, said(model=id, prompt="x", max_tokens=1))
        chat: dict[str, Any] = {"model": id, "messages": messages, "max_tokens": 1}
        yield Row("POST", "/v1/chat/completions", named, id, said(**chat))
        # What a model's rules refuse tells nothing to those who may not use it.
        yield Row(
            "POST", "/v1/chat/completions", named, id, said(**chat, logprobs=True) | {"params": {"l": 1}}
        )
        any_model = using("model", id)
        remote = using("model", id, REMOTE)
        yield Row("POST", "/v1/embeddings", any_model, id, said(model=id, input="x"))
        yield Row("POST", "/v1/responses", remote, id, said(model=id, input="x"))
        yield Row("POST", "/v1/rerank", remote, id, said(model=id, query="x", documents=["x"]))
        yield Row("POST", "/tokenize", remote, id, said(model=id, prompt="x"))


def on_tasks() -> Iterator[Row]:
    """Tasks by their own routes."""
    for name in (*TASKS, "nothing"):
        rule = using("task", name)
        at = f"/v1/task/{name}"
        yield Row("GET", f"{at}/status", rule, name)
        yield Row("GET", f"{at}/completion?prompt=x", rule, name)
        yield Row("POST", f"{at}/completion", rule, name, said(prompt="x"))
        yield Row("GET", f"{at}/live?prompt=x", rule, name)
        yield Row("GET", f"{at}/chat", Asker.anybody, name)


def on_memories(ids: dict[str, str]) -> Iterator[Row]:
    """Memories by their own routes; the documents and jobs are those of `n`."""
    for name in MEMORY_NAMES:
        read = using("read", name)
        write = using("write", name)
        at = f"/v1/memory/{name}"
        yield Row("GET", f"{at}?prompt=cat", read, name)
        yield Row("POST", at, read, name, said(prompt="cat"))
        yield Row("POST", f"{at}/recall", read, name, said(query="cat"))
        yield Row("GET", f"{at}/documents", read, name)
        yield Row("GET", f"{at}/jobs", read, name)
        put = {"content": CAT.encode(), "headers": TEXT, "params": {"name": "x.txt", "wait": "false"}}
        yield Row("PUT", at, write, name, put)
        yield Row("DELETE", at, write, name, changes=True)
        for kind, known in (("documents", ids["document"]), ("jobs", ids["job"])):
            for id in (known, "nothing-there"):
                is_there = name == "n" and id == known
                found = within(read, is_there=is_there)
                changed = within(write, is_there=is_there)
                yield Row("GET", f"{at}/{kind}/{id}", found, name)
                yield Row("DELETE", f"{at}/{kind}/{id}", changed, name, changes=is_there)
                if kind == "documents":
                    yield Row("GET", f"{at}/{kind}/{id}/chunks", found, name)


def on_files(ids: dict[str, str]) -> Iterator[Row]:
    """Files of several owners, and one that nobody has."""
    yield Row("GET", "/v1/files", using("shelf", writes=False))
    upload = {"files": {"file": ("a.txt", CAT.encode())}, "data": {"purpose": "assistants"}}
    yield Row("POST", "/v1/files", using("shelf", writes=True), sent=upload)
    for owner in (*OWNERS, ""):
        id = ids[f"file of {owner}"] if owner else "file-nothing"
        read, write = of_owner(owner)
        yield Row("GET", f"/v1/files/{id}", read, id)
        yield Row("GET", f"/v1/files/{id}/content", read, id)
        yield Row("DELETE", f"/v1/files/{id}", write, id, changes=True)


def of_owner(owner: str) -> tuple[Rule, Rule]:
    """Return the rules to read and to write what somebody made; an owner without a name has made nothing."""
    if not owner:
        return using("absent", writes=False), using("absent", writes=True)
    return using("thing", owner, writes=False), using("thing", owner, writes=True)


def on_stores(ids: dict[str, str]) -> Iterator[Row]:
    """Vector stores of several owners, configured memories, and one that nobody has."""
    yield Row("GET", "/v1/vector_stores", Asker.anybody)
    yield Row("POST", "/v1/vector_stores", using("shelf", writes=True), sent=said(name="mine"))
    stores = {ids[f"store of {owner}"]: (owner, *of_owner(owner)) for owner in OWNERS}
    stores |= {
        name: ("", using("store", name, writes=False), using("store", name, writes=True))
        for name in (*MEMORIES, SHELF)
    }
    stores["vs_nothing"] = ("", *of_owner(""))
    for id, (owner, read, write) in stores.items():
        at = f"/v1/vector_stores/{id}"
        yield Row("GET", at, read, id)
        yield Row("POST", at, write, id, said(metadata={}), outer=read)
        yield Row("DELETE", at, write, id, changes=True, outer=read)
        yield Row("POST", f"{at}/search", read, id, said(query="cat"))
        yield Row("GET", f"{at}/files", read, id)
        yield from on_parts(at, id, owner, (read, write), ids)


def on_parts(at: str, id: str, owner: str, rules: tuple[Rule, Rule], ids: dict[str, str]) -> Iterator[Row]:
    """What is in a store. Each owner's store has its own file, and one batch of it."""
    read, write = rules
    for other in OWNERS:
        file, batch = ids[f"file of {other}"], ids[f"batch of {other}"]
        is_there = other == owner
        found = within(read, is_there=is_there)
        changed = within(write, is_there=is_there)
        attached = both(write, using("thing", other, writes=False))
        yield Row("POST", f"{at}/files", attached, id, said(file_id=file), changes=not is_there, outer=read)
        yield Row(
            "POST",
            f"{at}/file_batches",
            attached,
            id,
            said(file_ids=[file]),
            changes=not is_there,
            outer=read,
        )
        yield Row("GET", f"{at}/files/{file}", found, id, outer=read)
        yield Row("GET", f"{at}/files/{file}/content", found, id, outer=read)
        yield Row("POST", f"{at}/files/{file}", changed, id, said(attributes={"a": 1}), outer=read)
        yield Row("DELETE", f"{at}/files/{file}", changed, id, changes=True, outer=read)
        yield Row("GET", f"{at}/file_batches/{batch}", found, id, outer=read)
        yield Row("GET", f"{at}/file_batches/{batch}/files", found, id, outer=read)
        yield Row("POST", f"{at}/file_batches/{batch}/cancel", changed, id, outer=read)


def on_server(keys: dict[str, str]) -> Iterator[Row]:
    """Lists, which every key opens; the admin API; the documents of one model."""
    for path in ("/v1/model", "/v1/task", "/v1/memory", "/v1/models", "/v1/stats", "/v1/status"):
        yield Row("GET", path, Asker.anybody)
    yield Row("GET", "/version", Asker.anybody)
    yield Row("GET", "/openapi.json", Asker.anybody)
    yield Row("POST", "/v1/tickets", Asker.anybody)
    yield Row("GET", "/metrics", Asker.admin)
    yield Row("GET", "/v1/admin/keys", Asker.admin)
    yield Row("POST", "/v1/admin/keys", Asker.admin, sent=said(name="new", grants={"models": []}))
    for id in (keys["spare"], "key_000000000000"):
        there = within(Asker.admin, is_there=id in keys.values())
        yield Row("POST", f"/v1/admin/keys/{id}/rotate", there, id)
        yield Row("DELETE", f"/v1/admin/keys/{id}", there, id, changes=True)
    for name in ("config.json", "nothing"):
        yield Row(
            "GET",
            f"/pokt/{name}",
            lambda asker: 0 if asker.model("alef") == IN else asker.model("alef"),
            name,
        )


def rows(here: World) -> list[Row]:
    """Return every request."""
    parts = (on_models(), on_tasks(), on_memories(here.ids), on_files(here.ids), on_stores(here.ids))
    return [row for part in (*parts, on_server(here.keys)) for row in part]


async def furnish(here: World) -> None:
    """Make a document, and files, stores and batches of several owners."""
    async with here.client(here.asker("static key")) as client:
        stored = await client.put("/v1/memory/n", params={"name": "a.txt"}, content=CAT, headers=TEXT)
        here.ids["document"] = stored.headers["x-arriero-document"]
        here.ids["job"] = (await client.get("/v1/memory/n/jobs")).json()["jobs"][0]["id"]
    for owner in OWNERS:
        async with here.client(here.asker(owner)) as client:
            upload = {"file": (f"{owner}.txt", CAT.encode(), "text/plain")}
            made = await client.post("/v1/files", files=upload, data={"purpose": "assistants"})
            here.ids[f"file of {owner}"] = file = made.json()["id"]
            store = (await client.post("/v1/vector_stores", json={"name": owner})).json()["id"]
            here.ids[f"store of {owner}"] = store
            batch = await client.post(f"/v1/vector_stores/{store}/file_batches", json={"file_ids": [file]})
            here.ids[f"batch of {owner}"] = batch.json()["id"]
