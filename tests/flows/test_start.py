"""`arriero serve` that cannot start, and how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.flows.process import DEADLINE_S, alive, arriero, started

from arriero.testing.broken_gguf import spoil_magic, truncate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refused(config: Path, *arguments: str) -> str:
    """Serve a configuration that cannot be served; return the one message."""
    command = arriero("serve", "--config", str(config), *arguments)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    message = ended.stderr[ended.stderr.rindex("arriero: ") :]

    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    return message


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
    text: str, words: list[str], smollm2: Path, tmp_path: Path
) -> None:
    """The message names the place and what would be right; nothing is loaded."""
    config = tmp_path / "arriero.toml"
    config.write_text("public = true\n" + text.replace("{weights}", str(smollm2)))
    message = refused(config, "--port", "0")

    assert str(config) in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("damage", [truncate, spoil_magic])
def test_broken_weights_are_told(damage: Callable[[Path], Path], smollm2: Path, tmp_path: Path) -> None:
    """A file cut short and one of another format end the start with the name of the file."""
    weights = tmp_path / "broken.gguf"
    weights.write_bytes(smollm2.read_bytes())
    damage(weights)
    config = tmp_path / "arriero.toml"
    config.write_text(f'public = true\n[models.spoilt]\npath = "{weights}"\n')

    assert "broken.gguf" in refused(config, "--port", "0")


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    """A second server on a port ends before it loads anything."""
    config = tmp_path / "arriero.toml"
    config.write_text("public = true\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(config, "--port", str(port))

    assert f"127.0.0.1:{port}" in message


def test_sigterm_ends_a_server_well(minilm: Path, tmp_path: Path) -> None:
    """A supervisor's signal ends the process with status 0, and its engines with it."""
    config = tmp_path / "arriero.toml"
    config.write_text(f'public = true\n[models.embed]\npath = "{minilm}"\n')
    with started(config, {"embed": minilm}, ending=signal.SIGTERM) as served:
        engine = served.engine_pid("embed")

    assert not alive(engine)
