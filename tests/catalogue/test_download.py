"""Downloads over real sockets: whole files or none, resumed, verified, and errors that say what to do."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from arriero.catalogue.download import Patience, authorization, download, redirected
from arriero.catalogue.stamp import stamp_path
from arriero.errors import ConfigError, Unavailable
from arriero.testing.file_server import Answer, FileServer

DATA = b"GGUF" + bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()
AT_ONCE = Patience(attempts=3, backoff_s=0.0, timeout_s=5.0)


def fetch(server: FileServer, path: Path, *, sha256: str | None = None) -> None:
    download(server.url(), path, sha256=sha256, patience=AT_ONCE)


def left(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def test_fetches_a_file(tmp_path: Path) -> None:
    """The file appears with its bytes, and nothing but its stamp stays beside it."""
    path = tmp_path / "models" / "m.gguf"
    with FileServer(DATA) as server:
        fetch(server, path, sha256=SHA256)

    assert path.read_bytes() == DATA
    assert left(path) == {"m.gguf", "m.gguf.stamp"}


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_second_time_asks_nobody(tmp_path: Path, sha256: str | None) -> None:
    """A file that is there is not requested again."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA) as server:
        fetch(server, path, sha256=sha256)
        fetch(server, path, sha256=sha256)

        assert len(server.requests) == 1


def test_file_put_there_by_a_person_is_taken(tmp_path: Path) -> None:
    """A file without a stamp counts as fetched when no hash is demanded."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF mine")
    with FileServer(DATA) as server:
        fetch(server, path)

        assert (path.read_bytes(), server.requests) == (b"GGUF mine", [])


def test_changed_file_is_fetched_again(tmp_path: Path) -> None:
    """A file that no longer has the demanded hash is replaced."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA) as server:
        fetch(server, path, sha256=SHA256)
        path.write_bytes(b"GGUF spoiled")
        fetch(server, path, sha256=SHA256)

    assert path.read_bytes() == DATA


def test_new_url_is_fetched(tmp_path: Path) -> None:
    """When the configuration names another URL, the old file is not served under it."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA) as server:
        download(server.url("/old"), path, patience=AT_ONCE)
        download(server.url("/new"), path, patience=AT_ONCE)

        assert [request[":path"] for request in server.requests] == ["/old", "/new"]


def test_cut_connection_is_resumed(tmp_path: Path) -> None:
    """After a cut only the missing bytes are asked for, under the condition that the file is the same."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(cut_after=1000), Answer()) as server:
        fetch(server, path, sha256=SHA256)

        assert [request.get("range") for request in server.requests] == [None, "bytes=1000-"]
        assert server.requests[1]["if-range"] == '"v1"'
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 17, len(DATA) - 1])
def test_cut_at_any_byte(tmp_path: Path, cut: int) -> None:
    """Wherever the connection is cut, the whole file comes together."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(cut_after=cut), Answer()) as server:
        fetch(server, path)

    assert path.read_bytes() == DATA


def test_many_cuts_with_progress_are_patience_enough(tmp_path: Path) -> None:
    """Failures count in a row only: each new byte gives new patience."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, *[Answer(cut_after=100)] * 8, Answer()) as server:
        fetch(server, path)

    assert path.read_bytes() == DATA


def test_interrupted_run_is_resumed_by_the_next(tmp_path: Path) -> None:
    """What an ended process left is continued by the next one."""
    path = tmp_path / "m.gguf"

    def stop(description: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with FileServer(DATA, Answer(cut_after=500), Answer()) as server:
        with pytest.raises(KeyboardInterrupt):
            download(server.url(), path, progress=stop, patience=AT_ONCE)
        assert not path.exists()
        fetch(server, path, sha256=SHA256)

        start = int(server.requests[1]["range"].removeprefix("bytes=").removesuffix("-"))
        assert 0 < start <= 500
    assert path.read_bytes() == DATA


def test_server_that_ignores_ranges(tmp_path: Path) -> None:
    """A server that answers a range with the whole file makes the download start anew."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(cut_after=1000), Answer(ranges=False)) as server:
        fetch(server, path, sha256=SHA256)

    assert path.read_bytes() == DATA


def test_file_that_changed_on_the_server(tmp_path: Path) -> None:
    """Bytes of two versions are never mixed: with another ETag the download starts anew."""
    path = tmp_path / "m.gguf"
    older = Answer(body=b"GGUF" + b"\0" * 2000, cut_after=1000, headers={"etag": '"v0"'})
    with FileServer(DATA, older, Answer()) as server:
        fetch(server, path)

        assert server.requests[1]["if-range"] == '"v0"'
    assert path.read_bytes() == DATA


def test_part_of_another_url_is_not_continued(tmp_path: Path) -> None:
    """What came from one URL is never completed with bytes of another, equal ETag or not."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(cut_after=1000), Answer()) as server:
        with pytest.raises(Unavailable):
            download(server.url("/old"), path, patience=Patience(attempts=1))
        download(server.url("/new"), path, patience=AT_ONCE)

        assert "range" not in server.requests[1]
    assert path.read_bytes() == DATA


def test_wrong_range_is_not_appended(tmp_path: Path) -> None:
    """A server that sends another range than was asked for is asked again."""
    path = tmp_path / "m.gguf"
    size = len(DATA)
    # As long as the missing end, so that only the header tells that it is another piece.
    span = {"content-range": f"bytes 900-{size - 101}/{size}"}
    wrong = Answer(status=206, body=DATA[900 : size - 100], headers=span)
    with FileServer(DATA, Answer(cut_after=1000), wrong, Answer()) as server:
        fetch(server, path)

    assert path.read_bytes() == DATA


def test_short_range_is_continued(tmp_path: Path) -> None:
    """A server that sends only a part of the range that was asked for is asked for the rest."""
    path = tmp_path / "m.gguf"
    short = Answer(
        status=206, body=DATA[1000:2000], headers={"content-range": f"bytes 1000-1999/{len(DATA)}"}
    )
    with FileServer(DATA, Answer(cut_after=1000), short, Answer()) as server:
        fetch(server, path)

        assert [request.get("range") for request in server.requests] == [None, "bytes=1000-", "bytes=2000-"]
    assert path.read_bytes() == DATA


def test_server_without_validator_starts_anew(tmp_path: Path) -> None:
    """Without ETag and date nothing can be resumed safely, so no range is asked for."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(cut_after=1000), Answer(), etag=None) as server:
        fetch(server, path)

        assert [request.get("range") for request in server.requests] == [None, None]
    assert path.read_bytes() == DATA


def test_weak_etag_is_no_validator(tmp_path: Path) -> None:
    """If-Range never holds a weak ETag."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(cut_after=1000), Answer(), etag='W/"v1"') as server:
        fetch(server, path)

        assert "if-range" not in server.requests[1]


def test_complete_part_is_only_verified(tmp_path: Path) -> None:
    """A part that is whole already, left by a crash before the end, is taken without its bytes again."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(cut_after=len(DATA) - 1), Answer()) as server:
        with pytest.raises(Unavailable):
            download(server.url(), path, patience=Patience(attempts=1))
        (tmp_path / "m.gguf.part").write_bytes(DATA)
        fetch(server, path, sha256=SHA256)

        assert server.requests[1]["range"] == f"bytes={len(DATA)}-"
    assert path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "there is no file at http"),
        (410, "there is no file at http"),
        (401, "set HF_TOKEN"),
        (403, "set HF_TOKEN"),
        (400, "answered 400"),
        (204, "answered 204"),
    ],
)
def test_refusals_are_told_at_once(tmp_path: Path, status: int, message: str) -> None:
    """What a further attempt cannot repair is one request, one clear error, and no file."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(status=status, body=b"<html>no</html>")) as server:
        with pytest.raises(ConfigError, match=message):
            fetch(server, path)

        assert len(server.requests) == 1
    assert left(path) == set()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_server_is_asked_again(tmp_path: Path, status: int) -> None:
    """A server that has trouble now is given another chance."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(status=status), Answer()) as server:
        fetch(server, path)

    assert path.read_bytes() == DATA


def test_patience_ends(tmp_path: Path) -> None:
    """A server that never recovers makes the download unavailable after so many attempts."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(status=503)) as server:
        with pytest.raises(Unavailable, match=r"cannot download .* answered 503"):
            fetch(server, path)

        assert len(server.requests) == AT_ONCE.attempts
    assert not path.exists()


def test_nobody_listens(tmp_path: Path) -> None:
    """A refused connection is an error that names the URL."""
    with FileServer(DATA) as server:
        url = server.url()

    with pytest.raises(Unavailable, match=url):
        download(url, tmp_path / "m.gguf", patience=AT_ONCE)


def test_silent_server(tmp_path: Path) -> None:
    """A server that falls silent is left after the time-out; what came is kept for the next time."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(cut_after=300, stall=True)) as server, pytest.raises(Unavailable):
        download(server.url(), path, patience=Patience(attempts=1, timeout_s=0.05))

    assert (tmp_path / "m.gguf.part").read_bytes() == DATA[:300]
    assert not path.exists()


def test_wrong_hash_is_refused(tmp_path: Path) -> None:
    """A file with another hash is thrown away, and the error tells both hashes."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA) as server, pytest.raises(ConfigError, match=f"{SHA256}, not {'0' * 64}"):
        fetch(server, path, sha256="0" * 64)

    assert left(path) == set()


def test_hash_from_the_hub_is_used(tmp_path: Path) -> None:
    """Without a configured hash, the one that the hub sends must be met."""
    path = tmp_path / "m.gguf"
    linked = Answer(headers={"x-linked-etag": '"' + "1" * 64 + '"'})
    with FileServer(DATA, linked) as server, pytest.raises(ConfigError, match="not 1111"):
        fetch(server, path)

    assert left(path) == set()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "sends is a text"),
        (b"tjgg" + b"\0" * 100, "GGJT"),
        (b"", "empty"),
        (b"GG", "not a GGUF"),
    ],
)
def test_what_is_no_weights_is_never_saved(tmp_path: Path, body: bytes, message: str) -> None:
    """A web page, an older format or an empty answer with status 200 is refused, and nothing stays."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(body=body)) as server, pytest.raises(ConfigError, match=message):
        fetch(server, path)

    assert left(path) == set()


def test_redirect_is_followed(tmp_path: Path) -> None:
    """A redirect to a relative address leads to the file."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(status=302, headers={"location": "/there"}), Answer()) as server:
        fetch(server, path)

        assert [request[":path"] for request in server.requests] == ["/model.gguf", "/there"]
    assert path.read_bytes() == DATA


def test_redirect_loop_ends(tmp_path: Path) -> None:
    """Redirects in a circle are a clear error."""
    path = tmp_path / "m.gguf"
    loop = Answer(status=302, headers={"location": "/again"})
    with FileServer(DATA, loop) as server, pytest.raises(ConfigError, match="redirects more than"):
        fetch(server, path)

    assert left(path) == set()


@pytest.mark.parametrize(
    ("start", "location", "target"),
    [
        ("https://a.example/x", "https://b.example/y", "https://b.example/y"),
        ("https://a.example/x", "/y", "https://a.example/y"),
        ("http://a.example/x", "http://b.example/y", "http://b.example/y"),
        ("http://a.example/x", "https://b.example/y", "https://b.example/y"),
        ("https://a.example/x", "http://a.example/x", None),
        ("https://a.example/x", "file:///etc/passwd", None),
        ("http://a.example/x", "ftp://b.example/y", None),
    ],
)
def test_redirects_never_become_less_safe(start: str, location: str, target: str | None) -> None:
    """From https only https is followed; http may lead to http or https."""
    if target is None:
        with pytest.raises(ConfigError, match="not https"):
            redirected(httpx2.URL(start), location)
    else:
        assert str(redirected(httpx2.URL(start), location)) == target


@pytest.mark.parametrize(
    ("url", "token", "headers"),
    [
        ("https://huggingface.co/a/b", "secret", {"authorization": "Bearer secret"}),
        ("https://huggingface.co/a/b", None, {}),
        ("http://huggingface.co/a/b", "secret", {}),
        ("https://huggingface.co.evil.example/a", "secret", {}),
        ("https://cdn.example/a", "secret", {}),
    ],
)
def test_token_goes_to_the_hub_alone(url: str, token: str | None, headers: dict[str, str]) -> None:
    """The token is sent to the hub over https and to nobody else."""
    assert authorization(httpx2.URL(url), token) == headers


@pytest.mark.parametrize("url", ["file:///etc/passwd", "model.gguf", "https://", "ftp://a.example/x", ""])
def test_only_http_is_downloaded(tmp_path: Path, url: str) -> None:
    """An address of another kind is refused before anything is done."""
    with pytest.raises(ConfigError, match="URL"):
        download(url, tmp_path / "sub" / "m.gguf")

    assert not (tmp_path / "sub").exists()


def test_unknown_length_needs_a_hash(tmp_path: Path) -> None:
    """A body whose end cannot be told from a cut is refused, unless a hash can prove it."""
    path = tmp_path / "m.gguf"
    with FileServer(DATA, Answer(with_length=False)) as server:
        with pytest.raises(ConfigError, match="give its sha256"):
            fetch(server, path)
        fetch(server, path, sha256=SHA256)

    assert path.read_bytes() == DATA


def test_compressed_body_is_refused(tmp_path: Path) -> None:
    """Bytes that are not the file's own are not saved."""
    path = tmp_path / "m.gguf"
    squeezed = Answer(headers={"content-encoding": "gzip"})
    with FileServer(DATA, squeezed) as server, pytest.raises(ConfigError, match="compressed"):
        fetch(server, path)

    assert left(path) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_full_disk(tmp_path: Path) -> None:
    """A full disk is told as such, and the half file is removed."""
    path = tmp_path / "m.gguf"
    (tmp_path / "m.gguf.part").symlink_to("/dev/full")
    with FileServer(DATA) as server, pytest.raises(Unavailable, match="no room on the disk"):
        fetch(server, path)

    assert "m.gguf.part" not in left(path)
    assert not path.exists()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A place that cannot be written is the operator's error and names the path."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigError, match="cannot write"):
        download("http://127.0.0.1:9/x", tmp_path / "file" / "m.gguf")


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    """Of two that want the same file at once, one fetches it and the other takes it."""
    path = tmp_path / "m.gguf"
    start = threading.Barrier(2)
    with FileServer(DATA) as server:

        def run() -> None:
            start.wait()
            fetch(server, path)

        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(run), pool.submit(run)]:
                future.result()

        assert len(server.requests) == 1
    assert left(path) == {"m.gguf", "m.gguf.stamp"}


def test_progress_tells_bytes(tmp_path: Path) -> None:
    """Progress ends with the whole size of the file."""
    seen: list[tuple[str, int, int | None]] = []

    def note(description: str, done: int, total: int | None) -> None:
        seen.append((description, done, total))

    with FileServer(DATA) as server:
        download(server.url(), tmp_path / "m.gguf", progress=note, patience=AT_ONCE)

    assert seen[-1] == ("downloading m.gguf", len(DATA), len(DATA))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_unreadable_stamp_is_no_stamp(tmp_path: Path) -> None:
    """A spoiled stamp of a part only means that the download starts anew."""
    path = tmp_path / "m.gguf"
    part = tmp_path / "m.gguf.part"
    part.write_bytes(DATA[:100])
    stamp_path(part).write_bytes(b"{spoiled")
    with FileServer(DATA) as server:
        fetch(server, path)

        assert "range" not in server.requests[0]
    assert path.read_bytes() == DATA
