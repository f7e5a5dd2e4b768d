"""What a request feeds to its model, as far as its tokens can be counted without the upstream.

Pure. There is no answer for what only the upstream can count: images, earlier responses, templates of
the caller's own, tools of the responses route.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from arriero.guard.routes import Route

if TYPE_CHECKING:
    Messages = list[Mapping[str, Any]]

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_NOT_HERE = ("chat_template", "documents", "functions", "reasoning", "reasoning_effort")
_NOT_HERE_OF_RESPONSES = ("previous_response_id", "prompt", "reasoning", "text", "tools", "truncation")
"""Members that change the prompt in ways which are the upstream's own."""
_FLAGS = ("add_generation_prompt", "continue_final_message")


@dataclass(frozen=True)
class Texts:
    """Prompts that are fed one by one, so that the longest decides.

    longest_tokens: length of the longest that is given as token ids.
    special: begin and end tokens are added, as the tokenizer wants them.
    """

    texts: tuple[str, ...] = ()
    longest_tokens: int = 0
    special: bool = True


@dataclass(frozen=True)
class Conversation:
    """Chat messages, to be rendered by the model's template with these further variables."""

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Any, ...] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    special: bool = False


Prompt = Texts | Conversation


def countable_prompt(route: Route, body: Mapping[str, Any]) -> Prompt | None:
    """Return what a checked request feeds to the model; None if only the upstream can count it."""
    match route:
        case Route.CHAT:
            return _chat(body)
        case Route.COMPLETIONS:
            return None if body.get("suffix") is not None else _texts(body, "prompt")
        case Route.RESPONSES:
            return _response(body)
        case Route.EMBEDDINGS:
            return _chat(body) if body.get("messages") is not None else _texts(body, "input")
        case _:
            return None


def _chat(body: Mapping[str, Any]) -> Conversation | None:
    messages, tools = body.get("messages"), body.get("tools") or []
    variables = body.get("chat_template_kwargs") or {}
    if any(body.get(name) is not None for name in _NOT_HERE) or not _are_plain(messages):
        return None
    if not isinstance(variables, Mapping) or not isinstance(tools, list):
        return None
    flags = {name: value for name in _FLAGS if isinstance(value := body.get(name), bool)}
    return Conversation(
        messages=tuple(messages),
        tools=tuple(tools) or None,
        variables={**variables, **flags},
        special=body.get("add_special_tokens") is True,
    )


def _response(body: Mapping[str, Any]) -> Conversation | None:
    """Return instructions and messages; vLLM puts the instructions first, as a system message."""
    given, instructions = body.get("input"), body.get("instructions")
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if any(body.get(name) is not None for name in _NOT_HERE_OF_RESPONSES) or not _are_plain(messages):
        return None
    if any(message.get("type", "message") != "message" for message in messages):
        return None
    if instructions is not None and not isinstance(instructions, str):
        return None
    system = [{"role": "system", "content": instructions}] if instructions else []
    return Conversation(messages=(*system, *messages))


def _texts(body: Mapping[str, Any], name: str) -> Texts | None:
    """Return a text, several texts, token ids, or several lists of them."""
    given, special = body.get(name), body.get("add_special_tokens") is not False
    if isinstance(given, str):
        return Texts(texts=(given,), special=special)
    if not isinstance(given, list) or not given:
        return None
    if all(isinstance(one, str) for one in given):
        return Texts(texts=tuple(given), special=special)
    if _are_tokens(given):
        return Texts(longest_tokens=len(given))
    if all(isinstance(one, list) and _are_tokens(one) for one in given):
        return Texts(longest_tokens=max(map(len, given)))
    return None


def _are_tokens(given: list[Any]) -> bool:
    return bool(given) and all(type(one) is int for one in given)


def _are_plain(messages: object) -> TypeGuard[Messages]:
    """Say whether these are messages with nothing but text in them."""
    if not isinstance(messages, list) or not messages:
        return False
    return all(isinstance(message, Mapping) and _is_text(message.get("content")) for message in messages)


def _is_text(content: object) -> bool:
    """Say whether the content of a message is text; null stands beside tool calls."""
    if content is None or isinstance(content, str):
        return True
    return isinstance(content, list) and all(
        isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str)
        for part in content
    )
