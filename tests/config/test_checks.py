"""References between the parts of a configuration, and the files that they name, are checked at the start."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import pytest

from arriero.config.load import check, load_config, parse_config
from arriero.config.problem import Problem
from arriero.config.schema import Config
from arriero.config.weights import weights_fault
from arriero.errors import ConfigError

MODEL = '[models.m]\nurl = "http://localhost/m.gguf"\n'
TASK = MODEL + '[tasks.t]\nmodel = "m"\n'
MEMORY = MODEL + '[memories.notes]\nembedding_model = "m"\nstore = { hora = {} }\n'
JUDGE = "\n[models.j]\nupstream = { urls = ['http://h'], model = 'x' }\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MODEL + "[tasks.t]\nmodel = 'mm'",
            'c.toml:4: tasks.t.model: there is no model "mm"; did you mean "m"?',
        ),
        ("[tasks.t]\nmodel = 'x'", 'c.toml:2: tasks.t.model: there is no model "x"; configured: none'),
        (
            MEMORY + "[tasks.t]\nmodel='m'\nmemorization = { memory = 'note' }",
            'c.toml:8: tasks.t.memorization.memory: there is no memory "note"; did you mean "notes"?',
        ),
        (
            MEMORY.replace('"m"', '"other"'),
            'c.toml:4: memories.notes.embedding_model: there is no model "other"; configured: m',
        ),
        (
            MEMORY.replace("hora = {}", ""),
            "c.toml:5: memories.notes.store: give exactly one of embedded, hora, qdrant",
        ),
        (
            MEMORY.replace("hora = {}", "hora={}, embedded={}"),
            "store: give exactly one of embedded, hora, qdrant",
        ),
        (
            MEMORY.replace("hora = {}", "qdrant={ collection='c', url='localhost:6333' }"),
            "c.toml:5: memories.notes.store.qdrant.url: expected an address",
        ),
        (
            MEMORY + "pre_filter = ['a',\n'(']",
            "c.toml:7: memories.notes.pre_filter[1]: not a regular expression",
        ),
        (
            MEMORY + "rerank = { model = 'j' }",
            'c.toml:6: memories.notes.rerank.model: there is no model "j"; configured: m',
        ),
        (
            MEMORY + "rerank = { model = 'm' }",
            'memories.notes.rerank.model: "m" runs here; name a remote model whose upstream answers /v1/rer',
        ),
        (
            MEMORY + "rerank = { model = 'j' }" + JUDGE + "routes = ['/tokenize']",
            "c.toml:6: memories.notes.rerank.model: models.j.routes leaves /v1/rerank out; add it there",
        ),
        (
            MEMORY + "rerank = { model = 'j' }" + JUDGE + "max_rerank_documents = 49",
            "memories.notes.rerank.candidates: models.j.max_rerank_documents allows 49 of one request",
        ),
        (
            "[vector_stores]\nrerank = { model = 'j' }",
            'c.toml:2: vector_stores.rerank.model: there is no model "j"; configured: none',
        ),
        (MEMORY + "rerank = { candidates = 5 }", "rerank"),
        (MEMORY + "rerank = { model = 'j', candidates = 1001 }", "rerank.candidates: expected"),
        (MEMORY + "rerank = { model = 'j', top_n = 3 }", "memories.notes.rerank.top_n: unknown key"),
        (
            TASK + "biaser = {}",
            "c.toml:5: tasks.t.biaser: give exactly one of json_schema, json_schema_file, choice, regex",
        ),
        (
            TASK + "biaser = { json_schema = {}, json_schema_file = 'x' }",
            "c.toml:5: tasks.t.biaser: give exactly one of json_schema, json_schema_file, choice, regex",
        ),
        (TASK + "biaser.regex = ''", "c.toml:5: tasks.t.biaser.regex: expected a string of length >= 1"),
        (TASK + "biaser.choice = 'a'", "c.toml:5: tasks.t.biaser.choice: expected"),
        (
            TASK + 'samplers = [\n"topk:k=1",\n"topq"]',
            'c.toml:7: tasks.t.samplers[1]: unknown sampler "topq"; did you mean "top',
        ),
        (
            TASK + "samplers = ['mirostat1 mirostat2']",
            "c.toml:5: tasks.t.samplers: mirostat1 and mirostat2 exclude",
        ),
        ("[models.m]", "c.toml:1: models.m: the model has no weights; give one of model_path, url, package"),
        (
            "[models.m]\npackage = 'p'\nurl = 'http://h/x'",
            "c.toml:2: models.m.package: a package says where the weights are; take out model_path and url",
        ),
        ("[models.m]\nurl = 'file:///x'", "c.toml:2: models.m.url: expected an address such as https://"),
        ("[models.m]\nurl = 'https:///x'", "c.toml:2: models.m.url: expected an address such as https://"),
        (
            "[models.m]\npath = '/no/such.gguf'",
            "c.toml:2: models.m.path: there is no file /no/such.gguf; put the weights there, or give a url",
        ),
        (
            MODEL + "lora_adapters = ['/no/lora']",
            "c.toml:3: models.m.lora_adapters[0]: /no/lora cannot be read",
        ),
        (MODEL + "library = '/no/lib.so'", "c.toml:3: models.m.library: there is no file /no/lib.so"),
        (
            MODEL + "architecture = 'lama'",
            'models.m.architecture: unknown architecture "lama"; did you mean "llama"?',
        ),
        (
            MODEL + "architecture = 'gptj'",
            "models.m.architecture: gptj: llama.cpp knows the name but cannot load",
        ),
        (
            MODEL + "kv_cache_tokens = 100",
            "c.toml:3: models.m.kv_cache_tokens: less than one context of 512 tokens (context_size)",
        ),
        ("bind_address = '127.0.0.1'", "c.toml:1: bind_address: expected IP:port"),
        (
            "bind_address = '127.0.0.1:65536'",
            "c.toml:1: bind_address: expected IP:port with a port up to 65535",
        ),
        (
            "bind_address = 'localhost:1'",
            'c.toml:1: bind_address: "localhost" is not an IP address; write 127.0.0.1',
        ),
        (
            "bind_address = '0.0.0.0:1'",
            "c.toml:1: bind_address: reachable from other machines but without keys; give allowed_keys, or",
        ),
        ("allowed_origins = ['*',\n'http://h/path']", "c.toml:2: allowed_origins[1]: expected an origin"),
        ("[models.'a/b']\npackage = 'p'", 'c.toml:1: models."a/b": a name has 1 to 128 characters'),
    ],
)
def test_what_does_not_fit_together_is_refused(text: str, message: str) -> None:
    """A reference to nothing, and values that cannot be together, are refused with file, line and key."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, {}, path=Path("c.toml"))

    assert message in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "bind_address = '0.0.0.0:3000'\npublic = true",
        "bind_address = '0.0.0.0:3000'\nallowed_keys = ['k']",
        "bind_address = '[::]:3000'\njwt_private_key = { symmetric = 's' }",
        "bind_address = '[::1]:0'",
        "bind_address = '127.8.8.8:65535'",
        "allowed_origins = ['*', 'null', 'https://example.org:8443', 'tauri://localhost']",
        "allowed_origins = []",
        MODEL + "architecture = 'gptneox'",
        MODEL + "kv_cache_tokens = 512",
        MEMORY + "[tasks.t]\nmodel='m'\nmemorization = { memory = 'notes' }",
        MEMORY.replace("hora = {}", "qdrant = { collection = 'c' }"),
        MEMORY + "rerank = { model = 'j' }" + JUDGE + "max_rerank_documents = 50",
    ],
)
def test_what_fits_is_accepted(text: str) -> None:
    """Public addresses with keys, odd but valid origins, and valid references are no faults."""
    assert parse_config(text, {}) is not None


def test_an_unknown_architecture_is_left_to_another_library(tmp_path: Path) -> None:
    """With a library of its own a model may have an architecture that the packaged one does not know."""
    (tmp_path / "libllama.so").touch()
    text = MODEL + f"architecture = 'brand-new'\nlibrary = '{tmp_path}/libllama.so'"

    assert parse_config(text, {}).models["m"].architecture == "brand-new"


def test_what_the_caller_hands_in_is_checked_last() -> None:
    """Its faults are told with line and key, once all else is well."""

    def doubt(config: Config) -> list[Problem]:
        return [Problem(("tasks", name, "model"), "is doubted") for name in config.tasks]

    with pytest.raises(ConfigError, match=r"arriero\.toml:4: tasks\.t\.model: is doubted"):
        parse_config(TASK, {}, doubt)
    with pytest.raises(ConfigError) as caught:
        parse_config(TASK + "biaser = {}", {}, doubt)
    assert "is doubted" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.bin", b"lmgg" + bytes(60), "is a GGML file"),
        ("m.bin", b"ggml" + bytes(60), "is a GGML file"),
        ("m.bin", b"fmgg" + bytes(60), "is a GGMF file"),
        ("m.bin", b"tjgg" + bytes(60), "convert_llama_ggml_to_gguf.py"),
        ("m.bin", b"algg" + bytes(60), "is a GGLA file"),
        ("m.safetensors", bytes(60), "is a safetensors file, not GGUF; take a GGUF of the same model"),
        ("model", b"\x10\0\0\0\0\0\0\0{}", "is a safetensors file"),
        ("model.bin", b"PK\x03\x04" + bytes(60), "is a PyTorch file"),
        ("model.pth", b"\x80\x02" + bytes(60), "convert_hf_to_gguf.py"),
        ("m.gguf", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("m.gguf", b"<!doctype html>", "fetch the weights again"),
        ("m.gguf", b"", "is empty"),
        ("m.gguf", b"GGU", "is not a GGUF file"),
        ("m.gguf", b"hello world, this is text", "is not a GGUF file"),
    ],
)
def test_files_that_are_no_gguf_say_what_to_do(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """Weights in another format are refused with the format's name and the way to GGUF, at the key's line."""
    (tmp_path / name).write_bytes(content)
    (tmp_path / "c.toml").write_text(f"[models.m]\nmodel_path = '{name}'\n")

    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.toml", {})

    assert caught.value.message.startswith(f"{tmp_path}/c.toml:2: models.m.model_path: {tmp_path / name} ")
    assert message in caught.value.message


def test_gguf_is_accepted_and_a_directory_is_not(tmp_path: Path) -> None:
    """The first bytes of a GGUF file are enough; a directory is told apart, and a pipe is not waited for."""
    (tmp_path / "m").write_bytes(b"GGUF\x03\0\0\0")

    assert weights_fault(tmp_path / "m") is None
    assert "is a directory; name the GGUF file in it" in str(weights_fault(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    assert weights_fault(tmp_path / "pipe") == f"{tmp_path / 'pipe'} is no regular file"


@pytest.mark.parametrize(
    ("key", "held", "said"),
    [
        ("gpt2", "llama", ":3: models.m.architecture: is 'gpt2', but {file} holds 'llama'; correct the key"),
        ("gpt2", "clip", ":2: models.m.path: {file} holds clip: this is an image encoder"),
        ("llama", "llama", None),
        ("gpt2", "", None),
        ("gpt2", None, None),
    ],
)
def test_the_architecture_is_that_of_the_file(
    tmp_path: Path, key: str, held: str | None, said: str | None
) -> None:
    """As far as the file names one first of all; else it is compared when the model is loaded."""
    file = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(file, held) if held else None
    if writer is None:
        file.write_bytes(b"GGUF\3\0\0\0" + bytes(300 if held is None else 0))
    else:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    text = f"[models.m]\npath = '{file}'\narchitecture = '{key}'\n"

    if said is None:
        assert parse_config(text, {}).models["m"].architecture == key
    else:
        with pytest.raises(ConfigError) as caught:
            parse_config(text, {})
        assert said.format(file=file) in caught.value.message


def test_a_bad_download_of_an_earlier_start_is_found(tmp_path: Path) -> None:
    """An error page that lies in the cache as weights is refused at the url's line."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.bin").write_bytes(b"<html>404</html>")
    text = f"cache_path = '{tmp_path}'\n" + MODEL

    with pytest.raises(ConfigError, match=r"arriero\.toml:3: models\.m\.url: .*error page"):
        parse_config(text, {})


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("public = true", "c.toml: no models are configured"),
        (
            TASK,
            "c.toml: neither keys nor public = true: only /health, /readyz, /livez and /status will be"
            " served",
        ),
        ("bind_address = '0.0.0.0:1'\npublic = true", "c.toml:2: public: anyone who reaches the server"),
        (TASK + "samplers = []\ntop_k = 3", "c.toml:6: tasks.t.top_k: no effect beside samplers"),
        (
            TASK + "max_tokens = 512",
            "c.toml:5: tasks.t.max_tokens: never reached: the model's context_size is 512",
        ),
        (
            TASK + "biaser.json_schema.type='null'\nstop_sequences=['a']",
            "c.toml:6: tasks.t.stop_sequences: no effect",
        ),
        (
            TASK + "bias_prompt = 'a'",
            "c.toml:5: tasks.t.bias_prompt: without a biaser the answer after it is free too",
        ),
        (TASK + "bias_prompt = 'a'", "c.toml:5: tasks.t.bias_prompt: the free answer before it may fill"),
        (TASK + "show_hidden = true", "c.toml:5: tasks.t.show_hidden: no effect without a bias_prompt"),
        (MODEL + "gpu_layers = 3", "c.toml:3: models.m.gpu_layers: no effect without use_gpu = true"),
        (MODEL + "batch_size = 8", "c.toml:3: models.m.batch_size: prompts are evaluated 8 tokens at a time"),
        (MODEL, "c.toml:2: models.m.url: the download is not checked; give its sha256"),
        (
            MEMORY + "chunk_max_tokens = 513",
            "c.toml:6: memories.notes.chunk_max_tokens: longer than the embedding",
        ),
    ],
)
def test_doubtful_values_are_warned_of(tmp_path: Path, text: str, warning: str) -> None:
    """What is allowed but probably not meant gives a warning with line and key, not an error."""
    (tmp_path / "c.toml").write_text(text)

    warnings = check(tmp_path / "c.toml", {})

    assert any(line.removeprefix(f"{tmp_path}/").startswith(warning) for line in warnings), warnings


def test_a_sound_configuration_has_no_warnings(tmp_path: Path) -> None:
    """Nothing is warned of where nothing is doubtful."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "c.toml").write_text(
        "public = true\n[models.m]\npath = 'm.gguf'\n[tasks.t]\nmodel = 'm'\ntop_k = 3\nmax_tokens = 511\n"
    )

    assert check(tmp_path / "c.toml", {}) == []
