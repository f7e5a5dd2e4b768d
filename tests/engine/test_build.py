"""The native build: commands, what is taken from the archive, and when a built library is used."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import msgspec
import pytest

from arriero.engine import build
from arriero.errors import ConfigError, NotSupported

TOOLS = build.Tools(cmake=("cmake",), generator="Ninja")


def quiet(doing: str, part: float | None) -> None:
    """Tell nobody."""


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def plain(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/passwd"
    return info


def built(folder: Path, **changes: object) -> Path:
    """Lay an empty library and a record with changes where the cache `folder` keeps them."""
    place = build.native_folder(folder)
    place.mkdir(parents=True)
    (place / build.library_name(sys.platform)).touch()
    record = msgspec.structs.replace(build.this_record(), **changes)
    (place / build.RECORD_NAME).write_bytes(msgspec.json.encode(record))
    return place


def test_version_is_the_pinned_wheel() -> None:
    """The source that is built is of the release whose wheel is pinned."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]

    assert f"{build.PACKAGE}=={build.VERSION}" in project["dependencies"]


def test_download_command_checks_the_hash(tmp_path: Path) -> None:
    """pip gets the pins file, must check hashes and may take nothing but the source distribution."""
    command = build.download_command(tmp_path, tmp_path / "pins.txt")

    assert command[:3] == [sys.executable, "-m", "pip"]
    assert "--require-hashes" in command
    assert command[command.index("--no-binary") + 1] == build.PACKAGE
    assert command[command.index("--requirement") + 1] == str(tmp_path / "pins.txt")


@pytest.mark.parametrize(("system", "runpath"), [("linux", "$ORIGIN"), ("darwin", "@loader_path")])
def test_configure_command(tmp_path: Path, system: str, runpath: str) -> None:
    """The libraries are native and shared, and find each other beside themselves."""
    command = build.configure_command(TOOLS, tmp_path, system)

    assert command[:7] == [
        "cmake", "-S", str(tmp_path / "source"), "-B", str(tmp_path / "build"), "-G", "Ninja",
    ]  # fmt: skip
    assert {"-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=ON", f"-DCMAKE_INSTALL_RPATH={runpath}"} <= set(command)


def test_compile_command(tmp_path: Path) -> None:
    """Only libllama and what it needs is compiled, with the given number of jobs."""
    command = build.compile_command(TOOLS, tmp_path, 3)

    assert command == ["cmake", "--build", str(tmp_path / "build"), "--target", "llama", "--parallel", "3"]


def test_wrong_hash_is_refused(tmp_path: Path) -> None:
    """A file that is not the pinned source distribution is refused, with both hashes in the message."""
    wrong = tmp_path / "wrong.tar.gz"
    wrong.write_bytes(b"")

    with pytest.raises(ConfigError, match=f"e3b0c44298fc.*{build.SOURCE_SHA256}"):
        build.check_source(wrong)


def test_wrong_source_leaves_destination(tmp_path: Path) -> None:
    """A refused source leaves what was built before, and no scratch folder."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "old").touch()
    missing = tmp_path / "missing.tar.gz"

    with pytest.raises((ConfigError, NotSupported)):
        build.build_native(tmp_path / "engine", jobs=1, progress=quiet, source=missing)

    assert [path.name for path in tmp_path.rglob("*")] == ["engine", "old"]


def test_unpack_takes_llama_cpp_only(tmp_path: Path) -> None:
    """Files of llama.cpp land below the target; the rest of the archive is left."""
    archive = archive_of(
        tmp_path / "a.tar.gz",
        (plain(f"{build.SOURCE_FOLDER}/src/llama.cpp"), b"int x;"),
        (plain(f"{build.PACKAGE}-{build.VERSION}/setup.py"), b"boom"),
        (plain(f"{build.SOURCE_FOLDER}.evil/x"), b"boom"),
    )

    build.unpack(archive, tmp_path / "out")

    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files == [tmp_path / "out/src/llama.cpp"]
    assert files[0].read_bytes() == b"int x;"


@pytest.mark.parametrize(
    "member",
    [
        plain(f"{build.SOURCE_FOLDER}/../../../escaped"),
        plain("/escaped"),
        link(f"{build.SOURCE_FOLDER}/src", tarfile.SYMTYPE),
        link(f"{build.SOURCE_FOLDER}/src", tarfile.LNKTYPE),
        link(f"{build.SOURCE_FOLDER}/src", tarfile.FIFOTYPE),
    ],
    ids=["parent", "absolute", "symlink", "hardlink", "fifo"],
)
def test_unpack_refuses_unsafe_members(tmp_path: Path, member: tarfile.TarInfo) -> None:
    """A name that leads out of the folder, a link or a device ends the unpacking."""
    archive = archive_of(tmp_path / "a.tar.gz", (member, b""))

    with pytest.raises(ConfigError, match="source archive holds"):
        build.unpack(archive, tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("[  5%] Building CXX object x.o\n", 0.05),
        ("[100%] Built target llama\n", 1.0),
        ("[3/4] Linking\n", 0.75),
        ("[0/0] nothing\n", None),
        ("-- Found OpenMP\n", None),
    ],
)
def test_fraction(line: str, part: float | None) -> None:
    """The part done is read from the lines of make and of ninja."""
    assert build.fraction(line) == part


def test_failing_command_shows_its_last_lines(tmp_path: Path) -> None:
    """A build step that fails raises with the end of its output; all of it is in the log."""
    code = "import sys; [print('line', i) for i in range(99)]; sys.exit(3)"

    with pytest.raises(
        NotSupported, match=r"compiling failed \(status 3\)[^$]*line 79\n[^$]*line 98"
    ) as caught:
        build.run([sys.executable, "-c", code], tmp_path / "log", quiet, doing="compiling")

    assert "line 78" not in caught.value.message
    assert "line 0\n" in (tmp_path / "log").read_text()


def test_install_replaces_and_keeps_links(tmp_path: Path) -> None:
    """The libraries replace an older build as a whole; links among them stay links."""
    name = build.library_name(sys.platform)
    made, staging, place = tmp_path / "bin", tmp_path / "staging", tmp_path / "engine"
    made.mkdir()
    (made / f"{name}.0").write_bytes(b"new")
    (made / name).symlink_to(f"{name}.0")
    (made / "llama-tool").touch()
    place.mkdir()
    (place / "old").touch()

    build.install(made, place, staging)

    assert sorted(path.name for path in place.iterdir()) == [build.RECORD_NAME, name, f"{name}.0"]
    assert (place / name).readlink() == Path(f"{name}.0")
    assert (
        msgspec.json.decode((place / build.RECORD_NAME).read_bytes(), type=build.Record)
        == build.this_record()
    )


def test_install_without_library_is_refused(tmp_path: Path) -> None:
    """A build that made no libllama is not installed."""
    (tmp_path / "bin").mkdir()

    with pytest.raises(NotSupported, match="made no"):
        build.install(tmp_path / "bin", tmp_path / "engine", tmp_path / "staging")

    assert not (tmp_path / "engine").exists()


def test_native_library_is_found(tmp_path: Path) -> None:
    """A library built here for this version is the one to use."""
    place = built(tmp_path)

    assert build.native_library(tmp_path) == place / build.library_name(sys.platform)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "2026.10.11548"},
        {"sha256": "0" * 64},
        {"machine": "vax"},
        {"cpu_features": ("no_such_feature",)},
    ],
)
def test_native_library_of_elsewhere_is_not_used(tmp_path: Path, changes: dict[str, object]) -> None:
    """A library of another version, source, machine, or for a richer CPU is passed over."""
    built(tmp_path, **changes)

    assert build.native_library(tmp_path) is None


def test_native_library_needs_record_and_file(tmp_path: Path) -> None:
    """Without the record, with a broken one, or without the library there is none."""
    assert build.native_library(tmp_path) is None

    place = built(tmp_path)
    (place / build.library_name(sys.platform)).unlink()
    assert build.native_library(tmp_path) is None

    (place / build.library_name(sys.platform)).touch()
    (place / build.RECORD_NAME).write_bytes(b"{")
    assert build.native_library(tmp_path) is None


@pytest.mark.slow
def test_build_native(tmp_path: Path) -> None:
    """The real thing: fetch, build, install; the library loads by itself after being moved.

    ARRIERO_ENGINE_SOURCE may name the source distribution; else pip fetches it.
    """
    source = os.environ.get("ARRIERO_ENGINE_SOURCE")
    seen: list[str] = []

    library = build.build_native(
        build.native_folder(tmp_path / "cache"),
        jobs=os.cpu_count() or 1,
        progress=lambda doing, part: seen.append(doing),
        source=Path(source) if source else None,
    )

    assert build.native_library(tmp_path / "cache") == library
    assert list(dict.fromkeys(seen))[-3:] == ["unpacking the source", "configuring", "compiling"]
    (tmp_path / "cache").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / library.relative_to(tmp_path / "cache")
    load = f"import ctypes; ctypes.CDLL({str(moved)!r}).llama_backend_init()"
    assert subprocess.run([sys.executable, "-c", load], check=False).returncode == 0
