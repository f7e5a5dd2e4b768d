"""`arriero serve` that cannot start, and how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.flows.process import DEADLINE_S, alive, arriero, started

from arriero.cli.main import run
from arriero.testing.broken_gguf import spoil_magic, truncate
from arriero.testing.tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def message_of(status: int, out: str, err: str) -> str:
    """Return the one message of a start that was refused."""
    assert status == 2, err
    assert "Traceback" not in err
    assert out == ""
    return err[err.rindex("arriero: ") :]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[Path, int], str]:
    """Serves a configuration that cannot be served, in this process; gives the one message."""

    def serve(config: Path, port: int = 0) -> str:
        status = run(["serve", "--config", str(config), "--port", str(port)])
        return message_of(status, *capsys.readouterr())

    return serve


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '[models.m]\npath = "{weights}"\n[tasks.t]\nmodel = "n"\n',
            [":5: tasks.t.model", '"n"', "configured: m"],
        ),
        (
            '[models.m]\npath = "{weights}"\n[tasks.t]\nmodel = "m"\nmax_token = 3\n',
            [":6: tasks.t.max_token", '"max_tokens"'],
        ),
        ("[models.m]\n", ["models.m", "path"]),
        ('[models.m]\npath = "nowhere.gguf"\n', ["models.m", "nowhere.gguf"]),
        ("[models.m\n", [":2: not valid TOML"]),
        (
            '[models.m]\npath = "{weights}"\n[tasks.t]\nmodel = "m"\nsamplers = ["mirostat2", "topk:k=1"]\n',
            ["tasks.t.samplers"],
        ),
    ],
)
def test_a_wrong_configuration_is_one_message(
    text: str, words: list[str], smollm2: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """The message names the place and what would be right; nothing is loaded."""
    config = tmp_path / "arriero.toml"
    config.write_text("public = true\n" + text.replace("{weights}", str(smollm2)))
    message = refused(config)

    assert str(config) in message
    assert [word for word in words if word not in message] == []


def spoilt(weights: Path) -> Path:
    """Write a configuration with these weights beside them."""
    config = weights.with_name("arriero.toml")
    config.write_text(f'public = true\n[models.spoilt]\npath = "{weights}"\n')
    return config


def test_weights_of_another_format_are_told(tmp_path: Path, refused: Callable[..., str]) -> None:
    """They end the start with the name of the file."""
    weights = spoil_magic(write_tiny_gguf(tmp_path / "broken.gguf"))

    assert "broken.gguf" in refused(spoilt(weights))


def test_weights_that_are_cut_short_are_told(tmp_path: Path) -> None:
    """The engine process finds it out; that ends the start, as a process, with the name of the file."""
    weights = truncate(write_tiny_gguf(tmp_path / "broken.gguf"), keep=0.9)
    command = arriero("serve", "--config", str(spoilt(weights)), "--port", "0")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert "broken.gguf" in message_of(ended.returncode, ended.stdout, ended.stderr)


def test_a_port_in_use_is_told(tmp_path: Path, refused: Callable[..., str]) -> None:
    """A second server on a port ends before it loads anything."""
    config = tmp_path / "arriero.toml"
    config.write_text("public = true\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(config, port)

    assert f"127.0.0.1:{port}" in message


def test_sigterm_ends_a_server_well(minilm: Path, tmp_path: Path) -> None:
    """A supervisor's signal ends the process with status 0, and its engines with it."""
    config = tmp_path / "arriero.toml"
    config.write_text(f'public = true\n[models.embed]\npath = "{minilm}"\n')
    with started(config, {"embed": minilm}, ending=signal.SIGTERM) as served:
        engine = served.engine_pid("embed")

    assert not alive(engine)
