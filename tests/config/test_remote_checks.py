"""Values of remote models that do not go together are refused, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.config.load import parse_config
from arriero.errors import ConfigError

UPSTREAM = 'upstream = { urls = ["http://h"], model = "r" }\n'
REMOTE = "[models.m]\n" + UPSTREAM


def upstream(keys: str) -> str:
    """Return a model whose upstream has these keys too."""
    return REMOTE.replace(" }", f", {keys} }}")


def fault(text: str, **env: str) -> str:
    """Return the message with which the text is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, env, path=Path("c.toml"))
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            REMOTE + "max_context = 9\nmax_tokens = 10",
            "c.toml:4: models.m.max_tokens: 10 tokens do not fit into a",
        ),
        (REMOTE + "max_tokens = 0", "c.toml:3: models.m.max_tokens: expected a whole number >= 1"),
        (REMOTE + "max_n = 0", "c.toml:3: models.m.max_n: expected a whole number >= 1"),
        (
            REMOTE + "over_limit = 'clip'",
            "c.toml:3: models.m.over_limit: unknown value 'clip'; values here are crop, reject",
        ),
        (
            REMOTE + "allow_logprob = true",
            'c.toml:3: models.m.allow_logprob: unknown key; did you mean "allow_log',
        ),
        (
            REMOTE + "model_path = 'x'",
            "models.m.model_path: unknown key; it belongs in [models.NAME] without ups",
        ),
        (
            REMOTE + "use_gpu = true",
            "models.m.use_gpu: unknown key; it belongs in [models.NAME] without upstream",
        ),
        (
            "[models.m]\nurl = 'http://h/x'\ncatch_all = true",
            "c.toml:3: models.m.catch_all: unknown key; it belongs in [models.NAME] with upstream",
        ),
        ("[pokt]\nmodel = 'n'\n" + REMOTE, 'c.toml:2: pokt.model: there is no model "n"; '),
        (
            "[pokt]\nreveal_config = true\n" + REMOTE,
            "c.toml:2: pokt.reveal_config: the configuration is a config.json in models.m.tokenizer_path",
        ),
        (REMOTE + "routes = []", "c.toml:3: models.m.routes: a model without routes serves nobody"),
        (
            REMOTE + "routes = ['/v1/chat/completions', '/metrics']",
            "models.m.routes[1]: unknown value '/metr",
        ),
        (
            REMOTE + "max_body_bytes = 5000000",
            "c.toml:3: models.m.max_body_bytes: never reached: [server] takes 41",
        ),
        (
            REMOTE + "tokenizer_path = '/no/such'",
            "c.toml:3: models.m.tokenizer_path: there is no file /no/such/tok",
        ),
        (REMOTE + "timeouts = { idle_s = 0 }", "c.toml:3: models.m.timeouts.idle_s: expected a number > 0"),
        (REMOTE + "timeouts = { idle_s = inf }", "models.m.timeouts.idle_s: expected a finite number"),
        (REMOTE + "timeouts = { idle = 1 }", 'models.m.timeouts.idle: unknown key; did you mean "idle_s"?'),
        ("[models.m]\nupstream = {}", "c.toml:2: models.m.upstream: the key urls is missing"),
        ("[models.m]\nupstream = { urls = ['http://h'] }", "models.m.upstream: the key model is missing"),
        ("[models.m]\nupstream = 'http://h'", "c.toml:2: models.m.upstream: expected a table, got a string"),
        (
            "[models.m.upstream]\nurls = []\nmodel = 'r'",
            "c.toml:2: models.m.upstream.urls: expected an array of len",
        ),
        (
            "[models.m.upstream]\nmodel = 'r'\nurls = ['http://h',\n'h:8000']",
            "c.toml:4: models.m.upstream.urls[1]: expected http:// or https:// and a host",
        ),
        (
            "[models.m.upstream]\nmodel = 'r'\nurls = ['http://h',\n'http://H:80/']",
            "c.toml:4: models.m.upstream.urls[1]: this server is listed twice",
        ),
        (
            upstream("health_path = 'health'"),
            "c.toml:2: models.m.upstream.health_path: expected a path such as",
        ),
        (
            upstream("health_path = '/h?x=1'"),
            "c.toml:2: models.m.upstream.health_path: expected a path such as",
        ),
        (
            upstream("forward_headers = ['x y']"),
            "models.m.upstream.forward_headers[0]: expected the name of a head",
        ),
        (
            upstream("forward_headers = ['x-ok', 'Transfer-Encoding']"),
            "models.m.upstream.forward_headers[1]: transfer-encoding is never passed on",
        ),
        (upstream("forward_headers = ['host']"), "forward_headers[0]: host is never passed on"),
        (upstream("forward_headers = ['Proxy-Authorization']"), "proxy-authorization is never passed on"),
        (
            upstream("api_key = 'k', forward_headers = ['Authorization']"),
            "forward_headers[0]: the upstream gets its api_key; it cannot get the callers' keys too",
        ),
        (
            "allowed_keys = ['a']\n" + upstream("forward_headers = ['authorization']"),
            "forward_headers[0]: the callers' keys for this server would go to the upstream",
        ),
        (
            upstream("api_key = 'a', api_key_env = 'B'"),
            "models.m.upstream: give one of api_key, api_key_env, api_key",
        ),
        (
            upstream("api_key_env = 'NONE'"),
            "models.m.upstream.api_key_env: the secret cannot be read: environment",
        ),
        (
            upstream("api_key_file = '/no/such'"),
            "models.m.upstream.api_key_file: the secret cannot be read: No such",
        ),
        (
            REMOTE + "public_name = ' x'",
            "c.toml:3: models.m.public_name: a public name has 1 to 256 printable",
        ),
        (
            REMOTE + 'public_name = "a\\nb"',
            "c.toml:3: models.m.public_name: a public name has 1 to 256 printable",
        ),
        (
            REMOTE + f"public_name = '{'x' * 257}'",
            "models.m.public_name: a public name has 1 to 256 printable",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(text: str, message: str) -> None:
    """The message names file, line and key, and what would be right."""
    assert message in fault(text)


@pytest.mark.parametrize("key", ["two words", "schlüssel", "a\\u0000b"])
def test_a_key_that_no_header_carries_is_refused_without_showing_it(key: str) -> None:
    """The place of the reference is named."""
    message = fault(upstream(f'api_key = "{key}"'))

    assert (
        "c.toml:2: models.m.upstream.api_key: the key holds a character that no header can carry" in message
    )
    assert key not in message
    assert "c.toml:2: models.m.upstream.api_key_env: the key holds" in fault(
        upstream("api_key_env = 'K'"), K="a b"
    )


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            "[models.b]\npublic_name = 'p'\n",
            'c.toml:5: models.b.public_name: "p" is the public name of models.a',
        ),
        ("[models.p]\n", 'c.toml:4: models.p: "p" is the public name of models.a too; each needs its own'),
        (
            "[models.l]\nurl = 'http://h/l'\npublic_name = 'p'\n#",
            'c.toml:6: models.l.public_name: "p" is the publ',
        ),
    ],
)
def test_two_models_never_share_a_public_name(second: str, message: str) -> None:
    """Whether it is written or the table's own, whether the models are local or remote."""
    assert message in fault("[models.a]\npublic_name = 'p'\n" + UPSTREAM + second + UPSTREAM)


def test_public_names_may_be_crossed() -> None:
    """Callers know public names only, so the name of another table is free for use."""
    text = "[models.a]\npublic_name = 'b'\n" + UPSTREAM + "[models.b]\npublic_name = 'a'\n" + UPSTREAM

    assert set(parse_config(text, {}).models) == {"a", "b"}


def test_one_model_at_most_takes_what_names_no_model() -> None:
    """With two it would be a matter of chance."""
    text = "[models.a]\ncatch_all = true\n" + UPSTREAM + "[models.b]\ncatch_all = true\n" + UPSTREAM

    assert fault(text) == 'c.toml:5: models.b.catch_all: "a" is catch_all already; one model at most'
