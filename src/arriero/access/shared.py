"""Counts that several servers share, in Redis or Valkey; the file that touches `redis`.

1. All commands go over one connection, those that came meanwhile in one go. One job sends them.
2. A request waits for its answer for `timeout_s` at most. Without one it is let in: the counts of this server
   alone hold then. That is no failure while the first connection is made, which reads certificates.
3. After a failure, or an answer that took longer, nobody asks until a trial, once a second, was answered in
   time, over a connection of its own: the name may lead to another server by then. What is counted meanwhile
   stays with this server.
4. A cluster of several servers answers for some keys only. It is told of and left alone for a minute.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import defaultdict
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from arriero.access.limits import Share, check_limits
from arriero.access.shared_scripts import LEASE_S, admitting, charging, counted, releasing, renewing
from arriero.config.auth import KeyLimits
from arriero.errors import ConfigError

if TYPE_CHECKING:
    from arriero.access.principal import Principal
    from arriero.access.shared_scripts import Command

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.05
SEND_TIMEOUT_S = 1.0
RETRY_S = 1.0
CLUSTER_RETRY_S = 60.0
RENEW_S = LEASE_S / 3
MAX_PENDING = 10_000
QUIET_S = 60.0
"""How long a server that comes and goes is not spoken of again."""
TRIAL = charging("trial", KeyLimits(), 0)


class _Sent(NamedTuple):
    """A command, and who waits for its reply."""

    command: Command
    reply: asyncio.Future[Any] | None

    @property
    def is_given_up(self) -> bool:
        """Whether the one who waited has gone, so that nothing is to be counted."""
        return self.reply is not None and self.reply.done()


class SharedCounts:
    """Owns the connection, the commands that wait for it, and the leases of this server.

    Use it on one event loop; it begins with the first call. is_up: whether it is asked at the moment.
    outages: how often it was not to be had any more.
    """

    def __init__(self, url: str, password: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        """Connect to nothing yet. Raises ConfigError when the package `redis` is not there."""
        self._client = _client(url, password)
        self._timeout_s = timeout_s
        self._name = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._pending: list[_Sent] = []
        self._leases: dict[str, str] = {}  # by lease, its tenant
        self._wanted = asyncio.Event()
        self._job: asyncio.Task[None] | None = None
        self._is_closing = False
        self._is_met = False
        self._renew_at = monotonic() + RENEW_S
        self._try_at = 0.0
        self._told_at = -QUIET_S
        self.is_up = True
        self.outages = 0

    async def admit(self, principal: Principal) -> Share | None:
        """Draw a request from the shared counts; None = they cannot be had now. Raises RateLimited."""
        lease = f"{self._name}:{next(self._numbers)}"
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._put(admitting(principal.tenant, principal.limits, lease), reply):
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await reply
        except TimeoutError:
            if self._is_met:
                self._fail("no answer in time")
            return None
        except asyncio.CancelledError:
            self._put(releasing(principal.tenant, lease), None)
            raise
        if found is None:
            return None
        is_refused, usage = counted(found)
        if is_refused:
            check_limits(principal.limits, usage, usage.updated_at)
        if principal.limits.concurrent_requests is not None:
            self._leases[lease] = principal.tenant
        return Share(usage, partial(self._release, lease))

    def charge(self, principal: Principal, tokens: int) -> None:
        """Count tokens, soon. Never waits."""
        limits = principal.limits
        if limits.tokens_per_minute is not None or limits.tokens_per_day is not None:
            self._put(charging(principal.tenant, limits, tokens), None)

    def close(self) -> None:
        """Send what waits, let go of the connection, and take no more."""
        self._is_closing = True
        self._wanted.set()

    async def wait_closed(self) -> None:
        """Return when that is done."""
        if self._job is not None:
            await asyncio.wait([self._job])

    def _release(self, lease: str) -> None:
        if (tenant := self._leases.pop(lease, None)) is not None:
            self._put(releasing(tenant, lease), None)

    def _put(self, command: Command, reply: asyncio.Future[Any] | None) -> bool:
        """Have a command sent; say whether it will be."""
        if not self.is_up or self._is_closing or len(self._pending) >= MAX_PENDING:
            return False
        self._pending.append(_Sent(command, reply))
        self._wanted.set()
        if self._job is None:
            self._job = asyncio.get_running_loop().create_task(self._run())
        return True

    async def _run(self) -> None:
        try:
            with suppress(Exception):  # what goes wrong comes up again
                await self._replies([TRIAL])
            self._is_met = True
            while not self._is_closing:
                await self._wait_wanted()
                await self._send()
            await self._send()
        finally:
            await self._client.aclose()

    async def _wait_wanted(self) -> None:
        """Return when there is something to send, or when it is time to see whether there is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await self._wanted.wait()
        self._wanted.clear()

    async def _send(self) -> None:
        if self.is_up and monotonic() >= self._renew_at:
            self._renew()
        sent, self._pending = [one for one in self._pending if not one.is_given_up], []
        if not self.is_up and monotonic() >= self._try_at:
            sent = [_Sent(TRIAL, None)]
        if not sent:
            return
        began_at = monotonic()
        try:
            replies = await self._replies([one.command for one in sent])
        except Exception as exc:
            self._fail(_reason(exc), CLUSTER_RETRY_S if _is_of_a_cluster(exc) else RETRY_S)
            await self._disconnect()
            replies = [None] * len(sent)
        else:
            self._judge(monotonic() - began_at)
        _answer(sent, replies)

    async def _replies(self, commands: list[Command]) -> list[Any]:
        """Return the replies to commands that are sent in one go. Raises what the first failed one says."""
        async with asyncio.timeout(SEND_TIMEOUT_S), self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            # Raised by the pipeline, an error would tell of the whole command.
            replies = await pipeline.execute(raise_on_error=False)
        if errors := [reply for reply in replies if isinstance(reply, Exception)]:
            raise errors[0]
        return list(replies)

    async def _disconnect(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._client.connection_pool.disconnect()

    def _renew(self) -> None:
        self._renew_at = monotonic() + RENEW_S
        by_tenant: defaultdict[str, list[str]] = defaultdict(list)
        for lease, tenant in self._leases.items():
            by_tenant[tenant].append(lease)
        # After what waits already: a lease that is not released by now is still held.
        self._pending += [_Sent(renewing(tenant, held), None) for tenant, held in by_tenant.items()]

    def _judge(self, took_s: float) -> None:
        """Take the news of an answer that took so long."""
        if took_s > self._timeout_s:
            self._fail(f"an answer took {took_s:.3f} s")
        elif not self.is_up:
            self.is_up = True
            self._renew_at = 0.0
            logger.info("auth.shared_counters can be had again")

    def _fail(self, reason: str, retry_s: float = RETRY_S) -> None:
        """Ask nothing until a trial, in so long, was good; answer those who wait."""
        self._try_at = monotonic() + retry_s
        if not self.is_up:
            return
        self.is_up = False
        self.outages += 1
        waiting, self._pending = self._pending, []
        _answer(waiting, [None] * len(waiting))
        if monotonic() - self._told_at >= QUIET_S:
            self._told_at = monotonic()
            logger.warning("auth.shared_counters cannot be had, this server counts alone: %s", reason)


def _answer(sent: list[_Sent], replies: list[Any]) -> None:
    for one, reply in zip(sent, replies, strict=True):
        if one.reply is not None and not one.is_given_up:
            one.reply.set_result(reply)


def _reason(exc: Exception) -> str:
    reason = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    if _is_of_a_cluster(exc):
        return f"{reason}; a Redis Cluster is not supported, name a server that has all keys"
    return reason


def _is_of_a_cluster(exc: Exception) -> bool:
    """Say whether another server has the key."""
    from redis.exceptions import AskError

    return isinstance(exc, AskError)  # MOVED is a kind of it


def _client(url: str, password: str | None) -> Any:
    """Return a client that repeats nothing by itself: a request that was counted is not counted again."""
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as exc:
        raise ConfigError("auth.shared_counters needs the package redis; install arriero[redis]") from exc
    return Redis.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        max_connections=1,
        password=password,
    )
