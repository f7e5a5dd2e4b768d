"""Brings a `config.yaml` of Poncho into a document of our own: one remote model without keys of callers.

The structs say what Poncho's file may hold; `MOVED` where each value goes, so that messages about a value
name Poncho's key and its line. Reading the text is `yaml.py`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from arriero.config.decode import decoded
from arriero.config.locate import KeyPath
from arriero.config.problem import Origins, Problem
from arriero.config.table import LARGEST, Count, Table, Text

NAME = "vllm"
"""The model's table, for variables such as ARRIERO_MODELS__VLLM__MAX_N; callers know the public name."""

LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "off": "error",
}

CONNECT_S = 5
MEBIBYTE = 1024 * 1024

ServerPort = Annotated[int, Meta(ge=0, le=65535)]
BackendPort = Annotated[int, Meta(ge=1, le=65535)]


class PonchoServer(Table, frozen=True):
    """server: where the sidecar listens."""

    host: Text
    port: ServerPort


class PonchoBackend(Table, frozen=True, kw_only=True):
    """vllm_backend: the server that is covered. The last two keys are of newer releases."""

    host: Text
    port: BackendPort
    model_name_override: Text
    allow_logprobs: bool
    crop_max_tokens: bool
    max_batched_texts_embedding: Count | None = None
    max_rerank_documents: Count | None = None


class PonchoRouting(Table, frozen=True):
    """routing: patience, and the largest request."""

    timeout_seconds: Annotated[int, Meta(ge=1, le=65535)]
    max_payload_size_mb: Annotated[int, Meta(ge=1, le=LARGEST // MEBIBYTE)]


class PonchoModel(Table, frozen=True):
    """model_config_data: what the public is told."""

    model_public_name: Text
    max_position_embeddings: Count
    max_tokens: Count


class PonchoConfig(Table, frozen=True):
    """A whole file. Every key is required, as in Poncho."""

    log_level: Text
    server: PonchoServer
    vllm_backend: PonchoBackend
    routing: PonchoRouting
    model_config_data: PonchoModel


MODEL: KeyPath = ("models", NAME)

MOVED: dict[KeyPath, KeyPath] = {
    ("telemetry", "log_level"): ("log_level",),
    ("server", "bind_address"): ("server", "host"),
    ("server", "max_body_bytes"): ("routing", "max_payload_size_mb"),
    (*MODEL, "upstream", "urls", 0): ("vllm_backend", "host"),
    (*MODEL, "upstream", "model"): ("vllm_backend", "model_name_override"),
    (*MODEL, "max_embedding_inputs"): ("vllm_backend", "max_batched_texts_embedding"),
    (*MODEL, "max_rerank_documents"): ("vllm_backend", "max_rerank_documents"),
    (*MODEL, "public_name"): ("model_config_data", "model_public_name"),
    (*MODEL, "max_context"): ("model_config_data", "max_position_embeddings"),
    (*MODEL, "max_tokens"): ("model_config_data", "max_tokens"),
}
"""Our key -> Poncho's, for the values in which a later check may find a fault."""


def as_document(written: Any, origins: Origins) -> tuple[dict[str, Any], list[Problem]]:
    """Return our document for Poncho's, or an empty one and everything that is wrong with Poncho's."""
    poncho, problems = decoded(PonchoConfig, {} if written is None else written, read_path=Path)
    if poncho is None:
        return {}, problems
    origins.moved.update(MOVED)
    server = {
        "bind_address": _bind_address(poncho.server),
        "max_body_bytes": poncho.routing.max_payload_size_mb * MEBIBYTE,
    }
    return {
        "telemetry": {"log_level": _log_level(poncho.log_level)},
        "server": server,
        "auth": {"public": True},
        "models": {NAME: _model(poncho)},
    }, []


def _model(poncho: PonchoConfig) -> dict[str, Any]:
    backend, public = poncho.vllm_backend, poncho.model_config_data
    patience = poncho.routing.timeout_seconds
    return {
        "upstream": {
            "urls": [f"{backend.host}:{backend.port}"],
            "model": backend.model_name_override,
            "forward_headers": ["authorization"],
        },
        # Poncho bounds the whole answer, which cuts long streams; we bound its silence.
        "timeouts": {"connect_s": min(CONNECT_S, patience), "first_byte_s": patience, "idle_s": patience},
        "public_name": public.model_public_name,
        "catch_all": True,
        "allow_logprobs": backend.allow_logprobs,
        "over_limit": "crop" if backend.crop_max_tokens else "reject",
        "max_context": public.max_position_embeddings,
        "max_tokens": public.max_tokens,
        "max_embedding_inputs": backend.max_batched_texts_embedding or LARGEST,
        "max_rerank_documents": backend.max_rerank_documents or LARGEST,
    }


def _bind_address(server: PonchoServer) -> str:
    host = "127.0.0.1" if server.host == "localhost" else server.host
    return f"{host}:{server.port}"


def _log_level(directives: str) -> str:
    """Return our level for directives of Rust's env_logger: that of Poncho itself, else the general one."""
    levels: dict[str, str] = {}
    for directive in directives.partition("/")[0].split(","):
        target, _, level = directive.strip().rpartition("=")
        levels[target] = level.lower()
    level = levels.get("poncho") or levels.get("", "off")
    return LEVELS.get(level, level)
