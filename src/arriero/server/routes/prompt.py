"""The prompt of Poly's routes: `?prompt=` on GET, a JSON body on POST; other members are ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from arriero.errors import InvalidRequest
from arriero.server.body import read_poly_json

if TYPE_CHECKING:
    from starlette.requests import Request


class PromptBody(msgspec.Struct):
    """The body of Poly's POST routes."""

    prompt: str


async def read_prompt(request: Request) -> str:
    """Return the prompt. Raises InvalidRequest (400) or Unprocessable (422) with Poly's words."""
    if request.method == "POST":
        return (await read_poly_json(request, PromptBody)).prompt
    prompt = request.query_params.get("prompt")
    if prompt is None:
        raise InvalidRequest("Failed to deserialize query string: missing field `prompt`", param="prompt")
    return prompt
