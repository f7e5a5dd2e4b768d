"""How families of models write tool calls: the marks around a call and the names of its members.

All write a call as `{"name": "NAME", "arguments": {...}}`, one after the other, between marks.
Knows nothing of templates beyond the words by which one shows the form that it teaches.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

HEAD = '{"name": "'
"""How every call begins."""


@dataclass(frozen=True)
class CallFormat:
    """begin HEAD name `", "<arguments_key>": ` arguments `}` separator ... end.

    taught: finds the form in the source of a chat template that teaches it.
    mark: what `begin` starts with and free text never holds, so that calls may follow text. Without a
        mark only the first characters of an answer tell a call from text.
    separator: what stands between two calls; None = an answer holds one call.
    id_size: the ids of calls must be as many letters or digits; None = any id.
    """

    name: str
    taught: re.Pattern[str]
    mark: str
    begin: str
    separator: str | None
    end: str
    arguments_key: str = "arguments"
    id_size: int | None = None

    @property
    def middle(self) -> str:
        """What stands between the name and the arguments of a call."""
        return f'", "{self.arguments_key}": '

    def opening(self, special: Collection[str]) -> str:
        """Return the text that begins the first call, without special tokens, which are never shown."""
        return shown(self.begin, special) + HEAD

    def special_names(self, names: Iterable[str]) -> list[str]:
        """Return those of the names of special tokens that this form writes."""
        written = (self.begin, self.separator or "", self.end)
        return [name for name in names if any(name in text for text in written)]

    def written(self, calls: Iterable[tuple[str, str]]) -> str:
        """Return calls, each a name and its arguments as JSON, as a model writes them."""
        texts = (f"{HEAD}{name}{self.middle}{arguments}}}" for name, arguments in calls)
        return self.begin + (self.separator or "\n").join(texts) + self.end


HERMES = CallFormat(
    name="hermes",
    taught=re.compile(r"(?s)<tool_call>.{0,30}?\{\\?[\"']name"),
    mark="<tool_call>",
    begin="<tool_call>\n",
    separator="\n</tool_call>\n<tool_call>\n",
    end="\n</tool_call>",
)
MISTRAL = CallFormat(
    name="mistral",
    taught=re.compile(r"\[TOOL_CALLS\] ?\["),
    mark="[TOOL_CALLS]",
    begin="[TOOL_CALLS][",
    separator=", ",
    end="]",
    id_size=9,
)
LLAMA = CallFormat(
    name="llama",
    taught=re.compile(r'\{"name": function name, "parameters"'),
    mark="",
    begin="",
    separator=None,
    end="",
    arguments_key="parameters",
)
FORMATS = (HERMES, MISTRAL, LLAMA)


def taught_format(template: str | None) -> CallFormat | None:
    """Return the form that a chat template teaches its model, None when it teaches none that we know."""
    taught = (form for form in FORMATS if form.taught.search(template or ""))
    return next(taught, None)


def shown(text: str, special: Collection[str]) -> str:
    """Return a text without the special tokens in it."""
    return "".join(piece for piece in split_special(text, special) if piece not in special)


def split_special(text: str, special: Collection[str]) -> list[str]:
    """Return the pieces of a text, in which each special token is a piece of its own."""
    if not special:
        return [text] if text else []
    names = "|".join(map(re.escape, special))
    return [piece for piece in re.split(f"({names})", text) if piece]
