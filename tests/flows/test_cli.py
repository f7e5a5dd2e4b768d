"""The command line against a running server."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from tests.flows.process import DEADLINE_S, KEY, arriero

from arriero.cli.main import run

if TYPE_CHECKING:
    import pytest
    from tests.flows.process import Served

    Streams = pytest.CaptureFixture[str]


def test_a_chat_in_a_pipe_answers_each_line(server: Served) -> None:
    """One prompt a line, one answer after the other on stdout, all in one session."""
    chat = subprocess.run(
        arriero("chat", "copier"),
        input="The password is pineapple. " * 3 + "\n The password is\n",
        env={**os.environ, "ARRIERO_URL": server.url, "ARRIERO_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert (chat.returncode, chat.stderr) == (0, "")
    assert chat.stdout.splitlines()[-1].startswith(" pineapple")


def test_a_chat_with_an_unknown_task_is_told(server: Served, capsys: Streams) -> None:
    """The message names the task; the status is 1."""
    assert run(["chat", "nope", "--url", server.url, "--api-key", KEY]) == 1
    assert capsys.readouterr().err == "arriero: task not found: nope\n"


def test_ps_lists_what_is_served(server: Served, capsys: Streams) -> None:
    """As JSON for programs, as a table for people."""
    asked = ["ps", "--url", server.url, "--api-key", KEY]
    assert run([*asked, "--json"]) == 0
    served = json.loads(capsys.readouterr().out)
    assert run(asked) == 0
    table = capsys.readouterr().out

    assert served["models"] == ["chat", "embed"]
    assert set(served["tasks"]) == {"assistant", "classifier", "copier", "endless"}
    assert "assistant" in table


def test_a_wrong_key_is_told(server: Served, capsys: Streams) -> None:
    """The server's own words, and status 1."""
    assert run(["ps", "--url", server.url, "--api-key", "wrong"]) == 1
    said = "no acceptable auth token provided (keys are given as ARRIERO_API_KEY, or with --api-key)"
    assert capsys.readouterr().err == f"arriero: {said}\n"
