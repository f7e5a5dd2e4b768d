"""Every error that Arriero raises on purpose.

    ArrieroError
    ├── ConfigError              the operator's: the configuration cannot be used
    ├── RequestError             the caller's
    │   ├── InvalidRequest       a value that cannot be honoured; `param` names it
    │   ├── ContextOverflow      the prompt does not fit the model's context
    │   ├── PrivateTokenFound    user text holds one of the task's private tokens
    │   ├── Unauthorized         no acceptable key
    │   ├── Forbidden            a good key without the right
    │   ├── RateLimited          a good key has used what it may use for now
    │   ├── UnknownName          no model, task or memory of this name
    │   ├── PayloadTooLarge      the body is over the limit
    │   └── UnreadableDocument   no text can be had from a document; `reason` says why
    └── ServiceError             ours
        ├── Overloaded           a bounded queue is full; try again later
        │   └── QueueFull        of documents that wait to be ingested
        ├── Unavailable          the model is loading, restarting or gone
        │   ├── DiskFull         there is no room for what should be stored
        │   ├── WriteFailed      the disk refused a write
        │   └── Damaged          what a file holds cannot be trusted
        ├── NotSupported         this model or build cannot do what was asked
        └── EngineError          the engine failed in the middle of the work

No HTTP here: `server/errors.py` holds the one table from these classes to statuses.
A message says what was wrong, names the key, and says what would be right.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ArrieroError",
    "ConfigError",
    "ContextOverflow",
    "Damaged",
    "DiskFull",
    "EngineError",
    "Forbidden",
    "InvalidRequest",
    "NotSupported",
    "Overloaded",
    "PayloadTooLarge",
    "PrivateTokenFound",
    "QueueFull",
    "RateLimited",
    "RequestError",
    "ServiceError",
    "Unauthorized",
    "Unavailable",
    "UnknownName",
    "UnreadableDocument",
    "WriteFailed",
]


class ArrieroError(Exception):
    """Base of the tree. `code` is a stable word for clients and logs."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(ArrieroError):
    """The configuration cannot be used; the message names file, line and key where they are known."""

    code = "config_error"


class RequestError(ArrieroError):
    """The caller's fault. `param` names the offending member of the request."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidRequest(RequestError):
    """A value that cannot be honoured."""


class ContextOverflow(RequestError):
    """The prompt does not fit the model's context; nothing was fed."""

    code = "context_length_exceeded"


class PrivateTokenFound(RequestError):
    """User text holds a private token of the task; nothing was fed."""

    code = "illegal_token"


class Unauthorized(RequestError):
    """No acceptable key."""

    code = "unauthorized"


class Forbidden(RequestError):
    """A good key that lacks the right."""

    code = "forbidden"


class RateLimited(RequestError):
    """A good key has used what it may use for now. `quota` says how much that is, as headers."""

    code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, retry_after_s: int = 1, quota: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.quota = quota or {}


class UnknownName(RequestError):
    """No model, task or memory bears the name. `kind` is the glossary word."""

    code = "not_found"

    def __init__(self, kind: str, name: str, *, param: str | None = None) -> None:
        super().__init__(f"{kind} not found: {name}", param=param)
        self.kind = kind
        self.name = name


class PayloadTooLarge(RequestError):
    """The request body is over the limit."""

    code = "payload_too_large"


class UnreadableDocument(RequestError):
    """No text can be had from a document.

    `reason` is one stable word: unsupported, encrypted, damaged, empty, no_text or limit; `limit` names
    the limit that was hit.
    """

    code = "unreadable_document"

    def __init__(self, reason: str, message: str, *, limit: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.limit = limit


class ServiceError(ArrieroError):
    """Ours."""

    code = "server_error"


class Overloaded(ServiceError):
    """A bounded queue is full. `retry_after_s` is a hint."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Overloaded):
    """Too many documents wait to be ingested into a memory."""

    code = "queue_full"


class Unavailable(ServiceError):
    """The model is loading, restarting or gone. `retry_after_s` is a hint."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DiskFull(Unavailable):
    """There is no room for what should be stored; what is stored can be read and deleted."""

    code = "disk_full"


class WriteFailed(Unavailable):
    """The disk refused a write; what it holds of it is unknown until the file is opened anew."""

    code = "write_failed"


class Damaged(Unavailable):
    """A file is not what it should be, or parts of it are broken."""

    code = "damaged"


class NotSupported(ServiceError):
    """This model or build cannot do what was asked."""

    code = "not_supported"


class EngineError(ServiceError):
    """The engine failed in the middle of the work; what was streamed is not complete."""

    code = "engine_error"
