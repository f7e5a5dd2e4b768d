"""How many tokens a prompt has: exactly where tokens were sent, at most where a bound can be had.

No tokenizer here. A token stands for at least one byte of the normalised text that the model is fed, so
the bytes of a request's text bound its tokens, with a margin for what a template writes around messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arriero.guard.routes import Route

if TYPE_CHECKING:
    from arriero.guard.body import Body
    from arriero.guard.policy import Policy

_MESSAGE_TOKENS = 32
_COMPLETION_MARGIN = 8
# A template may write these at any length: indented, escaped, or as pictures.
_UNBOUNDED = frozenset({"tools", "functions", "documents", "chat_template_kwargs", "response_format", "text"})
_PLAIN_MESSAGE = frozenset({"role", "content", "name"})
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_COUNTED = {
    Route.CHAT: (
        "messages",
        "tools",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "add_special_tokens",
    ),
    Route.COMPLETIONS: ("prompt", "add_special_tokens"),
}


def known_tokens(body: Body) -> int | None:
    """Return the count of a completion's prompt that came as tokens, the longest of several; else None."""
    prompt = body.get("prompt")
    if not isinstance(prompt, list) or isinstance(prompt[0], str):
        return None
    longest = len(prompt) if isinstance(prompt[0], int) else max(map(len, prompt))
    return longest + body.size("suffix")


def most_tokens(body: Body, route: Route, policy: Policy, *, enough: int = 0) -> int | None:
    """Return an upper bound of the prompt's tokens, None where only a tokenizer can tell.

    enough: a bound that need not be a closer one.
    """
    if route is Route.COMPLETIONS:
        # JSON spells no character shorter than UTF-8 does.
        return body.size("prompt") + body.size("suffix") + _COMPLETION_MARGIN
    if not _UNBOUNDED.isdisjoint(body.values) and any(map(body.get, _UNBOUNDED)):
        return None
    name = "messages" if route is Route.CHAT else "input"
    messages = body.values[name]
    count = 1
    if type(messages) is not str:
        count = len(messages)
        for message in messages:
            if type(message) is not dict or not _PLAIN_MESSAGE.issuperset(message):
                return None
            content = message.get("content")
            if not (type(content) is str or content is None or _is_text_only(content)):
                return None
    margin = count * _MESSAGE_TOKENS + policy.template_tokens
    if body.most_bytes is not None and body.most_bytes + margin <= enough:
        return body.most_bytes + margin
    return body.size(name) + body.size("instructions") + margin


def count_requests(body: Body, route: Route) -> tuple[bytes, ...] | None:
    """Return the bodies for an upstream's `/tokenize`, or None if it cannot count this prompt.

    The largest of their counts is the prompt's. The body has been checked: its model is the upstream's.
    """
    if route not in _COUNTED:
        return None
    counted = body.only("model", *_COUNTED[route])
    prompt = body.get("prompt")
    if not isinstance(prompt, list):
        return (counted.encoded(),)
    return tuple(_with_prompt(counted, text) for text in prompt)


def _with_prompt(counted: Body, text: str) -> bytes:
    one = counted.only(*counted.values)
    one.put("prompt", text)
    return one.encoded()


def _is_text_only(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") in _TEXT_PARTS for part in content
    )
