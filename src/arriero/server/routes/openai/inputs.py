"""The four forms in which OpenAI's routes take text: a string, strings, token ids, lists of token ids."""

from __future__ import annotations

from functools import partial

from arriero.errors import InvalidRequest
from arriero.server.body import beside

Input = str | list[str | int | list[int]]


async def read_inputs(given: Input, *, param: str, max_length: int) -> list[str | list[int]]:
    """Return a list of texts or token lists. Raises InvalidRequest for an empty or a mixed one."""
    return await beside(len(given), partial(listed, given, param=param, max_length=max_length))


def listed(given: Input, *, param: str, max_length: int) -> list[str | list[int]]:
    """Return a list of texts or token lists. Raises InvalidRequest for an empty or a mixed one."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise InvalidRequest(f"{param} is an empty list", param=param)
    tokens = [one for one in given if isinstance(one, int)]
    if len(tokens) == len(given):
        return [tokens]
    inputs = [one for one in given if not isinstance(one, int)]
    if tokens or len({type(one) for one in inputs}) != 1:
        raise InvalidRequest(
            f"{param} must hold only strings, only token ids or only token lists", param=param
        )
    if len(inputs) > max_length:
        raise InvalidRequest(
            f"{param} holds {len(inputs)} inputs; at most {max_length} are allowed", param=param
        )
    if [] in inputs:
        raise InvalidRequest(f"{param}[{inputs.index([])}] is an empty list", param=param)
    return inputs
