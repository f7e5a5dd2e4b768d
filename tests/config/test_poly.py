"""A configuration file of Poly loads unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.config.load import check, load_config, parse_config
from arriero.config.schema import Config
from arriero.errors import ConfigError
from arriero.sampling import Mirostat1, Repetition, Temperature, TopK, TopP

POLY = r"""
# The address that the server listens on
bind_address = "0.0.0.0:8080"
allowed_origins = ["http://localhost:5173", "*"]
max_concurrent = 4
public = false
allowed_keys = ["foo", "bar"]
jwt_private_key = { symmetric = "our secret" }
cache_path = "./cache"

[models.gpt2dutch]
architecture = "gpt2"
model_path = "data/gpt2-small-dutch-f16.bin"
threads_per_session = 12
context_size = 1024
use_gpu = false
batch_size = 8

[models.llama2-7b-chat]
architecture = "llama"
url = "https://weights.example.org/llama-2-7b-chat.bin"
lora_adapters = ["data/adapter.bin"]
use_gpu = true
gpu_layers = 20

[models.mpt-chat]
architecture = "mpt"
url = "https://weights.example.org/mpt-7b-chat.bin"
model_path = "data/mpt.bin"

[memories.dutch_qdrant]
store = { qdrant = { url = "http://127.0.0.1:6333", collection = "nl" } }
dimensions = 768
embedding_model = "gpt2dutch"

[memories.dutch_hora]
store = { hora = { path = "data/dutch.index" } }
dimensions = 768
embedding_model = "gpt2dutch"
chunk_separators = ["\n", ".", " "]
chunk_max_tokens = 128
pre_filter = ["[\\r\\t]", "[\\ \\n._\\|-]{2,}"]
post_filter = ["\n"]

[memories.scratch]
store = { hora = {} }
dimensions = 4096
embedding_model = "llama2-7b-chat"

[tasks.dutch]
model = "gpt2dutch"
prefix = ""
temperature = 0.3
top_k = 30
top_p = 0.9
repeat_penalty = 1.1
repetition_penalty_last_n = 512
max_tokens = 100
memorization = { memory = "dutch_qdrant", retrieve = 2 }

[tasks.mpt]
model = "mpt-chat"
prelude = '''
<|im_start|>system
- You are a helpful assistant, ${user}.
<|im_end|>
'''
prefix = "<|im_start|>user\n"
postfix = "<|im_end|>\n<|im_start|>assistant\n"
private_tokens = ["<|im_start|>", "<|im_end|>"]
stop_sequences = ["<|im_end|>", "<|im_start|>"]

[tasks.true_or_false]
model = "llama2-7b-chat"
prefix = "[INST]"
postfix = "[/INST] "
bias_prompt = "\nIn summary, true or false: "
biaser = { json_schema = { type = "boolean" } }
temperature = 1
max_tokens = 256

[tasks.cars]
model = "llama2-7b-chat"
biaser = { json_schema_file = "data/cars.schema.json" }

[tasks.recipe]
model = "llama2-7b-chat"

[tasks.recipe.biaser.json_schema]
type = "object"
required = ["title", "steps"]

[tasks.recipe.biaser.json_schema.properties.title]
type = "string"
max_length = 40

[tasks.recipe.biaser.json_schema.properties.steps]
type = "array"
items = { type = "number", min = -1.5, max = 5, max_decimals = 2 }
min_items = 1
max_items = 3

[tasks.chat-mirostat]
model = "llama2-7b-chat"
prelude = "<<SYS>>You are a helpful assistant.<</SYS>>"
prefix = "[INST]"
postfix = "[/INST] "
samplers = ["mirostat1:n_vocab=32000"]
memorization = { memory = "scratch", store_prompts = true, retrieve = 1 }

[tasks.advanced]
model = "llama2-7b-chat"
samplers = ["repetition:last_n=64:penalty=1.2", "top-k:k=50 top_p:p=0.8", "/temperature:0.7"]
"""


@pytest.fixture
def poly_file(tmp_path: Path) -> Path:
    """A file of Poly's with everything that it refers to."""
    (tmp_path / "data").mkdir()
    for name in ("gpt2-small-dutch-f16.bin", "adapter.bin"):
        (tmp_path / "data" / name).write_bytes(b"GGUF\x03\0\0\0")
    (tmp_path / "data" / "cars.schema.json").write_text('{"type": "array", "items": {"type": "null"}}')
    file = tmp_path / "config.toml"
    file.write_text(POLY)
    return file


def test_flat_keys_reach_their_tables(poly_file: Path) -> None:
    """Poly's keys at the top of the file mean the same as ours in [server] and [auth]."""
    config = load_config(poly_file, {})

    server, auth = config.server, config.auth
    assert (server.host, server.port, server.max_concurrent) == ("0.0.0.0", 8080, 4)
    assert server.allowed_origins == ("http://localhost:5173", "*")
    assert (auth.public, auth.allowed_keys) == (False, ("foo", "bar"))
    assert auth.jwt_private_key is not None
    assert auth.jwt_private_key.symmetric == "our secret"


def test_models_are_read(poly_file: Path) -> None:
    """Paths belong to the file's directory, and downloads lie where Poly puts them."""
    config = load_config(poly_file, {})

    folder = poly_file.parent
    assert config.model_file("gpt2dutch") == folder / "data" / "gpt2-small-dutch-f16.bin"
    assert config.model_file("llama2-7b-chat") == folder / "cache" / "models" / "llama2-7b-chat.bin"
    assert config.model_file("mpt-chat") == folder / "data" / "mpt.bin"
    assert config.models["gpt2dutch"].threads_per_session == 12
    assert config.models["gpt2dutch"].batch_size == 8
    assert config.models["llama2-7b-chat"].gpu_layers == 20
    assert config.models["llama2-7b-chat"].lora_adapters == (folder / "data" / "adapter.bin",)


def test_tasks_are_read(poly_file: Path) -> None:
    """Texts stay as they are written, `${...}` included, and sampling gives the documented chains."""
    config = load_config(poly_file, {})

    dutch, mpt = config.tasks["dutch"], config.tasks["mpt"]
    assert dutch.chain == (Repetition(1.1, 512), TopK(30), TopP(0.9), Temperature(0.3))
    assert (dutch.prefix, dutch.max_tokens) == ("", 100)
    assert mpt.prelude == "<|im_start|>system\n- You are a helpful assistant, ${user}.\n<|im_end|>\n"
    assert mpt.private_tokens == ("<|im_start|>", "<|im_end|>")
    assert mpt.stop_sequences == ("<|im_end|>", "<|im_start|>")
    assert config.tasks["true_or_false"].temperature == 1.0
    assert config.tasks["chat-mirostat"].chain == (Repetition(), Temperature(), Mirostat1(n_vocab=32000))
    assert config.tasks["advanced"].chain == (Repetition(1.2), TopK(50), TopP(0.8), Temperature(0.7))


def test_constraints_are_read(poly_file: Path) -> None:
    """Poly's schema language is kept as it is, in the file and beside it."""
    config = load_config(poly_file, {})

    cars, recipe = config.tasks["cars"].biaser, config.tasks["recipe"].biaser
    assert cars is not None
    assert cars.json_schema_file == poly_file.parent / "data" / "cars.schema.json"
    assert recipe is not None
    assert recipe.json_schema is not None
    assert recipe.json_schema["properties"]["steps"] == {
        "type": "array",
        "items": {"type": "number", "min": -1.5, "max": 5, "max_decimals": 2},
        "min_items": 1,
        "max_items": 3,
    }


def test_memories_are_read(poly_file: Path) -> None:
    """Stores, chunking and memorization have Poly's keys; store_prompts may be left out."""
    config = load_config(poly_file, {})

    qdrant, hora = config.memories["dutch_qdrant"], config.memories["dutch_hora"]
    assert qdrant.store.qdrant is not None
    assert (qdrant.store.qdrant.url, qdrant.store.qdrant.collection) == ("http://127.0.0.1:6333", "nl")
    assert (qdrant.chunk_separators, qdrant.chunk_max_tokens, qdrant.post_filter) == ((" ",), None, ("\n",))
    assert qdrant.pre_filter == (r"[\r\t]", r"[ \n_|-]{2,}", r"(?: ?\.){2,} ?", r"^[\n ._|-]+")
    assert hora.store.hora is not None
    assert hora.store.hora.path == poly_file.parent / "data" / "dutch.index"
    assert (hora.dimensions, hora.chunk_separators, hora.chunk_max_tokens) == (768, ("\n", ".", " "), 128)
    assert config.memories["scratch"].store.hora is not None
    memorization = config.tasks["dutch"].memorization
    assert memorization is not None
    assert (memorization.memory, memorization.retrieve, memorization.store_prompts) == (
        "dutch_qdrant",
        2,
        False,
    )


def test_only_doubtful_values_are_warned_of(poly_file: Path) -> None:
    """The file gives warnings for what is weak or slow in it, and no others."""
    warnings = [line.split(": ")[1] for line in check(poly_file, {})]

    assert warnings == [
        "jwt_private_key",
        "models.gpt2dutch.batch_size",
        "models.llama2-7b-chat.url",
        "models.mpt-chat.url",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_concurrent = 1\n[server]\nmax_concurrent = 2",
            "c.toml:1: max_concurrent: also given as server.max_concurrent; keep one of the two",
        ),
        ("public = true\nauth.public = true", "c.toml:1: public: also given as auth.public; keep one"),
        (
            "[models.m]\nmodel_path = 'a'\npath = 'b'",
            "c.toml:3: models.m.path: also given as models.m.model_path; keep one of the two",
        ),
        ("[models.m]\nthreads = 1\nthreads_per_session = 1", "c.toml:2: models.m.threads: also given as"),
    ],
)
def test_a_key_in_both_places_is_refused(text: str, message: str) -> None:
    """A flat key, or a short word, beside its twin is an error even if both say the same."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, {}, path=Path("c.toml"))

    assert message in caught.value.message


def test_flat_keys_and_tables_may_be_mixed() -> None:
    """Different keys may stand in either place."""
    config = parse_config("public = true\n[auth]\nallowed_keys = ['k']\n[server]\nmax_body_bytes = 9\n", {})

    assert (config.auth.public, config.auth.allowed_keys, config.server.max_body_bytes) == (True, ("k",), 9)


def test_a_minimal_file_of_poly_is_enough() -> None:
    """Models, tasks and public are all that Poly needs."""
    text = 'public = true\n[models.m]\narchitecture = "llama"\nurl = "http://h/m"\n[tasks.t]\nmodel = "m"\n'

    assert isinstance(parse_config(text, {}), Config)
