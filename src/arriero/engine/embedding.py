"""Texts to vectors: requests are cut into batches of whole inputs, several inputs in one batch.

Has a context of its own on the shared weights, made when it is first needed. Lives in the engine's
thread, between decode steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from arriero.engine import wire
from arriero.engine.llama import Context, Floats, Llama
from arriero.engine.threads import Threads, look, usable_cpus
from arriero.errors import ContextOverflow, InvalidRequest

MAX_INPUTS = 32
"""Inputs in one batch. Its size must divide that of the batch, else llama.cpp aborts."""

SHARED_TOKENS = 256
"""Tokens of a batch of several inputs on a CPU: attention is computed between all tokens of a batch, those of
different inputs too, and more tokens do not make the arithmetic faster."""


@dataclass(slots=True)
class _Request:
    id: int
    inputs: list[list[int]]
    normalize: bool
    vectors: list[bytes] = field(default_factory=list)


class EmbeddingQueue:
    """Waiting embedding requests of one model, first come, first served."""

    def __init__(self, llama: Llama, config: wire.EngineConfig) -> None:
        self._llama = llama
        self._config = config
        self._context: Context | None = None
        self._requests: deque[_Request] = deque()
        self._cpus = usable_cpus()
        self._threads = Threads(config.threads, len(self._cpus))
        self.adapters = [Path(path) for path in config.lora_adapters]

    @property
    def is_waiting(self) -> bool:
        return bool(self._requests)

    @property
    def pooling(self) -> str:
        """How token vectors become one: what the configuration says, else the file, else `last`."""
        named = {"0": "none", "1": "mean", "2": "cls", "3": "last", "4": "rank"}
        return self._config.pooling or named.get(self._pooling_in_file or "", "last")

    @property
    def is_usual(self) -> bool:
        """Whether the model was made for it: it generates nothing, or its file says how to."""
        return not self._llama.is_causal or self._pooling_in_file is not None

    @property
    def _pooling_in_file(self) -> str | None:
        return self._llama.metadata(f"{self._llama.architecture}.pooling_type")

    @property
    def context_size(self) -> int:
        """The most tokens of one input."""
        return min(self._config.context_size, self._llama.train_context_size)

    def add(self, id: int, inputs: Sequence[str | tuple[int, ...]], normalize: bool | None) -> None:
        """Queue a request. Raises ContextOverflow or InvalidRequest naming the input."""
        configured = self._config.normalize
        default = not self._llama.is_causal if configured is None else configured
        wanted = default if normalize is None else normalize
        self._requests.append(_Request(id, [self._tokens(i, x) for i, x in enumerate(inputs)], wanted))

    def abort(self, id: int) -> None:
        """Forget a request, if it is still there."""
        self._requests = deque(request for request in self._requests if request.id != id)

    def step(self) -> list[wire.Vectors]:
        """Evaluate one batch; return the requests that are complete with it."""
        chosen = self._next_batch()
        for (request, _), vector in zip(chosen, self._embed([tokens for _, tokens in chosen]), strict=True):
            request.vectors.append(self._bytes(vector, request.normalize))
        done = []
        while self._requests and len(self._requests[0].vectors) == len(self._requests[0].inputs):
            request = self._requests.popleft()
            done.append(wire.Vectors(request.id, tuple(request.vectors), sum(map(len, request.inputs))))
        if not self._requests:
            self._threads.pause()
        return done

    def _tokens(self, index: int, text: str | tuple[int, ...]) -> list[int]:
        vocab = self._llama.vocab
        if isinstance(text, str) and len(text) > 1024 * self.context_size:
            raise self._too_long(index, f"{len(text)} characters")
        tokens = vocab.tokenize_whole(text, special=False) if isinstance(text, str) else list(text)
        if not tokens or not text:
            raise InvalidRequest(f"input {index} is empty", param="input")
        if len(tokens) > self.context_size:
            raise self._too_long(index, f"{len(tokens)} tokens")
        if min(tokens) < 0 or max(tokens) >= vocab.size:
            raise InvalidRequest(f"input {index} has a token that is not in the vocabulary", param="input")
        return tokens

    def _too_long(self, index: int, size: str) -> ContextOverflow:
        return ContextOverflow(
            f"input {index} does not fit the context window: {size}, and model {self._config.name}"
            f" embeds at most {self.context_size} tokens",
            param="input",
        )

    def _next_batch(self) -> list[tuple[_Request, list[int]]]:
        """Take whole inputs in order until the batch is full; at least one."""
        chosen: list[tuple[_Request, list[int]]] = []
        room = self._shared_size
        for request in self._requests:
            for tokens in request.inputs[len(request.vectors) :]:
                if chosen and (len(tokens) > room or len(chosen) == MAX_INPUTS):
                    return chosen
                chosen.append((request, tokens))
                room -= len(tokens)
        return chosen

    @property
    def _batch_size(self) -> int:
        size = max(self._config.batch_size, self.context_size)
        return -(-size // MAX_INPUTS) * MAX_INPUTS

    @property
    def _shared_size(self) -> int:
        return self._batch_size if self._config.gpu_layers else min(self._batch_size, SHARED_TOKENS)

    def _embed(self, inputs: list[list[int]]) -> list[Floats]:
        if not inputs:
            return []
        context = self._context = self._context or self._make_context()
        context.clear()
        n = 0
        for slot, tokens in enumerate(inputs):
            end = n + len(tokens)
            context.tokens[n:end] = tokens
            context.positions[n:end] = range(len(tokens))
            context.slots[n:end] = slot
            n = end
        context.outputs[:n] = 1
        look(self._threads, self._cpus)
        context.use_threads(self._threads.count)
        context.decode(n)
        if context.pooling != "none":
            return [context.pooled_embedding(slot) for slot in range(len(inputs))]
        ends = np.cumsum([len(tokens) for tokens in inputs])
        return [context.token_embedding(int(end) - 1) for end in ends]

    def _make_context(self) -> Context:
        context = Context(
            self._llama,
            cells=self._batch_size,
            batch_size=self._batch_size,
            max_sequences=MAX_INPUTS,
            max_outputs=0,
            threads=self._config.threads,
            embeddings=True,
            pooling=self.pooling,
        )
        context.apply_adapters(self.adapters)
        return context

    @staticmethod
    def _bytes(vector: Floats, normalize: bool) -> bytes:
        norm = float(np.linalg.norm(vector))
        if normalize and norm > 0:
            vector = vector / np.float32(norm)
        return vector.astype("<f4").tobytes()
