"""OpenAI's objects as types: for the OpenAPI document, whose test holds real answers against them.

Routes write their answers as plain dictionaries; nothing is converted by way of these types.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar

from arriero.memory.library.records import Status
from arriero.memory.records import Attribute

T = TypeVar("T")


class Listing(TypedDict, Generic[T]):
    """A part of a list in OpenAI's form."""

    object: Literal["list"]
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ModelObject(TypedDict):
    """What can stand as `model` in a request."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelObjects(TypedDict):
    """All that can stand as `model` in a request."""

    object: Literal["list"]
    data: list[ModelObject]


class PromptTokensDetails(TypedDict):
    """Of the tokens of a prompt those that were not evaluated again."""

    cached_tokens: int


class UsageObject(TypedDict):
    """The tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: NotRequired[PromptTokensDetails | None]


class ChatMessage(TypedDict):
    """The message of an answer; its content is null when it only calls."""

    role: Literal["assistant"]
    content: NotRequired[str | None]
    refusal: NotRequired[str | None]
    reasoning_content: NotRequired[str | None]
    tool_calls: NotRequired[list[dict[str, Any]] | None]
    annotations: NotRequired[list[dict[str, Any]] | None]


class ChatChoice(TypedDict):
    """One answer of a chat."""

    index: int
    message: ChatMessage
    logprobs: NotRequired[dict[str, Any] | None]
    finish_reason: str | None


class ChatCompletion(TypedDict):
    """The answers of a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: NotRequired[UsageObject | None]


class CompletionChoice(TypedDict):
    """One completion of a prompt."""

    index: int
    text: str
    logprobs: NotRequired[dict[str, Any] | None]
    finish_reason: str | None


class Completion(TypedDict):
    """The completions of a prompt."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[UsageObject | None]


class EmbeddingObject(TypedDict):
    """The vector of an input, as numbers or base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(TypedDict):
    """The tokens of the inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingObjects(TypedDict):
    """A vector for each input."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingsUsage


class FileObject(TypedDict):
    """A file that a caller uploaded."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str
    status_details: str | None


class Deleted(TypedDict):
    """What is gone."""

    id: str
    object: str
    deleted: bool


class FileCounts(TypedDict):
    """How many files are how far."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class VectorStoreObject(TypedDict):
    """A vector store: a configured memory, or one that a caller made."""

    id: str
    object: Literal["vector_store"]
    created_at: int
    name: str
    description: str | None
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: dict[str, Any] | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]


class VectorStoreFile(TypedDict):
    """A file of a vector store."""

    id: str
    object: Literal["vector_store.file"]
    created_at: int
    usage_bytes: int
    vector_store_id: str
    status: Status
    last_error: dict[str, str] | None
    chunking_strategy: dict[str, Any]
    attributes: dict[str, Attribute]


class VectorStoreBatch(TypedDict):
    """Files that were attached together."""

    id: str
    object: Literal["vector_store.files_batch"]
    created_at: int
    vector_store_id: str
    status: Status
    file_counts: FileCounts


class ResultPage(TypedDict):
    """The results of a search, the best first."""

    object: Literal["vector_store.search_results.page"]
    search_query: list[str]
    data: list[dict[str, Any]]
    has_more: bool
    next_page: str | None


class ContentPage(TypedDict):
    """The text of a file as it was cut."""

    object: Literal["vector_store.file_content.page"]
    data: list[dict[str, str]]
    has_more: bool
    next_page: str | None
