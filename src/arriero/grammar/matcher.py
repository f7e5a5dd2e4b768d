"""Says which tokens may come next in a constrained text.

A `Compiler` holds the compiled constraints of one model and makes a `Matcher` for each text;
`fill_masks` asks several matchers at once.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Sequence
from itertools import islice

import numpy as np
from llguidance import LLExecutor, LLMatcher
from numpy.typing import NDArray

from arriero.core import Constraint
from arriero.errors import EngineError, InvalidRequest
from arriero.grammar.native import Limits, compiled, reason
from arriero.grammar.vocabulary import TokenTable

Mask = NDArray[np.int32]
"""Which tokens are allowed, a bit for each, lowest bit first."""

MAX_THREADS = 8
MAX_FORCED = 256
"""Tokens that `forced` gives at once: accepting one of very many takes up to 0.3 ms."""
SIDE_BY_SIDE = 4
"""Fewer masks than this are done before a pool of threads is awake."""


class Compiler:
    """Makes the matchers of one model. Owns the cache of compiled constraints; safe from any thread."""

    def __init__(self, table: TokenTable, limits: Limits | None = None) -> None:
        self._table = table
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, _Compiled] = OrderedDict()

    def matcher(self, constraint: Constraint, banned: Collection[int] = ()) -> Matcher:
        """Return a matcher at the start of a text that may hold none of the `banned` tokens.

        Blocks while the constraint is compiled. Raises InvalidRequest where it cannot be used.
        """
        source = f"{constraint.kind.value}\n{constraint.source}".encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(source).digest()
        made = self._cached(digest)
        if made is None:
            made = _Compiled(compiled(constraint, self._table.native, self._limits), len(source))
            self._check_start(made)
            self._keep(digest, made)
        return Matcher(made, self._table, frozenset(banned))

    def _cached(self, digest: bytes) -> _Compiled | None:
        with self._lock:
            found = self._cache.get(digest)
            if found is None or found.failed or found.tokens >= self._limits.cached_tokens:
                return None
            self._cache.move_to_end(digest)
            return found

    def _keep(self, digest: bytes, made: _Compiled) -> None:
        limits = self._limits
        with self._lock:
            self._cache[digest] = made
            self._cache.move_to_end(digest)
            while len(self._cache) > limits.cached or self._size() > limits.cached_characters:
                self._cache.popitem(last=False)

    def _size(self) -> int:
        return sum(entry.size for entry in self._cache.values())

    def _check_start(self, made: _Compiled) -> None:
        """Refuse what no text of this vocabulary can match, as far as its first token tells."""
        start = Matcher(made, self._table, frozenset())
        failures = fill_masks([start], np.empty((1, (self._table.size + 31) // 32), np.int32))
        if failures:
            raise InvalidRequest(f"the constraint cannot be used: {failures[0].message}")


class _Compiled:
    """A compiled constraint at the start of a text. Its matchers share one lexer, which grows with them."""

    def __init__(self, native: LLMatcher, size: int) -> None:
        self.native = native
        self.size = size
        self.tokens = 0
        self.failed = False


class Matcher:
    """Where one constrained text stands. Used by one thread at a time."""

    def __init__(self, made: _Compiled, table: TokenTable, banned: frozenset[int]) -> None:
        self._made = made
        self._table = table
        self._banned = banned
        self._native = made.native.deep_copy()
        self._forced: deque[int] | None = None

    @property
    def may_end(self) -> bool:
        """Whether the text is a complete one as it stands."""
        return self._native.is_accepting()

    @property
    def is_complete(self) -> bool:
        """Whether nothing but an end token may follow."""
        return self._native.is_stopped() and not self._native.is_error()

    def accept(self, token: int) -> None:
        """Go on by one token. Raises EngineError where the constraint does not allow it."""
        allowed = 0 <= token < self._table.size and token not in self._banned
        if not allowed:
            raise EngineError(f"token {token} does not match the constraint")
        if not self._native.consume_token(token):
            self._made.failed = True
            told = reason(self._native.get_error())
            raise EngineError(f"token {token} does not match the constraint: {told}")
        self._made.tokens += 1
        forced = self._forced
        if forced and forced.popleft() == token and forced:
            return
        self._forced = None

    def forced(self) -> list[int]:
        """Return the tokens that must follow, whatever the model says; they are not accepted yet.

        Of very many the first few; empty where there is a choice, also the one to end. Raises EngineError
        where nothing can follow.
        """
        if self._forced is None:
            self._forced = deque(self._find_forced())
        return list(islice(self._forced, MAX_FORCED))

    def copy(self) -> Matcher:
        """Return a matcher at the same place, to go on by itself."""
        twin = Matcher(self._made, self._table, self._banned)
        twin._native = self._native.deep_copy()
        twin._forced = None if self._forced is None else deque(self._forced)
        return twin

    def _find_forced(self) -> list[int]:
        if self.is_complete:
            return []
        tokens = self._native.compute_ff_tokens()
        self._check()
        if not self._banned.isdisjoint(tokens):
            raise EngineError("the private tokens leave nothing that the constraint allows")
        return tokens

    def _check(self) -> None:
        if self._native.is_error():
            self._made.failed = True
            told = reason(self._native.get_error())
            raise EngineError(f"the text cannot go on under its constraint: {told}")

    def _finish(self, mask: Mask) -> None:
        """Take the banned tokens out of a mask; raise EngineError if that was not one or nothing is left."""
        self._check()
        if self._banned:
            mask &= _mask_without(self._banned, mask.size)
            if not mask.any():
                raise EngineError("the private tokens leave nothing that the constraint allows")
        if not mask.any():
            raise EngineError("the constraint allows no token")


def fill_masks(matchers: Sequence[Matcher], out: Mask) -> dict[int, EngineError]:
    """Write which tokens may come next: a row of `out` for each matcher, `(size + 31) // 32` words wide.

    Returns why a matcher allows nothing, by row; that row is empty. Runs without the interpreter's
    lock, several masks side by side; nothing else may use the matchers meanwhile.
    """
    failures: dict[int, EngineError] = {}
    open_rows = []
    for row, matcher in enumerate(matchers):
        try:
            forced = matcher.forced()
        except EngineError as exc:
            failures[row] = exc
            continue
        if forced:
            _write_one(out[row], forced[0])
        else:
            open_rows.append(row)
    _fill_open([(matchers[row]._native, row) for row in open_rows], out)
    for row in open_rows:
        try:
            matchers[row]._finish(out[row])
        except EngineError as exc:
            failures[row] = exc
    for row in failures:
        out[row] = 0
    return failures


def _fill_open(rows: list[tuple[LLMatcher, int]], out: Mask) -> None:
    if len(rows) >= SIDE_BY_SIDE:
        _executor().unsafe_compute_mask_ptr(rows, out.ctypes.data, out.strides[0], len(out))
        return
    for native, row in rows:
        native.unsafe_compute_mask_ptr(out[row].ctypes.data, out.strides[0])


def _write_one(mask: Mask, token: int) -> None:
    mask[:] = 0
    mask.view(np.uint32)[token >> 5] = 1 << (token & 31)


@functools.lru_cache(maxsize=16)
def _mask_without(tokens: frozenset[int], words: int) -> Mask:
    bits = np.ones(words * 32, np.uint8)
    bits[list(tokens)] = 0
    return np.packbits(bits, bitorder="little").view(np.int32)


@functools.cache
def _executor() -> LLExecutor:
    return LLExecutor(min(MAX_THREADS, os.cpu_count() or 1))
