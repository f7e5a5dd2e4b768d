"""Idle prefixes in main memory: out of the KV cache, where attention would walk over them, and soon back.

A copy takes milliseconds where an evaluation takes seconds. What another prefix holds too (a prelude, most
often) is not copied again: such a copy comes back on top of the other. The store keeps the copies within
bounds of bytes and number, the least recently used go first. It must not know llama.cpp: the engine fills a
copy and reads it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

from arriero.engine.heap import give_back
from arriero.engine.prefix import common_prefix

MOST = 1024
"""Copies that are kept at most: whoever comes is compared with all of them."""


class Stored:
    """A prefix and the copy of its tokens from `first` on. `data` is None until the engine has made it."""

    __slots__ = ("data", "first", "last_used", "shared", "tenant", "tokens")

    def __init__(self, tokens: array[int], *, first: int, tenant: str, shared: int, last_used: int) -> None:
        self.tokens = tokens
        self.first = first
        self.tenant = tenant
        self.shared = shared
        self.last_used = last_used
        self.data: Any = None


class PrefixStore:
    """Owns the copies. `capacity` in bytes; 0 = there is no store."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._stored: list[Stored] = []
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._stored)

    def __iter__(self) -> Iterator[Stored]:
        return iter(list(self._stored))

    @property
    def is_on(self) -> bool:
        """Whether anything may be stored."""
        return self._capacity > 0

    def add(self, new: Stored) -> bool:
        """Take a prefix, to be filled; False when as much of the same one is there already."""
        for one in self:
            if one.tokens == new.tokens and (one.tenant, one.shared) == (new.tenant, new.shared):
                if one.first <= new.first:
                    one.last_used = new.last_used
                    return False
                self.forget(one)
        self._stored.append(new)
        return True

    def fill(self, stored: Stored, data: Any) -> None:
        """Take the copy of a prefix; forget others, or this one, until all fit."""
        if stored not in self._stored:
            return  # it was given up meanwhile
        stored.data = data
        self.num_bytes += len(data)
        for one in sorted(self._stored, key=lambda one: one.last_used):
            if self.num_bytes <= self._capacity and len(self) <= MOST:
                return
            self.forget(one)

    def forget(self, stored: Stored) -> None:
        """Give up a prefix."""
        self._stored.remove(stored)
        if stored.data is not None:
            self.num_bytes -= len(stored.data)

    def clear(self) -> None:
        """Give up all prefixes, and give their memory back."""
        self._stored.clear()
        self.num_bytes = 0
        give_back()

    def best(self, prompt: array[int], tenant: str, shared: int, held: int, least: int) -> Stored | None:
        """Return the prefix of which `prompt` may reuse most, at least `least` tokens.

        `held` tokens of the prompt lie in the cells: a copy may begin there. Of equally good ones it is
        the shortest.
        """
        found, size = None, least
        for one in self._stored:
            limit = min(len(prompt) - 1, len(one.tokens))
            if one.tenant != tenant:
                limit = min(limit, shared, one.shared)
            if limit < size or one.first > held or one.tokens[size - 1] != prompt[size - 1]:
                continue
            common = common_prefix(prompt, one.tokens, limit)
            if common > size or (common == size and (found is None or len(one.tokens) < len(found.tokens))):
                found, size = one, common
        return found
