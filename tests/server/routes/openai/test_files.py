"""/v1/files with the official client."""

from __future__ import annotations

from typing import Any

import openai
import pytest

TEXT = b"A cat sat on the mat."
HOUR = 3600


def named(name: str, data: bytes = TEXT) -> tuple[str, bytes]:
    return (name, data)


async def test_a_file_is_kept_as_it_came(open_shelf: Any) -> None:
    """What is uploaded is described, read back byte for byte, and gone once it is deleted."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        made = await sdk.files.create(file=named("../a b.md", b"\0\xff" * 700_000), purpose="user_data")
        shown = await sdk.files.retrieve(made.id)
        content = await sdk.files.content(made.id)
        deleted = await sdk.files.delete(made.id)
        with pytest.raises(openai.NotFoundError) as gone:
            await sdk.files.retrieve(made.id)

    assert shown == made
    assert (made.filename, made.bytes, made.purpose, made.object) == (
        "a b.md",
        1_400_000,
        "user_data",
        "file",
    )
    assert content.content == b"\0\xff" * 700_000
    assert content.response.headers["content-disposition"].startswith("attachment")
    assert (deleted.id, deleted.deleted) == (made.id, True)
    assert gone.value.body == {
        "message": f"file not found: {made.id}",
        "type": "not_found_error",
        "param": "file_id",
        "code": "not_found",
    }
    assert list((shelf.path / "vector_stores" / "files").iterdir()) == []


async def test_files_are_listed_in_parts(open_shelf: Any) -> None:
    """The client pages through all files in either order; a purpose leaves the others out."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        purposes = ["assistants", "batch", "assistants", "user_data", "assistants"]
        made = [
            (await sdk.files.create(file=named(f"{i}.txt"), purpose=p)).id for i, p in enumerate(purposes)
        ]
        newest = [file.id async for file in sdk.files.list(limit=2)]
        oldest = [file.id async for file in sdk.files.list(limit=2, order="asc")]
        first = await sdk.files.list(limit=2)
        chosen = [file.id async for file in sdk.files.list(purpose="assistants", order="asc")]

    assert newest == made[::-1]
    assert oldest == made
    assert (len(first.data), first.has_more) == (2, True)
    assert chosen == [made[0], made[2], made[4]]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"files": {"file": named("a.txt")}, "data": {}}, "purpose"),
        ({"files": {"file": named("a.txt")}, "data": {"purpose": "world domination"}}, "purpose"),
        ({"files": {"other": named("a.txt")}, "data": {"purpose": "batch"}}, "file"),
        ({"files": {"file": named("folder/")}, "data": {"purpose": "batch"}}, "file"),
        ({"files": {"file": named("x" * 513)}, "data": {"purpose": "batch"}}, "file"),
        (
            {
                "files": {"file": named("a.txt")},
                "data": {
                    "purpose": "batch",
                    "expires_after[anchor]": "now",
                    "expires_after[seconds]": "3600",
                },
            },
            "expires_after.anchor",
        ),
        (
            {
                "files": {"file": named("a.txt")},
                "data": {
                    "purpose": "batch",
                    "expires_after[anchor]": "created_at",
                    "expires_after[seconds]": "3599",
                },
            },
            "expires_after.seconds",
        ),
    ],
)
async def test_a_wrong_upload_is_refused_by_name(open_shelf: Any, asked: Any, param: str) -> None:
    """The error names the field, and nothing is kept."""
    async with open_shelf() as shelf:
        client = await shelf.plain()
        response = await client.post("/v1/files", **asked)
        kept = (await client.get("/v1/files")).json()["data"]

    assert (response.status_code, response.json()["error"]["param"], kept) == (400, param, [])


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}])
async def test_an_upload_that_is_no_form_is_refused(open_shelf: Any, headers: dict[str, str]) -> None:
    """Without a content type, and with another one, the answer says what is wanted."""
    async with open_shelf() as shelf:
        client = await shelf.plain()
        answer = await client.post("/v1/files", content=b"{}", headers=headers)

    assert answer.status_code == 400
    assert "multipart/form-data" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=x", "after"),
    ],
)
async def test_a_wrong_list_is_refused_by_name(open_shelf: Any, query: str, param: str) -> None:
    """The error names the parameter."""
    async with open_shelf() as shelf:
        client = await shelf.plain()
        response = await client.get(f"/v1/files?{query}")

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("limits", "status", "word"),
    [
        ("max_file_bytes = 20", 413, "20 are allowed"),
        ("max_tenant_bytes = 41", 400, "max_tenant_bytes"),
        ("max_bytes = 41", 400, "max_bytes"),
        ("max_files = 1", 400, "max_files"),
    ],
)
async def test_uploads_are_bounded(open_shelf: Any, limits: str, status: int, word: str) -> None:
    """What is over a bound is refused with the key's name, and its bytes are not kept."""
    async with open_shelf(f"[vector_stores]\n{limits}") as shelf:
        sdk = await shelf.client()
        if status == 400:
            await sdk.files.create(file=named("a"), purpose="batch")
        with pytest.raises(openai.APIStatusError) as refused:
            await sdk.files.create(file=named("b"), purpose="batch")
        kept = [file async for file in sdk.files.list()]

    assert (refused.value.status_code, refused.value.body["param"]) == (status, "file")  # type: ignore[index]
    assert word in refused.value.message
    assert len(list((shelf.path / "vector_stores" / "files").iterdir())) == len(kept) == (status == 400)


async def test_a_file_may_expire(open_shelf: Any) -> None:
    """The time of its end is told."""
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        made = await sdk.files.create(
            file=named("a.txt"), purpose="batch", expires_after={"anchor": "created_at", "seconds": HOUR}
        )

    assert made.expires_at is not None
    assert made.expires_at - made.created_at in (HOUR, HOUR + 1)


async def test_files_are_their_tenants(open_shelf: Any) -> None:
    """Another key neither sees nor deletes a file; an admin does; a key without the right is refused."""
    async with open_shelf() as shelf:
        sdk, other = await shelf.client(), await shelf.client("other")
        admin, reader = await shelf.granted(admin=True), await shelf.granted(writable_memories=())
        stranger = await shelf.granted(memories=("n",))
        made = await sdk.files.create(file=named("a.txt"), purpose="batch")
        for ask in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                await ask(made.id)
        with pytest.raises(openai.PermissionDeniedError):
            await reader.files.create(file=named("a.txt"), purpose="batch")
        with pytest.raises(openai.PermissionDeniedError):
            await stranger.files.list()
        seen = [[file.id async for file in client.files.list()] for client in (sdk, other, reader, admin)]

    assert seen == [[made.id], [], [], [made.id]]


async def test_a_restart_keeps_files_and_clears_up(open_shelf: Any) -> None:
    """Files are there after a restart; bytes that a crash left without a row are not."""
    async with open_shelf() as shelf:
        made = await (await shelf.client()).files.create(file=named("a.txt"), purpose="batch")
    (shelf.path / "vector_stores" / "files" / "file-lost.part").write_bytes(b"half")
    async with open_shelf() as shelf:
        sdk = await shelf.client()
        shown, content = await sdk.files.retrieve(made.id), await sdk.files.content(made.id)

    assert (shown, content.content) == (made, TEXT)
    assert [path.name for path in (shelf.path / "vector_stores" / "files").iterdir()] == [made.id]


async def test_files_can_be_turned_off(open_shelf: Any) -> None:
    """Where they are not served, the key that turns them on is named and nothing is written."""
    async with open_shelf("[vector_stores]\nenabled = false") as shelf:
        sdk = await shelf.client()
        with pytest.raises(openai.APIStatusError, match=r"vector_stores\.enabled") as refused:
            await sdk.files.create(file=named("a.txt"), purpose="batch")

    assert refused.value.status_code == 501
    assert not (shelf.path / "vector_stores").exists()
