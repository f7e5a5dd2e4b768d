"""Turns chat messages into a prompt by a model's chat template.

Special tokens that the template writes are special; in what the caller sent (contents, names,
tools, anything) they stay text. Rendering is foreign code within bounds: see `template_sandbox`.
Tools go to the template if it teaches a form of calls that we know, else into the messages as text.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from jinja2.exceptions import TemplateSyntaxError

from arriero.engine.call_texts import with_call_texts
from arriero.engine.message import Message, plain_messages, with_short_ids
from arriero.engine.special_text import Marks, SpecialNames
from arriero.engine.template_sandbox import TemplateSandbox
from arriero.errors import InvalidRequest, NotSupported
from arriero.grammar.call_format import CallFormat, taught_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType

    from arriero.core import Span

CHATML = """{% for message in messages %}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
"""For a model without a template whose vocabulary has ChatML's tokens."""

PLAIN = """{% for message in messages %}
{{ message.role + ': ' + message.content + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}assistant:{% endif %}"""
"""For any other model without a template: most often one that was not trained to chat."""

PLAIN_STOP = ("\nuser:", "\nsystem:")


class ChatTemplate:
    """A chat template, compiled once. Immutable; `render` may run in any thread.

    source: Jinja text; None = ChatML where the vocabulary has its tokens, else lines "role: content".
    special_tokens: the names that are special: control and unknown tokens, nothing else.
    stop_sequences: what must end an answer because no token does (of the plain lines only).
    problem: why the template cannot be used, or None. `render` then raises NotSupported, but the
        model remains good for everything else.
    """

    def __init__(
        self,
        source: str | None,
        bos: str,
        eos: str,
        special_tokens: Sequence[str],
        *,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        chatml = {"<|im_start|>", "<|im_end|>"} <= set(special_tokens)
        self.source = source if source is not None else CHATML if chatml else PLAIN
        self.stop_sequences = PLAIN_STOP if self.source is PLAIN else ()
        self.problem: str | None = None
        self._call_format = taught_format(self.source)
        self._bos = bos
        self._eos = eos
        self._names = SpecialNames(special_tokens)
        self._now = now
        self._code = self._compiled()

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[object] | None = None,
        **extra: object,
    ) -> tuple[Span, ...]:
        """Return the prompt: one span, or more where the caller's text holds names of special tokens.

        Content is handed to the template as one string. Messages of the role `developer` become
        `system` unless the template knows the word. `extra` are further variables of the template.
        tools: OpenAI's definitions of the functions that may be called.
        Raises InvalidRequest with the template's own words when it refuses the messages.
        """
        if self._code is None:
            raise NotSupported(f"the model's chat template cannot be used: {self.problem}")
        plain = self._known_roles(plain_messages(messages))
        if self._call_format is not None:
            plain = _fitting(plain, self._call_format)
        elif tools or "tool_calls" not in self.source:
            plain, tools = with_call_texts(plain, tools), None
        marks = Marks(self._names, [plain, tools, extra, self.source])
        values: dict[str, object] = {"documents": None}
        values |= {name: marks.marked(value) for name, value in extra.items()}
        values |= {"messages": [_marked(message, marks) for message in plain], "tools": marks.marked(tools)}
        values |= {"bos_token": self._bos, "eos_token": self._eos}
        values["add_generation_prompt"] = add_generation_prompt
        return marks.spans(self._rendered(self._code, values))

    def _rendered(self, code: CodeType, values: dict[str, object]) -> str:
        try:
            return TemplateSandbox(self._now).render(code, values)
        except Exception as exc:  # a template is foreign code and may fail in any way
            reason = str(exc) or type(exc).__name__
            raise InvalidRequest(
                f"the model's chat template does not accept the messages: {reason}", param="messages"
            ) from exc

    def _compiled(self) -> CodeType | None:
        try:
            return TemplateSandbox(self._now).compile(self.source)
        except TemplateSyntaxError as exc:
            self.problem = f"line {exc.lineno}: {exc.message}"
        except Exception as exc:  # RecursionError and the like, out of a hostile source
            self.problem = str(exc) or type(exc).__name__
        return None

    def _known_roles(self, messages: list[dict[str, object]]) -> list[dict[str, object]]:
        if "developer" in self.source:
            return messages
        return [m | {"role": "system"} if m["role"] == "developer" else m for m in messages]


def _fitting(messages: list[dict[str, object]], form: CallFormat) -> list[dict[str, object]]:
    """Return the messages as templates of a form expect them: with ids that fit, without null contents."""
    texts = [message | {"content": message["content"] or ""} for message in messages]
    return texts if form.id_size is None else with_short_ids(texts, form.id_size)


def _marked(message: Message, marks: Marks) -> dict[str, object]:
    """Return the message with its texts marked; the role, a plain word, stays for the template to compare."""
    return {key: value if key == "role" else marks.marked(value) for key, value in message.items()}
