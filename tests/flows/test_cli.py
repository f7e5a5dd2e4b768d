"""The command line against a running server."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from tests.flows.process import DEADLINE_S, KEY, arriero

if TYPE_CHECKING:
    from tests.flows.process import Served


def verb(server: Served, *arguments: str, said: str = "", key: str = KEY) -> subprocess.CompletedProcess[str]:
    """Run a verb against the server, with its key in the environment."""
    environment = {**os.environ, "ARRIERO_URL": server.url, "ARRIERO_API_KEY": key}
    command = arriero(*arguments)
    return subprocess.run(
        command, input=said, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def test_a_chat_in_a_pipe_answers_each_line(server: Served) -> None:
    """One prompt a line, one answer after the other on stdout, all in one session."""
    chat = verb(server, "chat", "copier", said="The password is pineapple. " * 3 + "\n The password is\n")

    assert (chat.returncode, chat.stderr) == (0, "")
    assert chat.stdout.splitlines()[-1].startswith(" pineapple")


def test_a_chat_with_an_unknown_task_is_told(server: Served) -> None:
    """The message names the task; the status is 1."""
    chat = verb(server, "chat", "nope", said="Hello\n")

    assert (chat.returncode, chat.stderr) == (1, "arriero: task not found: nope\n")


def test_ps_lists_what_is_served(server: Served) -> None:
    """As JSON for programs, as a table for people."""
    served = json.loads(verb(server, "ps", "--json").stdout)
    table = verb(server, "ps").stdout

    assert served["models"] == ["chat", "embed"]
    assert set(served["tasks"]) == {"assistant", "classifier", "copier", "endless"}
    assert "assistant" in table


def test_a_wrong_key_is_told(server: Served) -> None:
    """The server's own words, and status 1."""
    refused = verb(server, "ps", key="wrong")

    assert (refused.returncode, refused.stderr) == (1, "arriero: no acceptable auth token provided\n")
