"""Build a native libllama of the pinned version, and find the one that was built.

The wheel's library is compiled for every CPU of its platform; this one for the CPU it is built on,
and only that. The source is the pinned source distribution of the same release, known by its
SHA-256 before anything in it is run. Knows nothing of how the library is loaded and checked.

Steps: 1. tools, 2. source distribution, 3. unpack, 4. configure, 5. compile, 6. install.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from arriero.errors import ConfigError, NotSupported

PACKAGE = "xllamacpp"
VERSION = "2026.10.11549"
SOURCE_NAME = f"{PACKAGE}-{VERSION}.tar.gz"
SOURCE_SHA256 = "c17ee1163006f70726abb9f72137830818f3d8cb60bfc34cb232d08428eaa22b"
SOURCE_FOLDER = f"{PACKAGE}-{VERSION}/thirdparty/llama.cpp"

FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=ON",
    "-DGGML_OPENMP=ON",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_COMMON=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
)
RECORD_NAME = "build.json"
RUNPATH = {"linux": "$ORIGIN", "darwin": "@loader_path"}
SUFFIX = {"linux": ".so", "darwin": ".dylib"}

Progress = Callable[[str, float | None], None]
"""Called with what is being done and the part of it that is done (0 to 1; None = not known)."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies beside the library: which source, which flags, and which CPU features it may use."""

    version: str
    sha256: str
    flags: tuple[str, ...]
    system: str
    machine: str
    cpu_features: tuple[str, ...]


class Tools(NamedTuple):
    """The commands that build; `generator` is cmake's name of the build tool."""

    cmake: tuple[str, ...]
    generator: str


def native_folder(cache_path: Path) -> Path:
    """Return the folder of the native library of this version, built or not."""
    return cache_path / "engine" / VERSION


def native_library(cache_path: Path) -> Path | None:
    """Return the native library in the cache, or None: not built, of another version or for another CPU."""
    folder = native_folder(cache_path)
    library = folder / library_name(sys.platform)
    try:
        record = msgspec.json.decode((folder / RECORD_NAME).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None
    return library if library.is_file() and runs_here(record) else None


def runs_here(record: Record) -> bool:
    """Whether a library of this record is of our version and made for a CPU like this one."""
    same = (record.version, record.sha256) == (VERSION, SOURCE_SHA256)
    home = (record.system, record.machine) == (sys.platform, platform.machine())
    return same and home and set(record.cpu_features) <= set(cpu_features())


def build_native(destination: Path, *, jobs: int, progress: Progress, source: Path | None = None) -> Path:
    """Build the library into the folder `destination`, replacing what is there, and return its path.

    `source` is the source distribution, if it is on this machine already; else pip fetches it. Blocks
    for minutes. Raises NotSupported when this machine lacks a tool or the build fails, ConfigError
    when `source` is not the pinned one. `destination` changes only when all went well.
    """
    tools = build_tools()
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=destination.parent) as scratch:
        work = Path(scratch)
        archive = source or download(work / "download", progress)
        check_source(archive)
        progress("unpacking the source", None)
        unpack(archive, work / "source")
        log = work / "build.log"
        run(configure_command(tools, work, sys.platform), log, progress, doing="configuring")
        run(compile_command(tools, work, jobs), log, progress, doing="compiling")
        install(work / "build" / "bin", destination, work / "install")
    return destination / library_name(sys.platform)


def build_tools() -> Tools:
    """Find cmake, a build tool and the compilers; raises NotSupported naming the first that is missing."""
    if sys.platform not in SUFFIX:
        raise NotSupported(f"the native engine can be built on Linux and macOS, not on {sys.platform}")
    for variable, command in (("CC", "cc"), ("CXX", "c++")):
        compiler = (os.environ.get(variable) or command).split()[0]
        if shutil.which(compiler) is None:
            raise NotSupported(
                f"no compiler: {compiler} is not on PATH; install one (g++ or clang) or name it in {variable}"
            )
    return Tools(cmake=cmake_command(), generator=generator())


def cmake_command() -> tuple[str, ...]:
    """Return cmake from PATH, else the one of the Python package `cmake`."""
    if found := shutil.which("cmake"):
        return (found,)
    if importlib.util.find_spec("cmake") is not None:
        return (sys.executable, "-m", "cmake")
    raise NotSupported("no cmake: install it, or the Python package `cmake` beside arriero")


def generator() -> str:
    """Return cmake's name of the build tool on PATH."""
    if shutil.which("ninja"):
        return "Ninja"
    if shutil.which("make"):
        return "Unix Makefiles"
    raise NotSupported("no build tool: install make or ninja")


def download(folder: Path, progress: Progress) -> Path:
    """Have pip fetch the source distribution from the index it is configured for."""
    if importlib.util.find_spec("pip") is None:
        raise NotSupported(f"pip is not installed: install it, or fetch {SOURCE_NAME} and name the file")
    folder.mkdir()
    pins = folder / "pins.txt"
    pins.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SOURCE_SHA256}\n")
    run(download_command(folder, pins), folder / "pip.log", progress, doing="fetching the source")
    return folder / SOURCE_NAME


def download_command(folder: Path, pins: Path) -> list[str]:
    """pip asks the source for its metadata, which runs it; `--require-hashes` comes before that."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    which = ["--no-deps", "--no-binary", PACKAGE, "--require-hashes", "--requirement", str(pins)]
    return [*pip, *which, "--dest", str(folder)]


def configure_command(tools: Tools, work: Path, system: str) -> list[str]:
    """Return cmake's first call: write the build files."""
    folders = ["-S", str(work / "source"), "-B", str(work / "build"), "-G", tools.generator]
    return [*tools.cmake, *folders, *FLAGS, f"-DCMAKE_INSTALL_RPATH={RUNPATH[system]}"]


def compile_command(tools: Tools, work: Path, jobs: int) -> list[str]:
    """Return cmake's second call: compile libllama and the libraries it needs."""
    return [*tools.cmake, "--build", str(work / "build"), "--target", "llama", "--parallel", str(jobs)]


def check_source(archive: Path) -> None:
    """Raise ConfigError unless the file is the pinned source distribution."""
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise ConfigError(f"cannot read the source {archive}: {exc.strerror}") from exc
    if found != SOURCE_SHA256:
        raise ConfigError(
            f"{archive} is not {SOURCE_NAME}: its SHA-256 is {found}, it must be {SOURCE_SHA256}"
        )


def unpack(archive: Path, target: Path) -> None:
    """Write the files of llama.cpp in the archive below `target`, and nothing else."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if (path := wanted(member)) is None:
                continue
            file = tar.extractfile(member)
            assert file is not None
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with file, place.open("xb") as out:
                shutil.copyfileobj(file, out)


def wanted(member: tarfile.TarInfo) -> PurePosixPath | None:
    """Return where below llama.cpp a member belongs, or None for what is not taken.

    Raises ConfigError for a name that leads out of the folder, and for links and devices in it.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"the source archive holds an unsafe name: {member.name!r}")
    if not path.is_relative_to(SOURCE_FOLDER) or member.isdir():
        return None
    if not member.isreg():
        raise ConfigError(f"the source archive holds something that is no plain file: {member.name!r}")
    return path.relative_to(SOURCE_FOLDER)


def run(command: Sequence[str], log: Path, progress: Progress, *, doing: str) -> None:
    """Run one build command, tell its progress, and raise NotSupported with its last lines if it fails."""
    progress(doing, None)
    lines: list[str] = []
    with (
        log.open("a") as file,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            lines = [*lines[-19:], line]
            if (part := fraction(line)) is not None:
                progress(doing, part)
    if process.returncode:
        raise NotSupported(f"{doing} failed (status {process.returncode}); its last lines:\n{''.join(lines)}")


def fraction(line: str) -> float | None:
    """Return the part done that a line of make (`[ 75%]`) or ninja (`[3/4]`) tells, or None."""
    if match := re.match(r"\[ *(\d+)%\]", line):
        return int(match[1]) / 100
    if (match := re.match(r"\[(\d+)/(\d+)\]", line)) and int(match[2]):
        return int(match[1]) / int(match[2])
    return None


def install(built: Path, destination: Path, staging: Path) -> None:
    """Put the libraries and the record into `destination`, in one step as seen by a reader."""
    staging.mkdir()
    suffix = SUFFIX[sys.platform]
    for library in built.iterdir():
        if library.name.startswith("lib") and suffix in library.name:
            shutil.copy2(library, staging / library.name, follow_symlinks=False)
    if not (staging / library_name(sys.platform)).is_file():
        raise NotSupported(f"the build made no {library_name(sys.platform)}")
    (staging / RECORD_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(this_record()), indent=2))
    if destination.exists():
        destination.rename(staging.with_name("replaced"))
    staging.rename(destination)


def this_record() -> Record:
    """Return the record of a library built here and now."""
    return Record(
        version=VERSION,
        sha256=SOURCE_SHA256,
        flags=FLAGS,
        system=sys.platform,
        machine=platform.machine(),
        cpu_features=cpu_features(),
    )


def library_name(system: str) -> str:
    """Return the file name of libllama on a system."""
    return f"libllama{SUFFIX.get(system, '.so')}"


def cpu_features() -> tuple[str, ...]:
    """Return the instruction sets of this CPU as Linux names them; empty where that is not told."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return tuple(sorted(set(line[1].split()))) if line else ()
