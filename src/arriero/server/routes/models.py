"""Poly's routes on models (list, embedding, tokenization), and our own /v1/tokenize and /v1/detokenize."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from arriero.core import Span, Usage
from arriero.errors import InvalidRequest
from arriero.server.body import beside, read_json
from arriero.server.context import context_of, principal_of
from arriero.server.long_json import drained, long_response
from arriero.server.record import note_target
from arriero.server.routes.ops import json_response
from arriero.server.routes.prompt import read_prompt
from arriero.server.streaming import answered
from arriero.server.vectors import floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from arriero.server.context import ModelLike
    from arriero.server.gate import Lane
    from arriero.server.record import Record

MAX_TOKEN_IDS = 1 << 20


class TokenizeRequest(msgspec.Struct):
    """The body of /v1/tokenize. `special`: names of special tokens in `text` become those tokens."""

    model: str
    text: str
    add_bos: bool = False
    special: bool = False


class DetokenizeRequest(msgspec.Struct):
    """The body of /v1/detokenize."""

    model: str
    tokens: Annotated[list[int], Meta(max_length=MAX_TOKEN_IDS)]


async def names(request: Request) -> Response:
    """List the models."""
    return json_response({"models": context_of(request).model_names(principal_of(request))})


async def embedding(request: Request) -> Response:
    """Answer the vector of the prompt."""
    model = _model(request)
    prompt = await read_prompt(request)
    record = note_target(request, model, prompt)
    lane = context_of(request).lane(principal_of(request))
    return await answered(request, _embedded(lane, model, prompt, record))


async def _embedded(lane: Lane, model: ModelLike, prompt: str, record: Record) -> Response:
    async with lane.place():
        embeddings = await model.embed([prompt])
    record.extra = Usage(prompt_tokens=embeddings.prompt_tokens)
    return json_response({"embedding": floats(embeddings.vectors[0])})


async def tokenization(request: Request) -> Response:
    """Answer the tokens of the prompt, the begin token first as Poly does."""
    model = _model(request)
    prompt = await read_prompt(request)
    tokens = await model.tokenize([Span(text=prompt)], add_bos=True)
    return await long_response({"tokens": drained(tokens)})


def _model(request: Request) -> ModelLike:
    return context_of(request).model(principal_of(request), request.path_params["model"])


async def tokenize(request: Request) -> Response:
    """Answer the tokens of a text."""
    body = await read_json(request, TokenizeRequest)
    model = context_of(request).model(principal_of(request), body.model)
    span = Span(text=body.text, special=body.special)
    tokens = await model.tokenize([span], add_bos=body.add_bos)
    return await long_response({"model": body.model, "count": len(tokens), "tokens": drained(tokens)})


async def detokenize(request: Request) -> Response:
    """Answer the text of tokens."""
    body = await read_json(request, DetokenizeRequest)
    model = context_of(request).model(principal_of(request), body.model)
    await beside(len(body.tokens), partial(check_tokens, body.tokens, model, param="tokens"))
    return json_response({"model": body.model, "text": await model.detokenize(body.tokens)})


def check_tokens(tokens: Sequence[int], model: ModelLike, *, param: str) -> None:
    """Raise InvalidRequest unless every token is one of the model's."""
    num_tokens = model.info.num_tokens
    if tokens and not 0 <= min(tokens) <= max(tokens) < num_tokens:
        raise InvalidRequest(f"{param}: token ids must be from 0 to {num_tokens - 1}", param=param)
