"""Chat messages as callers send them (OpenAI's form), brought to plain text content.

A message is a mapping with `role` and `content`; content is a string, a list of text parts or null.
Knows nothing of templates or tasks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from arriero.errors import InvalidRequest

Message = Mapping[str, object]

ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
"""A role goes into prompts beside special tokens, so it is a word and nothing else."""


def plain_messages(messages: Sequence[Message]) -> list[dict[str, object]]:
    """Return the messages as dicts with a checked role and with text content.

    Content is None only beside tool calls. Raises InvalidRequest naming the message or the part.
    """
    if not messages:
        raise InvalidRequest("messages is empty: at least one message is needed", param="messages")
    return [_plain(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _plain(message: Message, where: str) -> dict[str, object]:
    role = message.get("role")
    if not isinstance(role, str) or ROLE.fullmatch(role) is None:
        raise InvalidRequest(f"{where}.role must be a word such as 'user'", param=f"{where}.role")
    plain = dict(message)
    # Templates ask whether there is the member; clients send back null or an empty list.
    calls = plain.pop("tool_calls", None)
    plain["content"] = content_text(message.get("content"), f"{where}.content")
    if not calls:
        return plain
    if message.get("content") is None:
        plain["content"] = None
    if isinstance(calls, Sequence) and not isinstance(calls, str):
        calls = [_parsed_call(call) for call in calls]
    plain["tool_calls"] = calls
    return plain


def content_text(content: object, where: str) -> str:
    """Return the text of a message's content; text parts are joined by newlines, null is empty."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise InvalidRequest(f"{where} must be a string or a list of text parts", param=where)
    return "\n".join(_part_text(part, f"{where}[{index}]") for index, part in enumerate(content))


def _part_text(part: object, where: str) -> str:
    if not isinstance(part, Mapping):
        raise InvalidRequest(f"{where} must be an object with type 'text'", param=where)
    kind, text = part.get("type"), part.get("text")
    if kind != "text":
        raise InvalidRequest(f"{where}: parts of type {kind!r} are not supported, only 'text'", param=where)
    if not isinstance(text, str):
        raise InvalidRequest(f"{where}.text must be a string", param=where)
    return text


def with_short_ids(messages: Sequence[Message], size: int) -> list[dict[str, object]]:
    """Return the messages with the ids of calls as `size` letters and digits; equal ids stay equal."""
    return [_with_short_ids(message, size) for message in messages]


def _with_short_ids(message: Message, size: int) -> dict[str, object]:
    short = dict(message)
    if "tool_call_id" in message:
        short["tool_call_id"] = _short_id(message["tool_call_id"], size)
    calls = message.get("tool_calls")
    if isinstance(calls, Sequence):
        short["tool_calls"] = [
            {**call, "id": _short_id(call.get("id"), size)} if isinstance(call, Mapping) else call
            for call in calls
        ]
    return short


def _short_id(id: object, size: int) -> str:
    text = str(id)
    if len(text) == size and text.isascii() and text.isalnum():
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:size]


def _parsed_call(call: object) -> object:
    """Return the tool call with its JSON arguments as values, which is what templates expect."""
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    function = dict(call["function"])
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            function["arguments"] = json.loads(arguments)
        except (ValueError, RecursionError):
            return call
    return {**call, "function": function}
