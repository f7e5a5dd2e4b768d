"""Uploaded files: their bytes in one directory, their rows in the catalogue. Nothing in them is read here.

A file is there once its bytes and their name are on the disk and then its row; it is gone with its row.
Bytes without a row, which a crash may leave, are removed at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from typing import IO, TYPE_CHECKING

from arriero.errors import InvalidRequest
from arriero.memory.library.records import StoredFile, unknown
from arriero.memory.sqlite_errors import translated
from arriero.memory.sqlite_pool import make_folders, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arriero.config.memory import VectorStoresConfig
    from arriero.memory.library.catalogue import Catalogue
    from arriero.memory.library.records import Page

COPY_BYTES = 1 << 20


class Files:
    """Owns the directory. A tenant of None sees the files of all."""

    def __init__(
        self,
        directory: Path,
        catalogue: Catalogue,
        config: VectorStoresConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open it; blocks. Raises Unavailable."""
        self._directory = directory
        self._catalogue = catalogue
        self._config = config
        self._clock = clock
        self._adding = asyncio.Lock()
        with translated(directory):
            make_folders(directory)
            known = catalogue.file_ids()
            for path in directory.iterdir():
                if path.name not in known:
                    path.unlink()

    async def add(
        self,
        content: IO[bytes],
        *,
        tenant: str,
        name: str,
        purpose: str,
        media_type: str | None = None,
        lifetime_s: int | None = None,
    ) -> StoredFile:
        """Keep a file; it survives a crash when this returns. Raises InvalidRequest, Unavailable."""
        id = f"file-{secrets.token_hex(12)}"
        now = self._clock()
        size = await asyncio.to_thread(self._write, id, content)
        file = StoredFile(
            id=id,
            tenant=tenant,
            name=name,
            purpose=purpose,
            size=size,
            created_at=now,
            media_type=media_type,
            expires_at=None if lifetime_s is None else now + lifetime_s,
        )
        try:
            # One after the other, so that two cannot pass the bounds together.
            async with self._adding:
                await asyncio.to_thread(self._check_room, tenant, size)
                await asyncio.to_thread(self._catalogue.add_file, file)
        except BaseException:
            await asyncio.to_thread(self._unlink, id)
            raise
        return file

    async def get(self, id: str, tenant: str | None) -> StoredFile:
        """Return a file. Raises UnknownName, also for one that is not the tenant's or has expired."""
        file = await asyncio.to_thread(self._catalogue.file, id)
        if tenant not in (None, file.tenant) or self._is_expired(file):
            raise unknown("file", id)
        return file

    async def page(
        self, tenant: str | None, purpose: str | None, page: Page
    ) -> tuple[list[StoredFile], bool]:
        """Return files and whether there are more. Raises InvalidRequest."""
        return await asyncio.to_thread(self._catalogue.files, tenant, purpose, page, now=self._clock())

    async def expired(self) -> list[StoredFile]:
        """Return the files whose time is over."""
        return await asyncio.to_thread(self._catalogue.expired_files, self._clock())

    async def remove(self, id: str) -> None:
        """Forget a file."""
        await asyncio.to_thread(self._catalogue.remove_file, id)
        await asyncio.to_thread(self._unlink, id)

    async def read(self, id: str) -> bytes:
        """Return the bytes of a file. Raises UnknownName, Unavailable."""

        def read() -> bytes:
            with translated(self._directory):
                try:
                    return self.path(id).read_bytes()
                except FileNotFoundError as exc:
                    raise unknown("file", id) from exc

        return await asyncio.to_thread(read)

    def path(self, id: str) -> Path:
        """Return where the bytes of a file are; `id` is one that the catalogue knows."""
        return self._directory / id

    def _is_expired(self, file: StoredFile) -> bool:
        return file.expires_at is not None and self._clock() >= file.expires_at

    def _check_room(self, tenant: str, size: int) -> None:
        config = self._config
        count, held = self._catalogue.held(tenant)
        if count >= config.max_files:
            raise InvalidRequest(
                f"there are {count} files, which is what vector_stores.max_files allows; delete some first",
                param="file",
            )
        for key, bound, taken in (
            ("max_tenant_bytes", config.max_tenant_bytes, held),
            ("max_bytes", config.max_bytes, self._catalogue.held(None)[1]),
        ):
            if taken + size > bound:
                raise InvalidRequest(
                    f"the file's {size} bytes do not fit: vector_stores.{key} allows {bound}; delete files"
                    " first",
                    param="file",
                )

    def _write(self, id: str, content: IO[bytes]) -> int:
        """Bring bytes to the disk under their name; return how many there are."""
        part = self.path(f"{id}.part")
        with translated(self._directory):
            try:
                with part.open("xb") as out:
                    os.fchmod(out.fileno(), 0o600)
                    shutil.copyfileobj(content, out, COPY_BYTES)
                    out.flush()
                    os.fsync(out.fileno())
                    size = out.tell()
                part.rename(self.path(id))
                sync_folder(self._directory)
            except BaseException:
                with contextlib.suppress(OSError):
                    part.unlink()
                raise
        return size

    def _unlink(self, id: str) -> None:
        with contextlib.suppress(OSError):
            self.path(id).unlink()
