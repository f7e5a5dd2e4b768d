"""How many tokens a prompt has: by the model's own tokenizer here, or by the upstream's `/tokenize`.

No generation is ever made to count. None means that the count cannot be had.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from arriero.errors import ServiceError
from arriero.guard.countable import Conversation, countable_prompt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from arriero.guard.request import Checked
    from arriero.guard.tokens import TokenCounter

MAX_COUNTS = 4096
PAUSE_S = 30.0
# Variables that upstreams do not just hand to the template.
_NOT_RENDERED = frozenset({"continue_final_message", "messages", "tools", "self"})


class LocalCounter:
    """Counts with a tokenizer that is here what it counts as the upstream would.

    chats: whether the counter renders conversations as the upstream does.
    """

    def __init__(self, counter: TokenCounter, *, chats: bool) -> None:
        self._counter = counter
        self._chats = chats

    async def count(self, checked: Checked) -> int | None:
        """Return the tokens of a request's prompt; None for tools, images, and what else is the upstream's.

        Raises InvalidRequest when the model's template refuses the messages, Overloaded.
        """
        prompt = countable_prompt(checked.route, checked.members)
        if prompt is None or (isinstance(prompt, Conversation) and not self._renders(prompt)):
            return None
        enough = checked.enough_prompt_tokens
        return await self._counter.count(prompt, enough=-1 if enough is None else enough)

    def _renders(self, chat: Conversation) -> bool:
        return self._chats and not chat.tools and _NOT_RENDERED.isdisjoint(chat.variables)


class _Tokens(msgspec.Struct):
    count: int


_TOKENS = msgspec.json.Decoder(_Tokens)


class UpstreamCounter:
    """Asks the upstreams of one model. Owns the counts that are kept.

    One that cannot count is not asked again for a while.
    tokenize: sends a body to `/tokenize` and returns the body of its answer; None if there is no such path.
    """

    def __init__(self, tokenize: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        self._tokenize = tokenize
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._pauses_until = float("-inf")

    async def count(self, checked: Checked) -> int | None:
        """Return the tokens of a request's prompt, of its longest; None when they cannot be had."""
        bodies = checked.count_requests()
        if bodies is None or asyncio.get_running_loop().time() < self._pauses_until:
            return None
        most = 0
        for body in bodies:
            tokens = await self._tokens(body)
            if tokens is None:
                return None
            most = max(most, tokens)
        return most

    async def _tokens(self, body: bytes) -> int | None:
        digest = hashlib.blake2b(body, digest_size=16).digest()
        if digest in self._counts:
            self._counts.move_to_end(digest)
            return self._counts[digest]
        tokens = await self._asked(body)
        if tokens is not None:
            self._counts[digest] = tokens
            if len(self._counts) > MAX_COUNTS:
                self._counts.popitem(last=False)
        return tokens

    async def _asked(self, body: bytes) -> int | None:
        try:
            answer = await self._tokenize(body)
            if answer is not None:
                return _TOKENS.decode(answer).count
        except (ServiceError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        self._pauses_until = asyncio.get_running_loop().time() + PAUSE_S
        return None
