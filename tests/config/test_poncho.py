"""A configuration file of Poncho loads unchanged, and a wrong one is told in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.config.load import check, load_config, parse_config
from arriero.config.remote import RemoteModelConfig, TimeoutsConfig
from arriero.config.schema import Config
from arriero.errors import ConfigError

SAMPLE = """\
# Poncho's sample, with every key it requires
log_level: "debug"

server:
  host: "0.0.0.0"\x20
  port: 8080

vllm_backend:
  # Where the vLLM is deployed
  host: "http://127.0.0.1"
  port: 8000
  model_name_override: "meta-llama/Llama-3.1-8B-Instruct"
  allow_logprobs: false
  crop_max_tokens: true

routing:
  timeout_seconds: 600
  max_payload_size_mb: 10

model_config_data:
  model_public_name : "pocket_network"
  max_position_embeddings : 4096
  max_tokens : 4095
"""

SUPPLIER = """\
log_level: "info"
# where the relay miner talks to
server:
    host: "0.0.0.0"
    port: 8000
vllm_backend:
    host: "http://vllm-relayminer"
    port: 8000
    model_name_override: "meta-llama/Llama-3.2-1B-Instruct"
    allow_logprobs: false
    crop_max_tokens: true
routing:
    timeout_seconds: 600
    max_payload_size_mb: 10
model_config_data:
    model_public_name : "pocket_network"
    max_position_embeddings : 2048
    max_tokens: 2047
"""


def loaded(text: str, **env: str) -> Config:
    return parse_config(text, env, path=Path("config.yaml"))


def model(text: str, **env: str) -> RemoteModelConfig:
    return loaded(text, **env).remote_models["vllm"]


def fault(text: str, **env: str) -> str:
    """Return the message with which the text is refused."""
    with pytest.raises(ConfigError) as caught:
        loaded(text, **env)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "bind", "url", "real", "context", "level"),
    [
        (SAMPLE, "0.0.0.0:8080", "http://127.0.0.1:8000", "meta-llama/Llama-3.1-8B-Instruct", 4096, "debug"),
        (
            SUPPLIER,
            "0.0.0.0:8000",
            "http://vllm-relayminer:8000",
            "meta-llama/Llama-3.2-1B-Instruct",
            2048,
            "info",
        ),
    ],
    ids=["sample", "supplier"],
)
def test_the_known_files_load_unchanged(
    text: str, bind: str, url: str, real: str, context: int, level: str, tmp_path: Path
) -> None:
    """Every key has its meaning; the only warning is that nobody needs a key, as with Poncho."""
    (tmp_path / "config.yaml").write_text(text)

    config = load_config(tmp_path / "config.yaml", {})

    assert (config.server.bind_address, config.telemetry.log_level) == (bind, level)
    assert (config.server.max_body_bytes, config.auth.public) == (10 * 1024 * 1024, True)
    assert (config.local_models, config.tasks) == ({}, {})
    (found,) = config.remote_models.values()
    assert (found.upstream.urls, found.upstream.model, found.upstream.api_key) == ((url,), real, None)
    assert (found.public_name, found.max_context, found.max_tokens) == (
        "pocket_network",
        context,
        context - 1,
    )
    assert (found.allow_logprobs, found.over_limit, found.catch_all) == (False, "crop", True)
    assert found.timeouts == TimeoutsConfig(connect_s=5, first_byte_s=600, idle_s=600, total_s=None)
    assert found.upstream.forward_headers == ("authorization",)
    assert [warning.partition("config.yaml: ")[2] for warning in check(tmp_path / "config.yaml", {})] == [
        "auth.public: anyone who reaches the server may use it without a key"
    ]


def test_the_other_values_of_the_switches() -> None:
    """Without cropping too much is refused; logprobs may be allowed; short patience bounds connecting too."""
    text = SAMPLE.replace("crop_max_tokens: true", "crop_max_tokens: false").replace(
        "logprobs: false", "logprobs: true"
    )

    found = model(text.replace("600", "3"))

    assert (found.over_limit, found.allow_logprobs) == ("reject", True)
    assert found.timeouts == TimeoutsConfig(connect_s=3, first_byte_s=3, idle_s=3)


def test_batches_are_bounded_only_when_the_file_says_so() -> None:
    """The two keys of newer releases: absent, or without a value, means no bound, as there."""
    limits = "crop_max_tokens: true\n  max_batched_texts_embedding: 7\n  max_rerank_documents: 8"
    unset = "crop_max_tokens: true\n  max_batched_texts_embedding: ~\n  max_rerank_documents:"

    assert (model(SAMPLE).max_embedding_inputs, model(SAMPLE).max_rerank_documents) == (2**31 - 1,) * 2
    found = model(SAMPLE.replace("crop_max_tokens: true", limits))
    assert (found.max_embedding_inputs, found.max_rerank_documents) == (7, 8)
    assert model(SAMPLE.replace("crop_max_tokens: true", unset)) == model(SAMPLE)


@pytest.mark.parametrize(
    ("written", "level"),
    [
        ("info", "info"),
        ("WARN", "warning"),
        ("trace", "debug"),
        ("off", "error"),
        ("error", "error"),
        ("poncho=debug,hyper=warn", "debug"),
        ("info, poncho=warn", "warning"),
        ("hyper=debug,info", "info"),
        ("hyper=debug", "error"),
        ("info/some text", "info"),
    ],
)
def test_directives_of_its_logger_give_a_level(written: str, level: str) -> None:
    """Poncho's own directive counts, else the general one, else only errors are written."""
    assert loaded(SAMPLE.replace('"debug"', f'"{written}"')).telemetry.log_level == level


@pytest.mark.parametrize(
    ("host", "bind"),
    [("127.0.0.1", "127.0.0.1:8080"), ("localhost", "127.0.0.1:8080"), ("[::1]", "[::1]:8080")],
)
def test_where_it_listens(host: str, bind: str) -> None:
    """Addresses as Poncho takes them, and the one name that means this machine."""
    assert loaded(SAMPLE.replace("0.0.0.0", host)).server.bind_address == bind


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("port: 8080", "port: 70000", "config.yaml:6: server.port: expected a whole number <= 65535"),
        ("port: 8000", "port: 70000", "config.yaml:11: vllm_backend.port: expected a whole number <= 65535"),
        ("port: 8000", "port: 0", "config.yaml:11: vllm_backend.port: expected a whole number >= 1"),
        ("port: 8080", 'port: "8080"', "config.yaml:6: server.port: expected a whole number, got a string"),
        ("port: 8080", "prot: 8080", 'config.yaml:6: server.prot: unknown key; did you mean "port"?'),
        ("port: 8080", "port:", "config.yaml:6: server.port: expected a whole number, got nothing"),
        ("  max_tokens : 4095", "", "config.yaml:20: model_config_data: the key max_tokens is missing"),
        ("  crop_max_tokens: true", "", "config.yaml:8: vllm_backend: the key crop_max_tokens is missing"),
        (
            "max_tokens : 4095",
            "max_tokens : 4097",
            "config.yaml:23: model_config_data.max_tokens: 4097 tokens do not",
        ),
        (
            "max_tokens : 4095",
            "max_tokens : 0",
            "config.yaml:23: model_config_data.max_tokens: expected a whole num",
        ),
        (
            "http://127.0.0.1",
            "127.0.0.1",
            "config.yaml:10: vllm_backend.host: expected http:// or https:// and a h",
        ),
        ("http://127.0.0.1", "http://h/", 'config.yaml:10: vllm_backend.host: "/:8000" is not a plain path'),
        (
            "http://127.0.0.1",
            "http://h:1",
            "config.yaml:10: vllm_backend.host: a port is a number from 1 to 65535",
        ),
        (
            "http://127.0.0.1",
            "http://u:p@h",
            "config.yaml:10: vllm_backend.host: an address holds no user and pass",
        ),
        (
            "port: 8000",
            "port: 8080",
            "config.yaml:10: vllm_backend.host: this is where Arriero itself listens",
        ),
        ("0.0.0.0", "everywhere", 'config.yaml:5: server.host: "everywhere" is not an IP address'),
        (
            '"meta-llama/Llama-3.1-8B-Instruct"',
            '""',
            "config.yaml:12: vllm_backend.model_name_override: expected a",
        ),
        (
            '"meta-llama/Llama-3.1-8B-Instruct"',
            "31",
            "vllm_backend.model_name_override: expected a string, got a wh",
        ),
        (
            '"pocket_network"',
            '"a\\nb"',
            "config.yaml:21: model_config_data.model_public_name: a public name has 1 to",
        ),
        (
            "allow_logprobs: false",
            "allow_logprobs: no",
            "config.yaml:13: vllm_backend.allow_logprobs: expected true or",
        ),
        (
            "seconds: 600",
            "seconds: 0",
            "config.yaml:17: routing.timeout_seconds: expected a whole number >= 1",
        ),
        (
            "size_mb: 10",
            "size_mb: 4096",
            "config.yaml:18: routing.max_payload_size_mb: expected a whole number <= 2",
        ),
        (
            '"debug"',
            '"verbose"',
            "config.yaml:2: log_level: unknown value 'verbose'; values here are debug, info",
        ),
        ("routing:", "rooting:", 'config.yaml:16: rooting: unknown key; did you mean "routing"?'),
        (
            "log_level",
            "api_key",
            "config.yaml:2: api_key: unknown key; keys here are log_level, model_config_data",
        ),
        (
            "  port: 8080",
            "  port: 8080\n  timeout_seconds: 1",
            "config.yaml:7: server.timeout_seconds: unknown key; it belongs in routing",
        ),
    ],
)
def test_faults_are_told_with_the_key_and_line_of_the_file(old: str, new: str, message: str) -> None:
    """What Poncho ignores or stumbles over later is refused at the start."""
    assert message in fault(SAMPLE.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_lacks_every_key(text: str) -> None:
    """All of them are required, as with Poncho."""
    assert fault(text).splitlines() == [
        f"config.yaml: the key {key} is missing"
        for key in ("log_level", "server", "vllm_backend", "routing", "model_config_data")
    ]


def test_every_fault_is_told_at_once() -> None:
    """In the order of the lines."""
    lines = fault(SAMPLE.replace("8080", "-1").replace("600", "never").replace("4096", "[]")).splitlines()

    assert [line.split(": ")[1] for line in lines] == [
        "server.port",
        "routing.timeout_seconds",
        "model_config_data.max_position_embeddings",
    ]


def test_text_that_is_no_yaml_names_the_line() -> None:
    """As for TOML."""
    assert fault("log_level: info\nserver: [1, 2\nrouting: 3\n").startswith(
        "config.yaml:3: not usable YAML: "
    )
    assert fault("- a\n") == "config.yaml: expected a table, got an array"


def test_variables_and_flags_reach_what_poncho_has_no_key_for() -> None:
    """The model is called vllm there; a fault of such a value names the variable."""
    env = {"ARRIERO_MODELS__VLLM__MAX_N": "2", "ARRIERO_SERVER__BIND_ADDRESS": "127.0.0.1:9"}

    assert model(SAMPLE, **env).max_n == 2
    assert loaded(SAMPLE, **env).server.bind_address == "127.0.0.1:9"
    assert fault(SAMPLE, ARRIERO_SERVER__BIND_ADDRESS="x:9").startswith(
        "environment variable ARRIERO_SERVER__BIND_ADDRESS: server.bind_address: "
    )
    assert fault(SAMPLE, ARRIERO_AUTH__ALLOWED_KEYS='["k"]') == (
        "config.yaml: models.vllm.upstream.forward_headers[0]: the callers' keys for this server would go to"
        " the upstream; give an api_key_env there instead"
    )
    keyed = {"ARRIERO_AUTH__ALLOWED_KEYS": '["k"]', "ARRIERO_MODELS__VLLM__UPSTREAM__FORWARD_HEADERS": "[]"}
    assert loaded(SAMPLE, **keyed).auth.allowed_keys == ("k",)


def test_texts_are_taken_as_they_are() -> None:
    """Poncho knows no `${NAME}`; a name that holds one stays."""
    assert model(SAMPLE.replace("pocket_network", "${HOME}")).public_name == "${HOME}"


@pytest.mark.parametrize("name", ["config.yaml", "c.yml", "C.YAML"])
def test_the_suffix_says_whose_file_it_is(name: str, tmp_path: Path) -> None:
    """`.yaml` and `.yml` are Poncho's, all else is TOML."""
    (tmp_path / name).write_text(SUPPLIER)
    (tmp_path / "c.toml").write_text(SUPPLIER)

    assert set(load_config(tmp_path / name, {}).models) == {"vllm"}
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "c.toml", {})
