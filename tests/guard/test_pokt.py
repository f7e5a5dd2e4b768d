from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from arriero.errors import ConfigError, UnknownName
from arriero.guard import pokt
from arriero.guard.pokt import PoktDocuments, canonical_hash, hidden_config
from arriero.testing.tiny_gguf import write_tiny_gguf
from arriero.testing.tiny_vocab import CHAT_TEMPLATE

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "pokt"
LLAMA = VECTORS / "input" / "V2_llama_dir"
SAVED_OLD = VECTORS / "input" / "V3_tokenizer_dir_saved_by_4.47.0"
SAVED_NEW = VECTORS / "input" / "V3_tokenizer_dir_saved_by_4.57.1"
NAMES = ("config", "config-hash", "tokenizer", "tokenizer-hash")


@pytest.fixture(scope="session")
def hashes() -> dict[str, Any]:
    """The hashes that the Python sidecar makes."""
    file = VECTORS / "hashes.json"
    if not file.exists():
        pytest.skip("the vectors of /pokt/* do not lie beside the repository")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model directory with everything, among it what must not travel."""
    files: dict[str, Any] = {
        "config.json": {
            "model_type": "llama",
            "_name_or_path": "/home/op/real",
            "max_position_embeddings": 64,
        },
        "generation_config.json": {"temperature": 1},
        "model.safetensors.index.json": {"weight_map": {}},
        "special_tokens_map.json": {"eos_token": "</s>"},
        "tokenizer.json": {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"café": 0}}},
        "tokenizer_config.json": {"name_or_path": "/home/op/real", "eos_token": "</s>"},
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return tmp_path


def hash_of(documents: PoktDocuments, name: str) -> str:
    found: str = json.loads(documents.answer(f"{name}-hash"))["hash"]
    return found


def test_canonical_form(hashes: dict[str, Any]) -> None:
    """Hashes of odd numbers, orders and characters are those of the vectors."""
    for text, expected in hashes["canonicalisation_only"].items():
        assert canonical_hash(json.loads(text)) == expected, text


@pytest.mark.parametrize("version", ["4.47.0", "4.50.3", "4.57.1"])
def test_hidden_config(hashes: dict[str, Any], version: str) -> None:
    """The configuration that hides the model has the body and the hash of the Python sidecar."""
    document = hidden_config("pocket_network", 4096, transformers_version=version)

    assert document.body == (
        b'{"config":{"max_position_embeddings":4096,"model_name":"pocket_network",'
        b'"pokt_network_custom":true,"transformers_version":"%s"}}' % version.encode()
    )
    expected = hashes["V1_config_custom(model_name=pocket_network,max_position_embeddings=4096)"][version]
    assert document.hash_body == b'{"hash":"%s"}' % expected.encode()
    file = VECTORS / f"expected_transformers_{version}" / "V1_config_custom.json"
    assert json.loads(document.body) == json.loads(file.read_text())


def test_config_of_a_directory(hashes: dict[str, Any]) -> None:
    """A `config.json` is served as it is, with the hash of the vectors."""
    document = pokt.directory_config(LLAMA)

    assert json.loads(document.body) == {"config": json.loads((LLAMA / "config.json").read_text())}
    assert json.loads(document.hash_body)["hash"] == hashes["V2_config_llama"]["raw_file_served_as_is"]


@pytest.mark.parametrize("saved", [SAVED_OLD, SAVED_NEW], ids=["inline template", "template in a file"])
def test_tokenizer_of_a_directory(hashes: dict[str, Any], saved: Path) -> None:
    """A tokenizer has the hash of the vectors, wherever its files keep the chat template."""
    document = pokt.directory_tokenizer(saved)

    parts = json.loads(document.body)
    assert list(parts) == ["special_tokens_map", "tokenizer", "tokenizer_config"]
    assert parts["tokenizer_config"]["model_max_length"] == "1000000000000000019884624838656"
    assert "caf\u00e9".encode() in document.body
    tokenizer_hashes = hashes["V3_tokenizer(from dir saved by 4.47.0)"]
    expected = tokenizer_hashes["raw_files_served_as_is(model_max_length stringified)"]
    assert json.loads(document.hash_body)["hash"] == expected


def test_all_four(directory: Path) -> None:
    """One directory gives all four answers, and anyone can compute the hashes from the bodies."""
    documents = PoktDocuments.from_directory(directory)

    for name in ("config", "tokenizer"):
        served = json.loads(documents.answer(name))
        canonical = json.dumps(served, sort_keys=True).encode()
        assert hash_of(documents, name) == hashlib.sha256(canonical).hexdigest()
    assert set(json.loads(documents.answer("tokenizer"))) == {
        "special_tokens_map",
        "tokenizer",
        "tokenizer_config",
    }
    assert not any(b"/home/op" in documents.answer(name) for name in NAMES)


def test_hidden_beside_a_tokenizer(directory: Path) -> None:
    """A hidden configuration takes the place of the directory's, which may then be missing."""
    (directory / "config.json").unlink()

    documents = PoktDocuments.from_directory(directory, config=hidden_config("public", 64))

    assert json.loads(documents.answer("config"))["config"]["model_name"] == "public"
    assert json.loads(documents.answer("tokenizer"))["tokenizer_config"] == {"eos_token": "</s>"}


def test_paths_within(directory: Path) -> None:
    """Where a model was loaded from is hidden at every depth of its configuration."""
    config = {"text_config": {"_name_or_path": "/home/op/text"}, "_name_or_path": "x"}
    (directory / "config.json").write_text(json.dumps(config))

    served = json.loads(PoktDocuments.from_directory(directory).answer("config"))

    hidden = {"text_config": {"_name_or_path": "Unknown"}, "_name_or_path": "Unknown"}
    assert served == {"config": hidden}


@pytest.mark.parametrize(
    ("length", "served"),
    [("512", "512"), ("1e+30", "1000000000000000019884624838656"), ('"7"', "7"), ("4096.0", "4096")],
)
def test_model_max_length(directory: Path, length: str, served: str) -> None:
    """Whatever form a file gives the longest length, it is served as a decimal string."""
    (directory / "tokenizer_config.json").write_text(f'{{"model_max_length": {length}}}')

    parts = json.loads(PoktDocuments.from_directory(directory).answer("tokenizer"))

    assert parts["tokenizer_config"]["model_max_length"] == served


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", None, "is missing"),
        ("tokenizer.json", None, "is missing"),
        ("tokenizer_config.json", None, "is missing"),
        ("tokenizer.json", b"{", "not the JSON"),
        ("tokenizer.json", b"[1]", "must hold a JSON object"),
        ("config.json", b'{"rope_theta": NaN}', "NaN"),
        ("config.json", b'{"rope_theta": -Infinity}', "Infinity"),
        ("config.json", b'{"rope_theta": 1e999}', "Out of range"),
        ("tokenizer.json", b'{"model": "\\ud800"}', "surrogates"),
        ("tokenizer.json", b'{"a":' * 100_000, "not the JSON"),
        ("special_tokens_map.json", b"\xff\xfe", "not UTF-8"),
        ("chat_template.jinja", b"\x80", "not UTF-8"),
        ("tokenizer_config.json", b'{"model_max_length": 1.5}', "model_max_length"),
        ("tokenizer_config.json", b'{"model_max_length": true}', "model_max_length"),
    ],
)
def test_broken_directory(directory: Path, name: str, content: bytes | None, said: str) -> None:
    """What cannot be served is refused at the start, by the name of its file."""
    (directory / name).unlink(missing_ok=True)
    if content is not None:
        (directory / name).write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        PoktDocuments.from_directory(directory)

    assert str(directory / name) in caught.value.message
    assert said in caught.value.message


def test_large_file(directory: Path) -> None:
    """A file over the bound is not read."""
    with (directory / "tokenizer.json").open("wb") as file:
        file.truncate(pokt.MAX_FILE_BYTES + 1)

    with pytest.raises(ConfigError, match=r"tokenizer\.json is larger than 64 MiB"):
        PoktDocuments.from_directory(directory)


def test_unknown_name(directory: Path) -> None:
    """Nothing else is answered."""
    documents = PoktDocuments.from_directory(directory)

    for name in ("", "hash", "-hash", "config-hash-hash", "tokenizer/", "merges"):
        with pytest.raises(UnknownName):
            documents.answer(name)


def test_gguf(tmp_path: Path) -> None:
    """A local model's file gives all four answers, with the context that is served."""
    documents = PoktDocuments.from_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2"), max_context=100)

    assert json.loads(documents.answer("config")) == {
        "config": {
            "bos_token_id": 301,
            "eos_token_id": 301,
            "hidden_size": 64,
            "intermediate_size": 128,
            "max_position_embeddings": 100,
            "model_type": "qwen2",
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-05,
            "vocab_size": 304,
        }
    }
    parts = json.loads(documents.answer("tokenizer"))
    assert parts["tokenizer_config"]["model_max_length"] == "100"
    assert parts["tokenizer_config"]["chat_template"] == CHAT_TEMPLATE
    for name in ("config", "tokenizer"):
        assert hash_of(documents, name) == canonical_hash(json.loads(documents.answer(name)))


def test_gguf_with_unknown_words(tmp_path: Path) -> None:
    """A tokenizer that is not known here is missing with a reason; the configuration is served."""
    documents = PoktDocuments.from_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", "bloom"))

    assert json.loads(documents.answer("config"))["config"]["model_type"] == "bloom"
    with pytest.raises(UnknownName, match="'bloom' of cutting text"):
        documents.answer("tokenizer")


def test_upstream_that_tells_its_context() -> None:
    """Of a plain vLLM the configuration can be had, and nothing in it is the upstream's name."""
    listing = {"data": [{"id": "other", "max_model_len": 1}, {"id": "org/real", "max_model_len": 4096}]}

    documents = PoktDocuments.from_upstream(
        {"/v1/models": json.dumps(listing).encode()},
        upstream_model="org/real",
        public_name="pocket_network",
        max_context=None,
    )

    assert documents.config == hidden_config("pocket_network", 4096)
    with pytest.raises(UnknownName, match="tokenizer_path is not set, nor does the upstream publish it"):
        documents.answer("tokenizer")


def test_upstream_that_is_a_sidecar(directory: Path) -> None:
    """A sidecar's tokenizer is passed on with the same hash; the context that is configured counts."""
    first = PoktDocuments.from_directory(directory)
    listing = b'{"data":[{"id":"real","max_model_len":4096}]}'

    documents = PoktDocuments.from_upstream(
        {"/v1/models": listing, "/pokt/tokenizer": first.answer("tokenizer")},
        upstream_model="real",
        public_name="public",
        max_context=64,
    )

    assert documents.tokenizer == first.tokenizer
    assert documents.config == hidden_config("public", 64)


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"/v1/models": b"<html>", "/pokt/tokenizer": b"\xff"},
        {"/v1/models": b"[]", "/pokt/tokenizer": b"[]"},
        {"/v1/models": b'{"data":{}}', "/pokt/tokenizer": b'{"tokenizer":{}}'},
        {"/v1/models": b'{"data":[1,{"id":"real","max_model_len":"9"}]}'},
        {"/v1/models": b'{"data":[{"id":"real","max_model_len":true}]}'},
        {"/pokt/tokenizer": b'{"tokenizer":{},"tokenizer_config":{"model_max_length":"x"}}'},
        {"/pokt/tokenizer": b'{"tokenizer":{"a":"\\ud800"},"tokenizer_config":{}}'},
        {"/pokt/tokenizer": b"[" * 100_000},
    ],
)
def test_upstream_that_tells_nothing(answers: dict[str, bytes]) -> None:
    """Whatever else an upstream answers, nothing is made up of it."""
    documents = PoktDocuments.from_upstream(
        answers, upstream_model="real", public_name="public", max_context=None
    )

    assert (documents.config, documents.tokenizer) == (None, None)
