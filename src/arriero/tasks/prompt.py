"""What a task feeds to its model: pure functions from its configuration and the caller's text to spans.

Layout of a conversation, nothing in between:

    prelude | recall prefix user postfix answer end | recall prefix user postfix answer end | ...

The task's own texts are trusted: special tokens in them are special. The caller's text, recalled
text and replayed answers are not: there they stay text.

Each part says whose words begin with it, for models that are fed messages: the prelude is the system's, a
turn is the user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from arriero.core import Role, Span
from arriero.engine.message import Message, plain_messages
from arriero.errors import InvalidRequest, PrivateTokenFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.config.schema import TaskConfig


def prelude_spans(task: TaskConfig) -> tuple[Span, ...]:
    """Return what is fed once at the start of a session; nothing when the prelude is absent or empty."""
    if not task.prelude:
        return ()
    return (Span(text=task.prelude, special=True, shared=True, role=Role.SYSTEM),)


def turn_spans(task: TaskConfig, text: str, *, recall: str = "") -> tuple[Span, ...]:
    """Return one turn up to the answer. Raises PrivateTokenFound before anything is fed."""
    _check_private_tokens(task, text, before=task.prefix or "", after=task.postfix or "")
    spans = (
        Span(text=recall),
        Span(text=task.prefix or "", special=True),
        Span(text=text),
        Span(text=task.postfix or "", special=True),
    )
    return _begun(Role.USER, spans)


def bias_spans(bias_prompt: str) -> tuple[Span, ...]:
    """Return what stands between a free answer and the one that is returned."""
    return (Span(text=bias_prompt, special=True, role=Role.USER),)


def last_input(messages: Sequence[Message]) -> str:
    """Return the text of the last user message, for which a memory is asked; nothing if there is none."""
    for message in reversed(plain_messages(messages)):
        if message["role"] == "user" and isinstance(message["content"], str):
            return message["content"]
    return ""


def replay_spans(
    task: TaskConfig, messages: Sequence[Message], *, end: str, recall: str = ""
) -> tuple[Span, ...]:
    """Return the turns of a chat that the caller sends as a whole, as a session would have fed them.

    recall: stands before the turn of the last user message.

    1. A user message is a turn: prefix, content, postfix.
    2. An assistant message is its content and `end`, the model's end token. If it is the last
       message, the answer goes on from there and nothing is added.
    3. System messages cannot replace the prelude, which is the operator's: they lead the text of
       the next user message, an empty line between. With no user message after them they are a turn.

    Raises InvalidRequest for other roles, for tool calls and when there is nothing to answer.
    """
    plain = plain_messages(messages)
    last_user = max((i for i, message in enumerate(plain) if message["role"] == "user"), default=None)
    spans: list[Span] = []
    leading: list[str] = []
    for index, message in enumerate(plain):
        text = _text(message, f"messages[{index}]")
        match message["role"]:
            case "system" | "developer":
                leading.append(text)
            case "user":
                recalled = recall if index == last_user else ""
                spans += turn_spans(task, "\n\n".join([*leading, text]), recall=recalled)
                leading.clear()
            case "assistant":
                _check_private_tokens(task, text)
                spans += _answer(text, "" if index == len(plain) - 1 else end)
            case role:
                raise InvalidRequest(
                    f"messages[{index}].role is {role!r}; a task takes system, user and assistant messages",
                    param=f"messages[{index}].role",
                )
    if leading:
        spans += turn_spans(task, "\n\n".join(leading))
    return tuple(spans)


def _check_private_tokens(task: TaskConfig, text: str, *, before: str = "", after: str = "") -> None:
    """Refuse a private token in the text, and one that the text forms with what stands beside it."""
    if not text:
        return
    for private in task.private_tokens:
        reach = len(private) - 1
        window = (before[-reach:] if reach else "") + text + after[:reach]
        if private in window:
            raise PrivateTokenFound("illegal token encountered")


def _text(message: Message, where: str) -> str:
    content = message["content"]
    if not isinstance(content, str) or message.get("tool_calls"):
        raise InvalidRequest(f"{where}: a task takes no tool calls", param=f"{where}.tool_calls")
    return content


def _answer(text: str, end: str) -> tuple[Span, ...]:
    return _begun(Role.ASSISTANT, (Span(text=text), Span(text=end, special=True)))


def _begun(role: Role, spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return the spans that say something; a message of the role begins with the first."""
    said = tuple(span for span in spans if span.text)
    return (msgspec.structs.replace(said[0], role=role), *said[1:]) if said else ()
