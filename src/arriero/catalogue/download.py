"""Fetches one file over HTTP: resumes, verifies, and puts it in place only when it is whole.

While it comes in it is NAME.part, with what is needed to go on in NAME.part.stamp. Blocks; runs
in a thread of its caller. Knows nothing of models or of the catalogue.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import httpx2

from arriero.catalogue.lock import locked
from arriero.catalogue.progress import Progress, silent
from arriero.catalogue.stamp import (
    Stamp,
    file_sha256,
    finished_stamp,
    is_fetched,
    read_stamp,
    stamp_path,
    write_stamp,
)
from arriero.catalogue.storage import storage_errors
from arriero.config.weights import weights_fault
from arriero.errors import ConfigError, Unavailable
from arriero.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

HUB_HOST = "huggingface.co"
_MAX_REDIRECTS = 8
_HEAD_BYTES = 16
"""So many bytes tell what a file is."""
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


@dataclass(frozen=True)
class Patience:
    """attempts: failures in a row, without one new byte between them, before giving up.

    backoff_s doubles with each failure; timeout_s bounds the silence of the server, not the download.
    """

    attempts: int = 5
    backoff_s: float = 1.0
    timeout_s: float = 30.0


class _InterruptedError(Exception):
    """The connection or the server failed in a way that may pass."""


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    token: str | None = None,
    progress: Progress = silent,
    patience: Patience = Patience(),
    fault: Callable[[Path], str | None] = weights_fault,
) -> None:
    """Fetch `url` to `path` unless it is there already; the file appears whole or not at all.

    sha256: what the file must hash to. Without it the hub's own hash is used where it sends one,
        otherwise only the announced length.
    token: sent to the hub alone, over https alone.
    fault: says what is wrong with a file by its first bytes, None if nothing is; asked as soon as
        they are there.

    Raises ConfigError for what only the operator can repair, Unavailable for what may pass.
    """
    require_http(url)
    with storage_errors(path, part_path(path)):
        # Asked before and under the lock: the folder of a file that is there may be read-only.
        if is_fetched(path, source=url, sha256=sha256, progress=progress):
            return
        with locked(path, progress), httpx2.Client(timeout=patience.timeout_s) as client:
            if not is_fetched(path, source=url, sha256=sha256, progress=progress):
                _Transfer(client, url, path, sha256, token, progress, fault).run(patience)


def part_path(path: Path) -> Path:
    """Return where a file lies while it comes in."""
    return path.with_name(path.name + ".part")


def require_http(url: str) -> None:
    """Raise ConfigError unless `url` is a whole http or https address."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as exc:
        raise ConfigError(f"{url!r} is not a URL: {exc}") from exc
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(
            f"{url!r} is not a URL that can be downloaded: it must begin with https:// or http://"
        )


def authorization(url: httpx2.URL, token: str | None) -> dict[str, str]:
    """Return the headers that carry the hub's token, empty for every other place."""
    if token and url.scheme == "https" and url.host == HUB_HOST:
        return {"authorization": f"Bearer {token}"}
    return {}


def redirected(url: httpx2.URL, location: str) -> httpx2.URL:
    """Return where a redirect leads; ConfigError if that is less safe than where it comes from."""
    target = url.join(location)
    if target.scheme not in ("https", url.scheme):
        raise ConfigError(f"{url} redirects to {target}, which is not https; give a safe URL")
    return target


class _Transfer:
    """One file on its way; owns NAME.part and its stamp while the lock is held."""

    def __init__(
        self,
        client: httpx2.Client,
        url: str,
        path: Path,
        sha256: str | None,
        token: str | None,
        progress: Progress,
        fault: Callable[[Path], str | None],
    ) -> None:
        self._client = client
        self._url = url
        self._path = path
        self._part = part_path(path)
        self._sha256 = sha256
        self._token = token
        self._progress = progress
        self._fault = fault

    def run(self, patience: Patience) -> None:
        failures = 0
        while True:
            before = self._size()
            try:
                self._attempt()
                break
            except _InterruptedError as exc:
                failures = 1 if self._size() > before else failures + 1
                if failures >= patience.attempts:
                    raise Unavailable(f"cannot download {self._url}: {exc}") from exc
                logger.warning("download of %s was interrupted: %s", self._url, exc)
            time.sleep(patience.backoff_s * 2 ** (failures - 1))
        self._finish()

    def _attempt(self) -> None:
        """Fetch what is missing. Raises _InterruptedError when another attempt may bring the rest."""
        offset, validator = self._resumable()
        headers = {"accept-encoding": "identity", "user-agent": f"arriero/{__version__}"}
        if validator is not None:
            headers |= {"range": f"bytes={offset}-", "if-range": validator}
        try:
            response = self._open(headers)
            try:
                if not self._is_complete(response, offset):
                    self._receive(response, offset)
            finally:
                response.close()
        except httpx2.TransportError as exc:
            raise _InterruptedError(str(exc) or type(exc).__name__) from exc

    def _resumable(self) -> tuple[int, str | None]:
        """Return size and validator of what an earlier attempt left, if it can be continued."""
        stamp = read_stamp(self._part)
        if stamp is None or stamp.source != self._url or stamp.validator is None or not self._size():
            return 0, None
        return self._size(), stamp.validator

    def _open(self, headers: dict[str, str]) -> httpx2.Response:
        """Send the request along redirects, which may not lead from https to http."""
        url = httpx2.URL(self._url)
        for _ in range(_MAX_REDIRECTS):
            request = self._client.build_request(
                "GET", url, headers=headers | authorization(url, self._token)
            )
            response = self._client.send(request, stream=True, follow_redirects=False)
            self._learn_hash(response)
            if not response.has_redirect_location:
                return response
            response.close()
            url = redirected(url, response.headers["location"])
        raise ConfigError(f"{self._url} redirects more than {_MAX_REDIRECTS} times; give the file's own URL")

    def _learn_hash(self, response: httpx2.Response) -> None:
        """Take the hub's word for the hash when the operator gave none."""
        match = _SHA256.fullmatch(response.headers.get("x-linked-etag", ""))
        if self._sha256 is None and match:
            self._sha256 = match[1]

    def _is_complete(self, response: httpx2.Response, offset: int) -> bool:
        """Tell whether the server says that nothing follows `offset`; raise for every other refusal."""
        status = response.status_code
        if status in (200, 206):
            return False
        if status == 416:
            if offset and response.headers.get("content-range") == f"bytes */{offset}":
                return True
            self._discard()
            raise _InterruptedError("the server has no such range; starting anew")
        if status in _TRY_AGAIN:
            raise _InterruptedError(f"the server answered {status}")
        if status in (401, 403):
            raise ConfigError(
                f"{self._url} refuses access (status {status}); check the URL and, for the hub, set HF_TOKEN"
            )
        if status in (404, 410):
            raise ConfigError(f"there is no file at {self._url} (status {status}); check the URL")
        raise ConfigError(f"{self._url} cannot be downloaded: the server answered {status}")

    def _receive(self, response: httpx2.Response, offset: int) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ConfigError(
                f"{self._url} is sent compressed though it was not asked to be; give another URL"
            )
        start, total = _extent(response, offset)
        if total is None and self._sha256 is None and "transfer-encoding" not in response.headers:
            raise ConfigError(f"{self._url} is sent without its length; give its sha256 to check it by")
        self._require_room(total, start)
        with self._part.open("r+b" if start else "wb") as file:
            # Only now, when bytes of another version are gone, may the stamp name this one.
            write_stamp(self._part, Stamp(source=self._url, validator=_validator(response)))
            file.seek(start)
            self._copy(response, file, total)
            done = file.tell()
        if total is not None and done != total:
            raise _InterruptedError(f"{done} of {total} bytes came")

    def _copy(self, response: httpx2.Response, file: BinaryIO, total: int | None) -> None:
        done = file.tell()
        unseen = done < _HEAD_BYTES
        for chunk in response.iter_raw():
            file.write(chunk)
            done += len(chunk)
            if unseen and done >= _HEAD_BYTES:
                unseen = False
                file.flush()
                self._require_weights()
            self._progress(f"downloading {self._path.name}", done, total)

    def _require_weights(self) -> None:
        """Throw away what is no such file at all: an error page, an older format."""
        if (fault := self._fault(self._part)) is not None:
            self._discard()
            raise ConfigError(
                f"what {self._url} sends {fault.removeprefix(f'{self._part} ')}; nothing was kept"
            )

    def _finish(self) -> None:
        """Verify the whole file and put it in place, or throw it away."""
        self._require_weights()
        if self._sha256 is not None:
            found = file_sha256(self._part, self._progress)
            if found != self._sha256:
                self._discard()
                raise ConfigError(
                    f"{self._url} is not the file that was expected: its SHA-256 is {found},"
                    f" not {self._sha256}; nothing was kept"
                )
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self._path)
        stamp_path(self._part).unlink(missing_ok=True)
        write_stamp(self._path, finished_stamp(self._path, source=self._url, sha256=self._sha256))

    def _require_room(self, total: int | None, start: int) -> None:
        if total is None:
            return
        free = shutil.disk_usage(self._part.parent).free
        if total - start > free:
            raise OSError(errno.ENOSPC, f"{total - start} bytes are missing, {free} are free")

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        stamp_path(self._part).unlink(missing_ok=True)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0


def _extent(response: httpx2.Response, offset: int) -> tuple[int, int | None]:
    """Return where the body begins in the file, and the file's whole size if it is known."""
    length = response.headers.get("content-length")
    if response.status_code == 200:
        return 0, int(length) if length else None
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", ""))
    if match is None or int(match[1]) != offset:
        raise _InterruptedError("the server sent another range than was asked for")
    return offset, None if match[2] == "*" else int(match[2])


def _validator(response: httpx2.Response) -> str | None:
    """Return what If-Range may hold: a strong ETag, else the date of the last change."""
    etag = response.headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    return response.headers.get("last-modified")
