"""The environment: references in values, overrides, secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.config.load import check, load_config, parse_config
from arriero.errors import ConfigError

TEXT = """\
bind_address = "127.0.0.1:1"
[models.smol-lm]
url = "http://${HOST}/m.gguf"
[models.smol-lm-2]
package = "p"
[tasks.Chat]
model = "smol-lm"
prelude = "${HOST} stays"
"""
HOST = {"HOST": "h.example"}


def fault(text: str, env: dict[str, str]) -> str:
    """Return the message with which text and environment are refused."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, env, path=Path("c.toml"))
    return caught.value.message


def test_references_in_values_are_replaced() -> None:
    """`${NAME}` in a value is the variable's value; texts for the model are left alone."""
    config = parse_config(TEXT, HOST)

    assert config.models["smol-lm"].url == "http://h.example/m.gguf"
    assert config.tasks["Chat"].prelude == "${HOST} stays"


def test_references_are_replaced_in_lists_and_can_be_escaped() -> None:
    """Lists are searched too, several references may stand in a value, and `$${` is a plain `${`."""
    config = parse_config("allowed_keys = ['${A}-${B}', '$${A}', '$A {A} ${a-b}']", {"A": "1", "B": "2"})

    assert config.auth.allowed_keys == ("1-2", "${A}", "$A {A} ${a-b}")


def test_what_a_variable_holds_is_not_searched_again() -> None:
    """The value of a variable is taken as it is."""
    assert parse_config("allowed_keys = ['${A}']", {"A": "${B}"}).auth.allowed_keys == ("${B}",)


def test_an_unset_reference_is_refused() -> None:
    """A variable that is not set is an error at the key's line."""
    message = fault("[server]\nallowed_origins = ['*',\n'${NOPE}']", {})

    assert message.startswith("c.toml:3: server.allowed_origins[1]: environment variable NOPE is not set")


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("ARRIERO_SERVER__BIND_ADDRESS", "127.0.0.1:9", "server.bind_address", "127.0.0.1:9"),
        ("ARRIERO_BIND_ADDRESS", "127.0.0.1:9", "server.bind_address", "127.0.0.1:9"),
        ("ARRIERO_SERVER__MAX_CONCURRENT", "3", "server.max_concurrent", 3),
        ("ARRIERO_MAX_CONCURRENT", "3", "server.max_concurrent", 3),
        ("ARRIERO_AUTH__PUBLIC", "true", "auth.public", True),
        ("ARRIERO_AUTH__ALLOWED_KEYS", '["a", "b"]', "auth.allowed_keys", ("a", "b")),
        ("ARRIERO_AUTH__JWT_PRIVATE_KEY__SYMMETRIC", "12345", "auth.jwt_private_key.symmetric", "12345"),
        ("ARRIERO_AUTH__JWT_PRIVATE_KEY", '{symmetric="s"}', "auth.jwt_private_key.symmetric", "s"),
        ("ARRIERO_TELEMETRY__LOG_LEVEL", "debug", "telemetry.log_level", "debug"),
        ("ARRIERO_CACHE_PATH", "/c", "cache_path", Path("/c")),
        ("ARRIERO_MODELS__SMOL_LM__CONTEXT_SIZE", "4096", "models.smol-lm.context_size", 4096),
        ("ARRIERO_MODELS__SMOL_LM_2__THREADS", "2", "models.smol-lm-2.threads_per_session", 2),
        ("ARRIERO_MODELS__SMOL_LM__PATH", "/w", "models.smol-lm.model_path", Path("/w")),
        ("ARRIERO_TASKS__CHAT__PRELUDE", "12", "tasks.Chat.prelude", "12"),
        ("ARRIERO_TASKS__CHAT__PRELUDE", "true", "tasks.Chat.prelude", "true"),
        ("ARRIERO_TASKS__CHAT__PRELUDE", "${HOST}", "tasks.Chat.prelude", "${HOST}"),
        ("ARRIERO_TASKS__CHAT__TEMPERATURE", "0", "tasks.Chat.temperature", 0.0),
        ("ARRIERO_TASKS__CHAT__STOP_SEQUENCES", '["\\n"]', "tasks.Chat.stop_sequences", ("\n",)),
        (
            "ARRIERO_TASKS__CHAT__BIASER__JSON_SCHEMA",
            '{type="null"}',
            "tasks.Chat.biaser.json_schema",
            {"type": "null"},
        ),
    ],
)
def test_variables_override_the_file(variable: str, value: str, path: str, expected: object) -> None:
    """ARRIERO_TABLE__KEY sets the key, as text where the key takes text, else as TOML."""
    found: object = parse_config(TEXT, HOST | {variable: value})
    for key in path.split("."):
        found = found[key] if isinstance(found, dict) else getattr(found, key)

    assert found == expected


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "ARRIERO_SERVER__BIND_ADRESS",
            "x",
            "variable ARRIERO_SERVER__BIND_ADRESS: nothing in the configuration is called bind_adress; did",
        ),
        ("ARRIERO_SERVR__PORT", "x", 'nothing in the configuration is called servr; did you mean "server"?'),
        ("ARRIERO_MODELS__OTHER__URL", "x", "nothing in the configuration is called other"),
        ("ARRIERO_SERVER__", "x", "environment variable ARRIERO_SERVER__"),
        ("ARRIERO___", "x", "environment variable ARRIERO___"),
        (
            "ARRIERO_SERVER__MAX_CONCURRENT",
            "many",
            "variable ARRIERO_SERVER__MAX_CONCURRENT: server.max_concurrent: expected a whole number, got",
        ),
        ("ARRIERO_SERVER__MAX_CONCURRENT", "1\nx = 2", "expected a whole number, got a string"),
        ("ARRIERO_SERVER__MAX_CONCURRENT", "0", "expected a whole number >= 1"),
        ("ARRIERO_AUTH__ALLOWED_KEYS", "a", "expected an array, got a string"),
        ("ARRIERO_SERVER__BIND_ADDRESS", "", "expected IP:port"),
        (
            "ARRIERO_TASKS__CHAT__MODEL",
            "gone",
            "environment variable ARRIERO_TASKS__CHAT__MODEL: tasks.Chat.model: there",
        ),
        ("ARRIERO_TASKS__CHAT__BIASER", "[" * 5000, "expected a table, got a string"),
        (
            "ARRIERO_TASKS__CHAT__BIASER__JSON_SCHEMA",
            "{a=" * 90 + "1" + "}" * 90,
            "nested more than 64 levels deep",
        ),
    ],
)
def test_bad_variables_are_named(variable: str, value: str, message: str) -> None:
    """A variable that leads nowhere or holds the wrong thing is an error that names the variable."""
    assert message in fault(TEXT, HOST | {variable: value})


def test_other_variables_are_left_alone() -> None:
    """A variable without `__` that is no flat key belongs to something else."""
    env = HOST | {"ARRIERO_KEYS": "a b", "ARRIERO_SERVER": "http://x", "ARRIERO_MODELS": "m", "ARRIERO_": ""}

    assert parse_config(TEXT, env) == parse_config(TEXT, HOST)


def test_keys_come_from_everywhere(tmp_path: Path) -> None:
    """Keys of the file, of a variable and of a key file are all accepted."""
    (tmp_path / "keys").write_text("three\n\nfour\n")
    (tmp_path / "c.toml").write_text(
        "[auth]\nallowed_keys = ['one']\nallowed_keys_env = 'KEYS'\nallowed_keys_file = 'keys'\n"
    )

    config = load_config(tmp_path / "c.toml", {"KEYS": " two  zwei\n"})

    assert config.auth.allowed_keys == ("one", "two", "zwei", "three", "four")


@pytest.mark.parametrize("reference", ["symmetric_env = 'SECRET'", "symmetric_file = 'secret'"])
def test_the_token_secret_comes_by_reference(tmp_path: Path, reference: str) -> None:
    """The secret of tokens may be in a variable or in a file; blanks around it do not count."""
    (tmp_path / "secret").write_text("s3cret phrase\n")
    (tmp_path / "c.toml").write_text(f"jwt_private_key = {{ {reference} }}")

    config = load_config(tmp_path / "c.toml", {"SECRET": "s3cret phrase"})

    assert config.auth.jwt_private_key is not None
    assert config.auth.jwt_private_key.symmetric == "s3cret phrase"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "auth.allowed_keys_env = 'NOPE'",
            "auth.allowed_keys_env: the secret cannot be read: environment variable NOPE",
        ),
        ("auth.allowed_keys_env = 'BLANK'", "environment variable BLANK is not set or empty"),
        (
            "auth.allowed_keys_file = '/no/such'",
            "auth.allowed_keys_file: the secret cannot be read: No such file",
        ),
        ("auth.allowed_keys_file = '/dev/null'", "/dev/null is empty"),
        ("auth.allowed_keys_file = '/dev/zero'", "/dev/zero is too large for a secret"),
        ("auth.allowed_keys_file = '/'", "Is a directory"),
        (
            "jwt_private_key = {}",
            "c.toml:1: jwt_private_key: give one of symmetric, symmetric_env, symmetric_file",
        ),
        (
            "jwt_private_key = { symmetric = 's', symmetric_env = 'A' }",
            "jwt_private_key: give one of symmetric",
        ),
        (
            "jwt_private_key = { symmetric = '' }",
            "jwt_private_key.symmetric: expected a string of length >= 1",
        ),
        (
            "jwt_private_key = { symmetric_env = 'NOPE' }",
            "jwt_private_key.symmetric_env: the secret cannot be read",
        ),
    ],
)
def test_secrets_that_cannot_be_had_are_refused(text: str, message: str) -> None:
    """A secret that is not where the file says is an error; an empty one too."""
    assert message in fault(text, {"BLANK": "  ", "A": "a"})


def test_a_secret_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are told as such, and not shown."""
    (tmp_path / "key").write_bytes(b"\xff\xfesecret")

    message = fault(f"auth.allowed_keys_file = '{tmp_path}/key'", {})

    assert "the secret cannot be read" in message
    assert "secret\\" not in message


def test_an_override_counts_as_written(tmp_path: Path) -> None:
    """A plain sampling key that a variable sets beside samplers is warned of, naming the variable."""
    (tmp_path / "c.toml").write_text("[models.m]\nurl='http://h/m'\n[tasks.t]\nmodel='m'\nsamplers=[]\n")

    warnings = check(tmp_path / "c.toml", {"ARRIERO_TASKS__T__TOP_K": "3"})

    expected = "environment variable ARRIERO_TASKS__T__TOP_K: tasks.t.top_k: no effect beside samplers"
    assert any(line.startswith(expected) for line in warnings)
