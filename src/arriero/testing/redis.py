"""A Redis server for tests: real sockets, the commands that Arriero sends, and its scripts run by real Lua.

Well, slowly, or not at all, as it is told. What a script may call is the table `CALLS`; anything else is an
error, as an unknown command is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from lupa.lua51 import LuaRuntime, lua_type

if TYPE_CHECKING:
    from types import TracebackType


class FakeRedis:
    """One server. Use it as an asynchronous context manager.

    clock: what it takes for the time. delay_s: how long each answer waits. password: what AUTH must say.
    refuse_with: an error with which every script is answered, which begins with its kind; None = none.
    commands: the names of those that came, but those that begin a connection.
    num_connections: how many were made.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, password: str | None = None) -> None:
        self.clock = clock
        self.delay_s = 0.0
        self.refuse_with: str | None = None
        self.commands: list[str] = []
        self.num_connections = 0
        self.port = 0
        self._password = password
        self._values: dict[str, dict[str, Any]] = {}
        self._ends: dict[str, float] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._lua = LuaRuntime(unpack_returned_tuples=True)
        self._scripts: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port that it had before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and all connections; what is stored stays."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def keys(self) -> list[str]:
        """Return the keys that have not ended."""
        return [key for key in self._values if self._value(key)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.num_connections += 1
        is_known = self._password is None
        try:
            while True:
                words = await _command(reader)
                if words[0].upper() == "AUTH":
                    is_known = words[-1] == self._password
                    reply = b"+OK\r\n" if is_known else b"-WRONGPASS invalid password\r\n"
                else:
                    reply = self._answer(words) if is_known else b"-NOAUTH Authentication required.\r\n"
                await asyncio.sleep(self.delay_s)
                writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, words: list[str]) -> bytes:
        name, *arguments = words
        if name in ("SELECT", "CLIENT"):
            return b"+OK\r\n"
        self.commands.append(name)
        if name == "EVAL" and self.refuse_with is not None:
            return f"-{self.refuse_with}\r\n".encode()
        try:
            return _encoded(self._run(arguments) if name == "EVAL" else CALLS[name](self, *arguments))
        except KeyError:
            return b"-ERR unknown command\r\n"
        except Exception as exc:
            return f"-ERR {' '.join(str(exc).split())}\r\n".encode()

    def _run(self, arguments: list[str]) -> Any:
        """Run a script, whose reads and writes nothing comes between."""
        script, num_keys, *given = arguments
        keys, values = given[: int(num_keys)], given[int(num_keys) :]
        if script not in self._scripts:
            self._scripts[script] = self._lua.eval(f"function(redis, KEYS, ARGV) {script} end")
        return self._scripts[script](
            self._lua.table(call=self._call), self._lua.table(*keys), self._lua.table(*values)
        )

    def _call(self, name: str, *arguments: Any) -> Any:
        words = [_text(one) for one in arguments]
        result = CALLS[name](self, *words)
        if isinstance(result, list):
            # Lua's tables have no nil in the middle: what is not there is false, as with Redis.
            return self._lua.table(*[False if one is None else one for one in result])
        return result

    def _value(self, key: str) -> dict[str, Any]:
        if self._ends.get(key, float("inf")) <= self.clock():
            del self._ends[key], self._values[key]
        return self._values.setdefault(key, {})

    # The commands.

    def _time(self) -> list[str]:
        seconds, micros = divmod(round(self.clock() * 1_000_000), 1_000_000)
        return [str(seconds), str(micros)]

    def _hmget(self, key: str, *fields: str) -> list[str | None]:
        return [self._value(key).get(field) for field in fields]

    def _hset(self, key: str, *pairs: str) -> int:
        self._value(key).update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(pairs) // 2

    def _expire(self, key: str, seconds: str) -> int:
        if not self._value(key):
            return 0
        self._ends[key] = self.clock() + int(seconds)
        return 1

    def _zadd(self, key: str, score: str, member: str) -> int:
        self._value(key)[member] = float(score)
        return 1

    def _zcard(self, key: str) -> int:
        return len(self._value(key))

    def _zrem(self, key: str, member: str) -> int:
        return 0 if self._value(key).pop(member, None) is None else 1

    def _zremrangebyscore(self, key: str, least: str, most: str) -> int:
        scores = self._value(key)
        gone = [member for member, score in scores.items() if float(least) <= score <= float(most)]
        for member in gone:
            del scores[member]
        return len(gone)


CALLS: dict[str, Callable[..., Any]] = {
    "TIME": FakeRedis._time,
    "HMGET": FakeRedis._hmget,
    "HSET": FakeRedis._hset,
    "EXPIRE": FakeRedis._expire,
    "ZADD": FakeRedis._zadd,
    "ZCARD": FakeRedis._zcard,
    "ZREM": FakeRedis._zrem,
    "ZREMRANGEBYSCORE": FakeRedis._zremrangebyscore,
}


async def _command(reader: asyncio.StreamReader) -> list[str]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2].decode())
    return words


def _text(value: Any) -> str:
    """Return an argument as Redis takes it from Lua: numbers by 17 digits."""
    return f"{value:.17g}" if isinstance(value, int | float) else str(value)


def _encoded(value: Any) -> bytes:
    """Return a value as a reply; numbers lose their fraction, as they do on the way out of a script."""
    if value is None or value is False:
        return b"$-1\r\n"
    if isinstance(value, int | float):
        return b":%d\r\n" % int(value)
    if lua_type(value) == "table":
        members = list(value.values())
        return b"*%d\r\n" % len(members) + b"".join(map(_encoded, members))
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_encoded, value))
    data = str(value).encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)
