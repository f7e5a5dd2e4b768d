"""Reading a configuration: what is accepted, and how every fault is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arriero.config.load import load_config, parse_config
from arriero.config.schema import Config
from arriero.errors import ConfigError
from arriero.sampling import Repetition, Temperature, TopK, TopP

MODEL = '[models.m]\nurl = "http://localhost/m.gguf"\n'
TASK = MODEL + '[tasks.t]\nmodel = "m"\n'


def fault(text: str) -> str:
    """Return the message with which the text is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, {}, path=Path("c.toml"))
    return caught.value.message


def test_an_empty_file_gives_the_defaults() -> None:
    """Poly's defaults hold where nothing is said, except that only this machine is served."""
    config = parse_config("", {})

    assert config.server.bind_address == "127.0.0.1:3000"
    assert (config.server.host, config.server.port, config.server.max_concurrent) == ("127.0.0.1", 3000, 8)
    assert config.server.allowed_origins is None
    assert (config.auth.public, config.auth.allowed_keys, config.auth.jwt_private_key) == (False, (), None)
    assert (config.models, config.tasks, config.memories) == ({}, {}, {})
    assert config.cache_path.name == "arriero"


def test_a_model_and_a_task_get_the_defaults_of_poly() -> None:
    """Keys that are not given have Poly's values."""
    config = parse_config(TASK, {})

    model, task = config.models["m"], config.tasks["t"]
    assert (model.context_size, model.threads_per_session, model.use_gpu, model.gpu_layers) == (
        512,
        8,
        False,
        None,
    )
    assert task.chain == (Repetition(1.3, 64), TopK(40), TopP(0.95), Temperature(0.8))
    assert (task.max_tokens, task.samplers) == (None, None)
    assert (task.private_tokens, task.stop_sequences, task.prelude) == ((), (), None)


def test_short_words_of_a_model_are_accepted() -> None:
    """`path` and `threads` are the same keys as `model_path` and `threads_per_session`."""
    model = parse_config('[models.m]\nurl = "http://h/m"\npath = "/w/m.gguf"\nthreads = 3\n', {}).models["m"]

    assert (model.model_path, model.threads_per_session) == (Path("/w/m.gguf"), 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[server]\nbind_adress = 1",
            'c.toml:2: server.bind_adress: unknown key; did you mean "bind_address"?',
        ),
        ("\nbind_adress = 1", 'c.toml:2: bind_adress: unknown key; did you mean "bind_address"?'),
        ("[modles.m]", 'c.toml:1: modles: unknown key; did you mean "models"?'),
        (TASK + "max_token = 3", 'c.toml:5: tasks.t.max_token: unknown key; did you mean "max_tokens"?'),
        (
            TASK + "context_size = 3",
            "c.toml:5: tasks.t.context_size: unknown key; it belongs in [models.NAME]",
        ),
        (
            MODEL + "temperature = 3",
            "c.toml:3: models.m.temperature: unknown key; it belongs in [tasks.NAME]",
        ),
        ("[auth]\nzzz = 1", "c.toml:2: auth.zzz: unknown key; keys here are allowed_keys, allowed_keys_env"),
        (
            TASK + '\nmemorization = { memory = "x",\nretreive = 3 }'.replace(",\n", ", "),
            'c.toml:6: tasks.t.memorization.retreive: unknown key; did you mean "retrieve"?',
        ),
        ('[tasks."my task"]\nmodle = "m"', 'c.toml:2: tasks."my task".modle: unknown key'),
        ("tasks.t.modle = 1", "c.toml:1: tasks.t.modle: unknown key"),
        (
            MODEL + 'upstream = { urls = ["http://h"], model = "x" }',
            "c.toml:2: models.m.url: unknown key; it belongs in [models.NAME] without upstream",
        ),
        ("[auth.jwt_private_key]\nsymetric = 'x'", 'unknown key; did you mean "symmetric"?'),
    ],
)
def test_unknown_keys_name_place_and_nearest_key(text: str, message: str) -> None:
    """An unknown key is refused with file, line, whole key and the key that was probably meant."""
    assert message in fault(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[server]\nmax_concurrent = '8'",
            "c.toml:2: server.max_concurrent: expected a whole number, got a string",
        ),
        ("max_concurrent = true", "c.toml:1: max_concurrent: expected a whole number, got true or false"),
        ("max_concurrent = 0", "c.toml:1: max_concurrent: expected a whole number >= 1"),
        (f"max_concurrent = {10**30}", "c.toml:1: max_concurrent: expected a whole number <= 2147483647"),
        ("max_concurrent = 1.5", "c.toml:1: max_concurrent: expected a whole number, got a number"),
        ("bind_address = 3000", "c.toml:1: bind_address: expected a string, got a whole number"),
        ("public = 1", "c.toml:1: public: expected true or false, got a whole number"),
        ("server = 3", "c.toml:1: server: expected a table, got a number"),
        ("models = []", "c.toml:1: models: expected tables [models.NAME], got an array"),
        ("models.m = 'x'", "c.toml:1: models.m: expected a table, got a string"),
        ("[[tasks]]\nmodel = 'm'", "c.toml:1: tasks: expected tables [tasks.NAME], got an array"),
        ("allowed_keys = ['a',\n 3]", "c.toml:2: allowed_keys[1]: expected a string, got a whole number"),
        ("allowed_keys = ['']", "c.toml:1: allowed_keys[0]: expected a string of length >= 1"),
        ("allowed_keys = 'a'", "c.toml:1: allowed_keys: expected an array, got a string"),
        (TASK + "temperature = nan", "c.toml:5: tasks.t.temperature: expected a finite number, got nan"),
        (TASK + "temperature = -0.5", "c.toml:5: tasks.t.temperature: expected a number >= 0"),
        (TASK + "prelude = 2020-01-01", "c.toml:5: tasks.t.prelude: no key takes a date or time"),
        (
            TASK + "private_tokens = ['']",
            "c.toml:5: tasks.t.private_tokens[0]: expected a string of length >= 1",
        ),
        (
            TASK + "biaser.json_schema.a = [1,\n[inf]]",
            "c.toml:6: tasks.t.biaser.json_schema.a[1][0]: expected a finite",
        ),
        (
            MODEL + "pooling = 'max'",
            "c.toml:3: models.m.pooling: unknown value 'max'; values here are mean, cls, last, none",
        ),
        (MODEL + "sha256 = 'abc'", "c.toml:3: models.m.sha256: expected a string matching regex"),
        (MODEL + "model_path = 3", "c.toml:3: models.m.model_path: expected a string"),
        (MODEL + "model_path = ''", "c.toml:3: models.m.model_path: expected a path"),
        (MODEL + 'model_path = "a\\u0000b"', "c.toml:3: models.m.model_path: expected a path"),
        (MODEL + 'path = "~nobody-of-this-name/x"', "c.toml:3: models.m.path: not a usable path"),
        (MODEL + "[tasks.t]", "c.toml:3: tasks.t: the key model is missing"),
        ("[memories.n]\nstore.hora = {}", "c.toml:1: memories.n: the key embedding_model is missing"),
    ],
)
def test_wrong_values_name_place_and_expectation(text: str, message: str) -> None:
    """A value of the wrong type or out of range is refused with file, line, key and what is expected."""
    assert message in fault(text)


def test_all_faults_are_told_at_once() -> None:
    """Several faults give one message with a line for each, in the order of the file."""
    message = fault(TASK + "temprature = 1\ntop_k = 'x'\n[server]\nport = 3\n")

    assert message.splitlines() == [
        'c.toml:5: tasks.t.temprature: unknown key; did you mean "temperature"?',
        "c.toml:6: tasks.t.top_k: expected a whole number, got a string",
        "c.toml:8: server.port: unknown key; keys here are allowed_hosts, allowed_origins, bind_address, "
        "max_body_bytes, max_concurrent, reload, tls",
    ]


def test_endless_faults_are_cut() -> None:
    """A file with very many faults does not give an endless message."""
    lines = fault("[server]\n" + "\n".join(f"zz{index} = 1" for index in range(100))).splitlines()

    assert len(lines) == 21
    assert lines[-1] == "... and 80 more"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = \n", "c.toml:1: not valid TOML: Invalid value (column 5)"),
        ("a = 1\n\nb 2\n", "c.toml:3: not valid TOML: "),
        ("a = 1\na = 2", "c.toml:2: not valid TOML: Cannot overwrite a value"),
        ('a = 1\nb = """x\n', "c.toml:3: not valid TOML: Unterminated string"),
        ("[a]\n[a]\n", "c.toml:2: not valid TOML: Cannot declare ('a',) twice"),
    ],
)
def test_broken_toml_names_the_line(text: str, message: str) -> None:
    """A text that is no TOML is refused with file, line and column."""
    assert message in fault(text)


NASTY: dict[str, bytes] = {
    "binary": bytes(range(256)),
    "not_utf8": b"a = 1\nb = '\xff'\n",
    "utf16": "[server]\n".encode("utf-16"),
    "nul": b"a\0 = 1",
    "nul_value": b"bind_address = '\0'",
    "gguf": b"GGUF\x03\0\0\0",
    "deep_array": b"a = " + b"[" * 5000 + b"]" * 5000,
    "deep_array_below_recursion": b"a = " + b"[" * 200 + b"]" * 200,
    "deep_table": b"[" + b".".join([b"a"] * 3000) + b"]",
    "deep_inline": b"a = " + b"{a = " * 300 + b"1" + b"}" * 300,
    "deep_schema": b"tasks.t.biaser.json_schema = " + b"{a = " * 100 + b"1" + b"}" * 100,
    "huge_integer": b"max_concurrent = " + b"9" * 5000,
    "large_integer_for_float": b"[tasks.t]\nmodel='m'\ntop_p = 1" + b"0" * 400,
    "huge_float": b"[tasks.t]\nmodel='m'\ntop_p = 1e999",
    "bad_date": b"a = 2020-13-45",
    "long_key": b"k" * 100_000 + b" = 1",
    "control_in_key": b'"a\\u0007b\\n" = 1',
    "empty_key": b'"" = 1',
    "empty_name": b'[models.""]\nurl = "http://x/y"',
    "slash_name": b'[models."../../etc"]\nurl = "http://x/y"',
    "dot_name": b'[models.".."]\nurl = "http://x/y"',
    "newline_name": b'[models."a\\nb"]\nurl = "http://x/y"',
    "table_as_list": b"[[server]]\n",
    "models_list": b"[[models]]\n",
    "model_list": b"[[models.m]]\n",
    "store_list": b"[memories.m]\nembedding_model = 'x'\nstore = []",
    "dotted_into_scalar": b"server = 1\n[server.x]",
    "inline_reopened": b"server = {}\n[server.x]",
    "flat_and_scalar_table": b"bind_address = 'x'\nserver = 3",
    "models_scalar_with_alias": b"models = { m = 3, n = { path = 1, threads = [] } }",
    "unpaired_surrogate": b'a = "\\ud800"',
    "bad_url": b"[models.m]\nurl = 'http://[::1'",
    "bad_port": b"[models.m]\nurl = 'http://h:99999/x'",
    "long_path": b"[models.m]\nmodel_path = '" + b"x" * 300 + b"'",
    "longer_path": b"[models.m]\nmodel_path = '" + b"x/" * 3000 + b"'",
    "directory_as_model": b"[models.m]\nmodel_path = '.'",
    "bad_bind": b"bind_address = ':::::'",
    "unicode_port": "bind_address = '1.2.3.4:٣'".encode(),
    "host_bind": b"bind_address = 'localhost:80'",
    "dollar": b"cache_path = '${NOT_SET_ANYWHERE}'",
    "origin": b"allowed_origins = ['example.org']",
    "nan_in_list": b"[tasks.t]\nmodel = 'm'\nstop_sequences = [nan]",
    "schema_date": b"[tasks.t]\nmodel = 'm'\nbiaser.json_schema = { a = 07:32:00 }",
    "regex_bomb": b"[models.m]\nurl='http://h/x'\n[memories.n]\nstore.hora={}\nembedding_model='m'\n"
    b"pre_filter = ['a{99999999999999999999}']",
    "bad_regex": b"[models.m]\nurl='http://h/x'\n[memories.n]\nstore.hora={}\nembedding_model='m'\npre_filter=['[']",
    "doubtful_regex": b"[models.m]\nurl='http://h/x'\n[memories.n]\nstore.hora={}\nembedding_model='m'\n"
    b"pre_filter=['[[a]']",
    "no_store": b"[models.m]\nurl='http://h/x'\n[memories.n]\nstore={}\nembedding_model='m'",
}


@pytest.mark.parametrize("content", NASTY.values(), ids=NASTY.keys())
def test_nasty_files_end_in_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in the file, it is refused with one readable message that names the file."""
    file = tmp_path / "nasty.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        load_config(file, {})

    assert str(file) in caught.value.message
    assert len(caught.value.message) < 3000 + len(str(file)) * 3
    assert all(char.isprintable() or char == "\n" for char in caught.value.message)


def test_a_text_cut_anywhere_never_gives_another_error() -> None:
    """A valid configuration cut after any character loads or is refused, nothing else."""
    text = TASK + 'samplers = ["topk:k=1"]\nbiaser = { json_schema = { type = "boolean" } }\n[server]\n'
    outcomes: set[type] = set()
    for end in range(len(text) + 1):
        try:
            outcomes.add(type(parse_config(text[:end], {})))
        except ConfigError:
            outcomes.add(ConfigError)

    assert outcomes == {Config, ConfigError}


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """A missing file, a directory and an endless file are refused with their name and the reason."""
    with pytest.raises(ConfigError, match=r"missing\.toml: the configuration cannot be read: No such file"):
        load_config(tmp_path / "missing.toml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, {})
    with pytest.raises(ConfigError, match="this is no configuration"):
        load_config(Path("/dev/zero"), {})


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    """A file saved by an editor that puts a byte order mark first is read."""
    file = tmp_path / "c.toml"
    file.write_bytes(b"\xef\xbb\xbfmax_concurrent = 3\r\n")

    assert load_config(file, {}).server.max_concurrent == 3


def test_paths_belong_to_the_directory_of_the_file(tmp_path: Path) -> None:
    """A relative path means a file beside the configuration; one in the working directory is found too."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "beside.gguf").write_bytes(b"GGUF")
    (tmp_path / "here.gguf").write_bytes(b"GGUF")
    file = tmp_path / "conf" / "c.toml"
    file.write_text('[models.a]\npath = "beside.gguf"\n[models.b]\npath = "here.gguf"\n')
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        config = load_config(Path("conf/c.toml"), {})
    finally:
        os.chdir(before)

    assert config.model_file("a") == tmp_path / "conf" / "beside.gguf"
    assert config.model_file("b") == tmp_path / "here.gguf"


def test_the_place_of_weights_follows_from_the_source() -> None:
    """model_path is the place; a url alone means the cache; a package decides itself."""
    config = parse_config(
        'cache_path = "/c"\n[models.both]\npath = "/w/x.gguf"\nurl = "http://h/x"\n'
        '[models.url]\nurl = "http://h/x"\n[models.package]\npackage = "p"\n',
        {},
    )

    assert config.model_file("both") == Path("/w/x.gguf")
    assert config.model_file("url") == Path("/c/models/url.bin")
    assert config.model_file("package") is None


def test_a_refusal_holds_nothing_that_a_terminal_obeys() -> None:
    """Values of the file stand in it escaped."""
    with pytest.raises(ConfigError) as caught:
        parse_config('[models.m]\nurl = "http://h/x"\n[tasks.t]\nmodel = "a\\u001b[31m"\n', {})

    assert 'there is no model "a\\u001B[31m"' in caught.value.message
