"""Writes tools, calls and their results as plain text, for models whose template has no form for them.

The form is Hermes': many models have seen it, and any can be held to it by a constraint. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from arriero.engine.message import Message
from arriero.errors import InvalidRequest
from arriero.grammar.call_format import HERMES

INTRODUCTION = """\
You can call functions. They are listed here, one to a line, as JSON:
{tools}

To call a function, answer with its name and its arguments as JSON, in exactly this form:
{form}
For several calls, write that form once for each of them. Call a function only when it helps. \
Its result comes in <tool_response></tool_response>."""

FORM = HERMES.written([("FUNCTION NAME", "{ARGUMENTS}")])
RESULT = "<tool_response>\n{}\n</tool_response>"

Messages = list[dict[str, object]]


def with_call_texts(messages: Sequence[Message], tools: Sequence[object] | None) -> Messages:
    """Return the messages with all that concerns tools as text, in the roles system, user, assistant.

    1. Tools are listed at the end of the leading system message, which is made if need be.
    2. Calls follow the content of their assistant message.
    3. Results, those of one turn together, are a message of the user.
    """
    written: Messages = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            _add_result(written, message, is_next=index > 0 and messages[index - 1]["role"] == "tool")
        else:
            written.append(_with_calls(message, f"messages[{index}]"))
    return _introduced(written, tools) if tools else written


def _introduced(messages: Messages, tools: Sequence[object]) -> Messages:
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = INTRODUCTION.format(tools=listed, form=FORM)
    if messages[0]["role"] not in ("system", "developer"):
        return [{"role": "system", "content": text}, *messages]
    content = "\n\n".join(part for part in (str(messages[0]["content"]), text) if part)
    return [messages[0] | {"content": content}, *messages[1:]]


def _with_calls(message: Message, where: str) -> dict[str, object]:
    calls = message.get("tool_calls")
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    if not calls:
        return rest
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise InvalidRequest(f"{where}.tool_calls must be a list", param=f"{where}.tool_calls")
    pairs = [_name_and_arguments(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)]
    said = str(message["content"] or "")
    content = "\n".join(part for part in (said, HERMES.written(pairs)) if part)
    return rest | {"content": content}


def _name_and_arguments(call: object, where: str) -> tuple[str, str]:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str):
        raise InvalidRequest(f"{where} must have a function with a name", param=f"{where}.function")
    arguments = function.get("arguments", {})
    return name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _add_result(written: Messages, message: Message, *, is_next: bool) -> None:
    result = RESULT.format(message["content"])
    if is_next:
        written[-1]["content"] = f"{written[-1]['content']}\n{result}"
    else:
        written.append({"role": "user", "content": result})
