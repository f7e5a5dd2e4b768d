"""Compiles the constraints of one model's generations in a thread of its own, while the loop goes on."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import numpy as np
from numpy.typing import NDArray

from arriero.core import Constraint
from arriero.engine.generation import Generation
from arriero.engine.vocab import Vocab
from arriero.errors import ArrieroError, EngineError, NotSupported
from arriero.grammar.matcher import Compiler, Matcher, fill_masks
from arriero.grammar.vocabulary import TokenTable


class Constraints:
    """Owns the compiler of one model and the generations that wait for it. Used by one thread."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._waiting: dict[int, tuple[Generation, Future[Matcher]]] = {}
        self._banned = functools.lru_cache(maxsize=16)(self._find_banned)

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def add(self, generation: Generation, constraint: Constraint) -> None:
        """Begin to compile the constraint of a generation; `finished` gives it back."""
        job = self._thread.submit(self._matcher, constraint, generation.request.private_tokens)
        self._waiting[generation.sequence.id] = generation, job

    def abort(self, id: int) -> None:
        """Forget a generation that may be waiting."""
        self._waiting.pop(id, None)

    def finished(self) -> list[tuple[Generation, Matcher | ArrieroError]]:
        """Return the generations whose constraint is compiled, or cannot be, each once."""
        done = [id for id, (_, job) in self._waiting.items() if job.done()]
        return [(generation, _outcome(job)) for generation, job in map(self._waiting.pop, done)]

    def wait(self, seconds: float) -> None:
        """Wait until one more is finished, but not longer than `seconds`."""
        wait([job for _, job in self._waiting.values()], seconds, FIRST_COMPLETED)

    def _matcher(self, constraint: Constraint, private_tokens: tuple[str, ...]) -> Matcher:
        return self._compiler.matcher(constraint, self._banned(private_tokens))

    @functools.cached_property
    def _compiler(self) -> Compiler:
        vocab = self._vocab
        special = vocab.controls
        pieces = [vocab.name(t) if t in special else vocab.piece(t) for t in range(vocab.size)]
        ends = [token for token in range(vocab.size) if vocab.ends_generation(token)]
        if not ends:
            raise NotSupported("the model has no token that ends a text, so that nothing can be constrained")
        return Compiler(TokenTable(pieces, special, ends, functools.partial(vocab.tokenize, special=False)))

    def _find_banned(self, private_tokens: tuple[str, ...]) -> Collection[int]:
        """Return the tokens that have a private token in their text."""
        privates = [text.encode() for text in private_tokens if text]
        if not privates:
            return ()
        pieces = enumerate(map(self._vocab.piece, range(self._vocab.size)))
        return frozenset(token for token, piece in pieces if any(text in piece for text in privates))


class Masks:
    """The masks of one step: for each constrained generation the tokens that may come next, as bits.

    They are computed beside the decode call, by a thread of their own.
    """

    def __init__(self, vocab_size: int) -> None:
        self._buffer = np.empty((0, (vocab_size + 31) // 32), np.int32)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="masks")
        self._matchers: Sequence[Matcher] = ()
        self._job: Future[dict[int, EngineError]] | None = None

    def begin(self, matchers: Sequence[Matcher]) -> None:
        """Begin to compute the masks of matchers, which must not move on before `take`."""
        if not matchers:
            return
        if len(matchers) > len(self._buffer):
            self._buffer = np.empty((len(matchers), self._buffer.shape[1]), np.int32)
        self._matchers = matchers
        self._job = self._thread.submit(fill_masks, matchers, self._buffer[: len(matchers)])

    def take(self) -> dict[Matcher, NDArray[np.int32] | EngineError]:
        """Return the mask of each matcher, or why it allows nothing; valid until the next `begin`."""
        if self._job is None:
            return {}
        failures, self._job = self._job.result(), None
        return {matcher: failures.get(i, self._buffer[i]) for i, matcher in enumerate(self._matchers)}


def _outcome(job: Future[Matcher]) -> Matcher | ArrieroError:
    failure = job.exception()
    if failure is None:
        return job.result()
    if isinstance(failure, ArrieroError):
        return failure
    return EngineError(f"the constraint could not be compiled: {type(failure).__name__}")
