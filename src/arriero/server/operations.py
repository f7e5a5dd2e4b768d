"""What each operation of the server takes and answers: the table behind the OpenAPI document.

Bodies are the types that the routes themselves decode into. Which errors all operations share is decided in
`openapi.py`; a test holds this table against the routes of the application.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import UNSET, Meta, UnsetType

from arriero.errors import (
    ArrieroError,
    DiskFull,
    NotSupported,
    UnknownName,
    UnreadableDocument,
)
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.guard.pokt import NAMES
from arriero.memory.job import Job
from arriero.memory.library.records import Status
from arriero.server import answers
from arriero.server.errors import Unprocessable, UnsupportedMediaType, UpgradeRequired
from arriero.server.routes.keys import NewKeyBody, RotationBody, TicketBody
from arriero.server.routes.memories import MAX_PAGE, Limit, PolyRecall, RecallRequest
from arriero.server.routes.models import DetokenizeRequest, TokenizeRequest
from arriero.server.routes.openai import files, objects, paging
from arriero.server.routes.openai.chat import ChatRequest
from arriero.server.routes.openai.completions import CompletionRequest
from arriero.server.routes.openai.embeddings import EmbeddingsRequest
from arriero.server.routes.openai.vector_store_forms import (
    FileChange,
    NewBatch,
    NewFile,
    NewStore,
    Search,
    StoreChange,
)
from arriero.server.routes.prompt import PromptBody

JSON = "application/json"
EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
BYTES = "application/octet-stream"
FORM = "multipart/form-data"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What one method of one path takes and answers.

    summary: "" = the first line of the route's docstring. body: the type of a JSON body. uploads: the other
    bodies, by media type. query: a Struct whose members are the parameters. answer: the type of a JSON
    answer. others: further media types of the answer. also: further statuses that are no errors, with their
    types (None = no body). fails: errors of its own.
    """

    summary: str = ""
    body: Any = None
    is_body_needed: bool = True
    uploads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    query: type[msgspec.Struct] | None = None
    answer: Any = None
    others: tuple[str, ...] = ()
    status: int = 200
    also: Mapping[int, Any] = field(default_factory=dict)
    fails: tuple[type[ArrieroError], ...] = ()
    example: Mapping[str, Any] | None = None


class PromptQuery(msgspec.Struct):
    prompt: str


class LiveQuery(PromptQuery):
    end: Annotated[Literal["true", "false"], Meta(description="Whether a last event tells the end.")] = (
        "false"
    )
    hidden: Annotated[
        Literal["true", "false"], Meta(description="Whether the text before the bias prompt is sent too.")
    ] = "false"


class RecallQuery(PromptQuery):
    n: Annotated[Limit, Meta(description="How many chunks.")] = 1


class DocumentQuery(msgspec.Struct):
    wait: Annotated[
        Literal["true", "false"], Meta(description="Whether to answer only once it is stored.")
    ] = "true"
    name: Annotated[str, Meta(description="The document's name.")] | UnsetType = UNSET
    title: str | UnsetType = UNSET
    attributes: (
        Annotated[str, Meta(description="A JSON object of texts, numbers and truths.")] | UnsetType
    ) = UNSET


PageSize = Annotated[int, Meta(ge=0, le=MAX_PAGE)]


class JobsQuery(msgspec.Struct):
    limit: PageSize = 100


class DocumentsQuery(JobsQuery):
    after: str | UnsetType = UNSET


class ChunksQuery(JobsQuery):
    first: Annotated[int, Meta(ge=0)] = 0


class PageQuery(msgspec.Struct):
    limit: Annotated[int, Meta(ge=1, le=paging.MAX_LIMIT)] = paging.DEFAULT_LIMIT
    order: Literal["asc", "desc"] = "desc"
    after: Annotated[str, Meta(description="The id that the part begins behind.")] | UnsetType = UNSET
    before: Annotated[str, Meta(description="The id that the part ends before.")] | UnsetType = UNSET


class FilesQuery(PageQuery):
    limit: Annotated[int, Meta(ge=1, le=files.MAX_PAGE)] = files.MAX_PAGE
    purpose: str | UnsetType = UNSET


class AttachedQuery(PageQuery):
    filter: Status | UnsetType = UNSET


class RemoteRequest(TypedDict):
    """A request to a remote model; the model's rules say which further members are allowed."""

    model: str


DOCUMENT_UPLOADS: dict[str, dict[str, Any]] = {
    "text/plain": {"type": "string"},
    "text/markdown": {"type": "string"},
    "text/html": {"type": "string"},
    "application/pdf": {"type": "string", "contentEncoding": "binary"},
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": {
        "type": "string",
        "contentEncoding": "binary",
    },
    FORM: {
        "type": "object",
        "properties": {
            "file": {"type": "string", "contentMediaType": BYTES, "description": "May come several times."},
            "title": {"type": "string"},
            "attributes": {"type": "string", "description": "A JSON object."},
        },
        "required": ["file"],
    },
}
FILE_UPLOAD: dict[str, dict[str, Any]] = {
    FORM: {
        "type": "object",
        "properties": {
            "file": {"type": "string", "contentMediaType": BYTES},
            "purpose": {"enum": list(files.PURPOSES)},
            "expires_after[anchor]": {"const": "created_at"},
            "expires_after[seconds]": {
                "type": "integer",
                "minimum": files.LIFETIMES_S[0],
                "maximum": files.LIFETIMES_S[1],
            },
        },
        "required": ["file", "purpose"],
    }
}
REMOTE = (UpstreamFailed, UpstreamTimeout)
MADE = (NotSupported,)
"""A server may have no key store, or no vector stores."""
STORED = (NotSupported, DiskFull)
HELLO = {"prompt": "Hello"}
CHAT = {"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}

POLY: dict[str, Operation] = {
    "GET /v1/model": Operation(answer=answers.ModelNames),
    "GET /v1/model/{model}/embedding": Operation(query=PromptQuery, answer=answers.Vector, fails=MADE),
    "POST /v1/model/{model}/embedding": Operation(
        body=PromptBody, answer=answers.Vector, fails=(Unprocessable, *MADE), example=HELLO
    ),
    "GET /v1/model/{model}/tokenization": Operation(query=PromptQuery, answer=answers.Tokenization),
    "POST /v1/model/{model}/tokenization": Operation(
        body=PromptBody, answer=answers.Tokenization, fails=(Unprocessable,), example=HELLO
    ),
    "GET /v1/task": Operation(answer=answers.TaskNames),
    "GET /v1/task/{task}/status": Operation(answer=answers.Liveness),
    "GET /v1/task/{task}/completion": Operation(
        query=PromptQuery, answer=answers.TaskCompletion, fails=REMOTE
    ),
    "POST /v1/task/{task}/completion": Operation(
        body=PromptBody, answer=answers.TaskCompletion, fails=(Unprocessable, *REMOTE), example=HELLO
    ),
    "GET /v1/task/{task}/live": Operation(query=LiveQuery, others=(EVENTS,), also={204: None}, fails=REMOTE),
    "GET /v1/task/{task}/chat": Operation(
        summary="Open a WebSocket that holds a conversation.", status=101, fails=(UpgradeRequired,)
    ),
    "GET /v1/stats": Operation(answer=answers.ServerStats),
    "GET /v1/memory": Operation(answer=answers.MemoryNames),
    "GET /v1/memory/{memory}": Operation(query=RecallQuery, answer=answers.ChunkTexts),
    "POST /v1/memory/{memory}": Operation(
        body=PolyRecall, answer=answers.ChunkTexts, fails=(Unprocessable,), example={**HELLO, "n": 2}
    ),
    "PUT /v1/memory/{memory}": Operation(
        uploads=DOCUMENT_UPLOADS,
        query=DocumentQuery,
        answer=answers.Stored,
        also={202: answers.TakenOn},
        fails=(UnsupportedMediaType, UnreadableDocument, DiskFull),
    ),
    "DELETE /v1/memory/{memory}": Operation(answer=answers.Nothing),
}

OWN: dict[str, Operation] = {
    "GET /status": Operation(answer=answers.Liveness),
    "GET /livez": Operation(answer=answers.Liveness),
    "GET /health": Operation(answer=answers.Readiness, also={503: answers.Readiness}),
    "GET /readyz": Operation(answer=answers.Readiness, also={503: answers.Readiness}),
    "GET /metrics": Operation(others=("text/plain", "application/openmetrics-text")),
    "GET /version": Operation(answer=answers.Version),
    "GET /openapi.json": Operation(answer=dict[str, Any]),
    "GET /pokt/{name}": Operation(
        summary=f"Answer one document of the served model: {', '.join(NAMES)}.", answer=Any, fails=REMOTE
    ),
    "GET /v1/status": Operation(answer=answers.ServerStatus),
    "POST /v1/memory/{memory}/recall": Operation(
        body=RecallRequest, answer=answers.Passages, example={"query": "Hello", "limit": 3}
    ),
    "GET /v1/memory/{memory}/documents": Operation(query=DocumentsQuery, answer=answers.MemoryDocuments),
    "GET /v1/memory/{memory}/documents/{document}": Operation(answer=answers.MemoryDocument),
    "DELETE /v1/memory/{memory}/documents/{document}": Operation(answer=answers.Nothing),
    "GET /v1/memory/{memory}/documents/{document}/chunks": Operation(
        query=ChunksQuery, answer=answers.Chunks
    ),
    "GET /v1/memory/{memory}/jobs": Operation(query=JobsQuery, answer=answers.Jobs),
    "GET /v1/memory/{memory}/jobs/{job}": Operation(answer=Job),
    "DELETE /v1/memory/{memory}/jobs/{job}": Operation(answer=Job),
    "POST /v1/tokenize": Operation(
        body=TokenizeRequest,
        answer=answers.TokenizedText,
        fails=(UnknownName,),
        example={"model": "MODEL", "text": "Hello"},
    ),
    "POST /v1/detokenize": Operation(
        body=DetokenizeRequest,
        answer=answers.TokenText,
        fails=(UnknownName,),
        example={"model": "MODEL", "tokens": [1, 2, 3]},
    ),
    "POST /v1/tickets": Operation(
        body=TicketBody, is_body_needed=False, answer=answers.Ticket, status=201, example={"path": None}
    ),
    "GET /v1/admin/keys": Operation(answer=answers.Keys, fails=MADE),
    "POST /v1/admin/keys": Operation(
        body=NewKeyBody, answer=answers.KeyAndSecret, status=201, fails=MADE, example={"name": "ci"}
    ),
    "DELETE /v1/admin/keys/{id}": Operation(answer=answers.Key, fails=MADE),
    "POST /v1/admin/keys/{id}/rotate": Operation(
        body=RotationBody, is_body_needed=False, answer=answers.KeyAndSecret, fails=MADE
    ),
}

OPENAI: dict[str, Operation] = {
    "GET /v1/models": Operation(answer=objects.ModelObjects),
    "GET /v1/models/{id}": Operation(answer=objects.ModelObject),
    "POST /v1/chat/completions": Operation(
        summary="Answer a chat, whole or as a stream.",
        body=ChatRequest,
        answer=objects.ChatCompletion,
        others=(EVENTS,),
        fails=(UnknownName, *REMOTE),
        example=CHAT,
    ),
    "POST /v1/completions": Operation(
        summary="Complete one or several prompts, whole or as a stream.",
        body=CompletionRequest,
        answer=objects.Completion,
        others=(EVENTS,),
        fails=(UnknownName, *REMOTE),
        example={"model": "MODEL", "prompt": "Hello", "max_tokens": 16},
    ),
    "POST /v1/embeddings": Operation(
        summary="Answer one vector for each input.",
        body=EmbeddingsRequest,
        answer=objects.EmbeddingObjects,
        fails=(UnknownName, *MADE, *REMOTE),
        example={"model": "MODEL", "input": ["Hello"]},
    ),
    "POST /v1/responses": Operation(
        summary="Answer as a remote model's upstream does, whole or as a stream.",
        body=RemoteRequest,
        answer=dict[str, Any],
        others=(EVENTS,),
        fails=(UnknownName, *REMOTE),
    ),
    "POST /v1/rerank": Operation(
        summary="Rank documents by a remote model.",
        body=RemoteRequest,
        answer=dict[str, Any],
        fails=(UnknownName, *REMOTE),
    ),
    "POST /tokenize": Operation(
        summary="Answer the tokens of a text by a remote model.",
        body=RemoteRequest,
        answer=dict[str, Any],
        fails=(UnknownName, *REMOTE),
    ),
    "GET /v1/files": Operation(query=FilesQuery, answer=objects.Listing[objects.FileObject], fails=MADE),
    "POST /v1/files": Operation(uploads=FILE_UPLOAD, answer=objects.FileObject, fails=STORED),
    "GET /v1/files/{file}": Operation(answer=objects.FileObject, fails=MADE),
    "DELETE /v1/files/{file}": Operation(answer=objects.Deleted, fails=MADE),
    "GET /v1/files/{file}/content": Operation(others=(BYTES,), fails=MADE),
    "GET /v1/vector_stores": Operation(
        query=PageQuery, answer=objects.Listing[objects.VectorStoreObject], fails=MADE
    ),
    "POST /v1/vector_stores": Operation(
        body=NewStore,
        answer=objects.VectorStoreObject,
        fails=(UnknownName, *STORED),
        example={"name": "notes", "metadata": {"project": "a"}},
    ),
    "GET /v1/vector_stores/{store}": Operation(answer=objects.VectorStoreObject, fails=MADE),
    "POST /v1/vector_stores/{store}": Operation(
        body=StoreChange, answer=objects.VectorStoreObject, fails=MADE, example={"name": "more notes"}
    ),
    "DELETE /v1/vector_stores/{store}": Operation(answer=objects.Deleted, fails=MADE),
    "POST /v1/vector_stores/{store}/search": Operation(
        body=Search, answer=objects.ResultPage, fails=MADE, example={"query": "Hello", "max_num_results": 3}
    ),
    "GET /v1/vector_stores/{store}/files": Operation(
        query=AttachedQuery, answer=objects.Listing[objects.VectorStoreFile], fails=MADE
    ),
    "POST /v1/vector_stores/{store}/files": Operation(
        body=NewFile, answer=objects.VectorStoreFile, fails=STORED
    ),
    "GET /v1/vector_stores/{store}/files/{file}": Operation(answer=objects.VectorStoreFile, fails=MADE),
    "POST /v1/vector_stores/{store}/files/{file}": Operation(
        body=FileChange, answer=objects.VectorStoreFile, fails=MADE, example={"attributes": {"year": 2026}}
    ),
    "DELETE /v1/vector_stores/{store}/files/{file}": Operation(answer=objects.Deleted, fails=MADE),
    "GET /v1/vector_stores/{store}/files/{file}/content": Operation(answer=objects.ContentPage, fails=MADE),
    "POST /v1/vector_stores/{store}/file_batches": Operation(
        body=NewBatch, answer=objects.VectorStoreBatch, fails=STORED
    ),
    "GET /v1/vector_stores/{store}/file_batches/{batch}": Operation(
        answer=objects.VectorStoreBatch, fails=MADE
    ),
    "POST /v1/vector_stores/{store}/file_batches/{batch}/cancel": Operation(
        answer=objects.VectorStoreBatch, fails=MADE
    ),
    "GET /v1/vector_stores/{store}/file_batches/{batch}/files": Operation(
        query=AttachedQuery, answer=objects.Listing[objects.VectorStoreFile], fails=MADE
    ),
}

OPERATIONS = {**POLY, **OWN, **OPENAI}
"""All of them, by method and path."""
