from __future__ import annotations

import struct
from pathlib import Path

import gguf
import pytest

from arriero.errors import ConfigError
from arriero.guard.gguf import MAX_ELEMENTS, MAX_KEYS, read_metadata
from arriero.guard.gguf_config import config_document
from arriero.testing.tiny_gguf import write_tiny_gguf

STRING, ARRAY, UINT32 = 8, 9, 4


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(*, keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, keys)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama with a SentencePiece vocabulary."""
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_same_as_the_package(tiny: Path) -> None:
    """Every key has the value that the `gguf` package reads."""
    fields = gguf.GGUFReader(tiny).fields

    expected = {name: field.contents() for name, field in fields.items() if not name.startswith("GGUF.")}
    assert read_metadata(tiny) == expected


def test_every_scalar(tmp_path: Path) -> None:
    """All types of numbers are read."""
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "x")
    for kind, value in (
        ("uint8", 255),
        ("int8", -1),
        ("uint16", 65535),
        ("int16", -2),
        ("uint32", 2**32 - 1),
    ):
        getattr(writer, f"add_{kind}")(kind, value)
    for kind, number in (("int32", -3), ("uint64", 2**63), ("int64", -4), ("float32", 0.5), ("float64", 0.1)):
        getattr(writer, f"add_{kind}")(kind, number)
    writer.add_bool("bool", True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    found = read_metadata(tmp_path / "a.gguf")

    assert [found[name] for name in ("uint8", "int8", "uint16", "int16", "uint32")] == [
        255,
        -1,
        65535,
        -2,
        2**32 - 1,
    ]
    assert [found[name] for name in ("int32", "uint64", "int64", "float32", "float64", "bool")] == [
        -3,
        2**63,
        -4,
        0.5,
        0.1,
        True,
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"<html>", "is a text"),
        (header(keys=1), "ends too early"),
        (header(keys=0, version=1), "version 1"),
        (header(keys=0, version=3 << 24), "little-endian"),
        (header(keys=MAX_KEYS + 1), "keys"),
        (header(keys=1) + struct.pack("<Q", 2**63), "ends too early"),
        (header(keys=1) + text("a") + struct.pack("<IQ", STRING, 2**40), "ends too early"),
        (header(keys=1) + text("a") + struct.pack("<I", 99), "unknown type 99"),
        (header(keys=1) + text("a") + struct.pack("<IIQ", ARRAY, UINT32, MAX_ELEMENTS + 1), "elements"),
        (header(keys=1) + text("a") + struct.pack("<IIQ", ARRAY, UINT32, MAX_ELEMENTS), "ends too early"),
        (header(keys=1) + text("a") + struct.pack("<IIQ", ARRAY, ARRAY, 1), "array of arrays"),
    ],
)
def test_damaged(tmp_path: Path, data: bytes, said: str) -> None:
    """A length that cannot be is refused before anything of that length is read."""
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)

    with pytest.raises(ConfigError, match=said) as caught:
        read_metadata(path)

    assert str(path) in caught.value.message


def test_cut_anywhere(tiny: Path, tmp_path: Path) -> None:
    """A file that ends within its metadata is damaged, wherever it ends."""
    whole = tiny.read_bytes()
    reader = gguf.GGUFReader(tiny)
    last = list(reader.fields.values())[-1]
    end = last.offset + sum(part.nbytes for part in last.parts)
    path = tmp_path / "cut.gguf"
    for size in [*range(4, 64), *range(64, end, 997), end - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ConfigError):
            read_metadata(path)
    path.write_bytes(whole[:end])
    assert read_metadata(path) == read_metadata(tiny)


def test_config_of_a_real_model(smollm2: Path) -> None:
    """The shape of the starter model is what its authors published."""
    assert config_document(read_metadata(smollm2)) == {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "max_position_embeddings": 8192,
        "model_type": "llama",
        "num_attention_heads": 9,
        "num_hidden_layers": 30,
        "num_key_value_heads": 3,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-05,
        "rope_theta": 100000.0,
        "vocab_size": 49152,
    }


@pytest.mark.parametrize("missing", ["general.architecture", "llama.context_length"])
def test_config_of_too_little(missing: str) -> None:
    """A file that does not say what a configuration must say is refused by the missing key."""
    metadata = {"general.architecture": "llama", "llama.context_length": 8}
    del metadata[missing]

    with pytest.raises(ConfigError, match=missing):
        config_document(metadata)  # type: ignore[arg-type]
