"""What the flags of `arriero serve` do to a configuration; serving itself is tested in flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from arriero.cli import source
from arriero.cli.main import run
from arriero.cli.serve import BIND_ADDRESS, first_request, overrides
from arriero.config.load import parse_config

if TYPE_CHECKING:
    from pathlib import Path

REMOTE = """
[models.m]
public_name = "it's"
upstream = { urls = ["http://a:1"], model = "r" }
"""
JSON = "-H 'content-type: application/json'"
BODY = """{"model": "it'"'"'s", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}"""


@pytest.mark.parametrize(
    ("configured", "host", "port", "expected"),
    [
        ("127.0.0.1:3000", None, None, "127.0.0.1:3000"),
        ("127.0.0.1:3000", None, 8080, "127.0.0.1:8080"),
        ("127.0.0.1:3000", "127.0.0.2", None, "127.0.0.2:3000"),
        ("127.0.0.1:3000", "127.0.0.2", 0, "127.0.0.2:0"),
        ("[::1]:3000", None, 8080, "[::1]:8080"),
        ("127.0.0.1:3000", "::1", None, "[::1]:3000"),
        ("127.0.0.1:3000", "[::1]", 1, "[::1]:1"),
    ],
)
def test_flags_change_only_what_they_name(
    configured: str, host: str | None, port: int | None, expected: str, tmp_path: Path
) -> None:
    """The host or the port that no flag names stays the configured one."""
    file = tmp_path / "a.toml"
    file.write_text(f'bind_address = "{configured}"\npublic = true\n')
    changed = overrides(file, False, host, port)

    assert source.loaded(file, starter=False, overrides=changed).server.bind_address == expected


def test_flags_go_through_the_checks_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that cannot be listened on is refused as it would be in the file."""
    file = tmp_path / "a.toml"
    file.write_text("public = true\n")

    assert run(["serve", "--config", str(file), "--host", "nowhere", "--port", "1"]) == 2
    message = capsys.readouterr().err
    assert BIND_ADDRESS in message
    assert "nowhere" in message


@pytest.mark.parametrize("flag", ["--config", "--config-path", "-m", "-c"])
def test_a_missing_file_is_told_under_every_name_of_the_flag(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Poly's names of the flag work, and a file that is not there ends with status 2 and its path."""
    missing = tmp_path / "missing.toml"

    assert run(["serve", flag, str(missing)]) == 2
    assert str(missing) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("public = true\n", ""),
        (
            'public = true\nmodels.m.package = "smollm2-135m-instruct"\ntasks."a b".model = "m"\n',
            "curl -N 'http://h:1/v1/task/a%20b/live?prompt=Hello'",
        ),
        (
            'allowed_keys = ["k"]\nmodels.m.package = "smollm2-135m-instruct"\ntasks.t.model = "m"\n',
            "curl -N 'http://h:1/v1/task/t/live?prompt=Hello' -H \"authorization: Bearer $ARRIERO_API_KEY\"",
        ),
        (f"public = true\n{REMOTE}", f"curl -N http://h:1/v1/chat/completions {JSON} -d '{BODY}'"),
        (f'public = true\n{REMOTE}routes = ["/v1/embeddings"]\n', ""),
    ],
)
def test_the_first_request_can_be_pasted(text: str, expected: str) -> None:
    """It asks the first task, else a remote model; a key that is needed is named by its variable only."""
    assert first_request(parse_config(text, {}), "http://h:1") == expected
