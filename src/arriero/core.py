"""The vocabulary that all layers share: plain frozen values and the protocols of a model.

Knows nothing of HTTP, llama.cpp or files. Values are msgspec Structs, so that they cross the
process boundary to an engine as they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from enum import Enum
from typing import Protocol

import msgspec

from arriero.sampling import SamplingParams


class FinishReason(str, Enum):
    """Why a completion ended. `STOP`: end token or stop sequence. `LENGTH`: token limit or full context."""

    STOP = "stop"
    LENGTH = "length"


class Role(str, Enum):
    """Whose words a part of a prompt is."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Span(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a prompt; either `text` or `tokens` (never both).

    special: `text` is trusted: names of special tokens in it become those tokens. In user text
        (False) they stay text.
    shared: the evaluated tokens may serve every tenant (configured text such as a prelude).
        Only the leading run of shared spans counts.
    role: a message of this role begins here, for models that are fed messages; None = it goes on.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    special: bool = False
    shared: bool = False
    role: Role | None = None


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one request. `cached_tokens` of the prompt were not evaluated again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class TokenLogprob(msgspec.Struct, frozen=True):
    """One token with its natural-log probability under the model (temperature 1, before samplers).

    `data` are the token's bytes (perhaps a part of a character). `logprob` is None for the
    very first token of a prompt. `top` holds the likeliest alternatives, best first.
    """

    token: int
    data: bytes
    logprob: float | None
    top: tuple[tuple[int, bytes, float], ...] = ()


class Citation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A passage of a memory that an answer was given to draw on.

    page: from 1. section: the headings above it, outermost first. start, end: characters of the document's
    text. rerank_score: the reranker's, of a memory that has one.
    """

    memory: str
    document_id: str
    name: str
    score: float
    start: int
    end: int
    title: str = ""
    page: int | None = None
    section: tuple[str, ...] = ()
    rerank_score: float | None = None


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of a stream. The last one of a complete stream, and only that, has a finish_reason.

    text: printable text; never a part of a character, a stop sequence or a private token.
    tokens: number of completion tokens sampled since the previous delta.
    logprobs: of those tokens, when asked for (prompt tokens come first when `prompt_logprobs`).
    context: only on the last delta and only when `GenerateRequest.return_context`: the prompt and the
        completion, as the next prompt of the session best begins.
    end: beside `context`, what the model ended its completion with, if it did so itself.
    """

    text: str = ""
    tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    context: tuple[Span, ...] = ()
    end: Span | None = None
    prompt_s: float = 0.0
    """Last delta: seconds from admission to the first token (prompt evaluation)."""
    predict_s: float = 0.0
    """Last delta: seconds from the first token to the end."""
    hidden: str = ""
    """Text that leads to the answer and is no part of it, where callers may see it; then `text` is empty."""
    citations: tuple[Citation, ...] = ()
    """Last delta: what the prompt was given of a task's memory."""


class ConstraintKind(Enum):
    """How a constraint is written."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


class Constraint(msgspec.Struct, frozen=True):
    """What the text of a completion must match as a whole. Make one with `arriero.grammar.constraint`.

    source: a JSON Schema as JSON text, a regular expression, or a grammar in llguidance's Lark dialect.
    """

    kind: ConstraintKind
    source: str


class GenerateRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One completion to generate.

    max_tokens: None = until the end token or the context is full. 0 = evaluate the prompt only.
    tenant: whose private text this is; equal prefixes of other tenants are not reused.
    logprobs: number of alternatives for each token; None = no logprobs at all.
    min_tokens: the end token is not allowed before this many completion tokens.
    ignore_eos: go on after the end token (benchmarks).
    continued: later prompts may begin with this one *and* its completion (a chat), so that the prefix
        cache keeps both; otherwise it keeps the prompt.
    add_bos: put the model's begin token first, if the model wants one and it is not there yet.
    constraint: what the completion must match; it ends as soon as nothing more may follow.
    trace: the caller's place in a trace, a `traceparent`, told to whoever is asked elsewhere.
    """

    prompt: tuple[Span, ...]
    sampling: SamplingParams
    max_tokens: int | None = None
    min_tokens: int = 0
    stop_sequences: tuple[str, ...] = ()
    private_tokens: tuple[str, ...] = ()
    tenant: str = ""
    logprobs: int | None = None
    prompt_logprobs: bool = False
    ignore_eos: bool = False
    continued: bool = False
    add_bos: bool = True
    return_context: bool = False
    constraint: Constraint | None = None
    trace: str = ""


class ModelInfo(msgspec.Struct, frozen=True):
    """What a loaded model is. Sizes in tokens, parameters in units, bytes in bytes.

    num_tokens: 0 = its tokens are not known here, so that it is fed text and tells none.
    embeds: whether it was made for embeddings, as far as its file says.
    """

    architecture: str
    description: str
    context_size: int
    train_context_size: int
    embedding_size: int
    num_tokens: int
    num_parameters: int
    size_bytes: int
    generates: bool
    chat_template: str | None
    bos: str
    eos: str
    add_bos: bool
    special_tokens: tuple[str, ...]
    pooling: str
    library: str
    embeds: bool = True


class Token(msgspec.Struct, frozen=True):
    """A token id and its text (U+FFFD where a byte is no character of its own)."""

    text: str
    token: int


class Embeddings(msgspec.Struct, frozen=True):
    """`vectors[i]` holds little-endian float32 of input i (`ModelInfo.embedding_size` numbers)."""

    vectors: tuple[bytes, ...]
    prompt_tokens: int


class Model(Protocol):
    """A configured generator. All methods raise `Unavailable` while the model cannot serve."""

    @property
    def name(self) -> str: ...

    @property
    def info(self) -> ModelInfo: ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream one completion.

        Raises ContextOverflow before the first delta, EngineError in the middle. Closing the
        iterator (`aclosing`) stops the work within one decode step.
        """
        ...

    async def tokenize(self, prompt: Sequence[Span], *, add_bos: bool) -> list[Token]:
        """Return the tokens of a prompt; each span is tokenized on its own."""
        ...

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; special tokens are shown by name."""
        ...


class Embedder(Protocol):
    """Something that turns texts into vectors."""

    @property
    def name(self) -> str: ...

    @property
    def info(self) -> ModelInfo: ...

    async def embed(
        self, inputs: Sequence[str | Sequence[int]], *, normalize: bool | None = None
    ) -> Embeddings:
        """Embed each text or token list. `normalize` None = as the model is configured.

        Raises ContextOverflow naming the index of an input that is too long, InvalidRequest for
        an empty one.
        """
        ...
