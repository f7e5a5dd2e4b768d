"""What a task's memory adds to a request: the recalled text, what is cited of it, what is remembered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from arriero.core import Citation, GenerateRequest
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.memory.passage import Passage
    from arriero.memory.recall import Recall

logger = logging.getLogger(__name__)


class TaskRequest(GenerateRequest, frozen=True, omit_defaults=True):
    """A request of a task, which knows what its prompt was made from.

    input: the caller's text, to be remembered once it is answered.
    citations: what the memory gave, told with the last delta.
    """

    input: str = ""
    citations: tuple[Citation, ...] = ()

    @classmethod
    def of(cls, request: GenerateRequest, text: str, citations: tuple[Citation, ...]) -> TaskRequest:
        """Return the request with the caller's text and what was recalled for it."""
        return cls(**_members(request), input=text, citations=citations)

    def plain(self) -> GenerateRequest:
        """Return what a model is to know."""
        return GenerateRequest(**_members(self))


def _members(request: GenerateRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in GenerateRequest.__struct_fields__}


def cited(memory: str, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """Return passages of a memory as callers are told of them."""
    return tuple(
        Citation(
            memory=memory,
            document_id=passage.document_id,
            name=passage.name,
            title=passage.title,
            page=passage.page,
            section=passage.section,
            start=passage.start,
            end=passage.end,
            score=passage.score,
            rerank_score=passage.rerank_score,
        )
        for passage in passages
    )


def without(text: str, private_tokens: Sequence[str]) -> str:
    """Return a recalled text with no private token in it, also none that taking one out would form."""
    found = True
    while found:
        found = False
        for private in private_tokens:
            if private in text:
                text = text.replace(private, "")
                found = True
    return text


async def remember(recall: Recall, text: str, *, task: str) -> None:
    """Store an answered prompt if the task does; what goes wrong is logged, as the answer is good."""
    try:
        await recall.remember(text)
    except ArrieroError as exc:
        logger.warning("task %s: a prompt was not stored: %s", task, exc.message)
