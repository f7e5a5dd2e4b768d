"""What a task takes from a memory for one prompt, and gives to it: text with its sources."""

from __future__ import annotations

import hashlib
import string
from typing import TYPE_CHECKING

import msgspec

from arriero.errors import ConfigError
from arriero.memory.job import Outcome, Source
from arriero.memory.passage import Passage, Query
from arriero.memory.tokens import TokenCounter

if TYPE_CHECKING:
    from arriero.config.memory import MemorizationConfig
    from arriero.core import Model
    from arriero.memory.memory import Memory

FIELDS = {"text", "title", "name", "section", "page", "number"}
SEPARATOR = "\n"
CONTEXT_SHARE = 4
"""Without a bound of its own, what is recalled has one part of so many of the model's context."""
USUAL_BUDGET = 1000
"""Tokens, where that context is not known."""


class Recalled(msgspec.Struct, frozen=True):
    """The text to stand before a prompt, and the passages it is made of."""

    text: str = ""
    passages: tuple[Passage, ...] = ()


class Recall:
    """One task's use of a memory.

    model: the task's own, which decides how long a text is; the memory's makes the vectors.
    """

    def __init__(self, memory: Memory, config: MemorizationConfig, model: Model) -> None:
        self._memory = memory
        self._config = config
        self._model = model
        self._counter = TokenCounter(model)

    async def for_prompt(self, prompt: str) -> Recalled:
        """Return what the memory has for a prompt: the best that fits. Raises Unavailable."""
        limit = self._config.retrieve or 0
        found = await self._memory.recall(Query(prompt, limit=limit)) if limit else []
        budget = self._budget()
        texts: list[str] = []
        passages: list[Passage] = []
        for passage in found:
            text = written(self._config.template, passage, number=len(texts) + 1)
            tokens = await self._counter.count(SEPARATOR + text if texts else text)
            if tokens <= budget:
                budget -= tokens
                texts.append(text)
                passages.append(passage)
        return Recalled(SEPARATOR.join(texts), tuple(passages))

    def _budget(self) -> int:
        if self._config.max_tokens is not None:
            return self._config.max_tokens
        return self._model.info.context_size // CONTEXT_SHARE or USUAL_BUDGET

    async def remember(self, prompt: str) -> Outcome | None:
        """Store a prompt, if the task does; the same text is stored once."""
        if not self._config.store_prompts or not prompt.strip():
            return None
        data = prompt.encode(errors="replace")
        name = f"prompts/{hashlib.sha256(data).hexdigest()}"
        return await self._memory.ingest(Source(name=name, data=data, media_type="text/plain; charset=utf-8"))


def written(template: str | None, passage: Passage, *, number: int) -> str:
    """Return a passage as it stands in a prompt."""
    if template is None:
        return passage.text
    values = {
        "text": passage.text,
        "title": passage.title or passage.name,
        "name": passage.name,
        "section": " > ".join(passage.section),
        "page": "" if passage.page is None else str(passage.page),
        "number": str(number),
    }
    pieces = string.Formatter().parse(template)
    return "".join(before + (values[field] if field else "") for before, field, _, _ in pieces)


def check_template(template: str, key: str) -> None:
    """Raise ConfigError naming the key unless every field of a template is known."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise ConfigError(f"{key}: {exc}; write {{{{ and }}}} for braces") from exc
    for _, field, spec, conversion in parsed:
        if field is not None and (field not in FIELDS or spec or conversion):
            known = ", ".join(f"{{{name}}}" for name in sorted(FIELDS))
            raise ConfigError(f"{key}: there is no {{{field}}}; use {known}")
