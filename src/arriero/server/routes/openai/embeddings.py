"""POST /v1/embeddings: vectors of texts or token lists, as numbers or base64."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from arriero.core import Usage
from arriero.errors import InvalidRequest
from arriero.server.body import beside, read_json
from arriero.server.context import context_of, principal_of
from arriero.server.long_json import long_response
from arriero.server.record import note_target
from arriero.server.routes.models import check_tokens
from arriero.server.routes.openai.inputs import Input, read_inputs
from arriero.server.streaming import answered
from arriero.server.vectors import base64_text, floats

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from arriero.server.context import ModelLike
    from arriero.server.gate import Lane
    from arriero.server.record import Record

MAX_INPUTS = 2048


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """The body; `user` and other members without effect are ignored."""

    model: str
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None


async def create(request: Request) -> Response:
    """Answer one vector for each input."""
    body = await read_json(request, EmbeddingsRequest)
    context = context_of(request)
    principal = principal_of(request)
    model = context.model(principal, body.model)
    inputs = await read_inputs(body.input, param="input", max_length=MAX_INPUTS)
    await beside(sum(map(len, inputs)), partial(_check, body, inputs, model))
    record = note_target(request, model, body.input)
    return await answered(request, _embedded(context.lane(principal), model, inputs, record, body))


def _check(body: EmbeddingsRequest, inputs: list[str | list[int]], model: ModelLike) -> None:
    size = model.info.embedding_size
    if body.dimensions not in (None, size):
        raise InvalidRequest(f"dimensions must be {size}, or absent, for this model", param="dimensions")
    for one in inputs:
        if not isinstance(one, str):
            check_tokens(one, model, param="input")


async def _embedded(
    lane: Lane,
    model: ModelLike,
    inputs: list[str | list[int]],
    record: Record,
    body: EmbeddingsRequest,
) -> Response:
    async with lane.place():
        embeddings = await model.embed(inputs)
    record.extra = Usage(prompt_tokens=embeddings.prompt_tokens)
    written = base64_text if body.encoding_format == "base64" else floats
    data = (
        {"object": "embedding", "index": index, "embedding": written(vector)}
        for index, vector in enumerate(embeddings.vectors)
    )
    usage = {"prompt_tokens": embeddings.prompt_tokens, "total_tokens": embeddings.prompt_tokens}
    return await long_response({"object": "list", "data": data, "model": body.model, "usage": usage})
