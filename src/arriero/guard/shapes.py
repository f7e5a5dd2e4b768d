"""The forms of answers, member by member: what each member may tell.

A rule takes a member as it is spelt and returns it, another, or None to leave it out. A member that a
shape does not list is left out, except inside messages, where it is cleaned: there an unknown member is
likely what a model generated. A value of another kind than its shape is cleaned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from arriero.guard.names import Names

Raw = msgspec.Raw

_WORD = re.compile(rb'"[a-z_.]{1,64}"|null')
_NULL = Raw(b"null")
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])


class Telling(msgspec.Struct, frozen=True):
    """What rules need to know: the names, and whether log probabilities and tokens may be told."""

    names: Names
    logprobs: bool


if TYPE_CHECKING:
    Rule = Callable[[Raw, Telling], Raw | None]


def keep(raw: Raw, telling: Telling) -> Raw:
    """Generated, or the caller's own, in any form: byte for byte."""
    return raw


def text(raw: Raw, telling: Telling) -> Raw:
    """Generated text: byte for byte. What is not a text is metadata."""
    return raw if bytes(memoryview(raw)[:1]) == b'"' else telling.names.clean(raw)


def clean(raw: Raw, telling: Telling) -> Raw:
    """Metadata."""
    return telling.names.clean(raw)


def message(raw: Raw, telling: Telling) -> Raw:
    """An error text, which may also hold addresses and paths."""
    if bytes(memoryview(raw)[:1]) != b'"':
        return telling.names.clean(raw)
    return Raw(msgspec.json.encode(telling.names.clean_message(msgspec.json.decode(raw, type=str))))


def word(raw: Raw, telling: Telling) -> Raw:
    """A word of the protocol, such as `chat.completion`."""
    return raw if _WORD.fullmatch(raw) else telling.names.clean(raw)


def model(raw: Raw, telling: Telling) -> Raw:
    """The model's name."""
    return telling.names.model


def null(raw: Raw, telling: Telling) -> Raw:
    """A tell-tale that clients expect to be there."""
    return _NULL


def logprobs(raw: Raw, telling: Telling) -> Raw:
    """Log probabilities: null where they are not allowed."""
    return raw if telling.logprobs else _NULL


def tokens(raw: Raw, telling: Telling) -> Raw | None:
    """Token ids and log probabilities that OpenAI's form does not have."""
    return raw if telling.logprobs else None


def drop(raw: Raw, telling: Telling) -> None:
    """Unknown, or a tell-tale."""
    return


class Shape:
    """The rule of an object: a rule for each member, and one for the rest."""

    __slots__ = ("_rest", "_rules")

    def __init__(self, rules: Mapping[str, Rule], rest: Rule = drop) -> None:
        self._rules = rules
        self._rest = rest

    def __call__(self, raw: Raw, telling: Telling) -> Raw:
        if bytes(memoryview(raw)[:1]) != b"{":
            return telling.names.clean(raw)
        return self.told(_OBJECT.decode(raw), telling)

    def told(self, members: dict[str, Raw], telling: Telling) -> Raw:
        """Return the object of these members."""
        rules, rest = self._rules, self._rest
        told = {}
        for name, member in members.items():
            value = rules.get(name, rest)(member, telling)
            if value is not None:
                told[name if name in rules else telling.names.clean_text(name)] = value
        return Raw(msgspec.json.encode(told))


class Each:
    """The rule of a list: one rule for every item."""

    __slots__ = ("_rule",)

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def __call__(self, raw: Raw, telling: Telling) -> Raw:
        if bytes(memoryview(raw)[:1]) != b"[":
            return telling.names.clean(raw)
        told = (self._rule(item, telling) for item in _LIST.decode(raw))
        return Raw(msgspec.json.encode([item for item in told if item is not None]))


def _every(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_FUNCTION = Shape(_every(text, "name arguments"), rest=clean)
_TOOL_CALL = Shape(
    {"type": word, "function": _FUNCTION, **_every(keep, "custom")},
    rest=clean,
)
_MESSAGE = Shape(
    {
        "role": word,
        "tool_calls": Each(_TOOL_CALL),
        "function_call": _FUNCTION,
        **_every(text, "content reasoning reasoning_content refusal"),
        **_every(keep, "reasoning_details annotations audio images citations"),
    },
    rest=clean,
)
_CHOICE = Shape(
    {
        "message": _MESSAGE,
        "delta": _MESSAGE,
        "index": clean,
        "finish_reason": word,
        **_every(text, "text stop_reason matched_stop"),
        "logprobs": logprobs,
        **_every(tokens, "prompt_logprobs token_ids prompt_token_ids"),
    }
)
COMPLETION = Shape(
    {
        "model": model,
        "object": word,
        "choices": Each(_CHOICE),
        "system_fingerprint": null,
        **_every(clean, "id created usage service_tier"),
        **_every(tokens, "prompt_logprobs prompt_token_ids"),
    }
)

_PART = Shape({"type": word, "text": text, "annotations": keep, "refusal": text, "logprobs": logprobs})
_ITEM = Shape(
    {
        **_every(word, "type role status"),
        **_every(clean, "id call_id phase server_label"),
        "content": Each(_PART),
        **_every(text, "arguments name input encrypted_content"),
        **_every(keep, "summary output action queries results"),
    }
)
_ERROR = Shape({"code": word, "message": message, "reason": message})
_RESPONSE = Shape(
    {
        "model": model,
        "error": _ERROR,
        "incomplete_details": _ERROR,
        "output": Each(_ITEM),
        **_every(word, "object status"),
        **_every(keep, "instructions metadata output_text text tool_choice tools user"),
        **_every(
            clean,
            "id created_at completed_at background max_output_tokens max_tool_calls"
            " parallel_tool_calls previous_response_id prompt_cache_key reasoning safety_identifier"
            " service_tier store temperature top_p top_logprobs truncation usage presence_penalty"
            " frequency_penalty",
        ),
    }
)
RESPONSE = _RESPONSE
RESPONSE_EVENT = Shape(
    {
        "type": word,
        "response": _RESPONSE,
        "item": _ITEM,
        "part": _PART,
        "logprobs": logprobs,
        **_every(
            clean,
            "sequence_number item_id output_index content_index summary_index annotation_index",
        ),
        **_every(text, "delta text arguments refusal name code input"),
        "annotation": keep,
    }
)

EMBEDDINGS = Shape(
    {
        "model": model,
        "object": word,
        "data": Each(Shape({"object": word, "index": clean, "embedding": keep})),
        **_every(clean, "id created usage"),
    }
)
RERANK = Shape(
    {
        "model": model,
        "results": Each(Shape({"index": clean, "relevance_score": clean, "document": keep})),
        **_every(clean, "id created usage"),
    }
)
TOKENIZE = Shape({"count": clean, "tokens": keep, "token_strs": keep})
MODELS = Shape(
    {
        "object": word,
        "data": Each(Shape({"id": model, "object": word, "created": clean})),
    }
)
