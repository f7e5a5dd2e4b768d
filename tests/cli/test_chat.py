"""`arriero chat` in a real terminal and in a pipe, against a scripted server."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from arriero.cli.chat import address
from arriero.cli.main import run
from arriero.client import CHAT_PROTOCOL
from arriero.config.load import parse_config
from arriero.testing.serving import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.websockets import WebSocket

DEADLINE_S = 20
CTRL_C, CTRL_D = b"\x03", b"\x04"


async def talk(websocket: WebSocket) -> None:
    """Answer `echo: PROMPT` in pieces; refuse `bad`; answer `long` without end until it is stopped."""
    await websocket.accept(CHAT_PROTOCOL)
    async for said in websocket.iter_json():
        if said.get("stop"):
            await websocket.send_json({"type": "stop", "finish_reason": "cancelled"})
        elif said["prompt"] == "bad":
            await websocket.send_json({"type": "error", "code": "illegal_token", "message": "illegal token"})
        elif said["prompt"] == "long":
            await websocket.send_json({"type": "delta", "text": "and so on "})
        else:
            for piece in ("echo:", " ", said["prompt"]):
                await websocket.send_json({"type": "delta", "text": piece})
            await websocket.send_json({"type": "stop", "finish_reason": "stop"})


def server() -> Starlette:
    tasks = Route("/v1/task", lambda request: JSONResponse({"tasks": ["t"]}))
    return Starlette(routes=[tasks, WebSocketRoute("/v1/task/t/chat", talk)])


async def piped(url: str, text: str) -> tuple[str, str, int]:
    """Run a chat whose input is a pipe; return stdout, stderr and the status."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "arriero", "chat", "t", "--url", url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        out, err = await child.communicate(text.encode())
    assert child.returncode is not None
    return out.decode(), err.decode(), child.returncode


async def test_a_pipe_is_one_prompt_a_line() -> None:
    """Answers alone go to stdout, one after the other; blank lines are no prompts."""
    async with served(server()) as url:
        assert await piped(url, "one\n\n  \ntwo\n") == ("echo: one\necho: two\n", "", 0)


async def test_an_empty_pipe_is_an_empty_conversation() -> None:
    """No prompt, no answer, no failure."""
    async with served(server()) as url:
        assert await piped(url, "") == ("", "", 0)


async def test_a_refused_prompt_ends_a_pipe() -> None:
    """Nobody watches a pipe, so the refusal is its end: one message and status 1."""
    async with served(server()) as url:
        out, err, status = await piped(url, "bad\none\n")

    assert (out.strip(), err, status) == ("", "arriero: illegal token\n", 1)


class Terminal:
    """A chat that runs in a pseudo-terminal. Owns the controlling end."""

    def __init__(self, master: int, child: asyncio.subprocess.Process) -> None:
        self.master = master
        self.child = child
        self._shown = b""

    async def until(self, text: str) -> str:
        """Return what the terminal shows up to and with the text."""
        async with asyncio.timeout(DEADLINE_S):
            while text.encode() not in self._shown:
                self._shown += await asyncio.to_thread(os.read, self.master, 1024)
        shown, _, self._shown = self._shown.partition(text.encode())
        return shown.decode() + text

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    async def ended(self) -> int:
        async with asyncio.timeout(DEADLINE_S):
            return await self.child.wait()


@asynccontextmanager
async def terminal(url: str) -> AsyncIterator[Terminal]:
    """Run a chat in a pseudo-terminal of its own session."""
    master, slave = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CONTROLLED, url),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(master, child)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        os.close(master)


# The terminal must be the controlling one, so that its keys become signals.
CONTROLLED = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from arriero.cli.main import run
sys.exit(run(["chat", "t", "--url", sys.argv[1]]))
"""


async def test_ctrl_c_stops_the_answer_and_ctrl_d_ends() -> None:
    """The conversation outlives a stopped answer and a refused prompt, and ends with status 0."""
    async with served(server()) as url, terminal(url) as shown:
        await shown.until("> ")
        shown.type(b"long\n")
        await shown.until("and so on ")
        shown.type(CTRL_C)
        await shown.until("> ")
        shown.type(b"bad\n")
        await shown.until("(illegal token)")
        await shown.until("> ")
        shown.type(b"two\n")
        await shown.until("echo: two")
        await shown.until("> ")
        shown.type(CTRL_D)
        assert await shown.ended() == 0


async def test_ctrl_c_between_answers_says_how_to_end() -> None:
    """At the prompt Ctrl-C loses nothing."""
    async with served(server()) as url, terminal(url) as shown:
        await shown.until("> ")
        shown.type(CTRL_C)
        await shown.until("(Ctrl-D ends)")
        shown.type(b"one\n")
        await shown.until("echo: one")
        shown.type(CTRL_D)
        assert await shown.ended() == 0


def test_without_server_and_configuration_the_message_names_the_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A named server that is not there is an error, never a reason to load models here."""
    assert run(["chat", "t", "--url", "http://127.0.0.1:1"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("0.0.0.0:81", "http://127.0.0.1:81"),
        ("[::1]:82", "http://[::1]:82"),
        ("[::]:83", "http://[::1]:83"),
    ],
)
def test_the_server_is_looked_for_where_the_configuration_puts_it(configured: str, expected: str) -> None:
    """A server on all addresses is reached over the loopback."""
    config = parse_config(f'bind_address = "{configured}"\npublic = true\n', {})

    assert address(config) == expected
