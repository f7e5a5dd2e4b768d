"""Remote models: what the file may say of them, and where their addresses lead."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.config.load import check, parse_config
from arriero.config.remote import RemoteModelConfig, TimeoutsConfig, UpstreamAddress
from arriero.config.show import json_schema, shown
from arriero.errors import ConfigError

REMOTE = '[models.m]\nupstream = { urls = ["http://vllm:8000"], model = "real" }\n'


def remote(text: str, **env: str) -> RemoteModelConfig:
    """Return the first model of the text."""
    return next(iter(parse_config(text, env).remote_models.values()))


def test_a_sidecar_needs_no_local_model(tmp_path: Path) -> None:
    """One table with an upstream is a whole configuration, without a warning when callers are settled."""
    (tmp_path / "c.toml").write_text("[auth]\npublic = true\n" + REMOTE)

    assert check(tmp_path / "c.toml", {}) == []
    assert parse_config(REMOTE, {}).local_models == {}


def test_what_is_not_said_is_safe() -> None:
    """No logprobs, no foreign header, no unbounded count; only the context is left to the upstream."""
    model = remote(REMOTE)

    assert (model.public_name, model.catch_all, model.allow_logprobs, model.over_limit) == (
        None,
        False,
        False,
        "crop",
    )
    assert (model.max_tokens, model.max_context, model.max_body_bytes, model.tokenizer_path) == (None,) * 4
    assert (model.max_n, model.max_best_of, model.max_prompts) == (4, 4, 32)
    assert (model.max_embedding_inputs, model.max_rerank_documents, model.max_concurrent) == (
        2048,
        1000,
        1024,
    )
    assert model.timeouts == TimeoutsConfig(connect_s=5, first_byte_s=600, idle_s=60, total_s=None)
    assert "/tokenize" not in model.routes
    assert (model.upstream.forward_headers, model.upstream.health_path) == ((), "/health")


def test_every_key_arrives(tmp_path: Path) -> None:
    """Each value of a full table is found under its name, with paths made absolute."""
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    text = """
        server.max_body_bytes = 5000
        [models.m]
        public_name = "org/public name"
        catch_all = true
        allow_logprobs = true
        routes = ["/v1/embeddings", "/tokenize"]
        max_context = 10
        max_tokens = 10
        over_limit = "reject"
        max_n = 1
        max_best_of = 2
        max_prompts = 3
        max_embedding_inputs = 4
        max_rerank_documents = 5
        max_body_bytes = 5000
        max_concurrent = 6
        tokenizer_path = "tokenizer"
        timeouts = { connect_s = 0.5, first_byte_s = 2, idle_s = 3, total_s = 4 }
        [models.m.upstream]
        urls = ["http://a:1", "https://b/llm/"]
        model = "real"
        api_key_env = "KEY"
        forward_headers = ["Traceparent"]
        health_path = ""
    """

    env = {"KEY": "secret"}

    config = parse_config(text, env, path=tmp_path / "c.toml")

    model = config.remote_models["m"]
    assert (model.public_name, model.catch_all, model.allow_logprobs) == ("org/public name", True, True)
    assert (model.max_context, model.max_tokens, model.over_limit) == (10, 10, "reject")
    assert (model.max_n, model.max_best_of, model.max_prompts) == (1, 2, 3)
    assert (model.max_embedding_inputs, model.max_rerank_documents, model.max_concurrent) == (4, 5, 6)
    assert (model.routes, model.max_body_bytes) == (("/v1/embeddings", "/tokenize"), 5000)
    assert model.tokenizer_path == tmp_path / "tokenizer"
    assert model.timeouts == TimeoutsConfig(connect_s=0.5, first_byte_s=2, idle_s=3, total_s=4)
    assert model.upstream.addresses == (
        UpstreamAddress("http", "a", 1, ""),
        UpstreamAddress("https", "b", 443, "/llm"),
    )
    assert model.upstream.api_key == "secret"
    assert parse_config(shown(config), env) == config


def test_a_local_model_takes_the_guard_keys_that_make_sense_for_it() -> None:
    """They have the same names; only the default for logprobs is another."""
    keys = 'public_name = "p"\nmax_tokens = 7\n'
    local = parse_config(f'[models.l]\nurl = "http://h/m.gguf"\n{keys}', {}).local_models["l"]
    there = remote(REMOTE + keys)

    assert (local.public_name, local.max_tokens) == (there.public_name, there.max_tokens) == ("p", 7)
    assert (local.allow_logprobs, there.allow_logprobs) == (True, False)


def test_a_task_and_a_memory_may_name_a_remote_model(tmp_path: Path) -> None:
    """The checks of both know it, and compare with its context where that is given."""
    text = "public = true\n" + REMOTE + 'max_context = 100\n[tasks.t]\nmodel = "m"\nmax_tokens = 100\n'
    text += '[memories.n]\nembedding_model = "m"\nstore = { hora = {} }\nchunk_max_tokens = 200\n'
    (tmp_path / "c.toml").write_text(text)

    warnings = check(tmp_path / "c.toml", {})

    assert [warning.partition("c.toml:")[2] for warning in warnings] == [
        "7: tasks.t.max_tokens: never reached: the model's max_context is 100 tokens, prompt included",
        "11: memories.n.chunk_max_tokens: longer than the embedding model's context of 100 tokens;"
        " chunks will be shorter",
    ]
    with pytest.raises(ConfigError, match='there is no model "mm"; did you mean "m"'):
        parse_config(text.replace('model = "m"\nmax', 'model = "mm"\nmax'), {})


def test_variables_reach_every_key_of_a_remote_model() -> None:
    """The table's kind decides which keys a variable may name."""
    env = {"ARRIERO_MODELS__M__MAX_N": "9", "ARRIERO_MODELS__M__UPSTREAM__URLS": '["http://other"]'}

    model = remote(REMOTE, **env)

    assert (model.max_n, model.upstream.urls) == (9, ("http://other",))
    with pytest.raises(ConfigError, match="ARRIERO_MODELS__M__CONTEXT_SIZE: nothing in the configuration"):
        remote(REMOTE, ARRIERO_MODELS__M__CONTEXT_SIZE="9")


def test_the_key_for_the_upstream_is_read_and_never_shown(tmp_path: Path) -> None:
    """From the file, from a variable, from the table: it is there for the guard, and masked for eyes."""
    (tmp_path / "key").write_text("from-file\n")
    for reference in (f'api_key_file = "{tmp_path}/key"', 'api_key_env = "K"', 'api_key = "from-table"'):
        config = parse_config(REMOTE.replace("model =", f"{reference}, model ="), {"K": "from-env"})

        key = config.remote_models["m"].upstream.api_key
        assert key == "from-" + ("file" if "file" in reference else "env" if "env" in reference else "table")
        assert key not in shown(config)
        assert ('api_key = "***"' in shown(config)) == (key == "from-table")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("http://vllm:8000", UpstreamAddress("http", "vllm", 8000, "")),
        ("http://vllm", UpstreamAddress("http", "vllm", 80, "")),
        ("HTTPS://API.Example.ORG/", UpstreamAddress("https", "api.example.org", 443, "")),
        ("https://h:65535/a/b-c_d.e/", UpstreamAddress("https", "h", 65535, "/a/b-c_d.e")),
        ("http://my_service-1:1", UpstreamAddress("http", "my_service-1", 1, "")),
        ("http://10.0.0.1:9", UpstreamAddress("http", "10.0.0.1", 9, "")),
        ("http://[2001:DB8:0::1]:9", UpstreamAddress("http", "2001:db8::1", 9, "")),
    ],
)
def test_usable_addresses(written: str, address: UpstreamAddress) -> None:
    """Scheme and host in lower case, the scheme's port unless one is given, no slash at the end."""
    assert UpstreamAddress.parse(written) == address


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "vllm:8000",
            'expected http:// or https:// and a host, as in http://127.0.0.1:8000, got "vllm:8000"',
        ),
        ("//vllm:8000", "expected http:// or https:// and a host"),
        ("ftp://vllm", "expected http:// or https:// and a host"),
        ("http:/vllm", "expected http:// or https:// and a host"),
        ("vllm?key=secret", 'got "vllm"'),
        ("http://", '"" is not the name of a host'),
        ("http://:8000", '"" is not the name of a host'),
        ("http://h:70000", 'a port is a number from 1 to 65535, got "70000"'),
        ("http://h:0", "a port is a number from 1 to 65535"),
        ("http://h:", 'a port is a number from 1 to 65535, got ""'),
        ("http://h:8000:8000", "a port is a number from 1 to 65535"),
        ("http://h:٨", "a port is a number from 1 to 65535"),
        ("http://user:secret@h", "an address holds no user and password"),
        ("http://user:se/cret@h", "an address holds no user and password"),
        ("http://@h", "an address holds no user and password"),
        ("http://h/?key=secret", "an address ends before ? and #"),
        ("http://h#secret", "an address ends before ? and #"),
        ("http://h:8000/v1", "leave out /v1 at the end"),
        ("http://h/llm/v1/", "leave out /v1 at the end"),
        ("http://h/../x", "is not a plain path"),
        ("http://h//x", "is not a plain path"),
        ("http://h/a b", "is not a plain path"),
        ("http://h/%2e%2e", "is not a plain path"),
        ("http://a b", '"a b" is not the name of a host'),
        ("http://h\n", "is not the name of a host"),
        ("http://h\\x", "is not the name of a host"),
        ("http://-h", "is not the name of a host"),
        ("http://bücher.example", "is not the name of a host"),
        ("http://" + "a." * 130 + "b", "is not the name of a host"),
        ("http://127.1", '"127.1" is not an IPv4 address in the form 127.0.0.1'),
        ("http://2130706433", "is not an IPv4 address"),
        ("http://0x7f000001", "is not an IPv4 address"),
        ("http://0177.0.0.1", "is not an IPv4 address"),
        ("http://256.0.0.1", "is not an IPv4 address"),
        ("http://[::1", "expected http:// or https:// and a host"),
        ("http://[12345::]", "is not an IPv6 address"),
    ],
)
def test_unusable_addresses(written: str, message: str) -> None:
    """Each is refused with what is expected, and nothing of a secret in it."""
    with pytest.raises(ValueError) as caught:
        UpstreamAddress.parse(written)

    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "cret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("bound", "url", "circle"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("127.0.0.1:8000", "http://localhost:8000", True),
        ("127.0.0.1:8000", "http://0.0.0.0:8000", True),
        ("127.0.0.1:8000", "http://[::ffff:127.0.0.1]:8000", True),
        ("127.0.0.1:80", "http://127.0.0.1", True),
        ("[::1]:8000", "http://[::1]:8000", True),
        ("[::1]:8000", "http://localhost:8000", True),
        ("0.0.0.0:8000", "http://127.0.0.2:8000", True),
        ("0.0.0.0:8000", "https://localhost:8000", True),
        ("[::]:8000", "http://127.0.0.1:8000", True),
        ("192.0.2.1:8000", "http://192.0.2.1:8000/llm", True),
        ("127.0.0.1:8000", "http://127.0.0.1:8001", False),
        ("127.0.0.1:8000", "http://127.0.0.2:8000", False),
        ("0.0.0.0:8000", "http://vllm:8000", False),
        ("0.0.0.0:8000", "http://192.0.2.1:8000", False),
        ("127.0.0.1:0", "http://127.0.0.1:8000", False),
    ],
)
def test_an_upstream_that_is_ourselves_is_refused(bound: str, url: str, circle: bool) -> None:
    """As far as the addresses show it without a name server; a port that is yet to come is no circle."""
    text = f'bind_address = "{bound}"\npublic = true\n' + REMOTE.replace("http://vllm:8000", url)
    if not circle:
        assert remote(text).upstream.urls == (url,)
        return
    with pytest.raises(ConfigError) as caught:
        parse_config(text, {}, path=Path("c.toml"))
    assert caught.value.message == (
        f"c.toml:4: models.m.upstream.urls[0]: this is where Arriero itself listens ({bound}):"
        " requests would go in a circle"
    )


def test_the_schema_describes_both_kinds_of_models() -> None:
    """An editor offers the keys of either, and knows which are required of a remote one."""
    schema = json_schema()

    assert schema["$defs"]["Config"]["properties"]["models"]["additionalProperties"] == {
        "anyOf": [{"$ref": "#/$defs/ModelConfig"}, {"$ref": "#/$defs/RemoteModelConfig"}]
    }
    tables = schema["$defs"]
    assert tables["RemoteModelConfig"]["required"] == ["upstream"]
    assert tables["UpstreamConfig"]["required"] == ["urls", "model"]
    assert tables["RemoteModelConfig"]["properties"]["over_limit"]["enum"] == ["crop", "reject"]
    assert tables["TimeoutsConfig"]["properties"]["connect_s"]["default"] == 5
