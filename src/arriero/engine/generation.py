"""One completion in the making: sampler, detokenizer and counts of one sequence.

Decides when a completion ends and what each delta says; knows nothing of batches or llama.cpp.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from arriero.core import Delta, FinishReason, GenerateRequest, TokenLogprob, Usage
from arriero.engine.detokenizer import Detokenizer, Emission
from arriero.engine.dry import Breakers
from arriero.engine.llama import Floats
from arriero.engine.sampler import TokenSampler, logprobs
from arriero.engine.sequence import Sequence
from arriero.engine.vocab import Vocab

FindBreakers = Callable[[tuple[str, ...]], Breakers]
"""Finds the token sequences of DRY's breakers."""


class Generation:
    """Turns the logits of one sequence into deltas. Owned by the engine's loop."""

    def __init__(
        self,
        sequence: Sequence,
        request: GenerateRequest,
        vocab: Vocab,
        breakers: FindBreakers,
        *,
        context_size: int,
    ) -> None:
        self.sequence = sequence
        self.request = request
        self.finished = False
        self._vocab = vocab
        self._context_size = context_size
        self.sampler = TokenSampler(request.sampling, vocab.size, sequence.tokens, breakers)
        self._detokenizer = Detokenizer(
            vocab.piece, request.stop_sequences, request.private_tokens, vocab.control_text
        )
        self._completion_tokens = 0
        self._unreported = 0
        self._logprobs: list[TokenLogprob] = []
        self._raw: Floats | None = None
        self._created_s = time.perf_counter()
        self._first_token_s: float | None = None

    def on_prompt_logits(self, logits: Floats, position: int) -> None:
        """Record the logprob of the prompt token at `position + 1`, given the logits of `position`."""
        if position == 0:
            first = self.sequence.tokens[0]
            self._logprobs.append(TokenLogprob(first, self._vocab.name(first), None))
        if position + 1 < self.sequence.prompt_size:
            self._logprobs.append(self._logprob(logits, self.sequence.tokens[position + 1]))

    def on_logits(self, logits: Floats, forbidden: np.ndarray | None) -> None:
        """Get the logits of the next token ready for the sampler, in place.

        forbidden: end tokens, banned while the completion is too short to end.
        """
        if self._first_token_s is None:
            self._first_token_s = time.perf_counter()
        if forbidden is not None and self._must_go_on:
            logits[forbidden] = -np.inf
        self._raw = logits.copy() if self.request.logprobs is not None else None

    def on_token(self, token: int) -> Delta | None:
        """Take the sampled token and return what can be said now; the last delta has a finish_reason."""
        self.sampler.accept(token)
        self.sequence.tokens.append(token)
        if self._vocab.ends_generation(token) and not self.request.ignore_eos:
            return self._finish(FinishReason.STOP, self._detokenizer.flush())
        self._completion_tokens += 1
        self._unreported += 1
        if self._raw is not None:
            self._logprobs.append(self._logprob(self._raw, token))
        return self._emit(self._detokenizer.feed(token))

    def on_prompt_end(self) -> Delta:
        """End a completion that wants no token."""
        return self._finish(FinishReason.LENGTH, Emission())

    @property
    def wants_tokens(self) -> bool:
        return self.request.max_tokens != 0

    @property
    def wants_end_tokens_forbidden(self) -> bool:
        return self.request.ignore_eos or self.request.min_tokens > 0

    @property
    def _must_go_on(self) -> bool:
        return self.request.ignore_eos or self._completion_tokens < self.request.min_tokens

    @property
    def _is_at_limit(self) -> bool:
        limit = self.request.max_tokens
        is_long = limit is not None and self._completion_tokens >= limit
        return is_long or len(self.sequence.tokens) >= self._context_size

    def _emit(self, emission: Emission) -> Delta | None:
        if emission.stopped:
            return self._finish(FinishReason.STOP, emission)
        if self._is_at_limit:
            rest = self._detokenizer.flush()
            reason = FinishReason.STOP if rest.stopped else FinishReason.LENGTH
            return self._finish(reason, Emission(emission.text + rest.text, rest.stop_sequence))
        if not emission.text and not self._logprobs:
            return None
        delta = Delta(text=emission.text, tokens=self._unreported, logprobs=tuple(self._logprobs))
        self._unreported = 0
        self._logprobs.clear()
        return delta

    def _finish(self, reason: FinishReason, emission: Emission) -> Delta:
        self.finished = True
        now = time.perf_counter()
        first = self._first_token_s or now
        sequence = self.sequence
        return Delta(
            text=emission.text,
            tokens=self._unreported,
            logprobs=tuple(self._logprobs),
            finish_reason=reason,
            stop_sequence=emission.stop_sequence,
            usage=Usage(sequence.prompt_size, self._completion_tokens, sequence.cached),
            context=tuple(sequence.tokens) if self.request.return_context else (),
            prompt_s=first - self._created_s,
            predict_s=now - first,
        )

    def _logprob(self, logits: Floats, token: int) -> TokenLogprob:
        value, top = logprobs(logits, token, self.request.logprobs or 0)
        name = self._vocab.name
        return TokenLogprob(token, name(token), value, tuple((t, name(t), p) for t, p in top))
