"""/v1/files: files that callers upload. They are kept as they come; nothing looks into them here."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from starlette.datastructures import UploadFile
from starlette.responses import FileResponse

from arriero.access.principal import may
from arriero.errors import Forbidden, InvalidRequest, PayloadTooLarge
from arriero.server.context import context_of, principal_of
from arriero.server.routes.openai.paging import asked_page, list_response
from arriero.server.routes.ops import json_response
from arriero.server.uploads import read_form

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from arriero.memory.library.library import Library
    from arriero.memory.library.records import StoredFile

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
FORM_BYTES = 64 * 1024
"""What a form may have beside its file."""
MAX_NAME_CHARS = 512
MAX_PAGE = 10_000
LIFETIMES_S = (3600, 30 * 24 * 3600)
RESOURCE = "memory/vector_stores"
"""What grants say of files and of the memories that callers make."""


class Access(NamedTuple):
    """The library, and whose things in it are asked for; a tenant of None sees all."""

    library: Library
    tenant: str | None


async def access(request: Request, action: str) -> Access:
    """Return what the caller may "read" or "write". Raises Forbidden, NotSupported, Unavailable."""
    principal = principal_of(request)
    if not may(principal, action, RESOURCE):
        raise Forbidden(f"this key may not {action} files and vector stores")
    library = await context_of(request).runtime.door.library()
    return Access(library, None if may(principal, "admin", "server") else principal.tenant)


async def create(request: Request) -> Response:
    """Keep a file of a form."""
    library, _ = await access(request, "write")
    max_bytes = context_of(request).runtime.config.vector_stores.max_file_bytes
    form = await read_form(request, max_bytes + FORM_BYTES)
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise InvalidRequest("the form has no file", param="file")
        if (upload.size or 0) > max_bytes:
            raise PayloadTooLarge(f"the file has {upload.size} bytes; {max_bytes} are allowed", param="file")
        file = await library.files.add(
            upload.file,
            tenant=principal_of(request).tenant,
            name=_name(upload.filename or ""),
            purpose=_purpose(form),
            media_type=upload.content_type,
            lifetime_s=_lifetime_s(form),
        )
    finally:
        await form.close()
    return json_response(_object(file))


async def listing(request: Request) -> Response:
    """List files, the newest first."""
    library, tenant = await access(request, "read")
    page = asked_page(request, default=MAX_PAGE, most=MAX_PAGE)
    purpose = request.query_params.get("purpose") or None
    files, has_more = await library.files.page(tenant, purpose, page)
    return list_response([_object(file) for file in files], has_more=has_more)


async def one(request: Request) -> Response:
    """Describe a file."""
    library, tenant = await access(request, "read")
    return json_response(_object(await library.files.get(request.path_params["file"], tenant)))


async def content(request: Request) -> Response:
    """Answer the bytes of a file, never as something that a browser would show."""
    library, tenant = await access(request, "read")
    file = await library.files.get(request.path_params["file"], tenant)
    return FileResponse(
        library.files.path(file.id),
        media_type="application/octet-stream",
        filename=file.name,
    )


async def delete(request: Request) -> Response:
    """Forget a file, and take it out of every vector store."""
    library, tenant = await access(request, "write")
    file = await library.files.get(request.path_params["file"], tenant)
    await library.remove_file(file)
    return json_response({"id": file.id, "object": "file", "deleted": True})


def _object(file: StoredFile) -> dict[str, object]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def _name(said: str) -> str:
    """Return the name of a file without folders. Raises InvalidRequest."""
    name = said.replace("\\", "/").rpartition("/")[2]
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise InvalidRequest(f"a file's name has 1 to {MAX_NAME_CHARS} printable characters", param="file")
    return name


def _purpose(form: FormData) -> str:
    purpose = form.get("purpose")
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        raise InvalidRequest(f"purpose is one of {', '.join(PURPOSES)}", param="purpose")
    return purpose


def _lifetime_s(form: FormData) -> int | None:
    """Return after how many seconds a file is forgotten; None = never. Raises InvalidRequest."""
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest('expires_after.anchor is "created_at"', param="expires_after.anchor")
    least, most = LIFETIMES_S
    text = seconds if isinstance(seconds, str) else ""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
        raise InvalidRequest(
            f"expires_after.seconds is a whole number from {least} to {most}", param="expires_after.seconds"
        )
    return int(text)
