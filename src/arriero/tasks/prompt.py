"""What a task feeds to its model: pure functions from its configuration and the caller's text to spans.

Layout of a conversation, nothing in between:

    prelude | recall prefix user postfix answer end | recall prefix user postfix answer end | ...

The task's own texts are trusted: special tokens in them are special. The caller's text, recalled
text and replayed answers are not: there they stay text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.core import Span
from arriero.engine.message import Message, plain_messages
from arriero.errors import InvalidRequest, PrivateTokenFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.config.schema import TaskConfig


def prelude_spans(task: TaskConfig) -> tuple[Span, ...]:
    """Return what is fed once at the start of a session; nothing when the prelude is absent or empty."""
    return (Span(text=task.prelude, special=True, shared=True),) if task.prelude else ()


def turn_spans(task: TaskConfig, text: str, *, recall: str = "") -> tuple[Span, ...]:
    """Return one turn up to the answer. Raises PrivateTokenFound before anything is fed."""
    _check_private_tokens(task, text, before=task.prefix or "", after=task.postfix or "")
    spans = (
        Span(text=recall),
        Span(text=task.prefix or "", special=True),
        Span(text=text),
        Span(text=task.postfix or "", special=True),
    )
    return tuple(span for span in spans if span.text)


def replay_spans(task: TaskConfig, messages: Sequence[Message], *, end: str) -> tuple[Span, ...]:
    """Return the turns of a chat that the caller sends as a whole, as a session would have fed them.

    1. A user message is a turn: prefix, content, postfix.
    2. An assistant message is its content and `end`, the model's end token. If it is the last
       message, the answer goes on from there and nothing is added.
    3. System messages cannot replace the prelude, which is the operator's: they lead the text of
       the next user message, an empty line between. With no user message after them they are a turn.

    Raises InvalidRequest for other roles, for tool calls and when there is nothing to answer.
    """
    plain = plain_messages(messages)
    spans: list[Span] = []
    leading: list[str] = []
    for index, message in enumerate(plain):
        text = _text(message, f"messages[{index}]")
        match message["role"]:
            case "system" | "developer":
                leading.append(text)
            case "user":
                spans += turn_spans(task, "\n\n".join([*leading, text]))
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


def _answer(text: str, end: str) -> list[Span]:
    spans = [Span(text=text), Span(text=end, special=True)]
    return [span for span in spans if span.text]
