"""A configuration is shown as TOML without secrets, and described as JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from arriero.config.load import load_config, parse_config
from arriero.config.show import json_schema, shown

TEXT = r"""
cache_path = "/c"
[models."a b"]
url = "http://user:password@h.example:8080/m.gguf?token=abc"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[models.plain]
package = "p"
[tasks.t]
model = "a b"
prelude = "quote \" backslash \\ tab\t del\u007f line\n ü \u2028"
samplers = ["topk:k=1"]
temperature = 1e-9
biaser = { json_schema = { type = "object", "odd key" = [1, 2.5, true, {}], symmetric = "kept" } }
memorization = { memory = "n" }
[memories.n]
embedding_model = "plain"
store = { hora = {} }
"""


def test_what_is_shown_is_the_same_configuration() -> None:
    """The shown text, loaded again, gives the configuration, texts with odd characters included."""
    config = parse_config(TEXT.replace("user:password@", "").replace("?token=abc", ""), {})

    assert parse_config(shown(config), {}) == config


def test_secrets_are_masked() -> None:
    """Keys, token secrets, and user, password and query of addresses never appear."""
    text = "[auth]\nallowed_keys = ['key-1', '${KEY}']\njwt_private_key = { symmetric_env = 'JWT' }\n" + TEXT
    text = text.replace('cache_path = "/c"\n', "")

    masked = shown(parse_config(text, {"KEY": "key-2", "JWT": "jwt-secret"}))

    for secret in ("key-1", "key-2", "jwt-secret", "password", "user", "abc"):
        assert secret not in masked
    assert 'allowed_keys = ["***", "***"]' in masked
    assert 'symmetric = "***"' not in masked
    assert 'symmetric_env = "JWT"' in masked
    assert '"http://***@h.example:8080/m.gguf?***"' in masked
    assert 'symmetric = "kept"' in masked


def test_absent_values_are_not_shown() -> None:
    """A key that has no value does not appear."""
    assert "bias_prompt" not in shown(parse_config(TEXT, {}))


def test_the_schema_knows_all_tables_flat_keys_and_short_words() -> None:
    """The JSON Schema is plain JSON, refuses unknown keys and describes each key."""
    schema = json_schema()

    assert json.loads(json.dumps(schema)) == schema
    tables = schema["$defs"]
    assert {"bind_address", "public", "jwt_private_key", "server", "models", "cache_path"} <= set(
        tables["Config"]["properties"]
    )
    assert {"path", "threads", "model_path"} <= set(tables["ModelConfig"]["properties"])
    assert tables["TaskConfig"]["properties"]["show_hidden"]["default"] is False
    for table in tables.values():
        assert table["additionalProperties"] is False
        for key, value in table["properties"].items():
            assert "description" in value, key


def test_a_loaded_configuration_can_be_compared_and_copied(tmp_path: Path) -> None:
    """A configuration is a frozen value: equal when loaded twice, changed only by replacing."""
    (tmp_path / "c.toml").write_text("max_concurrent = 3")
    first, second = load_config(tmp_path / "c.toml", {}), load_config(tmp_path / "c.toml", {})

    assert first == second
    changed = msgspec.structs.replace(first, server=msgspec.structs.replace(first.server, max_concurrent=4))
    assert (first.server.max_concurrent, changed.server.max_concurrent) == (3, 4)
