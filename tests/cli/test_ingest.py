"""`arriero ingest` against a server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from arriero.cli.main import run
from arriero.testing.serving import served

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from starlette.requests import Request


class Server:
    """A server with the memory `n`. It fails documents that say "bad", refuses those that say "refused"."""

    def __init__(self, *, busy: int = 0) -> None:
        self.stored: dict[str, bytes] = {}
        self.busy = busy
        self.app = Starlette(
            routes=[
                Route("/v1/memory", self.names),
                Route("/v1/memory/n", self.put, methods=["PUT"]),
                Route("/v1/memory/n/jobs/{job:path}", self.job),
            ]
        )

    async def names(self, request: Request) -> Response:
        return JSONResponse({"memories": ["n"]})

    async def put(self, request: Request) -> Response:
        body = await request.body()
        if self.busy:
            self.busy -= 1
            return JSONResponse({"detail": "full", "code": "queue_full"}, 429)
        if body == b"refused":
            return JSONResponse({"detail": "this is not read", "code": "unsupported_media_type"}, 415)
        name = request.query_params["name"]
        self.stored[name] = body
        return JSONResponse({"job": name}, 202)

    async def job(self, request: Request) -> Response:
        name = request.path_params["job"]
        ended = {"state": "failed", "error": "damaged"} if self.stored[name] == b"bad" else {"state": "done"}
        outcome = "stored" if ended["state"] == "done" else None
        return JSONResponse({"id": name, "name": name, "outcome": outcome, **ended})


def folder(path: Path, **files: str) -> Path:
    """Write files; `__` stands for a slash and `_` for a point."""
    for name, text in files.items():
        file = path / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


async def ingest(server: Server, *arguments: str | Path) -> int:
    """Run the verb."""
    async with served(server.app) as url:
        return await asyncio.to_thread(run, ["ingest", "--url", url, *map(str, arguments)])


async def test_a_folder_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each document under its path below the folder; other files are left out and told; a named one goes."""
    docs = folder(tmp_path / "docs", a_txt="A", deep__b_MD="B", picture_png="P", _git__c_md="C")
    (docs / "~$a.docx").write_text("lock")
    single = folder(tmp_path, notes_xyz="N") / "notes.xyz"
    server = Server()

    status = await ingest(server, "--memory", "n", "--prefix", "x/", docs, single)

    assert status == 0
    assert server.stored == {"x/a.txt": b"A", "x/deep/b.MD": b"B", "x/notes.xyz": b"N"}
    shown = capsys.readouterr()
    assert shown.out == "3 documents: 3 stored\n"
    assert "ingesting into n: 100 %" in shown.err
    assert "left out, of kinds that are not read: 1 .png\n" in shown.err


async def test_a_name_that_is_no_text_is_written_out(tmp_path: Path) -> None:
    """A file of an older system does not keep the others from being sent."""
    docs = folder(tmp_path / "docs", **{"a_txt": "A", "caf\udce9_txt": "B"})
    server = Server()

    assert await ingest(server, "--memory", "n", docs) == 0
    assert server.stored == {"a.txt": b"A", "caf\\xe9.txt": b"B"}


async def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    """The document is sent again."""
    server = Server(busy=2)

    assert await ingest(server, "--memory", "n", folder(tmp_path, a_txt="A")) == 0
    assert server.stored == {"a.txt": b"A"}


async def test_what_fails_is_told_and_the_rest_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name on stderr, with status 1; JSON has every document."""
    server = Server()
    docs = folder(tmp_path, a_txt="A", b_txt="bad", c_txt="refused")

    status = await ingest(server, "--memory", "n", "--json", docs)

    assert status == 1
    shown = capsys.readouterr()
    assert {job["name"]: job["state"] for job in json.loads(shown.out)} == {
        "a.txt": "done",
        "b.txt": "failed",
        "c.txt": "failed",
    }
    assert "arriero: b.txt: damaged\narriero: c.txt: this is not read\n" in shown.err


async def test_what_cannot_begin_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown memory, an empty folder, two files of one name."""
    one, two = folder(tmp_path / "1", a_txt="A"), folder(tmp_path / "2", a_txt="B")

    assert await ingest(Server(), "--memory", "nope", one) == 1
    assert "the server has no memory nope for this key; it has n" in capsys.readouterr().err
    assert await ingest(Server(), "--memory", "n", folder(tmp_path / "3", a_png="P")) == 2
    assert "no documents there" in capsys.readouterr().err
    assert await ingest(Server(), "--memory", "n", one, two) == 2
    assert "have the same name" in capsys.readouterr().err
