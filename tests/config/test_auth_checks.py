"""What is refused and warned of in [auth]."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from arriero.config.load import check, parse_config
from arriero.config.show import shown
from arriero.errors import ConfigError

ISSUER = 'issuer = "https://i", audience = "a", algorithm = "ES256"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key_store = '/no/such/keys.sqlite'", "auth.key_store: there is no directory /no/such"),
        ("usage_store = '/no/such/u.sqlite'", "auth.usage_store: there is no directory /no/such"),
        (f"issuers = [{{ {ISSUER} }}]", "auth.issuers[0]: give exactly one of jwks_url, jwks_file"),
        (
            f"issuers = [{{ {ISSUER}, jwks_url = 'https://i/jwks', jwks_file = '/no' }}]",
            "auth.issuers[0]: give exactly one of",
        ),
        (f"issuers = [{{ {ISSUER}, jwks_url = 'http://i/jwks' }}]", "jwks_url: expected an https address"),
        (f"issuers = [{{ {ISSUER}, jwks_url = 'https://[' }}]", "jwks_url: expected an https address"),
        (f"issuers = [{{ {ISSUER}, jwks_url = 'file:///x' }}]", "jwks_url: expected an https address"),
        (f"issuers = [{{ {ISSUER}, jwks_file = '/no/such' }}]", "jwks_file: there is no file /no/such"),
        (f"issuers = [{{ {ISSUER}, public_key_file = '/no/such' }}]", "there is no file /no/such"),
        (
            "issuers = [{ issuer = 'i', audience = 'a', algorithm = 'HS256', jwks_file = '/x' }]",
            "auth.issuers[0]: ",
        ),
        ("issuers = [{ algorithm = 'ES256', jwks_file = '/x' }]", "auth.issuers[0]: "),
        ("jwt_leeway_s = 301", "auth.jwt_leeway_s"),
        ("key_limits = { requests_per_minute = 0 }", "auth.key_limits.requests_per_minute"),
        ("key_limits = { requests = 1 }", "auth.key_limits.requests: unknown key"),
        ("key_limits = { priority = 'urgent' }", "auth.key_limits.priority"),
        ("shared_counters = 'http://host'", "auth.shared_counters: expected an address such as redis://"),
        ("shared_counters = 'redis://'", "auth.shared_counters: expected an address such as redis://"),
        ("shared_counters = 'redis://host/x'", "auth.shared_counters: expected an address such as redis://"),
        ("shared_counters = 'redis://host?db=1'", "auth.shared_counters: expected an address"),
        ("shared_counters_password = 'p'", "auth.shared_counters_password: has no meaning without"),
        (
            "shared_counters = 'redis://:p@host'\nshared_counters_password = 'p'",
            "auth.shared_counters: holds a password already",
        ),
        (
            "shared_counters = 'redis://host'\nshared_counters_password = 'p'\n"
            "shared_counters_password_env = 'P'",
            "auth: give one of shared_counters_password, shared_counters_password_env",
        ),
    ],
)
def test_what_cannot_work_is_refused(text: str, message: str) -> None:
    """The message names the key."""
    with pytest.raises(ConfigError) as caught:
        parse_config(f"[auth]\n{text}\n", {})
    assert message in str(caught.value)


@pytest.mark.skipif(find_spec("redis") is not None, reason="the extra redis is there")
def test_without_the_package_the_message_names_the_extra() -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=r"install arriero\[redis\]"):
        parse_config("[auth]\nshared_counters = 'redis://host'\n", {})


@pytest.mark.skipif(find_spec("redis") is None, reason="needs the extra redis")
@pytest.mark.parametrize(
    "address", ["redis://host", "rediss://user@host:6380/1", "redis://:p@[::1]:6379/15", "redis://host/"]
)
def test_the_address_of_shared_counters(address: str) -> None:
    """TLS or not, with user, port and number of a database; the password by reference, and never shown."""
    reference = "" if ":p@" in address else "shared_counters_password_env = 'SECRET'"
    config = parse_config(f"[auth]\nshared_counters = '{address}'\n{reference}\n", {"SECRET": "s3cret"})

    assert config.auth.shared_counters_password == ("s3cret" if reference else None)
    assert "s3cret" not in shown(config)
    assert ":p@" not in shown(config)


@pytest.mark.parametrize("address", ["https://i/jwks", "http://127.0.0.1:8080/jwks", "http://[::1]/jwks"])
def test_key_sets_come_over_https_or_from_this_machine(address: str) -> None:
    """Everything else could be answered by somebody else."""
    config = parse_config(f"[auth]\nissuers = [{{ {ISSUER}, jwks_url = '{address}' }}]\n", {})

    assert config.auth.issuers[0].jwks_url == address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["neither keys nor public = true: only /health, /readyz, /livez and /status will be served"]),
        ("public = true", []),
        ("key_store = 'keys.sqlite'", []),
        (f"jwt_private_key = {{ symmetric = '{'x' * 32}' }}", []),
        (
            f"jwt_private_key = {{ symmetric = '{'x' * 31}' }}",
            ["auth.jwt_private_key: a secret of less than 32 bytes can be guessed from one token"],
        ),
    ],
)
def test_what_is_weak_is_warned_of(tmp_path: Path, text: str, expected: list[str]) -> None:
    """A short secret works, since Poly takes it."""
    file = tmp_path / "a.toml"
    file.write_text(f"[auth]\n{text}\n")
    found = [line for line in check(file, {}) if "no models" not in line]

    assert [line.removeprefix(f"{file}:2: ").removeprefix(f"{file}: ") for line in found] == expected
