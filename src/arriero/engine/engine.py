"""The loop of an engine process: take commands, schedule, evaluate, sample, report.

Owns the model, its KV cache and every sequence; one thread runs it. `handle` takes a command at
once, `step` does one bounded piece of work: never more than one decode call.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from itertools import accumulate

import numpy as np

from arriero.core import Delta, GenerateRequest, ModelInfo
from arriero.engine import wire
from arriero.engine.constraints import Constraints, Masks
from arriero.engine.dry import Breakers, breaker_sequences
from arriero.engine.embedding import EmbeddingQueue
from arriero.engine.generation import Generation
from arriero.engine.llama import MAX_SLOTS, Context, Llama, build_name
from arriero.engine.plan import MAX_PROMPT_OUTPUTS, CopyIn, CopyOut, Drop, Plan, Share
from arriero.engine.prompt import Prompts
from arriero.engine.sampler import sample_rows
from arriero.engine.scheduler import GPU_LONG_PREFILL, LONG_PREFILL, Limits, Scheduler
from arriero.engine.sequence import Sequence, State
from arriero.engine.tally import Tally
from arriero.engine.threads import Threads, look, usable_cpus
from arriero.errors import (
    ArrieroError,
    ContextOverflow,
    EngineError,
    InvalidRequest,
    NotSupported,
    RequestError,
)
from arriero.grammar.matcher import Matcher

logger = logging.getLogger(__name__)

TARGET_STEP_S = 0.3
"""How long a step may take while streams run: prompts are cut so that a token is never much later."""

MIN_PREFILL = 32

COMPILE_LOOK_S = 0.01
"""How long an idle loop waits for a constraint before it looks for commands again."""

TIDY_AFTER_S = 0.2
"""Time without work after which prefixes are put away: copying them would delay the next request."""

MIN_IDLE_CELLS = 2048
"""Idle prefixes may always take so many cells, until they have to make way for a decode."""


class Engine:
    """One model at work. `emit` takes each report; it must not block for long."""

    def __init__(self, llama: Llama, config: wire.EngineConfig, emit: Callable[[wire.Report], None]) -> None:
        self._llama = llama
        self._vocab = llama.vocab
        self._config = config
        self._emit = emit
        self._prompts = Prompts(self._vocab, config.name, config.context_size)
        self._embeddings = EmbeddingQueue(llama, config)
        self._constraints = Constraints(self._vocab)
        self._masks = Masks(self._vocab.size)
        self._breakers = functools.lru_cache(maxsize=64)(self._find_breakers)
        self._generations: dict[int, Generation] = {}
        self._cpus = usable_cpus()
        self._threads = Threads(config.threads, len(self._cpus))
        self._end_tokens: np.ndarray | None = None
        self._token_s = 0.0
        self._worked_at = 0.0
        self._tally = Tally()
        self._context = self._make_context() if self._generates else None
        self._scheduler = Scheduler(self._limits())

    @property
    def info(self) -> ModelInfo:
        llama, vocab = self._llama, self._vocab
        return ModelInfo(
            architecture=llama.architecture,
            description=llama.description,
            context_size=self._config.context_size,
            train_context_size=llama.train_context_size,
            embedding_size=llama.embedding_size,
            num_tokens=vocab.size,
            num_parameters=llama.num_parameters,
            size_bytes=llama.size_bytes,
            generates=self._generates,
            chat_template=self._config.chat_template or llama.chat_template,
            bos=self._name(vocab.bos),
            eos=self._name(vocab.eos),
            add_bos=vocab.add_bos,
            special_tokens=tuple(dict.fromkeys(vocab.controls.values())),
            pooling=self._embeddings.pooling,
            library=f"llama.cpp {build_name()}",
            embeds=self._embeddings.is_usual,
        )

    @property
    def is_idle(self) -> bool:
        scheduler = self._scheduler
        is_waiting = self._embeddings.is_waiting or self._constraints.is_waiting
        return not (scheduler.running or scheduler.waiting or is_waiting)

    def handle(self, command: wire.Command) -> None:
        """Take a command. A request that cannot be done is answered with Refused at once."""
        id = getattr(command, "id", 0)
        try:
            self._handle(command)
        except ArrieroError as exc:
            self._refuse(id, exc)
        except Exception:
            logger.exception("request %d failed", id)
            self._refuse(id, EngineError("the engine failed on this request; its log says why"))

    def rest(self) -> float | None:
        """Use a time without work for a little tidying.

        Return the seconds after which to call again if no work has come; None if there is no need.
        """
        self._threads.pause()
        soon_s = self._worked_at + TIDY_AFTER_S - time.perf_counter()
        if soon_s > 0:
            return soon_s
        plan = self._scheduler.tidy()
        self._carry_out(plan)
        return 0 if plan.operations else None

    def step(self) -> None:
        """Do one piece of work: a batch of embeddings, or one decode call with its sampling."""
        started = time.perf_counter()
        if self._embeddings.is_waiting:
            for report in self._embeddings.step():
                self._emit(report)
        if self._constraints.is_waiting:
            self._admit_compiled()
        plan = self._scheduler.plan(self._prefill_budget())
        self._carry_out(plan)
        if not plan.rows:
            if self._constraints.is_waiting:
                self._constraints.wait(COMPILE_LOOK_S)
            return
        self._decode(plan)
        deltas = self._sample(plan)
        now = self._worked_at = time.perf_counter()
        self._tally.steps += 1
        self._tally.loop_s += now - started
        is_due = self._tally.is_due(now) or any(delta.finish_reason for _, delta in deltas)
        if deltas or is_due:
            self._emit(wire.Step(tuple(deltas), self._stats() if is_due else None))

    # -- commands

    def _handle(self, command: wire.Command) -> None:
        match command:
            case wire.Generate(id, request):
                self._start(id, request)
            case wire.Abort(id):
                self._abort(id)
            case wire.Embed(id, inputs, normalize):
                self._embeddings.add(id, inputs, normalize)
            case wire.Tokenize(id, prompt, add_bos):
                for tokens, is_last in self._prompts.described(prompt, add_bos):
                    self._emit(wire.Tokens(id, tokens, is_last))
            case wire.Detokenize(id, tokens):
                self._emit(wire.Text(id, self._prompts.text(tokens)))
            case wire.Shrink():
                self._scheduler.store.clear()
                self._emit(wire.Step((), self._stats()))
            case wire.Load():
                raise EngineError("the model is loaded already")

    def _start(self, id: int, request: GenerateRequest) -> None:
        if self._context is None:
            raise NotSupported(f"model {self._config.name} only embeds; it cannot generate text")
        self._check(request)
        tokens, shared = self._prompts.tokens(request.prompt, request.add_bos)
        size, most = len(tokens), self._config.context_size
        if not size:
            raise InvalidRequest("the prompt is empty", param="prompt")
        if size >= most and not (size == most and request.max_tokens == 0):
            raise ContextOverflow(
                f"the prompt does not fit the context window: {size} tokens, and the context of model"
                f" {self._config.name} is {most} tokens",
                param="prompt",
            )
        room = most - size
        completion = room if request.max_tokens is None else min(request.max_tokens, room)
        sequence = Sequence(
            id,
            tokens,
            reserve=size + completion,
            tenant=request.tenant,
            shared=shared,
            all_outputs=request.prompt_logprobs,
            continued=request.continued,
        )
        generation = Generation(sequence, request, self._vocab, self._breakers, context_size=most)
        if request.constraint is not None and completion:
            self._constraints.add(generation, request.constraint)
        else:
            self._admit(generation)

    def _admit(self, generation: Generation) -> None:
        self._generations[generation.sequence.id] = generation
        self._scheduler.add(generation.sequence)

    def _admit_compiled(self) -> None:
        """Admit the generations whose constraint is compiled by now."""
        for generation, outcome in self._constraints.finished():
            try:
                if isinstance(outcome, ArrieroError):
                    raise outcome
                generation.begin(outcome)
            except ArrieroError as exc:
                self._refuse(generation.sequence.id, exc)
            else:
                self._admit(generation)

    def _check(self, request: GenerateRequest) -> None:
        for token, _ in request.sampling.logit_bias:
            if not 0 <= token < self._vocab.size:
                raise InvalidRequest(f"no token {token} in the vocabulary", param="logit_bias")

    def _abort(self, id: int) -> None:
        self._embeddings.abort(id)
        self._constraints.abort(id)
        generation = self._generations.pop(id, None)
        if generation:
            self._scheduler.finish(generation.sequence)
            self._emit(wire.Step((), self._stats()))

    def _refuse(self, id: int, error: ArrieroError) -> None:
        param = error.param if isinstance(error, RequestError) else None
        self._emit(wire.Refused(id, error.code, error.message, param))

    # -- one step

    def _carry_out(self, plan: Plan) -> None:
        if self._context is None:
            return
        for operation in plan.operations:
            match operation:
                case Share(source, target, count):
                    self._context.share(source, target, count)
                case Drop(slot):
                    self._context.drop(slot)
                case CopyOut(slot, stored):
                    data = self._context.copy_out(slot, stored.first, len(stored.tokens))
                    self._scheduler.store.fill(stored, data)
                case CopyIn(stored, slot):
                    self._context.copy_in(stored.data, slot, stored.first, len(stored.tokens))

    def _decode(self, plan: Plan) -> None:
        assert self._context is not None
        count = self._context.fill(*plan.batch())
        self._masks.begin(self._matchers(plan))
        look(self._threads, self._cpus)
        self._context.use_threads(self._threads.count)
        started = time.perf_counter()
        has_room = self._context.decode(count)
        if not has_room and self._scheduler.forget_idle():
            self._carry_out(self._scheduler.take_operations())
            has_room = self._context.decode(count)
        if not has_room:
            raise EngineError(f"the KV cache of model {self._config.name} has no room for {count} tokens")
        seconds = time.perf_counter() - started
        self._tally.decode_s += seconds
        self._note_speed(plan, count, seconds)
        self._scheduler.evaluated(plan)

    def _sample(self, plan: Plan) -> list[tuple[int, Delta]]:
        assert self._context is not None
        ends = list(accumulate(row.num_outputs for row in plan.rows))
        if not ends[-1]:
            return []
        logits = self._context.logits(ends[-1])
        deltas: list[tuple[int, Delta]] = []
        sampled: list[Generation] = []
        places: list[int] = []
        for row, end in zip(plan.rows, ends, strict=True):
            generation = self._generations[row.sequence.id]
            if row.sequence.all_outputs:
                first = row.sequence.evaluated - row.count
                told = generation.on_prompt_logits(logits[end - row.count : end], first)
                deltas += [(row.sequence.id, delta) for delta in told]
            if row.sequence.pending:
                continue
            if generation.wants_tokens:
                generation.on_logits(logits[end - 1], self._forbidden(generation))
                sampled.append(generation)
                places.append(end - 1)
            else:
                deltas += self._take(generation, None)
        if len(places) < len(logits):
            logits = logits[places]
        found = self._masks.take()
        masks = [found.get(generation.matcher) if generation.matcher else None for generation in sampled]
        tokens = sample_rows([generation.sampler for generation in sampled], logits, masks)
        for generation, token in zip(sampled, tokens, strict=True):
            deltas += self._take(generation, token)
        return deltas

    def _matchers(self, plan: Plan) -> list[Matcher]:
        """Return the matchers of those that a plan brings to their next token."""
        due = [self._generations[row.sequence.id] for row in plan.rows if row.count == row.sequence.pending]
        return [g.matcher for g in due if g.matcher and g.wants_tokens]

    def _take(self, generation: Generation, token: int | EngineError | None) -> list[tuple[int, Delta]]:
        """Hand a sampled token to its generation, None if it wants no token; return what it says."""
        id = generation.sequence.id
        try:
            if isinstance(token, EngineError):
                raise token
            delta = generation.on_prompt_end() if token is None else generation.on_token(token)
        except EngineError as exc:
            self._refuse(id, exc)
            self._abort(id)
            return []
        if generation.finished:
            self._retire(generation)
        if not delta:
            return []
        self._tally.completion_tokens += delta.tokens
        return [(id, delta)]

    def _retire(self, generation: Generation) -> None:
        sequence = generation.sequence
        self._scheduler.finish(sequence)
        del self._generations[sequence.id]
        self._tally.count_prompt(sequence)

    def _forbidden(self, generation: Generation) -> np.ndarray | None:
        if not generation.wants_end_tokens_forbidden:
            return None
        if self._end_tokens is None:
            ends = self._vocab.ends_generation
            self._end_tokens = np.array([t for t in range(self._vocab.size) if ends(t)], np.int64)
        return self._end_tokens

    def _find_breakers(self, breakers: tuple[str, ...]) -> Breakers:
        vocab = self._vocab
        pieces = [vocab.piece(token).decode("utf-8", "replace") for token in range(vocab.size)]
        return breaker_sequences(breakers, pieces, lambda text: vocab.tokenize(text, special=False))

    # -- sizes

    def _prefill_budget(self) -> int:
        """Prompt tokens that the next batch may hold; few while streams run, by measured speed."""
        if not self._token_s or not any(s.state is State.DECODE for s in self._scheduler.running):
            return self._config.batch_size
        return max(MIN_PREFILL, int(TARGET_STEP_S / self._token_s))

    def _note_speed(self, plan: Plan, count: int, seconds: float) -> None:
        if count >= MIN_PREFILL and len(plan.rows) < count // 2:
            per_token = seconds / count
            self._token_s = 0.7 * self._token_s + 0.3 * per_token if self._token_s else per_token

    @property
    def _generates(self) -> bool:
        return self._llama.is_causal

    def _make_context(self) -> Context:
        config = self._config
        context = Context(
            self._llama,
            cells=config.cells,
            batch_size=max(config.batch_size, config.max_sequences),
            max_sequences=config.max_sequences,
            max_outputs=config.max_sequences + MAX_PROMPT_OUTPUTS,
            threads=config.threads,
        )
        context.apply_adapters(self._embeddings.adapters)
        return context

    def _limits(self) -> Limits:
        config = self._config
        return Limits(
            cells=config.cells,
            batch_size=max(config.batch_size, config.max_sequences),
            max_sequences=config.max_sequences,
            idle_slots=max(0, min(MAX_SLOTS - config.max_sequences - 1, 4 * config.max_sequences + 16)),
            idle_cells=max(MIN_IDLE_CELLS, config.cells // 8, config.context_size),
            share_prefixes=self._llama.keeps_every_position,
            stored_bytes=config.stored_bytes,
            long_prefill=GPU_LONG_PREFILL if config.gpu_layers else LONG_PREFILL,
        )

    def _stats(self) -> wire.EngineStats:
        return self._tally.stats(self._scheduler)

    def _name(self, token: int | None) -> str:
        return "" if token is None else self._vocab.name(token).decode("utf-8", "replace")
