"""Where traces are sent: which addresses and headers are usable, and where secrets stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.config.load import parse_config
from arriero.config.show import shown
from arriero.config.telemetry import header_pairs
from arriero.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (
            "Authorization=Bearer%20a%3Db, x-tenant = 7 ,",
            [("authorization", "Bearer a=b"), ("x-tenant", "7")],
        ),
        ("a=b=c", [("a", "b=c")]),
    ],
)
def test_headers_are_written_as_opentelemetry_does(text: str, expected: list[tuple[str, str]]) -> None:
    """Commas stand between them, and values are percent-encoded."""
    assert header_pairs(text) == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            'otlp_endpoint = "127.0.0.1:4318"',
            'otlp_endpoint: expected an address such as "http://127.0.0.1:4318"',
        ),
        ('otlp_endpoint = "http://h/?a"', "otlp_endpoint: expected an address"),
        ('otlp_endpoint = "http://user:secret@h"', "otlp_endpoint: expected an address"),
        ('otlp_headers = "nothing"', "otlp_headers: the value of the header nothing cannot be sent"),
        ('otlp_headers = "a b=c"', "otlp_headers: expected name=value"),
        ('otlp_headers = "a=%0D%0Ab: c"', "otlp_headers: the value of the header a cannot be sent"),
        ('otlp_headers = "a=b"\notlp_headers_env = "H"', "give one of otlp_headers, otlp_headers_env"),
        ('otlp_headers_env = "H"', "otlp_headers_env: the secret cannot be read"),
        ("otlp_sample_ratio = 1.5", "otlp_sample_ratio"),
    ],
)
def test_what_cannot_be_used_is_refused(lines: str, message: str) -> None:
    """The message names the key."""
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        parse_config(f"[telemetry]\n{lines}\n", {})


def test_headers_come_by_reference_and_are_not_shown(tmp_path: Path) -> None:
    """From the environment, or from a file; `config show` names the reference only."""
    file = tmp_path / "headers"
    file.write_text("authorization=Bearer%20file\n")
    by_env = parse_config('[telemetry]\notlp_headers_env = "H"\n', {"H": "authorization=Bearer%20env"})
    by_file = parse_config(f'[telemetry]\notlp_headers_file = "{file}"\n', {})
    given = parse_config('[telemetry]\notlp_headers = "authorization=Bearer%20here"\n', {})

    assert by_env.telemetry.otlp_headers == "authorization=Bearer%20env"
    assert by_file.telemetry.otlp_headers == "authorization=Bearer%20file"
    assert all("Bearer" not in shown(config) for config in (by_env, by_file, given))
