"""One completion in the making: sampler, detokenizer and counts of one sequence.

Decides when a completion ends and what each delta says; knows nothing of batches or llama.cpp.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from arriero.core import Delta, FinishReason, GenerateRequest, Span, TokenLogprob, Usage
from arriero.engine.detokenizer import Detokenizer
from arriero.engine.dry import Breakers
from arriero.engine.llama import Floats
from arriero.engine.sampler import TokenSampler, logprobs
from arriero.engine.sequence import Sequence
from arriero.engine.text_filter import Emission
from arriero.engine.vocab import Vocab
from arriero.errors import ContextOverflow, EngineError
from arriero.grammar.matcher import Matcher

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
        self._detokenizer = _detokenizer(request, vocab)
        self._matcher: Matcher | None = None
        self._is_complete = False
        self._lead = Emission()
        self._completion_tokens = 0
        self._unreported = 0
        self._logprobs: list[TokenLogprob] = []
        self._raw: Floats | None = None
        self._created_s = time.perf_counter()
        self._first_token_s: float | None = None

    def on_prompt_logits(self, rows: Floats, first: int) -> list[Delta]:
        """Take the logits of the tokens from `first` on; those of a prompt tell the next logprobs.

        Return these while the prompt goes on: of a long one they are many.
        """
        tokens, size = self.sequence.tokens, self.sequence.prompt_size
        if first == 0:
            self._logprobs.append(TokenLogprob(tokens[0], self._vocab.name(tokens[0]), None))
        followed = tokens[first + 1 : min(first + 1 + len(rows), size)]
        self._logprobs += map(self._logprob, rows, followed)
        if not (self.sequence.pending and self._logprobs):
            return []
        delta = Delta(logprobs=tuple(self._logprobs))
        self._logprobs.clear()
        return [delta]

    def on_logits(self, logits: Floats, forbidden: np.ndarray | None) -> None:
        """Get the logits of the next token ready for the sampler, in place.

        forbidden: end tokens, banned while the completion is too short to end.
        """
        if self._first_token_s is None:
            self._first_token_s = time.perf_counter()
        if forbidden is not None and self._must_go_on:
            logits[forbidden] = -np.inf
        self._raw = logits.copy() if self.request.logprobs is not None else None

    def begin(self, matcher: Matcher) -> None:
        """Constrain the completion from its first token on; call it before the prompt is evaluated.

        What must follow by the constraint alone is evaluated with the prompt. Raises ContextOverflow
        when there is no room for that, EngineError when private tokens leave nothing.
        """
        self._matcher = matcher
        self._lead = self._follow(Emission())
        if self._is_context_full and not self._is_complete:
            raise ContextOverflow("the context has no room for the shortest answer", param="prompt")

    @property
    def matcher(self) -> Matcher | None:
        """What the completion must match; where it stands now."""
        return self._matcher

    def on_token(self, token: int) -> Delta | None:
        """Take the sampled token and return what can be said now; the last delta has a finish_reason.

        Tokens that must follow by the constraint are taken with it. Raises EngineError when nothing
        may follow, or when a private token has come up in a constrained completion.
        """
        if self._vocab.ends_generation(token) and (self._matcher or not self.request.ignore_eos):
            self._accept(token)
            return self._finish(FinishReason.STOP, self._led(self._detokenizer.flush()))
        emission = self._led(self._add(token))
        if self._matcher is not None:
            self._matcher.accept(token)
            emission = self._follow(emission)
        return self._emit(emission)

    def on_prompt_end(self) -> Delta:
        """End a completion that wants no token to be sampled."""
        return self._end(self._led(Emission()))

    @property
    def wants_tokens(self) -> bool:
        return not (self._is_complete or self._is_at_limit)

    @property
    def wants_end_tokens_forbidden(self) -> bool:
        return self.request.ignore_eos or self.request.min_tokens > 0

    @property
    def _wants_logprobs(self) -> bool:
        return self.request.logprobs is not None or self.request.prompt_logprobs

    @property
    def _must_go_on(self) -> bool:
        return self.request.ignore_eos or self._completion_tokens < self.request.min_tokens

    @property
    def _is_at_limit(self) -> bool:
        limit = self.request.max_tokens
        return (limit is not None and self._completion_tokens >= limit) or self._is_context_full

    @property
    def _is_context_full(self) -> bool:
        return len(self.sequence.tokens) >= self._context_size

    def _accept(self, token: int) -> None:
        self.sampler.accept(token)
        self.sequence.tokens.append(token)

    def _add(self, token: int) -> Emission:
        self._accept(token)
        self._completion_tokens += 1
        self._unreported += 1
        if self._raw is not None:
            self._logprobs.append(self._logprob(self._raw, token))
        return self._detokenizer.feed(token)

    def _follow(self, emission: Emission) -> Emission:
        """Take the tokens that must follow; one by one if each needs log probabilities of its own."""
        assert self._matcher is not None
        while not (self._is_over(emission) or self._matcher.is_complete):
            forced = [] if self._wants_logprobs else self._matcher.forced()
            if not forced:
                break
            for token in forced:
                if self._is_over(emission):
                    break
                self._matcher.accept(token)
                more = self._add(token)
                emission = Emission(emission.text + more.text, more.stop_sequence)
        self._is_complete = self._matcher.is_complete
        return emission

    def _is_over(self, emission: Emission) -> bool:
        return emission.stopped or self._is_at_limit

    def _led(self, emission: Emission) -> Emission:
        """Return the emission after what was evaluated with the prompt, once."""
        lead, self._lead = self._lead, Emission()
        return Emission(lead.text + emission.text, lead.stop_sequence or emission.stop_sequence)

    def _emit(self, emission: Emission) -> Delta | None:
        if emission.stopped or self._is_complete or self._is_at_limit:
            return self._end(emission)
        if not emission.text and not self._logprobs:
            return None
        delta = Delta(text=emission.text, tokens=self._unreported, logprobs=tuple(self._logprobs))
        self._unreported = 0
        self._logprobs.clear()
        return delta

    def _end(self, emission: Emission) -> Delta:
        if not emission.stopped:
            rest = self._detokenizer.flush()
            emission = Emission(emission.text + rest.text, rest.stop_sequence)
        if self._matcher and emission.stop_sequence in self.request.private_tokens:
            raise EngineError("the answer cannot match its constraint without a private token")
        if self._is_complete and self._vocab.eos is not None:
            self.sequence.tokens.append(self._vocab.eos)
        ended = emission.stopped or self._is_complete
        return self._finish(FinishReason.STOP if ended else FinishReason.LENGTH, emission)

    def _finish(self, reason: FinishReason, emission: Emission) -> Delta:
        self.finished = True
        now = time.perf_counter()
        first = self._first_token_s or now
        sequence = self.sequence
        context, end = self._context(emission.stop_sequence) if self.request.return_context else ((), None)
        return Delta(
            text=emission.text,
            tokens=self._unreported,
            logprobs=tuple(self._logprobs),
            finish_reason=reason,
            stop_sequence=emission.stop_sequence,
            usage=Usage(sequence.prompt_size, self._completion_tokens, sequence.cached),
            context=context,
            end=end,
            prompt_s=first - self._created_s,
            predict_s=now - first,
        )

    def _context(self, stop_sequence: str | None) -> tuple[tuple[Span, ...], Span | None]:
        """Return what is in the context, the part for every tenant apart, and the end token apart."""
        sequence = self.sequence
        tokens, shared = tuple(sequence.tokens), sequence.shared
        end = None
        has_completion = len(tokens) > sequence.prompt_size
        if has_completion and stop_sequence is None and self._vocab.ends_generation(tokens[-1]):
            tokens, end = tokens[:-1], Span(tokens=tokens[-1:])
        spans = (Span(tokens=tokens[:shared], shared=True), Span(tokens=tokens[shared:]))
        return tuple(span for span in spans if span.tokens), end

    def _logprob(self, logits: Floats, token: int) -> TokenLogprob:
        value, top = logprobs(logits, token, self.request.logprobs or 0)
        name = self._vocab.name
        return TokenLogprob(token, name(token), value, tuple((t, name(t), p) for t, p in top))


def _detokenizer(request: GenerateRequest, vocab: Vocab) -> Detokenizer:
    """Return the detokenizer; private tokens cannot be taken out of a constrained text, so they stop it."""
    stops, privates = request.stop_sequences, request.private_tokens
    if request.constraint is not None:
        stops, privates = (*stops, *privates), ()
    return Detokenizer(vocab.piece, stops, privates, vocab.control_text)
