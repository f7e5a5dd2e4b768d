"""The sums over the limits, and their way from the configuration."""

from __future__ import annotations

import resource

import pytest

from arriero.config.load import parse_config
from arriero.server.edge.limits import Limits, limits_of, max_open_files


def test_an_empty_configuration_gives_the_defaults() -> None:
    """Both places say the same."""
    assert limits_of(parse_config("", {})) == Limits()


def test_deadlines_are_kept_to_the_second() -> None:
    """They are looked at as often."""
    assert Limits().sweep_s <= 1


def test_every_key_arrives() -> None:
    """What the configuration says is what the edge keeps."""
    text = """
    [server]
    allowed_hosts = ["A.example"]
    max_body_bytes = 1
    [limits]
    max_header_bytes = 2
    max_headers = 3
    max_target_bytes = 4
    max_held_body_bytes = 5
    max_connections = 6
    max_connections_per_address = 7
    header_timeout_s = 8
    keep_alive_timeout_s = 9
    body_grace_s = 10.5
    min_body_bytes_per_s = 11
    write_stall_s = 12
    """

    assert limits_of(parse_config(text, {})) == Limits(
        allowed_hosts=frozenset({b"a.example"}),
        max_body_bytes=1,
        max_header_bytes=2,
        max_headers=3,
        max_target_bytes=4,
        max_held_body_bytes=5,
        max_connections=6,
        max_connections_per_address=7,
        header_timeout_s=8,
        keep_alive_timeout_s=9,
        body_grace_s=10.5,
        min_body_bytes_per_s=11,
        write_stall_s=12,
    )


@pytest.mark.parametrize(("configured", "cap"), [(None, 450), (10, 10), (800, 800), (5000, 900)])
def test_connections_leave_files_for_the_rest(configured: int | None, cap: int) -> None:
    """Unasked, more than half of the files that may be open are left for the answers; asked, a tenth."""
    assert Limits(max_connections=configured).connection_cap(1000) == cap


@pytest.mark.parametrize(
    ("configured", "host", "cap"),
    [
        (None, "127.0.0.1", None),
        (None, "::1", None),
        (None, "192.0.2.1", 256),
        (None, "", 256),
        (3, "::1", 3),
    ],
)
def test_this_machine_is_not_bounded_by_itself(configured: int | None, host: str, cap: int | None) -> None:
    """A proxy on this machine brings everybody's connections; what is configured holds for all."""
    assert Limits(max_connections_per_address=configured).address_cap(host) == cap


def test_the_soft_limit_of_open_files_counts() -> None:
    """It is what a process may have, not what it might ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert max_open_files() == soft - 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
