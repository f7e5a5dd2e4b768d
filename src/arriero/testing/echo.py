"""A model that says what it is told to say and remembers what it was fed.

Its tokens are the bytes of UTF-8, then BOS and EOS. For tests of what stands in a prompt, and for
trying a client without weights.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING

from arriero.core import Delta, FinishReason, GenerateRequest, ModelInfo, Span, Token, Usage
from arriero.errors import ContextOverflow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

BOS = 256
EOS = 257
NAMES = {"<bos>": BOS, "<eos>": EOS}


class EchoModel:
    """Implements `core.Model`.

    replies: the answers in turn, the last one again and again. An exception among them is raised
        after a first delta.
    requests, fed: each request and the tokens of its prompt, in the order of the first deltas.
    running: how many completions are neither finished nor closed.
    """

    def __init__(
        self, *replies: str | Exception, name: str = "echo", context_size: int = 4096, add_bos: bool = True
    ) -> None:
        self.name = name
        self.requests: list[GenerateRequest] = []
        self.fed: list[tuple[int, ...]] = []
        self.running = 0
        self._replies = replies or ("ok",)
        self.info = ModelInfo(
            architecture="echo",
            description="Echo",
            context_size=context_size,
            train_context_size=context_size,
            embedding_size=0,
            num_tokens=258,
            num_parameters=0,
            size_bytes=0,
            generates=True,
            chat_template=None,
            bos="<bos>",
            eos="<eos>",
            add_bos=add_bos,
            special_tokens=tuple(NAMES),
            pooling="none",
            library="none",
        )

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream the next reply, a delta for each character, cut at `max_tokens`."""
        prompt = self._prompt_tokens(request.prompt, add_bos=request.add_bos)
        if len(prompt) >= self.info.context_size:
            raise ContextOverflow(
                f"the prompt has {len(prompt)} tokens, the context {self.info.context_size}"
            )
        reply = self._replies[min(len(self.requests), len(self._replies) - 1)]
        self.requests.append(request)
        self.fed.append(prompt)
        self.running += 1
        try:
            if isinstance(reply, Exception):
                yield Delta(text="?", tokens=1)
                raise reply
            limit = len(reply.encode()) if request.max_tokens is None else request.max_tokens
            answer = reply.encode()[:limit].decode(errors="ignore")
            for character in answer:
                yield Delta(text=character, tokens=len(character.encode()))
            yield self._last(request, prompt, answer, stopped=answer == reply)
        finally:
            self.running -= 1

    async def tokenize(self, prompt: Sequence[Span], *, add_bos: bool) -> list[Token]:
        tokens = self._prompt_tokens(prompt, add_bos=add_bos)
        return [Token(text=await self.detokenize([token]), token=token) for token in tokens]

    async def detokenize(self, tokens: Sequence[int]) -> str:
        names = {token: name.encode() for name, token in NAMES.items()}
        return b"".join(names.get(token) or bytes([token]) for token in tokens).decode(errors="replace")

    def _last(
        self, request: GenerateRequest, prompt: tuple[int, ...], answer: str, *, stopped: bool
    ) -> Delta:
        said = answer.encode()
        context, end = self._context(request, (*prompt, *said)), Span(tokens=(EOS,))
        return Delta(
            finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            usage=Usage(prompt_tokens=len(prompt), completion_tokens=len(said)),
            context=context,
            end=end if context and stopped else None,
            prompt_s=0.25,
            predict_s=0.5,
        )

    def _context(self, request: GenerateRequest, tokens: tuple[int, ...]) -> tuple[Span, ...]:
        if not request.return_context:
            return ()
        shared = sum(len(span.tokens) for span in takewhile(lambda span: span.shared, request.prompt))
        spans = (Span(tokens=tokens[:shared], shared=True), Span(tokens=tokens[shared:]))
        return tuple(span for span in spans if span.tokens)

    def _prompt_tokens(self, prompt: Sequence[Span], *, add_bos: bool) -> tuple[int, ...]:
        tokens = tuple(token for span in prompt for token in (span.tokens or span_tokens(span)))
        return (BOS, *tokens) if add_bos and self.info.add_bos and tokens[:1] != (BOS,) else tokens


def span_tokens(span: Span) -> tuple[int, ...]:
    """Return the tokens of a text: its bytes, and the names in it as single tokens if it is trusted."""
    if not span.special:
        return tuple(span.text.encode())
    pieces = re.split("(<bos>|<eos>)", span.text)
    return tuple(
        token for piece in pieces for token in ([NAMES[piece]] if piece in NAMES else piece.encode())
    )
